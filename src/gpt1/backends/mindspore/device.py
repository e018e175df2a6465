"""Devices of MindSpore: traits of each type, choice of device and dtype, measured speeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mindspore
from mindspore import ops

from gpt1.backends.device_traits import DeviceTraits, choose_traits
from gpt1.backends.dist import process_rank
from gpt1.config import DeviceConfig
from gpt1.errors import UserError


@dataclass(frozen=True, kw_only=True)
class MindSporeTraits(DeviceTraits):
    """Traits of a type of device in MindSpore. `--dtype auto` is the first of `dtypes`."""

    target: str
    """MindSpore's name of the type. Tests use the traits of an accelerator with "CPU"."""
    single_length: bool = False
    """Whether all batches are padded to `n_ctx`, because compiling for several lengths takes too long."""
    sums_by_products: bool = False
    """Whether sums are computed by float32 matrix products, where these are fast and exact (`functional.Sums`)."""
    launches_blocking: bool = False
    """Whether operators run in the calling thread."""


TRAITS: dict[str, MindSporeTraits] = {
    "ascend": MindSporeTraits(
        label="Ascend",
        available=lambda: has_ascend(),
        count=lambda: ascend_count(),
        dtypes=("float16", "bfloat16", "float32"),
        tokens_at_once=16_384,
        logits_at_once=1 << 25,
        target="Ascend",
        single_length=True,
    ),
    "cpu": MindSporeTraits(
        label="CPU",
        available=lambda: True,
        dtypes=("float32", "float16"),
        tokens_at_once=1_024,
        logits_at_once=1 << 25,
        target="CPU",
        sums_by_products=True,
        launches_blocking=True,  # with few cores, operators in other threads wait for one
    ),
}
"""Traits by the values of `--device`, in the order in which `auto` tries them."""


class Choice(NamedTuple):
    """Device and dtype of an engine."""

    device: str
    """Value of `--device`."""
    dtype: Any
    """Dtype of matrix products."""
    traits: MindSporeTraits


def choose(hardware: DeviceConfig) -> Choice:
    """Return the device and the dtype of matrix products for `hardware`, and set MindSpore's device.

    Raises:
        UserError: the device is unavailable, or does not support the dtype or an option.
    """
    if hardware.compile:
        raise UserError("--compile: for --backend torch; MindSpore always compiles training, except with --eager")
    name, number, traits = choose_traits(hardware.device, TRAITS, "MindSpore")
    default = traits.dtypes[0]
    dtype = default if hardware.dtype == "auto" else hardware.dtype
    if dtype not in traits.dtypes:
        raise UserError(f"--dtype {dtype}: MindSpore does not support it on {name}; use --dtype {default}")
    _run_on(name, traits.target, number)
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    if traits.launches_blocking:
        mindspore.runtime.launch_blocking()
    return Choice(name, getattr(mindspore, dtype), traits)


def _run_on(name: str, target: str, number: int | None) -> None:
    """Set MindSpore's device. MindSpore rejects that after its first operator, even if the device is the same."""
    before = mindspore.get_current_device().device_target
    try:
        mindspore.set_device(target, process_rank().local_rank if number is None else number)
    except RuntimeError:
        if before != target:
            raise UserError(
                f"--device {name}: this process has used {before}, and MindSpore cannot change the device; "
                "use a new process"
            ) from None


def buckets(traits: MindSporeTraits, n_ctx: int) -> Sequence[int]:
    """Return the padded lengths of batches, few because each is compiled."""
    return (n_ctx,) if traits.single_length else (16, 32, 48, 64, 96, *range(128, n_ctx + 64, 64))


def has_ascend() -> bool:
    """Return whether MindSpore finds an Ascend device."""
    return bool(mindspore.hal.is_available("Ascend"))


def ascend_count() -> int:
    """Return the number of Ascend devices."""
    return int(mindspore.hal.device_count("Ascend"))


def describe() -> dict[str, Any]:
    """Return version and devices for `gpt1 doctor`, with the measured matmul speed of each dtype in GFLOP/s."""
    name, _, traits = choose(DeviceConfig())
    gflops = {dtype: round(matmul_speed(getattr(mindspore, dtype))) for dtype in traits.dtypes}
    return {
        "version": mindspore.__version__,
        "devices": [{"name": name, "auto_dtype": traits.dtypes[0], "gflops": gflops}],
    }


def matmul_speed(dtype: Any, seconds: float = 0.3) -> float:
    """Return the best of several measured speeds, in GFLOP/s, of a (2048, 768) x (768, 3072) product.

    It is the largest product of a layer of the paper's model.
    """
    a, b = (ops.cast(ops.randn(*shape), dtype) for shape in ((2048, 768), (768, 3072)))
    best, spent = float("inf"), 0.0
    while spent < seconds:
        start = time.perf_counter()
        ops.matmul(a, b).asnumpy()
        elapsed = time.perf_counter() - start
        best, spent = min(best, elapsed), spent + elapsed
    return 2 * 2048 * 768 * 3072 / best / 1e9
