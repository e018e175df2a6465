"""Losses, gradients and logits of every backend, compared with the NumPy reference model.

Run: pytest tests/test_backend_losses.py
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gpt1 import backends
from gpt1.backends.base import IGNORE
from gpt1.config import DeviceConfig, Head, ModelConfig
from gpt1.errors import UserError
from support import reference_model
from support.comparisons import FLOAT32, assert_close, assert_identical, assert_same_step
from support.engines import Build
from support.model_cases import (
    HEADS,
    LM_LOSSES,
    TASKS,
    float32,
    longer_case,
    random_batch,
    random_params,
    task_case,
)

REGROUPED = 1e-6
"""Float32 on both sides, the same terms summed in another order (epsilon 1.2e-7)."""


# ---- against the reference


@pytest.mark.parametrize("lm_coef", [0.0, 0.5])
@pytest.mark.parametrize("task", TASKS)
def test_losses_and_gradients_equal_the_reference(build: Build, task: str, lm_coef: float) -> None:
    """With segments, unequal lengths and unequal weights."""
    config, params, batch = task_case(task)
    engine = build(config, params, lm_coef=lm_coef)
    expected = reference_model.gradients(float32(params), config, [batch], lm_coef)
    assert_same_step(engine.gradients([batch]), expected, FLOAT32)


@pytest.mark.parametrize("lm", list(LM_LOSSES.values())[1:], ids=list(LM_LOSSES)[1:])
@pytest.mark.parametrize("task", ["language model", "classification", "multiple-choice"])
def test_losses_and_gradients_of_each_lm_loss_equal_the_reference(build: Build, task: str, lm: dict[str, Any]) -> None:
    config, params, batch = task_case(task)
    found = build(config, params, lm_coef=0.5, **lm).gradients([batch])
    assert_same_step(found, reference_model.gradients(float32(params), config, [batch], 0.5, **lm), FLOAT32)
    plain = reference_model.losses(float32(params), config, [batch], 0.5)["lm_loss"]
    assert abs(found[0]["lm_loss"] - plain) > 10 * FLOAT32, "the loss must be another one"


@pytest.mark.parametrize("lm_coef", [0.0, 0.5])
@pytest.mark.parametrize("time", [1, 2, 127, 128, 129, 300, 512])
def test_gradients_equal_the_reference_at_every_length(build: Build, time: int, lm_coef: float) -> None:
    config, params, batch = longer_case("classification", time)
    expected = reference_model.gradients(params, config, [batch], lm_coef)
    assert_same_step(build(config, params, lm_coef=lm_coef).gradients([batch]), expected, FLOAT32)


@pytest.mark.parametrize("task", TASKS)
def test_gradients_equal_the_reference_at_full_length(build: Build, task: str) -> None:
    config, params, batch = longer_case(task, 512)
    expected = reference_model.gradients(params, config, [batch], 0.5)
    assert_same_step(build(config, params, lm_coef=0.5).gradients([batch]), expected, FLOAT32)


@pytest.mark.parametrize("time", [1, 33, 512])
@pytest.mark.parametrize("task", HEADS)
def test_task_logits_equal_the_reference(build: Build, task: str, time: int) -> None:
    config, params, batch = longer_case(task, time)
    logits = build(config, params).logits(replace(batch, labels=None, weights=None, lm_targets=None))
    assert logits.dtype == np.float32
    assert_close(logits, reference_model.task_logits(params, config, batch), FLOAT32)


@pytest.mark.parametrize("time", [1, 33, 512])
@pytest.mark.parametrize("task", ["language model", "classification"])
def test_token_logprobs_equal_the_reference(build: Build, task: str, time: int) -> None:
    config, params, batch = longer_case(task, time)
    logprobs = build(config, params).token_logprobs(batch)
    assert logprobs.dtype == np.float32
    assert_close(logprobs, reference_model.token_logprobs(params, config, batch), FLOAT32)


def test_model_without_segments_equals_the_reference(build: Build) -> None:
    config = ModelConfig(n_layer=1, n_head=3, n_embd=12, n_ctx=9, vocab_size=11, head=Head("classification", 2))
    params, batch = float32(random_params(config)), random_batch(config, examples=4, time=9)
    assert batch.segments is None
    expected = reference_model.gradients(params, config, [batch], 0.5)
    assert_same_step(build(config, params, lm_coef=0.5).gradients([batch]), expected, FLOAT32)


def test_targets_anywhere_count_and_no_other_position_does(build: Build) -> None:
    """Padding may have a target, a text may have none."""
    config, params, batch = task_case("language model")
    targets = np.full(batch.tokens.shape, IGNORE, np.int32)
    targets[0, [0, 3]], targets[2, -1] = [5, 0], 7
    batch = replace(batch, lm_targets=targets)
    engine = build(config, params)
    assert (engine.token_logprobs(batch) != 0).sum() == 3
    expected = reference_model.gradients(float32(params), config, [batch], 1.0)
    assert_same_step(engine.gradients([batch]), expected, FLOAT32)


# ---- the parts of the loss


@pytest.mark.parametrize("lm_coef", [0.3, 2.0])
def test_loss_is_the_task_loss_plus_lm_coef_times_the_lm_loss(build: Build, lm_coef: float) -> None:
    config, params, batch = task_case("classification")
    found = build(config, params, lm_coef=lm_coef).gradients([batch])[0]
    assert found["loss"] == pytest.approx(found["task_loss"] + lm_coef * found["lm_loss"], abs=REGROUPED)
    expected = reference_model.losses(float32(params), config, [batch], 1.0)
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
    assert_same_step(found, reference_model.gradients(float32(params), config, [batch], 1.0), FLOAT32)


@pytest.mark.parametrize("task", HEADS)
def test_reading_one_position_equals_computing_them_all(build: Build, task: str) -> None:
    """Without an LM loss a backend may compute the last layer at `<eos>` only; with one it must not."""
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
