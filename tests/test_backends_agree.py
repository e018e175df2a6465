"""PyTorch and MindSpore compared, with the same weights, batches and dropout masks. Needs both frameworks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpt1 import backends
from gpt1.backends.base import Engine
from gpt1.backends.optim import learning_rate
from gpt1.config import LossConfig, OptimConfig
from support.comparisons import assert_close
from support.engines import DROPOUTS, hardware
from support.model_cases import HEADS, SEQUENCES, TASKS, longer_case, random_batch

pytestmark = pytest.mark.skipif(len(backends.installed()) < 2, reason="needs PyTorch and MindSpore")

FLOAT32 = 1e-5
"""Relative to the largest value or 1: float32 on both sides, sums in another order (epsilon 1.2e-7)."""
TRAINED = 1e-4
"""For losses after up to 50 updates, in which rounding differences accumulate."""
STEPS = 50


def both(config: Any, params: Any, **settings: Any) -> list[Engine]:
    return [backends.get(config, params, hardware=hardware(name), **settings) for name in backends.BACKENDS]


@pytest.mark.parametrize("task", HEADS)
def test_the_same_weights_give_the_same_logits(task: str) -> None:
    config, params, batch = longer_case(task, 40)
    torch, mindspore = both(config, params)
    assert_close(mindspore.logits(batch), torch.logits(batch), FLOAT32)
    assert_close(mindspore.token_logprobs(batch), torch.token_logprobs(batch), FLOAT32)


@pytest.mark.parametrize("lm_coef", [0.0, 0.5])
@pytest.mark.parametrize("rule", DROPOUTS)
@pytest.mark.parametrize("task", TASKS)
def test_the_same_masks_give_the_same_losses_and_gradients(task: str, rule: str, lm_coef: float) -> None:
    """Masks are a function of seed, step and micro-batch, drawn in the same order by both backends."""
    config, params, batch = longer_case(task, 20)
    loss = LossConfig(lm_coef, "sequence" if rule == "openai" else "token", lm_over_positions=rule == "openai")
    engines = both(config, params, dropout=DROPOUTS[rule], loss=loss, seed=3)
    expected, found = (engine.gradients([batch, batch], step=4) for engine in engines)
    assert found[0] == pytest.approx(expected[0], rel=FLOAT32)
    for name, gradient in expected[1].items():
        assert_close(found[1][name], gradient, FLOAT32, name)
    assert engines[0].gradients([batch, batch], step=5)[0] != pytest.approx(expected[0], rel=1e-3), "dropout is on"


def test_masks_of_more_queries_than_are_drawn_at_once_are_the_same() -> None:
    config, params, batch = longer_case("classification", 300)
    expected, found = (engine.gradients([batch])[1] for engine in both(config, params, dropout=DROPOUTS["paper"]))
    for name, gradient in expected.items():
        assert_close(found[name], gradient, FLOAT32, name)


@pytest.mark.parametrize("task", TASKS)
def test_training_follows_the_same_curve(task: str) -> None:
    """Pretraining and each kind of fine-tuning, for 50 losses."""
    config, params, _ = longer_case(task, 12)
    optim = OptimConfig(lr=1e-3, weight_decay=0.01)
    curves = []
    for engine in both(config, params, optim=optim, dropout=DROPOUTS["paper"]):
        results = []
        for step in range(STEPS):
            batch = random_batch(config, examples=2, time=12, k=SEQUENCES.get(task, 1), seed=step)
            results.append(engine.train_step([batch], lr=learning_rate(step, STEPS, optim), step=step))
        curves.append([result.read()["loss"] for result in results])
    np.testing.assert_allclose(curves[1], curves[0], rtol=TRAINED)
    assert np.mean(curves[0][-10:]) < np.mean(curves[0][:10])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["from torch to mindspore", "from mindspore to torch"])
def test_a_run_goes_on_with_the_other_backend(order: tuple[int, int]) -> None:
    config, params, batch = longer_case("classification", 12)
    engines = both(config, params, dropout=DROPOUTS["paper"])
    ours, theirs = (engines[place] for place in order)
    for step in range(3):
        ours.train_step([batch], lr=1e-3, step=step)
    theirs.load_parameters(ours.parameters())
    theirs.load_optimizer_state(ours.optimizer_state(), 3)
    expected, found = (engine.train_step([batch], lr=1e-3, step=3).read() for engine in (ours, theirs))
    assert found == pytest.approx(expected, rel=FLOAT32)
    for name, moment in ours.optimizer_state().items():
        assert_close(theirs.optimizer_state()[name], moment, FLOAT32, name)
