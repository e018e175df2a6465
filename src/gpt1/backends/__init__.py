"""Backends by name. A framework is imported when it is chosen, never before."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gpt1.backends.dist import Ranks, process_rank
from gpt1.config import DeviceConfig, DropoutConfig, LossConfig, ModelConfig, OptimConfig
from gpt1.errors import UserError

if TYPE_CHECKING:  # the command line imports `backends.dist`, and prints its help without NumPy
    import numpy as np
    from numpy.typing import NDArray

    from gpt1.backends.base import Engine

BACKENDS = ("torch", "mindspore")
NAMES = {"torch": "PyTorch", "mindspore": "MindSpore"}
LAUNCHERS = {"torch": "torchrun", "mindspore": "msrun"}


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
    ranks: Ranks | None = None,
) -> Engine:
    """Return the engine that `hardware` asks for, holding a copy of `params`.

    `optim`, `dropout`, `loss`, `seed` and `ranks` (from `init_distributed`; `None`: a single process) matter to
    training alone; each default is that of its class.

    Raises:
        UserError: the framework is not installed, or the device or dtype is unavailable.
    """
    hardware = hardware or DeviceConfig()
    settings = (optim or OptimConfig(), dropout or DropoutConfig(), loss or LossConfig(), seed)
    engine: Engine
    if chosen(hardware) == "mindspore":
        from gpt1.backends.mindspore.distributed import MindSporeSingleProcess
        from gpt1.backends.mindspore.engine import MindSporeEngine

        engine = MindSporeEngine(config, params, hardware, *settings, ranks or MindSporeSingleProcess())
    else:
        from gpt1.backends.torch.distributed import TorchSingleProcess
        from gpt1.backends.torch.engine import TorchEngine

        engine = TorchEngine(config, params, hardware, *settings, ranks or TorchSingleProcess())
    return engine


def for_answers(
    config: ModelConfig, params: Mapping[str, NDArray[np.float32]], hardware: DeviceConfig | None = None
) -> Engine:
    """Return the engine that answers (predictions, scores, texts), in float32 unless `hardware` names a dtype.

    In bfloat16 an answer would depend, in its third digit, on the texts that are computed with it.

    Raises:
        UserError: the framework is not installed, or the device or dtype is unavailable.
    """
    return get(config, params, hardware=(hardware or DeviceConfig()).float32_unless_set())


def training_dtype(hardware: DeviceConfig) -> str:
    """Return the dtype of products that training has with `hardware`: what `auto` stands for there."""
    if chosen(hardware) == "mindspore":
        from gpt1.backends.mindspore import device as mindspore

        return str(mindspore.choose(hardware)[1]).lower()
    from gpt1.backends.torch import device as torch

    return str(torch.choose(hardware, training=True)[1]).removeprefix("torch.")


def chosen(hardware: DeviceConfig) -> str:
    """Return the name of the backend that `hardware` asks for.

    Raises:
        UserError: there is none of this name, its framework is not installed, or cannot work with what is.
    """
    name: str = hardware.backend
    available = installed()
    if name == "auto":
        if not available:
            raise UserError("no framework is installed; run: pip install 'gpt1[torch]' or 'gpt1[mindspore]'")
        name = available[0]
    require(name, f"--backend {name}")
    return name


def require(name: str, asked_by: str) -> None:
    """Make sure that the framework of a backend is there; `asked_by` is the flag or file that needs it, for the errors.

    Raises:
        UserError: there is no such backend, its framework is not installed, or cannot work with what is.
    """
    _require_known(name)
    if name not in installed():
        raise UserError(f"{asked_by}: {NAMES[name]} is not installed; run: pip install 'gpt1[{name}]'")
    import numpy as np

    if name == "mindspore" and int(np.__version__.partition(".")[0]) >= 2:  # it would fail at its first reshape
        raise UserError(f"{asked_by}: NumPy {np.__version__} found, MindSpore needs 1.26; run: pip install 'numpy<2'")


def check(hardware: DeviceConfig) -> None:
    """Make sure that training can have what `hardware` asks for, before a long preparation.

    Raises:
        UserError: the framework, the device or the dtype is unavailable.
    """
    if chosen(hardware) == "mindspore":
        from gpt1.backends.mindspore import device as mindspore

        mindspore.choose(hardware)
    else:
        from gpt1.backends.torch import device as torch

        torch.choose(hardware, training=True)


@contextmanager
def init_distributed(hardware: DeviceConfig) -> Iterator[Ranks]:
    """Connect the processes that `torchrun` or `msrun` started for this run; disconnect at the end.

    Raises:
        UserError: the framework or the device is unavailable, or the launcher is another backend's. PeerLost: a
            process did not connect.
    """
    name, process = chosen(hardware), process_rank()
    if process.size > 1 and process.launcher != LAUNCHERS[name]:
        by, own = process.launcher, LAUNCHERS[name]
        raise UserError(f"--backend {name}: {by} started {process.size} processes; {own} starts those of {NAMES[name]}")
    ranks: Ranks
    if name == "mindspore":
        from gpt1.backends.mindspore import distributed as mindspore

        ranks = mindspore.init_distributed(hardware)
    else:
        from gpt1.backends.torch import distributed as torch

        ranks = torch.init_distributed(hardware)
    yield ranks
    ranks.close()  # not after an error: that may be the loss of a rank, which would not answer


def describe(name: str) -> dict[str, Any]:
    """Return version, devices, working dtypes and measured matmul speed of an installed backend."""
    _require_known(name)
    if name == "mindspore":
        from gpt1.backends.mindspore import device
    else:
        from gpt1.backends.torch import device
    description: dict[str, Any] = device.describe()
    return description


def _require_known(name: str) -> None:
    if name not in BACKENDS:
        raise UserError(f"--backend {name}: expected one of {', '.join(BACKENDS)}")
