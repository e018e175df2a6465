"""Backends by name. A framework is imported when it is chosen, never before."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.base import Engine
from gpt1.config import DeviceConfig, DropoutConfig, LossConfig, ModelConfig, OptimConfig
from gpt1.errors import UserError

BACKENDS = ("torch",)


def installed() -> list[str]:
    """Return the backends whose framework is installed, the preferred one first."""
    return [name for name in BACKENDS if importlib.util.find_spec(name)]


def get(
    config: ModelConfig,
    params: Mapping[str, NDArray[np.float32]],
    *,
    hardware: DeviceConfig | None = None,
    optim: OptimConfig | None = None,
    dropout: DropoutConfig | None = None,
    loss: LossConfig | None = None,
    seed: int = 0,
) -> Engine:
    """Return the engine that `hardware` asks for, holding a copy of `params`.

    `optim`, `dropout`, `loss` and `seed` matter to training alone; each default is that of its class.

    Raises:
        UserError: the framework is not installed, or the device or dtype is not to be had.
    """
    hardware = hardware or DeviceConfig()
    name: str = hardware.backend
    if name == "auto":
        found = installed()
        if not found:
            raise UserError("no framework is installed; run: pip install 'gpt1[torch]'")
        name = found[0]
    match name:
        case "torch":
            if "torch" not in installed():
                raise UserError("--backend torch: PyTorch is not installed; run: pip install 'gpt1[torch]'")
            from gpt1.backends.torch.engine import TorchEngine

            engine: Engine = TorchEngine(
                config, params, hardware, optim or OptimConfig(), dropout or DropoutConfig(), loss or LossConfig(), seed
            )
            return engine
        case _:
            raise UserError(f"--backend {name}: expected one of {', '.join(BACKENDS)}")


def describe(name: str) -> dict[str, Any]:
    """Return version, devices, working dtypes and measured matmul speed of an installed backend."""
    match name:
        case "torch":
            from gpt1.backends.torch.device import describe as describe_torch

            found: dict[str, Any] = describe_torch()
            return found
        case _:
            raise UserError(f"--backend {name}: expected one of {', '.join(BACKENDS)}")
