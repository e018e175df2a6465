"""The NumPy oracle of all backends against finite differences, its own laws and `transformers`.

Run: pytest tests/test_reference_model.py
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt1.backends.base import IGNORE
from gpt1.backends.parameters import shapes, to_huggingface
from gpt1.config import Head, ModelConfig
from support import reference_model
from support.model_cases import HEADS, LM_LOSSES, part, random_batch, random_params, task_case

ROUNDING = 1e-12
"""Two float64 sums of the same terms in another order; values here are about 1."""
HUGGING_FACE = 1e-10
"""Float64 on both sides, through two layers; 2e-14 was seen."""
DIFFERENCE_STEP = 1e-5
DIFFERENCE = 1e-7
"""Central differences are off by step^2 times a third derivative (1e-10 x up to 1e2), plus rounding / step (1e-11)."""

Params = dict[str, NDArray[np.float64]]


def assert_same(found: tuple[dict[str, float], Params], expected: tuple[dict[str, float], Params]) -> None:
    assert found[0] == pytest.approx(expected[0], abs=ROUNDING)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in found[1].items():
        np.testing.assert_allclose(gradient, expected[1][name], rtol=0, atol=ROUNDING, err_msg=name)


# ---- gradients


@pytest.mark.parametrize("name", HEADS)
def test_attributions_are_the_slope_along_each_token_embedding(name: str) -> None:
    """Each place has a token of its own, so that its row can be stretched alone: central differences."""
    config, params, batch = task_case(name)
    tokens = np.arange(batch.tokens.size, dtype=np.int32).reshape(batch.tokens.shape)
    config, batch = replace(config, vocab_size=tokens.size), replace(batch, tokens=tokens)
    params = random_params(config)
    logits = reference_model.task_logits(params, config, batch)
    weights = np.random.default_rng(2).normal(size=logits.shape)
    found = reference_model.attributions(params, config, batch, weights)
    numeric = np.zeros(tokens.shape)
    for place, token in np.ndenumerate(tokens):
        sums = []
        for step in (DIFFERENCE_STEP, -DIFFERENCE_STEP):
            rows = params["tokens_embed.weight"].copy()
            rows[token] *= 1.0 + step
            moved = {**params, "tokens_embed.weight": rows}
            sums.append((weights * reference_model.task_logits(moved, config, batch)).sum())
        numeric[place] = (sums[0] - sums[1]) / (2 * DIFFERENCE_STEP)
    np.testing.assert_allclose(found, numeric, rtol=0, atol=DIFFERENCE)


@pytest.mark.parametrize(
    ("name", "lm"),
    [(name, "mean over tokens") for name in ["language model", *HEADS]]
    + [(name, lm) for name in ("language model", "multiple-choice") for lm in list(LM_LOSSES)[1:]],
)
def test_every_gradient_equals_the_central_difference(name: str, lm: str) -> None:
    """Over two micro-batches with weights, segments and the auxiliary loss; every element of every parameter."""
    config, params, batch = task_case(name)
    batches = [part(batch, [0, 2]), part(batch, [1], int(batch.eos_positions.max()) + 1)]
    found, gradients = reference_model.gradients(params, config, batches, 0.5, **LM_LOSSES[lm])
    assert found == reference_model.losses(params, config, batches, 0.5, **LM_LOSSES[lm])
    assert {key: value.shape for key, value in gradients.items()} == shapes(config)
    for key, value in params.items():
        numeric = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            around = []
            for step in (DIFFERENCE_STEP, -DIFFERENCE_STEP):
                moved = value.copy()
                moved[index] += step
                moved_params = {**params, key: moved}
                around.append(reference_model.losses(moved_params, config, batches, 0.5, **LM_LOSSES[lm])["loss"])
            numeric[index] = (around[0] - around[1]) / (2 * DIFFERENCE_STEP)
        np.testing.assert_allclose(gradients[key], numeric, rtol=DIFFERENCE, atol=DIFFERENCE, err_msg=key)


def test_key_bias_has_no_gradient() -> None:
    """It adds the same number to all scores of a query, which the softmax does not see."""
    config, params, batch = task_case("classification")
    gradients = reference_model.gradients(params, config, [batch], 0.5)[1]
    queries, keys, values = np.split(gradients["h.0.attn.c_attn.bias"], 3)
    np.testing.assert_allclose(keys, 0.0, atol=ROUNDING)
    assert queries.all()
    assert np.abs(values).min() > 1e-6


def test_what_a_step_does_not_use_has_a_zero_gradient() -> None:
    config, params, batch = task_case("classification")
    batch = replace(part(batch, [0, 1, 2], 5), eos_positions=np.full(3, 4), segments=None, lm_targets=None)
    gradients = reference_model.gradients(params, config, [batch], 0.5)[1]
    unused = np.setdiff1d(np.arange(config.vocab_size + config.n_segments), batch.tokens)
    assert not gradients["tokens_embed.weight"][unused].any()
    assert not gradients["positions_embed.weight"][5:].any()
    assert gradients["positions_embed.weight"][:5].all()


# ---- laws of the model


def test_no_state_depends_on_a_later_token() -> None:
    config, params, batch = task_case("language model")
    other = batch.tokens.copy()
    other[:, 4:] = 8 - other[:, 4:]
    states, changed = (reference_model.hidden(params, config, tokens) for tokens in (batch.tokens, other))
    np.testing.assert_array_equal(states[:, :4], changed[:, :4])
    assert np.abs(states[:, 4:] - changed[:, 4:]).max() > 0.1


@pytest.mark.parametrize("name", ["language model", *HEADS])
def test_padding_changes_neither_losses_nor_gradients(name: str) -> None:
    config, params, batch = task_case(name)
    assert batch.lm_targets is not None
    assert batch.segments is not None
    wider = replace(
        batch,
        tokens=np.pad(batch.tokens, ((0, 0), (0, 1)), constant_values=5),
        lm_targets=np.pad(batch.lm_targets, ((0, 0), (0, 1)), constant_values=IGNORE),
        segments=np.pad(batch.segments, ((0, 0), (0, 1))),
    )
    assert_same(
        reference_model.gradients(params, config, [wider], 0.5), reference_model.gradients(params, config, [batch], 0.5)
    )


@pytest.mark.parametrize("lm", LM_LOSSES.values(), ids=LM_LOSSES)
@pytest.mark.parametrize("name", ["language model", *HEADS])
def test_micro_batches_equal_the_big_batch_on_unequal_lengths(name: str, lm: dict[str, Any]) -> None:
    config, params, batch = task_case(name)
    longest = batch.eos_positions.reshape(3, -1).max(1) + 1
    parts = [part(batch, [example], longest[example]) for example in range(3)]
    assert len({micro_batch.target_count for micro_batch in parts}) > 1, "equal parts would hide a wrong denominator"
    found, expected = (reference_model.gradients(params, config, each, 0.5, **lm) for each in (parts, [batch]))
    assert_same(found, expected)


def test_weight_is_the_number_of_times_an_example_counts() -> None:
    config, params, batch = task_case("classification")
    weighted = replace(batch, weights=np.array([1, 0, 2], np.float32), lm_targets=None)
    repeated = replace(part(weighted, [0, 2, 2]), weights=None)
    assert_same(
        reference_model.gradients(params, config, [weighted], 0.5),
        reference_model.gradients(params, config, [repeated], 0.5),
    )


def test_loss_is_the_task_loss_and_lm_coef_times_the_lm_loss() -> None:
    config, params, batch = task_case("classification")
    found = reference_model.losses(params, config, [batch], 0.3)
    log_probs = reference_model.log_softmax(reference_model.task_logits(params, config, batch))
    assert batch.weights is not None
    assert batch.labels is not None
    expected = -np.average(log_probs[np.arange(3), batch.labels], weights=batch.weights)
    assert found["task_loss"] == pytest.approx(expected, abs=ROUNDING)
    expected = -reference_model.token_logprobs(params, config, batch).sum() / batch.target_count
    assert found["lm_loss"] == pytest.approx(expected, abs=ROUNDING)
    assert found["loss"] == pytest.approx(found["task_loss"] + 0.3 * found["lm_loss"], abs=ROUNDING)
    assert reference_model.losses(params, config, [batch], 0.0).keys() == {"loss", "task_loss"}


def test_lm_coef_is_one_without_a_head() -> None:
    config, params, batch = task_case("language model")
    found = reference_model.losses(params, config, [batch], 0.0)
    assert found["loss"] == found["lm_loss"] > 0
    assert found.keys() == {"loss", "lm_loss"}


def test_probabilities_sum_to_one_over_tokens_without_segments() -> None:
    config, params, batch = task_case("language model")
    rows = np.repeat(batch.tokens[:1], config.vocab_size, 0)
    targets = np.full(rows.shape, IGNORE)
    targets[:, 3] = np.arange(config.vocab_size)
    every = replace(batch, tokens=rows, segments=None, lm_targets=targets)
    logprobs = reference_model.token_logprobs(params, config, every)
    assert np.exp(logprobs[:, 3]).sum() == pytest.approx(1.0, abs=ROUNDING)
    assert not np.delete(logprobs, 3, axis=1).any()


def test_mean_over_sequences_weighs_each_sequence_alike() -> None:
    """A sequence without a target is none of them."""
    config, params, batch = task_case("language model")
    assert batch.lm_targets is not None
    targets = batch.lm_targets.copy()
    targets[1] = IGNORE
    targets[2, 0] = 3
    batch = replace(batch, lm_targets=targets)
    assert batch.target_sequences == 2
    logprobs = reference_model.token_logprobs(params, config, batch)
    means = [-logprobs[row][targets[row] != IGNORE].mean() for row in (0, 2)]
    found = reference_model.losses(params, config, [batch], 1.0, lm_mean="sequence")
    assert found["lm_loss"] == pytest.approx(np.mean(means), abs=ROUNDING)
    assert abs(found["lm_loss"] - reference_model.losses(params, config, [batch], 1.0)["lm_loss"]) > 1e-3


def test_positions_in_the_softmax_take_their_share_of_the_probability() -> None:
    config, params, batch = task_case("language model")
    states = reference_model.hidden(params, config, batch.tokens, batch.segments)
    every = np.concatenate([params["tokens_embed.weight"][: config.vocab_size], params["positions_embed.weight"]])
    scores = np.exp(states @ every.T)
    share = scores[..., : config.vocab_size].sum(-1) / scores.sum(-1)
    logprobs = reference_model.token_logprobs(params, config, batch) + np.log(share)
    expected = -logprobs[batch.lm_targets != IGNORE].mean()
    found = reference_model.losses(params, config, [batch], 1.0, lm_over_positions=True)
    assert found["lm_loss"] == pytest.approx(expected, abs=ROUNDING)


def test_bias_of_the_head_is_added_once_to_the_scores_of_an_example() -> None:
    """Also where two states are added before them."""
    for name in ("classification with a bias", "similarity with a bias"):
        config, params, batch = task_case(name)
        plain = replace(config, head=replace(HEADS[name], bias=False))
        found, without = (reference_model.task_logits(params, each, batch) for each in (config, plain))
        np.testing.assert_allclose(found - without, np.tile(params["score.bias"], (3, 1)), rtol=0, atol=ROUNDING)


def test_similarity_does_not_care_which_order_comes_first() -> None:
    config, params, batch = task_case("similarity")
    swapped = [1, 0, 3, 2, 5, 4]
    assert batch.segments is not None
    other = replace(
        batch,
        tokens=batch.tokens[swapped],
        eos_positions=batch.eos_positions[swapped],
        segments=batch.segments[swapped],
    )
    logits = reference_model.task_logits(params, config, batch)
    assert logits.shape == (3, 2)
    np.testing.assert_allclose(logits, reference_model.task_logits(params, config, other), rtol=0, atol=ROUNDING)


def test_multiple_choice_scores_each_choice_by_itself() -> None:
    config, params, batch = task_case("multiple-choice")
    alone = replace(batch, sequences_per_example=1)
    logits = reference_model.task_logits(params, config, batch)
    assert logits.shape == (3, 3)
    np.testing.assert_array_equal(logits.ravel(), reference_model.task_logits(params, config, alone).ravel())


def test_float32_parameters_are_computed_in_float64() -> None:
    config, params, batch = task_case("classification")
    low = {name: value.astype(np.float32) for name, value in params.items()}
    high = {name: value.astype(np.float64) for name, value in low.items()}
    assert reference_model.hidden(low, config, batch.tokens).dtype == np.float64
    found, expected = (reference_model.gradients(values, config, [batch], 0.5) for values in (low, high))
    assert found[0] == expected[0]
    for name in shapes(config):
        np.testing.assert_array_equal(found[1][name], expected[1][name], err_msg=name)


# ---- transformers


def hugging_face(name: str, config: ModelConfig, params: Params, **settings: Any) -> Any:
    """Return a float64 `transformers` model of class `name` with our parameters; segments are its token types."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    model = getattr(transformers, name)(
        transformers.OpenAIGPTConfig(
            vocab_size=config.vocab_size + config.n_segments,
            n_positions=config.n_ctx,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            layer_norm_epsilon=config.layer_norm_epsilon,
            **settings,
        )
    ).double()
    names = {to_huggingface(key): torch.from_numpy(value) for key, value in params.items()}
    if name == "OpenAIGPTModel":
        names = {key.removeprefix("transformer."): value for key, value in names.items()}
    missing, unexpected = model.load_state_dict(names, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}  # tied
    return model.eval()


def larger_model(head: Head | None = None, n_segments: int = 2) -> tuple[ModelConfig, Params]:
    config = ModelConfig(n_layer=2, n_head=3, n_embd=48, n_ctx=64, vocab_size=101, n_segments=n_segments, head=head)
    return config, random_params(config, scale=0.2)


@pytest.mark.parametrize("time", [1, 5, 64])
@pytest.mark.parametrize("with_segments", [False, True])
def test_states_equal_transformers(time: int, with_segments: bool) -> None:
    config, params = larger_model()
    model, torch = hugging_face("OpenAIGPTModel", config, params), pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    tokens = rng.integers(0, config.vocab_size, (3, time))
    segments = rng.integers(0, config.n_segments, (3, time)) if with_segments else None
    types = None if segments is None else torch.from_numpy(config.vocab_size + segments)
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens), token_type_ids=types).last_hidden_state.numpy()
    found = reference_model.hidden(params, config, tokens, segments)
    np.testing.assert_allclose(found, expected, rtol=0, atol=HUGGING_FACE)


def test_language_model_equals_transformers_with_gradients() -> None:
    config, params = larger_model(n_segments=0)
    model, torch = hugging_face("OpenAIGPTLMHeadModel", config, params), pytest.importorskip("torch")
    batch = random_batch(config, examples=4, time=20)
    logits = model(torch.from_numpy(batch.tokens).long()).logits
    targets = torch.from_numpy(batch.lm_targets).long()
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    loss.backward()

    expected = torch.log_softmax(logits, -1).gather(2, targets.clamp(min=0)[..., None])[..., 0] * (targets != IGNORE)
    found = reference_model.token_logprobs(params, config, batch)
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=HUGGING_FACE)
    losses, gradients = reference_model.gradients(params, config, [batch], 1.0)
    assert losses["loss"] == pytest.approx(loss.item(), abs=HUGGING_FACE)
    assert_gradients_equal(gradients, model)


def test_classifier_equals_transformers_with_gradients() -> None:
    config, params = larger_model(Head("classification", 3))
    model = hugging_face("OpenAIGPTForSequenceClassification", config, params, num_labels=3, pad_token_id=0)
    torch = pytest.importorskip("torch")
    batch = replace(random_batch(config, examples=4, time=20), weights=None, lm_targets=None)
    assert batch.segments is not None
    out = model(
        torch.from_numpy(batch.tokens).long(),
        token_type_ids=torch.from_numpy(config.vocab_size + batch.segments).long(),
        labels=torch.from_numpy(batch.labels),
    )
    out.loss.backward()

    found = reference_model.task_logits(params, config, batch)
    np.testing.assert_allclose(found, out.logits.detach().numpy(), rtol=0, atol=HUGGING_FACE)
    losses, gradients = reference_model.gradients(params, config, [batch], 0.5)
    assert losses["loss"] == pytest.approx(out.loss.item(), abs=HUGGING_FACE)
    assert_gradients_equal(gradients, model)


def assert_gradients_equal(gradients: Params, model: Any) -> None:
    expected = dict(model.named_parameters())
    assert expected.keys() == {to_huggingface(name) for name in gradients}
    for name, gradient in gradients.items():
        other = expected[to_huggingface(name)].grad.numpy()
        np.testing.assert_allclose(gradient, other, rtol=0, atol=HUGGING_FACE, err_msg=name)
