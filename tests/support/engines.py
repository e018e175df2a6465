"""Engines of every backend for the tests: their device settings, the fixture `build`, and a few training steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpt1 import backends
from gpt1.backends.base import Batch, Engine
from gpt1.config import DeviceConfig, DropoutConfig, LossConfig, ModelConfig
from support.model_cases import float32, shortest

NO_DROPOUT = DropoutConfig.none()
DROPOUTS = {"paper": DropoutConfig(), "openai": DropoutConfig(embd_matrix=True, clf_shared=True)}
"""Every dropout there is, in both of its forms."""

Build = Callable[..., Engine]


def hardware(backend: str, dtype: Any = "float32", **settings: Any) -> DeviceConfig:
    """Return settings for one of the installed backends.

    MindSpore works operator by operator there: compiling a graph takes seconds for each engine, and
    tests/test_mindspore.py holds the graphs to be equal.
    """
    return DeviceConfig(backend=backend, dtype=dtype, eager=backend == "mindspore", **settings)  # type: ignore[arg-type]


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


def rate(step: int) -> float:
    return 2e-3 * (1 + step % 5)


def trained(engine: Engine, batch: Batch, steps: int) -> Engine:
    for step in range(steps):
        engine.train_step(shortest(batch), lr=rate(step), step=step)
    return engine
