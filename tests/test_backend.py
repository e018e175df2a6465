"""One suite for every backend: losses, gradients, updates and dropout, through the protocol that they share.

Every test up to the last section runs on each installed backend and imports no framework. Equality is asked in float32
with dropout off; the oracle is `reference`, in NumPy and float64.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import reference
from gpt1 import backends
from gpt1.backends.base import IGNORE, Batch, Engine
from gpt1.backends.optim import adamw, clip_factor
from gpt1.backends.parameters import Params, decays, shapes
from gpt1.config import DeviceConfig, DropoutConfig, Head, LossConfig, ModelConfig, OptimConfig
from gpt1.errors import UserError
from hardware import hardware
from test_reference import HEADS, LM_LOSSES, SEQUENCES, part, random_batch, random_params, small_model, task_case

FLOAT32 = 1e-5
"""Float32 against float64 through two layers, of the largest value or of 1; up to 2e-6 was seen."""
REGROUPED = 1e-6
"""Float32 on both sides, the same terms summed in other groups (epsilon 1.2e-7)."""
MOMENTS = 1e-5
"""The same, of the largest moment of a parameter, however small that is."""
UPDATED = 2e-6
"""Of the parameter's largest value: two dozen updates, each rounded to float32 once (epsilon 1.2e-7)."""
MASKED = 1e-3
"""Quotients of float32 gradients; a backend may round p to 16 bits."""
ATTENTION = 5e-6
"""Float32 on both sides in other orders, over up to 300 keys; 9e-7 of the largest value was seen."""
BFLOAT16 = 0.015
"""Of the largest value: products of numbers of 8 bits (2^-8 is 0.004), through two layers; 0.006 was seen."""
SIGMAS = 5
"""Standard deviations of a binomial count; masks are counted, so a test that passed once passes always."""

NO_DROPOUT = DropoutConfig.none()
DROPOUTS = {"paper": DropoutConfig(), "openai": DropoutConfig(embd_matrix=True, clf_shared=True)}
"""Every dropout there is, in both of its forms."""
TASKS = ["language model", *HEADS]

Build = Callable[..., Engine]


@pytest.fixture
def build(backend: str) -> Build:
    """A float32 engine without dropout, unless told otherwise, of the backend under test; `lm_…` are of its loss."""

    def engine(config: ModelConfig, params: Any, *, dropout: DropoutConfig = NO_DROPOUT, **settings: Any) -> Engine:
        loss = loss_among(settings)
        return backends.get(config, float32(params), hardware=hardware(backend), dropout=dropout, loss=loss, **settings)

    return engine


def loss_among(settings: dict[str, Any]) -> LossConfig:
    """Take the settings of the loss out of `settings`; a coefficient that is not given is 1."""
    return LossConfig(**{"lm_coef": 1.0} | {name: settings.pop(name) for name in [*settings] if name[:3] == "lm_"})


def float32(params: Any) -> Params:
    return {name: np.asarray(value, np.float32) for name, value in params.items()}


def longer_case(task: str, time: int, examples: int = 2) -> tuple[ModelConfig, Params, Batch]:
    """As `task_case`, with room for 512 tokens; `time` is the length of the longest sequence."""
    config = ModelConfig(
        n_layer=2, n_head=2, n_embd=16, n_ctx=512, vocab_size=61, n_segments=2, head=HEADS.get(task)
    )  # fmt: skip
    batch = random_batch(config, examples=examples, time=max(2, time), k=SEQUENCES.get(task, 1))
    if time == 1:
        batch = replace(part(batch, list(range(examples)), 1), read_at=np.zeros(len(batch.tokens), np.int32))
    return config, float32(random_params(config, scale=0.2)), batch


def shortest(batch: Batch) -> list[Batch]:
    """Return each example as a micro-batch of its own, cut to its own length."""
    ends = batch.read_at.reshape(-1, batch.sequences_per_example).max(1) + 1
    return [part(batch, [example], int(end)) for example, end in enumerate(ends)]


def assert_close(found: Any, expected: Any, tolerance: float, what: str = "", *, floor: float = 1.0) -> None:
    """Assert that no element is off by more than `tolerance` times the largest one, or `floor` where that is larger."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, what
    limit = tolerance * float(np.abs(expected).max(initial=floor))
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit, err_msg=what)


def assert_same_step(
    found: tuple[dict[str, float], Params], expected: tuple[dict[str, float], Any], tolerance: float
) -> None:
    """Assert that two results of `gradients` agree: which losses there are, their values, and every gradient."""
    assert found[0].keys() == expected[0].keys()
    for name, loss in expected[0].items():
        assert_close(found[0][name], loss, tolerance, name)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert_close(found[1][name], gradient, tolerance, name)


def assert_identical(found: Params, expected: Params) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


# ---- against the reference


@pytest.mark.parametrize("lm_coef", [0.0, 0.5])
@pytest.mark.parametrize("task", TASKS)
def test_losses_and_gradients_equal_the_reference(build: Build, task: str, lm_coef: float) -> None:
    """With segments, unequal lengths and unequal weights."""
    config, params, batch = task_case(task)
    engine = build(config, params, lm_coef=lm_coef)
    expected = reference.gradients(float32(params), config, [batch], lm_coef)
    assert_same_step(engine.gradients([batch]), expected, FLOAT32)


@pytest.mark.parametrize("lm", list(LM_LOSSES.values())[1:], ids=list(LM_LOSSES)[1:])
@pytest.mark.parametrize("task", ["language model", "classification", "multiple-choice"])
def test_losses_and_gradients_of_each_lm_loss_equal_the_reference(build: Build, task: str, lm: dict[str, Any]) -> None:
    config, params, batch = task_case(task)
    found = build(config, params, lm_coef=0.5, **lm).gradients([batch])
    assert_same_step(found, reference.gradients(float32(params), config, [batch], 0.5, **lm), FLOAT32)
    plain = reference.losses(float32(params), config, [batch], 0.5)["lm_loss"]
    assert abs(found[0]["lm_loss"] - plain) > 10 * FLOAT32, "the loss must be another one"


@pytest.mark.parametrize("lm_coef", [0.0, 0.5])
@pytest.mark.parametrize("time", [1, 2, 127, 128, 129, 300, 512])
def test_gradients_equal_the_reference_at_every_length(build: Build, time: int, lm_coef: float) -> None:
    config, params, batch = longer_case("classification", time)
    expected = reference.gradients(params, config, [batch], lm_coef)
    assert_same_step(build(config, params, lm_coef=lm_coef).gradients([batch]), expected, FLOAT32)


@pytest.mark.parametrize("task", TASKS)
def test_gradients_equal_the_reference_at_full_length(build: Build, task: str) -> None:
    config, params, batch = longer_case(task, 512)
    expected = reference.gradients(params, config, [batch], 0.5)
    assert_same_step(build(config, params, lm_coef=0.5).gradients([batch]), expected, FLOAT32)


@pytest.mark.parametrize("time", [1, 33, 512])
@pytest.mark.parametrize("task", HEADS)
def test_task_logits_equal_the_reference(build: Build, task: str, time: int) -> None:
    config, params, batch = longer_case(task, time)
    logits = build(config, params).logits(replace(batch, labels=None, weights=None, lm_targets=None))
    assert logits.dtype == np.float32
    assert_close(logits, reference.task_logits(params, config, batch), FLOAT32)


@pytest.mark.parametrize("time", [1, 33, 512])
@pytest.mark.parametrize("task", ["language model", "classification"])
def test_token_logprobs_equal_the_reference(build: Build, task: str, time: int) -> None:
    config, params, batch = longer_case(task, time)
    logprobs = build(config, params).token_logprobs(batch)
    assert logprobs.dtype == np.float32
    assert_close(logprobs, reference.token_logprobs(params, config, batch), FLOAT32)


def test_model_without_segments_equals_the_reference(build: Build) -> None:
    config = ModelConfig(n_layer=1, n_head=3, n_embd=12, n_ctx=9, vocab_size=11, head=Head("classification", 2))
    params, batch = float32(random_params(config)), random_batch(config, examples=4, time=9)
    assert batch.segments is None
    expected = reference.gradients(params, config, [batch], 0.5)
    assert_same_step(build(config, params, lm_coef=0.5).gradients([batch]), expected, FLOAT32)


def test_targets_anywhere_count_and_no_other_position_does(build: Build) -> None:
    """A pad may have a target, a text may have none."""
    config, params, batch = task_case("language model")
    targets = np.full(batch.tokens.shape, IGNORE, np.int32)
    targets[0, [0, 3]], targets[2, -1] = [5, 0], 7
    batch = replace(batch, lm_targets=targets)
    engine = build(config, params)
    assert (engine.token_logprobs(batch) != 0).sum() == 3
    expected = reference.gradients(float32(params), config, [batch], 1.0)
    assert_same_step(engine.gradients([batch]), expected, FLOAT32)


# ---- looking inside


def margins(batch: Batch, config: ModelConfig) -> NDArray[np.float32]:
    """Weights (B, C) of the task's scores: of each example others, of both signs."""
    assert config.head
    columns = batch.sequences_per_example if config.head.task == "multiple-choice" else config.head.n_labels
    shape = len(batch.tokens) // batch.sequences_per_example, columns
    return np.random.default_rng(2).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("time", [1, 33, 512])
@pytest.mark.parametrize("task", HEADS)
def test_attributions_equal_the_reference(build: Build, task: str, time: int) -> None:
    config, params, batch = longer_case(task, time)
    weights = margins(batch, config)
    found = build(config, params).attributions(replace(batch, labels=None, weights=None, lm_targets=None), weights)
    assert found.dtype == np.float32
    assert_close(found, reference.attributions(params, config, batch, weights), FLOAT32)
    pads = np.arange(batch.tokens.shape[1]) > batch.read_at[:, None]
    assert pads.any() or time == 1
    assert not found[pads].any()


@pytest.mark.parametrize("time", [1, 33, 512])
@pytest.mark.parametrize("task", ["language model", "classification", "similarity"])
def test_attention_equals_the_reference(build: Build, task: str, time: int) -> None:
    config, params, batch = longer_case(task, time)
    found = build(config, params).attention(replace(batch, labels=None, weights=None, lm_targets=None))
    assert found.dtype == np.float32
    assert_close(found, reference.attention_weights(params, config, batch), FLOAT32)
    assert not np.triu(found, 1).any(), "nothing looks ahead"
    assert_close(found.sum(-1), np.ones(found.shape[:-1]), FLOAT32)


def test_looking_inside_changes_nothing_and_knows_no_dropout(build: Build) -> None:
    config, params, batch = longer_case("classification", 40)
    weights = margins(batch, config)
    engine, plain = (build(config, params, dropout=each) for each in (DropoutConfig(), NO_DROPOUT))
    trained(engine, batch, 1)
    plain.load_parameters(engine.parameters())
    before = engine.gradients([batch], step=1), engine.logits(batch)
    np.testing.assert_array_equal(engine.attributions(batch, weights), plain.attributions(batch, weights))
    np.testing.assert_array_equal(engine.attention(batch), plain.attention(batch))
    after = engine.gradients([batch], step=1), engine.logits(batch)
    assert after[0][0] == before[0][0]
    assert_identical(after[0][1], before[0][1])
    np.testing.assert_array_equal(after[1], before[1])


def linear_case(n_head: int = 2) -> tuple[ModelConfig, Params]:
    """A model that is linear, so that gradient x input is exact and can be had by hand.

    Scores of 0 make attention the mean over what came before; values pass as they are; the MLP adds nothing. A layer
    norm with an enormous epsilon, and its root as gain, only takes the mean of a row off, and every row here has none.
    So the state at `<eos>` is its embedding plus the mean of all embeddings.
    """
    config = ModelConfig(1, n_head, 4, 8, 9, layer_norm_epsilon=1e12, head=Head("classification", 2))
    rng = np.random.default_rng(3)
    params = {name: np.zeros(shape, np.float32) for name, shape in shapes(config).items()}
    for name in ("tokens_embed.weight", "positions_embed.weight"):
        half = rng.normal(size=(len(params[name]), 2))
        params[name] = np.concatenate([half, -half], 1).astype(np.float32)
    params["h.0.attn.c_attn.weight"][:, 8:] = np.eye(4)
    params["h.0.attn.c_proj.weight"][...] = np.eye(4)
    for norm in ("ln_1", "ln_2"):
        params[f"h.0.{norm}.weight"][...] = 1e6
    params["score.weight"][...] = rng.normal(size=(2, 4))
    return config, params


def test_attributions_of_a_linear_model_are_what_each_token_adds(build: Build) -> None:
    """And with what the positions add they sum to the margin itself."""
    config, params = linear_case()
    tokens = np.array([[1, 5, 2, 7, 0, 0]], np.int32)
    batch = Batch(tokens, read_at=np.array([3], np.int32))
    direction = params["score.weight"][1] - params["score.weight"][0]  # of the log odds
    share = np.array([0.25, 0.25, 0.25, 1.25, 0.0, 0.0])  # `<eos>` is read itself, and in the mean of four
    expected = share * (params["tokens_embed.weight"][tokens[0]] @ direction)
    engine = build(config, params)
    found = engine.attributions(batch, np.array([[-1.0, 1.0]], np.float32))
    assert_close(found, expected[None], FLOAT32)
    of_positions = share @ (params["positions_embed.weight"][:6] @ direction)
    logits = engine.logits(batch)
    assert found.sum() + of_positions == pytest.approx(float(logits[0, 1] - logits[0, 0]), abs=FLOAT32)


# ---- the parts of the loss


@pytest.mark.parametrize("lm_coef", [0.3, 2.0])
def test_loss_is_the_task_loss_plus_lm_coef_times_the_lm_loss(build: Build, lm_coef: float) -> None:
    config, params, batch = task_case("classification")
    found = build(config, params, lm_coef=lm_coef).gradients([batch])[0]
    assert found["loss"] == pytest.approx(found["task_loss"] + lm_coef * found["lm_loss"], abs=REGROUPED)
    expected = reference.losses(float32(params), config, [batch], 1.0)
    assert found["task_loss"] == pytest.approx(expected["task_loss"], abs=FLOAT32)
    assert found["lm_loss"] == pytest.approx(expected["lm_loss"], abs=FLOAT32)


def test_lm_coef_of_zero_is_the_same_as_no_targets(build: Build) -> None:
    config, params, batch = task_case("classification")
    off, on = build(config, params, lm_coef=0.0), build(config, params, lm_coef=0.5)
    without = on.gradients([replace(batch, lm_targets=None)])
    assert without[0].keys() == {"loss", "task_loss"}
    ignored = on.gradients([replace(batch, lm_targets=np.full_like(batch.tokens, IGNORE))])
    for found in (off.gradients([batch]), ignored):
        assert found[0] == without[0]
        assert_identical(found[1], without[1])


def test_lm_coef_is_one_without_a_head(build: Build) -> None:
    config, params, batch = task_case("language model")
    found = build(config, params, lm_coef=0.0).gradients([batch])
    assert found[0].keys() == {"loss", "lm_loss"}
    assert_same_step(found, reference.gradients(float32(params), config, [batch], 1.0), FLOAT32)


@pytest.mark.parametrize("task", HEADS)
def test_reading_one_position_equals_computing_them_all(build: Build, task: str) -> None:
    """Without an LM loss a backend may compute the last layer at `<eos>` alone; with one it may not."""
    config, params, batch = longer_case(task, 40, examples=4)
    alone = build(config, params, lm_coef=0.0).gradients([batch])
    negligible = build(config, params, lm_coef=1e-30).gradients([batch])
    assert negligible[0]["lm_loss"] > 1
    assert_close(alone[0]["task_loss"], negligible[0]["task_loss"], REGROUPED)
    for name, gradient in negligible[1].items():
        assert_close(alone[1][name], gradient, REGROUPED, name)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("pads", [1, 100])
def test_padding_on_the_right_changes_nothing(build: Build, task: str, pads: int) -> None:
    config, params, batch = longer_case(task, 40, examples=4)
    assert batch.lm_targets is not None
    assert batch.segments is not None
    wider = replace(
        batch,
        tokens=np.pad(batch.tokens, ((0, 0), (0, pads)), constant_values=7),
        lm_targets=np.pad(batch.lm_targets, ((0, 0), (0, pads)), constant_values=IGNORE),
        segments=np.pad(batch.segments, ((0, 0), (0, pads)), constant_values=1),
    )
    for lm_coef in (0.0, 0.5):
        engine = build(config, params, lm_coef=lm_coef)
        assert_same_step(engine.gradients([wider]), engine.gradients([batch]), REGROUPED)
    if config.head:
        assert_close(engine.logits(wider), engine.logits(batch), REGROUPED)
    assert_close(engine.token_logprobs(wider)[:, :40], engine.token_logprobs(batch), REGROUPED)


# ---- accumulation and weights


@pytest.mark.parametrize("lm_coef", [0.0, 0.5])
@pytest.mark.parametrize("task", TASKS)
def test_micro_batches_equal_the_big_batch(build: Build, task: str, lm_coef: float) -> None:
    """Of unequal lengths, weights and numbers of targets: the denominators are those of the whole step."""
    config, params, batch = longer_case(task, 40, examples=6)
    engine = build(config, params, lm_coef=lm_coef)
    expected = engine.gradients([batch])
    one_by_one = shortest(batch)
    assert len({micro_batch.target_count for micro_batch in one_by_one}) > 1
    uneven = [part(batch, [4, 0, 5, 2]), one_by_one[3], one_by_one[1]]
    for micro_batches in (one_by_one, uneven):
        assert_same_step(engine.gradients(micro_batches), expected, REGROUPED)


@pytest.mark.parametrize("lm", list(LM_LOSSES.values())[1:], ids=list(LM_LOSSES)[1:])
@pytest.mark.parametrize("task", ["language model", "multiple-choice"])
def test_micro_batches_of_each_lm_loss_equal_the_big_batch(build: Build, task: str, lm: dict[str, Any]) -> None:
    """Also where a sequence, or all of a micro-batch, has no target: neither is a sequence of the mean."""
    config, params, batch = longer_case(task, 40, examples=6)
    assert batch.lm_targets is not None
    k = batch.sequences_per_example
    targets = batch.lm_targets.copy()
    targets[: k + 1] = targets[3 * k] = IGNORE
    batch = replace(batch, lm_targets=targets)
    engine = build(config, params, lm_coef=0.5, **lm)
    expected = engine.gradients([batch])
    assert_same_step(expected, reference.gradients(params, config, [batch], 0.5, **lm), FLOAT32)
    one_by_one = shortest(batch)
    assert one_by_one[0].target_count == 0
    assert len({micro_batch.target_count for micro_batch in one_by_one}) > 2
    uneven = [part(batch, [4, 0, 5, 2]), one_by_one[3], one_by_one[1]]
    for micro_batches in (one_by_one, uneven):
        assert_same_step(engine.gradients(micro_batches), expected, REGROUPED)


def test_lm_losses_of_a_step_without_targets_are_none(build: Build) -> None:
    config, params, batch = task_case("classification")
    engine = build(config, params, lm_coef=0.5, **LM_LOSSES["both"])
    losses, gradients = engine.gradients([replace(batch, lm_targets=None)])
    assert losses.keys() == {"loss", "task_loss"}
    assert not gradients["positions_embed.weight"][batch.tokens.shape[1] :].any()


def test_update_of_micro_batches_equals_that_of_the_big_batch(build: Build) -> None:
    """Plain `train_step`, seen through the moments: Adam would turn the rounding noise of the key bias into steps."""
    config, params, batch = longer_case("classification", 40, examples=6)
    moments, results = [], []
    for batches in ([batch], shortest(batch)):
        engine = build(config, params, lm_coef=0.5)
        results.append(engine.train_step(batches, lr=1e-3, step=0).read())
        moments.append(engine.optimizer_state())
    assert results[0] == pytest.approx(results[1], abs=REGROUPED)
    for name, value in moments[0].items():
        assert_close(moments[1][name], value, MOMENTS, name, floor=0.0)


def test_micro_batches_may_lack_labels_or_targets(build: Build) -> None:
    config, params, batch = task_case("classification")
    first, second, third = shortest(batch)
    batches = [replace(first, lm_targets=None), replace(second, labels=None, weights=None), third]
    expected = reference.gradients(float32(params), config, batches, 0.5)
    assert_same_step(build(config, params, lm_coef=0.5).gradients(batches), expected, FLOAT32)


def test_absent_weights_are_ones(build: Build) -> None:
    config, params, batch = task_case("classification")
    engine = build(config, params)
    ones = replace(batch, weights=np.ones(3, np.float32))
    assert_same_step(engine.gradients([replace(batch, weights=None)]), engine.gradients([ones]), REGROUPED)


def test_weight_is_the_number_of_times_an_example_counts(build: Build) -> None:
    config, params, batch = task_case("classification")
    engine = build(config, params, lm_coef=0.0)
    weighted = replace(batch, weights=np.array([1, 0, 2], np.float32))
    repeated = replace(part(batch, [0, 2, 2]), weights=None)
    assert_same_step(engine.gradients([weighted]), engine.gradients([repeated]), REGROUPED)


@pytest.mark.parametrize("task", HEADS)
def test_weights_of_zero_leave_the_lm_loss_alone(build: Build, task: str) -> None:
    config, params, batch = task_case(task)
    nothing = replace(batch, weights=np.zeros(3, np.float32))
    losses, gradients = build(config, params, lm_coef=0.5).gradients([nothing])
    assert losses.keys() == {"loss", "lm_loss"}
    assert not gradients["score.weight"].any()
    expected = reference.gradients(float32(params), config, [nothing], 0.5)
    assert_same_step((losses, gradients), expected, FLOAT32)


def test_step_without_any_weight_or_target_has_zero_gradients_and_only_decays(build: Build) -> None:
    config, params, batch = task_case("classification")
    nothing = replace(batch, weights=np.zeros(3, np.float32))
    optim = OptimConfig(weight_decay=0.1)
    engine = build(config, params, lm_coef=0.0, optim=optim)
    losses, gradients = engine.gradients([nothing])
    assert losses == {"loss": 0.0}
    assert not any(gradient.any() for gradient in gradients.values())
    assert engine.train_step([nothing], lr=0.5, step=0).read() == {"loss": 0.0, "grad_norm": 0.0}
    for name, value in engine.parameters().items():
        kept = 0.95 if decays(name, value.shape) else 1.0
        assert_close(value, kept * params[name], REGROUPED, name)


# ---- updates


def rate(step: int) -> float:
    return 2e-3 * (1 + step % 5)


@pytest.mark.parametrize(
    ("task", "clip"),
    [("language model", 0.0), ("language model", 0.4), ("classification", 0.4), ("classification", 100.0)],
)
def test_two_dozen_steps_are_adamw_on_clipped_gradients_in_float64(build: Build, task: str, clip: float) -> None:
    """`optim.adamw` in NumPy, fed with the engine's own gradients; the rates change, and the dropout is on.

    Decay is on matrices only. The key bias is left out: its gradient is mathematically zero, so that its update is
    rounding noise divided by itself.
    """
    config, params, batch = longer_case(task, 12, examples=4)
    optim = OptimConfig(weight_decay=0.1, clip=clip, beta1=0.8, beta2=0.95)
    engine = build(config, params, optim=optim, dropout=DropoutConfig(), lm_coef=0.5)
    expected = {name: value.astype(np.float64) for name, value in params.items()}
    first, second = ({name: np.zeros_like(value) for name, value in expected.items()} for _ in range(2))
    for step in range(24):
        batches = shortest(batch) if step % 2 else [batch]
        losses, gradients = engine.gradients(batches, step=step)
        norm = math.sqrt(sum(np.square(gradient, dtype=np.float64).sum() for gradient in gradients.values()))
        found = engine.train_step(batches, lr=rate(step), step=step).read()
        assert found == pytest.approx({**losses, "grad_norm": norm}, rel=REGROUPED)
        for name, gradient in gradients.items():
            expected[name], first[name], second[name] = adamw(
                expected[name], gradient.astype(np.float64) * clip_factor(norm, clip), first[name], second[name],
                step=step, lr=rate(step), decay=decays(name, gradient.shape), config=optim,
            )  # fmt: skip
    keys = slice(config.n_embd, 2 * config.n_embd)
    for name, value in engine.parameters().items():
        if name.endswith("c_attn.bias"):
            value[keys] = expected[name][keys] = 0.0
        assert np.abs(value - params[name]).max() > 1e-3, "the steps must be large enough to see a difference"
        assert_close(value, expected[name], UPDATED, name)


def trained(engine: Engine, batch: Batch, steps: int) -> Engine:
    for step in range(steps):
        engine.train_step(shortest(batch), lr=rate(step), step=step)
    return engine


@pytest.mark.parametrize(("rule", "replaced"), [("paper", "at the start"), ("paper", "later"), ("openai", "later")])
def test_restored_engine_takes_the_same_next_step_bit_for_bit(build: Build, replaced: str, rule: str) -> None:
    """From parameters and moments alone, dropout included; the update may depend on the step."""
    openai = rule == "openai"
    config, params, batch = longer_case("multiple-choice" if openai else "classification", 12, examples=4)
    settings = {
        "dropout": DROPOUTS[rule],
        "optim": OptimConfig(decay_with_correction=openai, eps_outside_correction=openai),
        "seed": 3,
        **LM_LOSSES["both" if openai else "mean over tokens"],
    }
    engine = trained(build(config, params, **settings), batch, 3)
    if replaced == "at the start":
        other = build(config, engine.parameters(), **settings)
    else:
        other = trained(build(config, random_params(config, seed=9), **settings), batch, 5)
        other.load_parameters(engine.parameters())
    other.load_optimizer_state(engine.optimizer_state(), 3)
    assert_identical(other.optimizer_state(), engine.optimizer_state())
    for step in (3, 4):
        results = [each.train_step(shortest(batch), lr=rate(step), step=step).read() for each in (engine, other)]
        assert results[0] == results[1]
        assert_identical(other.parameters(), engine.parameters())
        assert_identical(other.optimizer_state(), engine.optimizer_state())


def test_steps_that_a_parameter_had_no_part_in_count_for_it_after_a_restart_too(build: Build) -> None:
    """Example weights may be zero for a whole step: the head's moments decay all the same, as in `optim.adamw`."""
    config, params, batch = longer_case("classification", 12, examples=4)
    nothing = replace(batch, weights=np.zeros(4, np.float32))
    engine = trained(build(config, params, lm_coef=0.5), batch, 2)
    before = engine.optimizer_state()["first.score.weight"]
    engine.train_step([nothing], lr=rate(2), step=2)
    assert_close(engine.optimizer_state()["first.score.weight"], 0.9 * before, REGROUPED, floor=0.0)
    other = build(config, engine.parameters(), lm_coef=0.5)
    other.load_optimizer_state(engine.optimizer_state(), 3)
    for each in (engine, other):
        each.train_step([batch], lr=rate(3), step=3)
    assert_identical(other.parameters(), engine.parameters())


def test_rate_of_zero_moves_nothing(build: Build) -> None:
    config, params, batch = task_case("classification")
    engine = build(config, params)
    engine.train_step([batch], lr=0.0, step=0)
    assert_identical(engine.parameters(), float32(params))
    assert engine.optimizer_state()["first.score.weight"].any()


def test_gradients_and_inference_leave_no_trace(build: Build) -> None:
    config, params, batch = task_case("classification")
    touched, other = (trained(build(config, params, dropout=DropoutConfig()), batch, 1) for _ in range(2))
    touched.gradients([batch, batch], step=7)
    touched.logits(batch)
    touched.token_logprobs(batch)
    for each in (touched, other):
        each.train_step([batch], lr=1e-2, step=1)
    assert_identical(touched.parameters(), other.parameters())
    assert_identical(touched.optimizer_state(), other.optimizer_state())


def test_arrays_that_cross_the_seam_are_copies(build: Build) -> None:
    config, params, batch = task_case("classification")
    given = float32(params)
    engine = build(config, given)
    start = engine.logits(batch)
    before = {name: array.copy() for name, array in vars_of(batch).items()}
    state = engine.optimizer_state()
    for arrays in (given, engine.parameters(), state):
        for array in arrays.values():
            array += 1.0
    np.testing.assert_array_equal(engine.logits(batch), start)
    trained(engine, batch, 1)
    assert_identical(vars_of(batch), before)
    other = float32(random_params(config, seed=4))
    engine.load_parameters(other)
    engine.load_optimizer_state(state, 1)
    for array in (*other.values(), *state.values()):
        array += 1.0
    assert_identical(engine.parameters(), float32(random_params(config, seed=4)))
    assert all((value == 1.0).all() for value in engine.optimizer_state().values())


def vars_of(batch: Batch) -> dict[str, NDArray[Any]]:
    names = ("tokens", "read_at", "labels", "weights", "lm_targets", "segments")
    return {name: value for name in names if (value := getattr(batch, name)) is not None}


def test_moments_are_zero_before_the_first_step(build: Build) -> None:
    config, params, _ = task_case("classification")
    state = build(config, params).optimizer_state()
    assert state.keys() == {f"{moment}.{name}" for moment in ("first", "second") for name in params}
    for name, value in state.items():
        assert value.shape == params[name.partition(".")[2]].shape
        assert not value.any()


# ---- dropout


@pytest.mark.parametrize("dropout", DROPOUTS.values(), ids=DROPOUTS)
def test_dropout_is_a_function_of_seed_step_and_micro_batch(build: Build, dropout: DropoutConfig) -> None:
    config, params, batch = longer_case("multiple-choice", 12, examples=4)
    engine = build(config, params, dropout=dropout, seed=1)
    losses, gradients = engine.gradients([batch], step=5)
    for other in (engine, build(config, params, dropout=dropout, seed=1)):
        again = other.gradients([batch], step=5)
        assert again[0] == losses
        assert_identical(again[1], gradients)
    other = build(config, params, dropout=dropout, seed=2)
    found = {losses["loss"], engine.gradients([batch], step=6)[0]["loss"], other.gradients([batch], step=5)[0]["loss"]}
    assert len(found) == 3
    twice = engine.gradients([batch, batch], step=5)[0]["loss"]
    assert abs(twice - losses["loss"]) > FLOAT32, "the second micro-batch must have masks of its own"


def test_training_step_has_the_dropout_of_its_number(build: Build) -> None:
    config, params, batch = longer_case("classification", 12, examples=4)
    engine = build(config, params, dropout=DropoutConfig())
    expected = [engine.gradients([batch, batch], step=step)[0] for step in (0, 1)]
    found = [engine.train_step([batch, batch], lr=0.0, step=step).read() for step in (0, 1)]
    assert [{name: result[name] for name in ("loss", "task_loss", "lm_loss")} for result in found] == expected


@pytest.mark.parametrize("lm_coef", [0.0, 0.5])
def test_without_dropout_neither_seed_nor_step_matters(build: Build, lm_coef: float) -> None:
    config, params, batch = longer_case("classification", 12, examples=4)
    losses, gradients = build(config, params, seed=0, lm_coef=lm_coef).gradients([batch], step=0)
    again = build(config, params, seed=5, lm_coef=lm_coef).gradients([batch], step=9)
    assert again[0] == losses
    assert_identical(again[1], gradients)


@pytest.mark.parametrize("openai", [False, True])
def test_inference_has_no_dropout(build: Build, openai: bool) -> None:
    config, params, batch = longer_case("multiple-choice", 12, examples=4)
    on = build(config, params, dropout=DropoutConfig(0.5, 0.5, 0.5, 0.5, embd_matrix=openai, clf_shared=openai))
    off = build(config, params)
    np.testing.assert_array_equal(on.logits(batch), off.logits(batch))
    np.testing.assert_array_equal(on.token_logprobs(batch), off.token_logprobs(batch))


WIDTH = 64
SITES = {
    "embeddings": ("embd_pdrop", "tokens_embed.weight", np.s_[5]),
    "attention weights": ("attn_pdrop", "h.L.attn.c_attn.bias", np.s_[-WIDTH:]),
    "attention output": ("resid_pdrop", "h.L.attn.c_proj.bias", np.s_[:]),
    "MLP output": ("resid_pdrop", "h.L.mlp.c_proj.bias", np.s_[:]),
    "classifier state": ("clf_pdrop", "score.weight", np.s_[0]),
}
"""Where dropout acts: its field, a parameter whose gradient passes through it, and the part that is one token's."""
ZEROED = {
    "embd_pdrop": ["tokens_embed.weight", "positions_embed.weight"],
    "attn_pdrop": [f"h.{layer}.attn.c_attn.{kind}" for layer in (0, 1) for kind in ("weight", "bias")],
    "resid_pdrop": [
        f"h.{site}.c_proj.{kind}" for site in ("0.attn", "0.mlp", "1.attn", "1.mlp") for kind in ("weight", "bias")
    ],
    "clf_pdrop": ["score.weight"],
}
"""The parameters that make what a dropout acts on zero."""


def masks(
    build: Build, site: str, layer: int, p: float, lm_coef: float, steps: int, **switches: bool
) -> NDArray[np.float64]:
    """Return (steps, WIDTH) factors by which dropout of probability `p` at `site` multiplies 64 elements.

    Where the dropped tensor is zero its mask changes no state, so the gradient by what is added in front of it is the
    one without dropout times the mask. One token, so that every element has one mask; one head for each element, so
    that attention has as many weights.
    """
    field, name, pick = SITES[site]
    name = name.replace("L", str(layer))
    config = ModelConfig(2, WIDTH, WIDTH, 4, 9, head=Head("classification", 1, regression=True))
    params = random_params(config)
    for zeroed in ZEROED[field]:
        params[zeroed][...] = 0.0
    target = np.array([[3]], np.int32) if lm_coef else None
    batch = Batch(np.array([[5]], np.int32), np.zeros(1, np.int32), np.ones(1, np.float32), lm_targets=target)
    plain = build(config, params, lm_coef=lm_coef).gradients([batch])[1][name][pick]
    engine = build(config, params, lm_coef=lm_coef, dropout=replace(NO_DROPOUT, **{field: p}, **switches))
    return np.array([engine.gradients([batch], step=step)[1][name][pick] / plain for step in range(steps)])


@pytest.mark.parametrize(
    ("site", "layer", "lm_coef", "p"),
    [("embeddings", 0, 0.0, 0.6), ("classifier state", 0, 0.0, 0.6), ("classifier state", 0, 0.5, 0.6)]
    + [(site, layer, 0.0, 0.6) for site in ("attention output", "MLP output", "attention weights") for layer in (0, 1)]
    + [("attention weights", 1, 1e-30, 0.6), ("attention weights", 1, 0.0, 0.1), ("embeddings", 0, 0.0, 0.1)],
)  # fmt: skip
def test_dropout_zeroes_with_probability_p_and_scales_the_rest(
    build: Build, site: str, layer: int, lm_coef: float, p: float
) -> None:
    """So that the mean stays. The last layer's attention has a form for one position, and one with an LM loss."""
    assert_mask(masks(build, site, layer, p, lm_coef, steps=40), p)


def assert_mask(found: NDArray[np.float64], p: float) -> None:
    kept = found > 0.5
    assert_close(found, kept / (1 - p), MASKED)
    assert abs(kept.sum() - kept.size * (1 - p)) < SIGMAS * math.sqrt(kept.size * p * (1 - p))
    assert kept.any(0).all(), "every element must be kept at times"
    assert p < 0.5 or not kept.all(0).any(), "every element must be dropped at times"


@pytest.mark.parametrize("p", [0.1, 0.6])
def test_dropout_on_the_embedding_matrix_zeroes_with_probability_p(build: Build, p: float) -> None:
    assert_mask(masks(build, "embeddings", 0, p, 0.0, steps=40, embd_matrix=True), p)


def embedding_case() -> tuple[ModelConfig, Params, Batch]:
    """Tokens that occur in both sequences and twice in one, segments, and positions that none of them reaches."""
    config = replace(small_model(Head("classification", 2)), vocab_size=12)
    tokens = np.array([[3, 5, 5, 7], [5, 3, 8, 0]], np.int32)
    batch = Batch(
        tokens, np.array([3, 2], np.int32), np.array([1, 0]), lm_targets=np.array([[5, 5, 7, -1], [3, 8, -1, -1]]),
        segments=np.array([[0, 0, 1, 1], [0, 1, 1, 0]], np.int32),
    )  # fmt: skip
    return config, float32(random_params(config)), batch


def embedding_masks(
    build: Build, batches: list[Batch], p: float, step: int, **switches: bool
) -> dict[str, NDArray[np.float64]]:
    """Return the quotients of the gradients by both embeddings with their dropout and without it.

    The embeddings are zero, so that dropout on them changes no state; the softmax of the LM loss runs over tokens and
    positions, so that every row has a gradient.
    """
    config, params, _ = embedding_case()
    for name in ZEROED["embd_pdrop"]:
        params[name][...] = 0.0
    lm = {"lm_coef": 0.7, **LM_LOSSES["both"]}
    dropout = replace(NO_DROPOUT, embd_pdrop=p, **switches)
    found, plain = (
        build(config, params, dropout=each, **lm).gradients(batches, step=step)[1] for each in (dropout, NO_DROPOUT)
    )
    for name in ZEROED["embd_pdrop"]:
        assert np.abs(plain[name]).min() > 1e-4, "a gradient of every element shows its mask"
    return {name: found[name] / plain[name] for name in ZEROED["embd_pdrop"]}


def test_dropout_on_the_embedding_matrix_has_one_mask_for_all_that_reads_it(build: Build) -> None:
    """All occurrences of a token, its segment's and position's rows, and the softmax of the LM loss."""
    _, _, batch = embedding_case()
    quotients = embedding_masks(build, [batch], 0.5, step=4, embd_matrix=True)
    for name, found in quotients.items():
        assert_close(found, (found > 1) * 2.0, MASKED, name)
        assert 0.2 < (found > 1).mean() < 0.8
    rows = np.concatenate(list(quotients.values())) > 1
    assert len(np.unique(rows, axis=0)) > 8, "the rows must have masks of their own"
    on_the_sum = embedding_masks(build, [batch], 0.5, step=4)["tokens_embed.weight"][5]
    assert np.abs(on_the_sum - (on_the_sum > 1) * 2.0).max() > 0.1, "on the sum each occurrence has its own"


def test_dropout_on_the_embedding_matrix_is_the_model_with_the_dropped_matrix(build: Build) -> None:
    """The oracle with both embeddings times the mask gives the losses; its gradients times the mask are ours."""
    config, params, batch = embedding_case()
    masked = embedding_masks(build, [batch], 0.25, step=9, embd_matrix=True)
    factors = {name: np.round(found * 0.75) / 0.75 for name, found in masked.items()}
    for lm_coef, lm in [(0.0, {}), *((0.7, lm) for lm in LM_LOSSES.values())]:
        engine = build(config, params, dropout=replace(NO_DROPOUT, embd_pdrop=0.25, embd_matrix=True), lm_coef=lm_coef,
                       **lm)  # fmt: skip
        dropped = {name: value * factors.get(name, 1.0) for name, value in params.items()}
        losses, gradients = reference.gradients(dropped, config, [batch], lm_coef, **lm)
        expected = {name: value * factors.get(name, 1.0) for name, value in gradients.items()}
        assert_same_step(engine.gradients([batch], step=9), (losses, expected), FLOAT32)


def test_dropped_embedding_matrix_of_each_micro_batch_is_its_own(build: Build) -> None:
    _, _, batch = embedding_case()
    alone, both = (embedding_masks(build, [batch] * n, 0.5, 4, embd_matrix=True) for n in (1, 2))
    half = {name: both[name] - alone[name] / 2 for name in both}  # what the second micro-batch adds
    for name, found in half.items():
        assert_close(found, found > 0.5, MASKED, name)
        assert 0.2 < ((found > 0.5) == (alone[name] > 1)).mean() < 0.8, "as alike as two coins"


@pytest.mark.parametrize("shared", [False, True])
def test_choices_of_a_question_share_a_classifier_mask_where_that_is_asked_for(build: Build, shared: bool) -> None:
    """The head's weights are zero, so that dropout changes no loss; its gradient sums over the choices."""
    config = ModelConfig(1, 2, WIDTH, 8, 9, head=HEADS["multiple-choice"])
    params = random_params(config)
    params["score.weight"][...] = 0.0
    batch = random_batch(config, examples=2, k=3)
    dropout = replace(NO_DROPOUT, clf_pdrop=0.5, clf_shared=shared)

    def quotients(batch: Batch) -> NDArray[np.float64]:
        found, plain = (
            build(config, params, lm_coef=0.0, dropout=each).gradients([batch])[1] for each in (dropout, NO_DROPOUT)
        )
        return found["score.weight"][0] / plain["score.weight"][0]

    def is_mask(found: NDArray[np.float64]) -> bool:
        return bool(np.abs(found - (found > 1) * 2.0).max() < MASKED)

    assert is_mask(quotients(part(batch, [0]))) == shared
    assert not is_mask(quotients(batch)), "each question has a mask of its own"


@pytest.mark.parametrize("p", [0.1, 0.6])
def test_shared_classifier_mask_zeroes_with_probability_p(build: Build, p: float) -> None:
    """Seen as above, on 40 steps of one question."""
    config = ModelConfig(1, 2, WIDTH, 8, 9, head=HEADS["multiple-choice"])
    params = random_params(config)
    params["score.weight"][...] = 0.0
    batch = random_batch(config, examples=1, k=3)
    plain = build(config, params, lm_coef=0.0).gradients([batch])[1]["score.weight"][0]
    engine = build(config, params, lm_coef=0.0, dropout=replace(NO_DROPOUT, clf_pdrop=p, clf_shared=True))
    steps = [engine.gradients([batch], step=step)[1]["score.weight"][0] / plain for step in range(40)]
    assert_mask(np.array(steps), p)


def test_every_layer_and_sub_layer_has_masks_of_its_own(build: Build) -> None:
    found = [masks(build, site, layer, 0.5, 0.0, 40) > 1 for site in list(SITES)[2:4] for layer in (0, 1)]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert abs((one == other).sum() - one.size / 2) < SIGMAS * math.sqrt(one.size) / 2


# ---- choosing


def test_unknown_backend_is_refused_by_name() -> None:
    config, params, _ = task_case("classification")
    with pytest.raises(UserError, match="--backend jax: expected one of"):
        backends.get(config, float32(params), hardware=DeviceConfig(backend="jax"))  # type: ignore[arg-type]


def test_engine_says_what_it_runs_on(build: Build) -> None:
    config, params, _ = task_case("classification")
    engine = build(config, params)
    assert engine.config == config
    assert engine.dtype == "float32"
    assert engine.device.startswith(("cpu", "cuda", "ascend"))


# ---- PyTorch alone


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture
def functional(torch: Any) -> Any:
    """The module of the torch backend that computes in its own way."""
    from gpt1.backends.torch import functional

    return functional


def torch_engine(config: ModelConfig, params: Any, **settings: Any) -> Engine:
    hardware = DeviceConfig(backend="torch", device="cpu", dtype=settings.pop("dtype", "float32"))
    loss = loss_among(settings)
    return backends.get(config, float32(params), hardware=hardware, loss=loss, **{"dropout": NO_DROPOUT, **settings})


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_noise_keeps_each_element_with_probability_one_minus_p(torch: Any, functional: Any, p: float) -> None:
    keep = functional.Noise(torch.device("cpu"), 1, 2, 3).keep((7, 1001, 5), p, torch.float32).numpy()
    assert keep.shape == (7, 1001, 5)
    assert set(np.unique(keep)) <= {0.0, 1.0}
    assert abs(keep.sum() - keep.size * (1 - p)) <= SIGMAS * math.sqrt(keep.size * p * (1 - p))
    pairs = keep[..., 1:] * keep[..., :-1]  # neighbours share a random word and must still be independent
    assert abs(pairs.mean() - (1 - p) ** 2) <= SIGMAS / math.sqrt(pairs.size)


def test_mean_over_many_masks_is_the_value_itself(torch: Any, functional: Any) -> None:
    x, p, draws = torch.linspace(-3.0, 3.0, 101), 0.3, 2000
    noise = functional.Noise(torch.device("cpu"), 0, 0, 0)
    mean = sum(noise.drop(x, p) for _ in range(draws)) / draws
    assert ((mean - x).abs() <= SIGMAS * x.abs() * math.sqrt(p / (1 - p) / draws) + FLOAT32).all()


def test_noise_is_a_function_of_its_counters_and_of_their_order(torch: Any, functional: Any) -> None:
    def words(*counters: int) -> bytes:
        noise = functional.Noise(torch.device("cpu"), *counters)
        return b"".join(noise.keep((100,), 0.5, torch.uint8).numpy().tobytes() for _ in range(2))

    assert words(1, 2, 3) == words(1, 2, 3)
    found = [words(1, 2, 3), words(3, 2, 1), words(1, 3, 2), words(0, 0, 0), words(0, 0, 1), words(0, 1, 0)]
    assert len(set(found)) == len(found)
    assert len({half for both in found for half in (both[:100], both[100:])}) == 2 * len(found)


def test_dropping_nothing_returns_the_tensor_itself(torch: Any, functional: Any) -> None:
    x = torch.ones(3)
    assert functional.Noise(torch.device("cpu"), 0).drop(x, 0.0) is x


def attention_inputs(torch: Any, time: int, size: int) -> list[Any]:
    """Return q, k and v of shape (2, 3, time, size), laid out in memory as the model's are."""
    generator = torch.Generator().manual_seed(time)
    every = torch.randn(2, time, 3, 3, size, generator=generator)
    return [every[:, :, i].transpose(1, 2).requires_grad_() for i in range(3)]


@pytest.mark.parametrize("p", [0.0, 0.125, 0.5])
@pytest.mark.parametrize("time", [1, 2, 127, 128, 129, 300])
def test_attention_equals_the_plain_formula_with_the_same_masks(
    torch: Any, functional: Any, time: int, p: float
) -> None:
    """The masks come out by themselves where every value is a unit vector: there the output is the dropped weights."""

    def attend(q: Any, k: Any, v: Any) -> Any:
        return functional.causal_attention(q, k, v, p, functional.Noise(torch.device("cpu"), 1, 2, 3))

    zero = torch.zeros(2, 3, time, time, requires_grad=True)
    keep = attend(zero, zero, torch.eye(time).expand(2, 3, time, time)).detach() > 0
    past = torch.ones(time, time).tril_().bool()
    assert not keep[..., ~past].any()
    seen = keep[..., past].double()
    assert abs(seen.mean() - (1 - p)) <= SIGMAS * math.sqrt(p * (1 - p) / seen.numel())

    q, k, v = attention_inputs(torch, time, 8)
    found = attend(q, k, v)
    weights = torch.softmax((q @ k.transpose(-1, -2) / math.sqrt(8)).masked_fill(~past, -math.inf), -1)
    expected = (weights * keep / (1 - p)) @ v
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(0))
    assert_close(found.detach(), expected.detach(), ATTENTION)
    for one, other in zip(*(torch.autograd.grad(out, (q, k, v), upstream) for out in (found, expected)), strict=True):
        assert_close(one, other, ATTENTION)


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_no_query_sees_the_future(torch: Any, functional: Any, p: float) -> None:
    """Not by a bit, and no gradient comes back from it."""

    def attend(*inputs: Any) -> Any:
        return functional.causal_attention(*inputs, p, functional.Noise(torch.device("cpu"), 1, 2, 3))

    q, k, v = attention_inputs(torch, 200, 8)
    out = attend(q, k, v)
    changed = [x.detach().clone() for x in (q, k, v)]
    for x in changed:
        x[:, :, 150:] = 1e4
    assert torch.equal(attend(*(x.requires_grad_() for x in changed))[:, :, :150], out[:, :, :150])
    for gradient in torch.autograd.grad(out[:, :, :150].sum(), (q, k, v)):
        assert not gradient[:, :, 150:].any()
        assert gradient[:, :, :150].any()


@pytest.mark.parametrize("at_once", [1, 100, 61 * 7])
def test_logits_in_slices_give_the_same_loss(
    torch: Any, functional: Any, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    config, params, batch = longer_case("classification", 40, examples=4)
    engine = torch_engine(config, params, lm_coef=0.5)
    whole, logprobs = engine.gradients([batch]), engine.token_logprobs(batch)
    monkeypatch.setitem(functional.LOGITS_AT_ONCE, "cpu", at_once)
    assert_same_step(engine.gradients([batch]), whole, REGROUPED)
    assert_close(engine.token_logprobs(batch), logprobs, REGROUPED)


def test_rows_that_fill_the_vocabulary_up_change_nothing(functional: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are there on CUDA; each case has another number of matrices in the softmax."""
    for over_positions in (False, True):
        config, params, batch = longer_case("classification", 40, examples=4)
        engine = torch_engine(config, params, lm_coef=0.5, lm_over_positions=over_positions)
        plain, logprobs = engine.gradients([batch]), engine.token_logprobs(batch)
        assert config.vocab_size % 128
        monkeypatch.setitem(functional.VOCABULARY_MULTIPLE, "cpu", 128)
        assert_same_step(engine.gradients([batch]), plain, REGROUPED)
        assert_close(engine.token_logprobs(batch), logprobs, REGROUPED)
        monkeypatch.undo()


def test_logits_of_all_positions_never_exist_at_once(
    torch: Any, functional: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory must not grow with batch times vocabulary: the largest tensor of a step is the embedding's."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return out

    config = ModelConfig(n_layer=1, n_head=1, n_embd=4, n_ctx=32, vocab_size=1000)
    batch = random_batch(config, examples=20, time=32)
    engine = torch_engine(config, random_params(config))
    monkeypatch.setitem(functional.LOGITS_AT_ONCE, "cpu", 20_000)
    with Watch():
        engine.gradients([batch])
        engine.token_logprobs(batch)
    assert batch.target_count > 300
    assert 10_000 < largest <= 20 * 32 * 32, "attention weights, 20 rows of logits, or the embedding, not 300 rows"


@pytest.mark.parametrize("task", ["language model", "classification"])
def test_bfloat16_follows_the_reference(torch: Any, task: str) -> None:
    """Weights, residual stream and losses stay float32: only the products are rounded, to 8 bits."""
    config, params, batch = longer_case(task, 200, examples=4)
    engine = torch_engine(config, params, lm_coef=0.5, dtype="bfloat16")
    assert engine.dtype == "bfloat16"
    losses, gradients = engine.gradients([batch])
    expected = reference.gradients(params, config, [batch], 0.5)
    assert losses == pytest.approx(expected[0], rel=BFLOAT16 / 5)
    assert_close(engine.token_logprobs(batch), reference.token_logprobs(params, config, batch), BFLOAT16)
    if config.head:
        assert_close(engine.logits(batch), reference.task_logits(params, config, batch), BFLOAT16)
    found, true = (np.concatenate([each[name].ravel() for name in params]) for each in (gradients, expected[1]))
    assert 1e-4 < np.linalg.norm(found - true) / np.linalg.norm(true) < BFLOAT16


def test_restored_engine_takes_the_same_next_step_in_bfloat16(torch: Any) -> None:
    config, params, batch = longer_case("classification", 40, examples=4)
    settings = {"dtype": "bfloat16", "dropout": DropoutConfig(), "seed": 3}
    engine = trained(torch_engine(config, params, **settings), batch, 2)
    other = torch_engine(config, engine.parameters(), **settings)
    other.load_optimizer_state(engine.optimizer_state(), 2)
    for each in (engine, other):
        each.train_step(shortest(batch), lr=rate(2), step=2)
    assert_identical(other.parameters(), engine.parameters())
    assert_identical(other.optimizer_state(), engine.optimizer_state())


@pytest.mark.parametrize(
    ("hardware", "message"),
    [
        (DeviceConfig(backend="torch", device="ascend"), "--device ascend: needs the MindSpore backend"),
        (DeviceConfig(backend="torch", device="cpu", dtype="float16"), "--dtype float16: only for inference"),
        (DeviceConfig(backend="torch", device="cpu", compile=True), "--compile: works on --device cuda"),
    ],
)
def test_hardware_that_cannot_be_had_is_refused_with_the_flag(torch: Any, hardware: DeviceConfig, message: str) -> None:
    config, params, _ = task_case("classification")
    with pytest.raises(UserError, match=message):
        backends.get(config, float32(params), hardware=hardware)


def test_missing_cuda_is_refused_with_the_flag(torch: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("CUDA is here")
    config, params, _ = task_case("classification")
    with pytest.raises(UserError, match="--device cuda: PyTorch sees no CUDA device"):
        backends.get(config, float32(params), hardware=DeviceConfig(backend="torch", device="cuda"))


def test_a_process_without_a_device_of_its_own_is_refused(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"RANK": "2", "WORLD_SIZE": "3", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="torchrun started process 2 on a machine of 2 CUDA devices"):
        importlib.import_module("gpt1.backends.torch.device").choose(DeviceConfig(device="cuda"), training=True)
