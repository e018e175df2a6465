"""Choice of a backend by name. A framework is imported only when its backend is chosen."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from gpt1.backends.dist import Ranks, SingleProcess, process_rank
from gpt1.config import DeviceConfig, DropoutConfig, LossConfig, ModelConfig, OptimConfig
from gpt1.errors import UserError
from gpt1.system.extras import install_command

if TYPE_CHECKING:  # the command line imports `backends.dist` and must print its help without importing NumPy
    import numpy as np
    from numpy.typing import NDArray

    from gpt1.backends.base import Engine
    from gpt1.backends.torch.distributed import TorchRanks

BACKENDS = ("torch", "mindspore")
NAMES = {"torch": "PyTorch", "mindspore": "MindSpore"}
LAUNCHERS = {"torch": "torchrun", "mindspore": "msrun"}


def installed() -> list[str]:
    """Return the names of the backends whose framework is installed, in order of preference."""
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
    """Create an engine on the backend and device of `hardware`, with a copy of `params`.

    `optim`, `dropout`, `loss`, `seed` and `ranks` are used in training only. `None` is the default of the class, and
    for `ranks`, which come from `init_distributed`, a single process.

    Raises:
        UserError: the framework is not installed, or the device or dtype is unavailable.
    """
    hardware = hardware or DeviceConfig()
    settings = (optim or OptimConfig(), dropout or DropoutConfig(), loss or LossConfig(), seed)
    shared = ranks if ranks and ranks.size > 1 else None
    engine: Engine
    if chosen(hardware) == "mindspore":
        from gpt1.backends.mindspore.distributed import MindSporeSingleProcess
        from gpt1.backends.mindspore.engine import MindSporeEngine

        engine = MindSporeEngine(config, params, hardware, *settings, shared or MindSporeSingleProcess())
    else:
        from gpt1.backends.torch.distributed import TorchSingleProcess
        from gpt1.backends.torch.engine import TorchEngine

        own_ranks = cast("TorchRanks | None", shared) or TorchSingleProcess()
        engine = TorchEngine(config, params, hardware, *settings, own_ranks)
    return engine


def for_answers(
    config: ModelConfig, params: Mapping[str, NDArray[np.float32]], hardware: DeviceConfig | None = None
) -> Engine:
    """Create an engine for inference, in float32 unless `hardware` sets a dtype.

    In bfloat16 the third decimal of a prediction depends on the other texts of its batch.

    Raises:
        UserError: the framework is not installed, or the device or dtype is unavailable.
    """
    return get(config, params, hardware=(hardware or DeviceConfig()).float32_unless_set())


def training_dtype(hardware: DeviceConfig) -> str:
    """Return the dtype of matrix products in training with `hardware`, with `auto` resolved."""
    if chosen(hardware) == "mindspore":
        from gpt1.backends.mindspore import device as mindspore

        return str(mindspore.choose(hardware).dtype).lower()
    from gpt1.backends.torch import device as torch

    return str(torch.choose(hardware, training=True)[1]).removeprefix("torch.")


def chosen(hardware: DeviceConfig) -> str:
    """Return the name of the backend of `hardware`, with `auto` resolved.

    Raises:
        UserError: the name is unknown, its framework is not installed, or does not work with the installed NumPy.
    """
    name: str = hardware.backend
    available = installed()
    if name == "auto":
        if not available:
            raise UserError(
                f"no framework is installed; run: {install_command('torch')} (or: {install_command('mindspore')})"
            )
        name = available[0]
    require(name, f"--backend {name}")
    return name


def require(name: str, asked_by: str) -> None:
    """Check that the framework of a backend is usable; errors begin with `asked_by`, the flag or file that needs it.

    Raises:
        UserError: the backend is unknown, its framework is not installed, or does not work with the installed NumPy.
    """
    _require_known(name)
    if name not in installed():
        raise UserError(f"{asked_by}: {NAMES[name]} is not installed; run: {install_command(name)}")
    import numpy as np

    if name == "mindspore" and int(np.__version__.partition(".")[0]) >= 2:  # its first reshape would fail
        raise UserError(f"{asked_by}: NumPy {np.__version__} found, MindSpore needs 1.26; run: pip install 'numpy<2'")


def check(hardware: DeviceConfig) -> None:
    """Check that training is possible with `hardware`, before a long preparation.

    Raises:
        UserError: the framework, the device or the dtype is unavailable.
    """
    if chosen(hardware) == "mindspore":
        from gpt1.backends.mindspore import device as mindspore

        for each in (hardware, hardware.float32_unless_set()):  # training, and the scores after it
            mindspore.verify(mindspore.choose(each), training=True)
    else:
        from gpt1.backends.torch import device as torch

        torch.choose(hardware, training=True)


@contextmanager
def init_distributed(hardware: DeviceConfig) -> Iterator[Ranks]:
    """Connect the processes that `torchrun` or `msrun` started for this run; disconnect after the body.

    Raises:
        UserError: the framework or the device is unavailable, or the launcher belongs to another backend.
        PeerLost: a process did not connect.
    """
    process = process_rank()
    if process.size == 1:
        yield SingleProcess()
        return
    name = chosen(hardware)
    if process.launcher != LAUNCHERS[name]:
        by, own = process.launcher, LAUNCHERS[name]
        raise UserError(f"--backend {name}: {by} started {process.size} processes; start {NAMES[name]} with {own}")
    ranks: Ranks
    if name == "mindspore":
        from gpt1.backends.mindspore import distributed as mindspore

        ranks = mindspore.init_distributed(hardware)
    else:
        from gpt1.backends.torch import distributed as torch

        ranks = torch.init_distributed(hardware)
    yield ranks
    ranks.close()  # not after an error: if a rank is lost, closing would wait for it


def describe(name: str) -> dict[str, Any]:
    """Return version, devices, supported dtypes and measured matmul speed of an installed backend."""
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
