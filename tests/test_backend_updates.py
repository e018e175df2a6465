"""Updates of every backend: comparison with AdamW in float64, restored engines, copies at the interface.

Run: pytest tests/test_backend_updates.py
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt1.backends.base import Batch
from gpt1.backends.optim import adamw, clip_factor
from gpt1.backends.parameters import decays
from gpt1.config import DropoutConfig, OptimConfig
from support.comparisons import assert_close, assert_identical
from support.engines import DROPOUTS, Build, rate, trained
from support.model_cases import (
    LM_LOSSES,
    float32,
    longer_case,
    random_params,
    shortest,
    task_case,
)

REGROUPED = 1e-6
"""Float32 on both sides, the same terms summed in another order (epsilon 1.2e-7)."""
UPDATED = 2e-6
"""Relative to the parameter's largest value: 24 updates, each rounded to float32 once (epsilon 1.2e-7)."""


@pytest.mark.parametrize(
    ("task", "max_grad_norm"),
    [("language model", 0.0), ("language model", 0.4), ("classification", 0.4), ("classification", 100.0)],
)
def test_two_dozen_steps_are_adamw_on_clipped_gradients_in_float64(
    build: Build, task: str, max_grad_norm: float
) -> None:
    """The reference is `optim.adamw` in NumPy with the engine's gradients, with changing rates and dropout.

    Weight decay is on matrices only. The key bias is not compared: its gradient is mathematically zero, so its update
    is rounding noise divided by itself.
    """
    config, params, batch = longer_case(task, 12, examples=4)
    optim = OptimConfig(weight_decay=0.1, max_grad_norm=max_grad_norm, beta1=0.8, beta2=0.95)
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
                expected[name], gradient.astype(np.float64) * clip_factor(norm, max_grad_norm),
                first[name], second[name], step=step, lr=rate(step), decay=decays(name, gradient.shape), config=optim,
            )  # fmt: skip
    keys = slice(config.n_embd, 2 * config.n_embd)
    for name, value in engine.parameters().items():
        if name.endswith("c_attn.bias"):
            value[keys] = expected[name][keys] = 0.0
        assert np.abs(value - params[name]).max() > 1e-3, "the steps must be large enough to see a difference"
        assert_close(value, expected[name], UPDATED, name)


@pytest.mark.parametrize(("rule", "replaced"), [("paper", "at the start"), ("paper", "later"), ("openai", "later")])
def test_restored_engine_takes_the_same_next_step_bit_for_bit(build: Build, replaced: str, rule: str) -> None:
    """From parameters, moments and the number of the step only, including dropout."""
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
    """Example weights may be zero for a whole step; the head's moments still decay, as in `optim.adamw`."""
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
    names = ("tokens", "eos_positions", "labels", "weights", "lm_targets", "segments")
    return {name: value for name in names if (value := getattr(batch, name)) is not None}


def test_moments_are_zero_before_the_first_step(build: Build) -> None:
    config, params, _ = task_case("classification")
    state = build(config, params).optimizer_state()
    assert state.keys() == {f"{moment}.{name}" for moment in ("first", "second") for name in params}
    for name, value in state.items():
        assert value.shape == params[name.partition(".")[2]].shape
        assert not value.any()
