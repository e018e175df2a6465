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
"""Dropout at every site, in both forms."""

Build = Callable[..., Engine]


def hardware(backend: str, dtype: Any = "float32", **settings: Any) -> DeviceConfig:
    """Return the device settings of an installed backend.

    MindSpore runs operator by operator, because compiling takes seconds for each engine;
    tests/test_mindspore.py compares compiled steps with those.
    """
    return DeviceConfig(backend=backend, dtype=dtype, eager=backend == "mindspore", **settings)  # type: ignore[arg-type]


@pytest.fixture
def build(backend: str) -> Build:
    """Function that creates an engine of the backend under test, by default in float32 without dropout."""

    def engine(config: ModelConfig, params: Any, *, dropout: DropoutConfig = NO_DROPOUT, **settings: Any) -> Engine:
        loss = loss_among(settings)
        return backends.get(config, float32(params), hardware=hardware(backend), dropout=dropout, loss=loss, **settings)

    return engine


def loss_among(settings: dict[str, Any]) -> LossConfig:
    """Remove the settings of the loss from `settings` and return them; the default coefficient is 1."""
    return LossConfig(**{"lm_coef": 1.0} | {name: settings.pop(name) for name in [*settings] if name[:3] == "lm_"})


def rate(step: int) -> float:
    return 2e-3 * (1 + step % 5)


def trained(engine: Engine, batch: Batch, steps: int) -> Engine:
    for step in range(steps):
        engine.train_step(shortest(batch), lr=rate(step), step=step)
    return engine
