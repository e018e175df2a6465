"""One suite for every backend: losses, gradients, updates and dropout, through the protocol that they share.

Every test up to the last section runs on each installed backend and imports no framework. Equality is asked in float32
with dropout off; the oracle is `reference`, in NumPy and float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import reference
from numpy.typing import NDArray
from test_reference import HEADS, SEQUENCES, part, random_batch, random_params, task_case

from gpt1 import backends
from gpt1.backends.base import IGNORE, Batch, Engine
from gpt1.config import DeviceConfig, DropoutConfig, Head, ModelConfig, OptimConfig
from gpt1.errors import UserError
from gpt1.optim import adamw, clip_factor
from gpt1.params import Params, decays

FLOAT32 = 1e-5
"""Float32 against float64 through two layers, of the largest value or of 1; up to 1.5e-6 was seen, at 512 tokens."""
REGROUPED = 1e-6
"""Float32 on both sides, the same terms summed in other groups (epsilon 1.2e-7)."""
UPDATED = 2e-6
"""Of the parameter's largest value: two dozen updates, each rounded to float32 once (epsilon 1.2e-7)."""
SIGMAS = 5
"""Standard deviations of a binomial count; masks are counted, so a test that passed once passes always."""

NO_DROPOUT = DropoutConfig.none()
TASKS = ["language model", *HEADS]

Build = Callable[..., Engine]


@pytest.fixture
def build(backend: str) -> Build:
    """A float32 engine without dropout, unless told otherwise, of the backend under test."""

    def engine(config: ModelConfig, params: Any, *, dropout: DropoutConfig = NO_DROPOUT, **settings: Any) -> Engine:
        hardware = DeviceConfig(backend=backend, dtype="float32")  # type: ignore[arg-type]
        return backends.get(config, float32(params), hardware=hardware, dropout=dropout, **settings)

    return engine


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
    return config, float32(random_params(config, scale=0.3)), batch


def shortest(batch: Batch) -> list[Batch]:
    """Return each example as a micro-batch of its own, cut to its own length."""
    ends = batch.read_at.reshape(-1, batch.sequences_per_example).max(1) + 1
    return [part(batch, [example], int(end)) for example, end in enumerate(ends)]


def assert_close(found: Any, expected: Any, tolerance: float, what: str = "") -> None:
    """Assert that no element is off by more than `tolerance` times the largest one, or 1 where that is larger."""
    assert np.shape(found) == np.shape(expected), what
    limit = tolerance * max(1.0, float(np.abs(expected).max(initial=0.0)))
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
    config, params, batch = longer_case(task, 40)
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
        assert_close(moments[1][name], value, REGROUPED, name)


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


@pytest.mark.parametrize("clip", [0.0, 0.4, 100.0])
@pytest.mark.parametrize("task", ["language model", "classification"])
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


@pytest.mark.parametrize("replaced", ["at the start", "later"])
def test_restored_engine_takes_the_same_next_step_bit_for_bit(build: Build, replaced: str) -> None:
    """From parameters and moments alone, dropout included."""
    config, params, batch = longer_case("classification", 12, examples=4)
    engine = trained(build(config, params, dropout=DropoutConfig(), seed=3), batch, 3)
    if replaced == "at the start":
        other = build(config, engine.parameters(), dropout=DropoutConfig(), seed=3)
    else:
        other = trained(build(config, random_params(config, seed=9), dropout=DropoutConfig(), seed=3), batch, 5)
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
    assert_close(engine.optimizer_state()["first.score.weight"], 0.9 * before, REGROUPED)
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


def test_dropout_is_a_function_of_seed_step_and_micro_batch(build: Build) -> None:
    config, params, batch = longer_case("classification", 12, examples=4)
    engine = build(config, params, dropout=DropoutConfig(), seed=1)
    losses, gradients = engine.gradients([batch], step=5)
    for other in (engine, build(config, params, dropout=DropoutConfig(), seed=1)):
        again = other.gradients([batch], step=5)
        assert again[0] == losses
        assert_identical(again[1], gradients)
    other = build(config, params, dropout=DropoutConfig(), seed=2)
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


def test_inference_has_no_dropout(build: Build) -> None:
    config, params, batch = longer_case("classification", 12, examples=4)
    on, off = build(config, params, dropout=DropoutConfig(0.5, 0.5, 0.5, 0.5)), build(config, params)
    np.testing.assert_array_equal(on.logits(batch), off.logits(batch))
    np.testing.assert_array_equal(on.token_logprobs(batch), off.token_logprobs(batch))


WIDTH = 64
SITES = {
    "embeddings": ("embd_pdrop", ("tokens_embed.weight", "positions_embed.weight"), "tokens_embed.weight"),
    "attention output": ("resid_pdrop", ("h.L.attn.c_proj.weight", "h.L.attn.c_proj.bias"), "h.L.attn.c_proj.bias"),
    "MLP output": ("resid_pdrop", ("h.L.mlp.c_proj.weight", "h.L.mlp.c_proj.bias"), "h.L.mlp.c_proj.bias"),
    "attention weights": ("attn_pdrop", ("h.L.attn.c_attn.weight", "h.L.attn.c_attn.bias"), "h.L.attn.c_attn.bias"),
    "classifier state": ("clf_pdrop", ("score.weight",), "score.weight"),
}
"""Where dropout acts: its field, the parameters that make the dropped tensor zero, and one whose gradient it masks."""


@pytest.mark.parametrize("p", [0.1, 0.6])
@pytest.mark.parametrize(
    ("site", "layer", "lm_coef"),
    [("embeddings", 0, 0.0), ("classifier state", 0, 0.0), ("classifier state", 0, 0.5)]
    + [(site, layer, 0.0) for site in ("attention output", "MLP output", "attention weights") for layer in (0, 1)]
    + [("attention weights", 1, 1.0)],
)
def test_dropout_zeroes_with_probability_p_and_scales_the_rest(
    build: Build, site: str, layer: int, lm_coef: float, p: float
) -> None:
    """Where the dropped tensor is zero the masks change no state, so the gradient by a bias in front of it is the one
    without dropout, times 0 or 1 / (1 - p): the mask itself. One token, so that every element has one mask; one head
    for each element, so that attention has as many weights."""
    field, zeroed, watched = SITES[site]
    config = ModelConfig(2, WIDTH, WIDTH, 4, 9, head=Head("classification", 1, regression=True))
    params = random_params(config)
    for name in zeroed:
        params[name.replace("L", str(layer))][...] = 0.0
    target = np.array([[3]], np.int32) if lm_coef else None
    batch = Batch(np.array([[5]], np.int32), np.zeros(1, np.int32), np.ones(1, np.float32), lm_targets=target)
    name = watched.replace("L", str(layer))
    pick = np.s_[5] if site == "embeddings" else np.s_[-1] if site == "classifier state" else np.s_[-WIDTH:]
    plain = build(config, params, lm_coef=lm_coef).gradients([batch])[1][name][pick]
    dropping = build(config, params, lm_coef=lm_coef, dropout=replace(NO_DROPOUT, **{field: p}))
    masks = np.array([dropping.gradients([batch], step=step)[1][name][pick] / plain for step in range(40)])
    assert masks.shape == (40, WIDTH)
    kept = masks > 0.5
    assert_close(masks, kept / (1 - p), 1e-3)  # quotients of float32 gradients; p itself may be met to 2^-16
    assert abs(kept.sum() - kept.size * (1 - p)) < SIGMAS * math.sqrt(kept.size * p * (1 - p))
    assert kept.any(0).all(), "every element is kept at times"
    if p > 0.5:
        assert not kept.all(0).any(), "every element is dropped at times"


def test_two_sites_have_masks_of_their_own(build: Build) -> None:
    """Two layers, two sub-layers: the masks of 64 elements at four sites, 40 times."""
    config = ModelConfig(2, WIDTH, WIDTH, 4, 9, head=Head("classification", 1, regression=True))
    params = random_params(config)
    biases = [f"h.{layer}.{part}.c_proj.bias" for layer in (0, 1) for part in ("attn", "mlp")]
    for name in biases:
        params[name][...] = 0.0
        params[name.replace("bias", "weight")][...] = 0.0
    batch = Batch(np.array([[5]], np.int32), np.zeros(1, np.int32), np.ones(1, np.float32))
    engine = build(config, params, dropout=replace(NO_DROPOUT, resid_pdrop=0.5))
    steps = [engine.gradients([batch], step=step)[1] for step in range(40)]
    dropped = np.array([[step[name] == 0 for name in biases] for step in steps]).swapaxes(0, 1).reshape(4, -1)
    n = dropped.shape[1]
    for i in range(4):
        for j in range(i):
            assert abs((dropped[i] == dropped[j]).sum() - n / 2) < SIGMAS * math.sqrt(n) / 2, (biases[i], biases[j])


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
