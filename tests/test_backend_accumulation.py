"""Micro-batches and example weights: the same gradients and updates as with one large batch.

Run: pytest tests/test_backend_accumulation.py
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gpt1.backends.base import IGNORE
from gpt1.backends.parameters import decays
from gpt1.config import OptimConfig
from support import reference_model
from support.comparisons import FLOAT32, assert_close, assert_same_step
from support.engines import Build
from support.model_cases import (
    HEADS,
    LM_LOSSES,
    TASKS,
    float32,
    longer_case,
    part,
    shortest,
    task_case,
)

REGROUPED = 1e-6
"""Float32 on both sides, the same terms summed in another order (epsilon 1.2e-7)."""
MOMENTS = 1e-5
"""The same, relative to the largest moment of a parameter."""


@pytest.mark.parametrize("lm_coef", [0.0, 0.5])
@pytest.mark.parametrize("task", TASKS)
def test_micro_batches_equal_the_big_batch(build: Build, task: str, lm_coef: float) -> None:
    """Lengths, weights and numbers of targets differ; the denominators are those of the whole step."""
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
    """Sequences without a target, or whole micro-batches of them, are not counted in the mean."""
    config, params, batch = longer_case(task, 40, examples=6)
    assert batch.lm_targets is not None
    k = batch.sequences_per_example
    targets = batch.lm_targets.copy()
    targets[: k + 1] = targets[3 * k] = IGNORE
    batch = replace(batch, lm_targets=targets)
    engine = build(config, params, lm_coef=0.5, **lm)
    expected = engine.gradients([batch])
    assert_same_step(expected, reference_model.gradients(params, config, [batch], 0.5, **lm), FLOAT32)
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
    """Compares the moments after `train_step`: Adam amplifies the rounding noise of the key bias in the parameters."""
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
    expected = reference_model.gradients(float32(params), config, batches, 0.5)
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
    expected = reference_model.gradients(float32(params), config, [nothing], 0.5)
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
