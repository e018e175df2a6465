"""Devices of MindSpore: traits of each type, choice of device and dtype, measured speeds."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import mindspore
import numpy as np
from mindspore import Tensor, ops

from gpt1.backends.device_traits import DeviceTraits, choose_traits, unavailable
from gpt1.backends.dist import process_rank
from gpt1.config import DeviceConfig
from gpt1.errors import UserError

BFLOAT16_CARDS = re.compile(r"Ascend(910B\d|910_\d|950)")
"""Names of processors with bfloat16 products: Atlas A2 (910B1 to 910B4), Atlas A3 (910_93xx), 950. The older Atlas
training and inference products (910A, 910B without a number, 910ProB, 310) have none (CANN, aclnnMm)."""


@dataclass(frozen=True, kw_only=True)
class MindSporeTraits(DeviceTraits):
    """Traits of a type of device in MindSpore. `--dtype auto` is the first of `dtypes` that the device has."""

    target: str
    """MindSpore's name of the type. Tests use the traits of an accelerator with "CPU"."""
    name: Callable[[int], str]
    """Name of a device, by its number, for messages."""
    lacks_bfloat16: Callable[[int], str] = lambda number: ""
    """Reason why a device, by its number, does not support bfloat16; empty if it does."""
    verified: bool = False
    """Whether `verify` tests the products before use: some cards and settings round or saturate them."""
    single_length: bool = False
    """Whether all batches are padded to `n_ctx`, because compiling for several lengths takes too long."""
    sums_by_products: bool = False
    """Whether sums are computed as float32 matrix products (`functional.Sums`), if these are fast and exact."""
    launches_blocking: bool = False
    """Whether operators run in the calling thread."""


TRAITS: dict[str, MindSporeTraits] = {
    "ascend": MindSporeTraits(
        label="Ascend",
        available=lambda: has_ascend(),
        count=lambda: ascend_count(),
        dtypes=("bfloat16", "float16", "float32"),
        tokens_at_once=16_384,
        logits_at_once=1 << 25,
        target="Ascend",
        name=lambda number: f"ascend ({ascend_card(number)})",
        lacks_bfloat16=lambda number: ascend_lacks_bfloat16(number),
        verified=True,
        single_length=True,
    ),
    "cpu": MindSporeTraits(
        label="CPU",
        available=lambda: True,
        dtypes=("float32", "float16"),
        tokens_at_once=1_024,
        logits_at_once=1 << 25,
        target="CPU",
        name=lambda number: "cpu",
        sums_by_products=True,
        launches_blocking=True,  # with few cores, operators in other threads wait for one
    ),
}
"""Traits by the values of `--device`, in the order in which `auto` tries them."""


class Choice(NamedTuple):
    """Device and dtype of an engine."""

    device: str
    """Name of the device for messages."""
    dtype: Any
    """Dtype of matrix products."""
    traits: MindSporeTraits
    other_dtype: str
    """Dtype for messages that refuse this one; empty if there is none."""


def choose(hardware: DeviceConfig) -> Choice:
    """Return the device and the dtype of matrix products for `hardware`, and set MindSpore's device.

    No operator runs, because `mindspore.communication.init` must come first in a run of several processes.

    Raises:
        UserError: the device is unavailable, or does not support the dtype or an option.
    """
    if hardware.compile:
        raise UserError("--compile: for --backend torch; MindSpore always compiles training, except with --eager")
    name, number, traits = choose_traits(hardware.device, TRAITS, "MindSpore")
    lacking = traits.lacks_bfloat16(number or 0)
    dtypes = [each for each in traits.dtypes if not (lacking and each == "bfloat16")]
    dtype = dtypes[0] if hardware.dtype == "auto" else hardware.dtype
    if dtype not in dtypes:
        reason = lacking if dtype in traits.dtypes else f"MindSpore does not support it on {name}"
        raise UserError(f"--dtype {dtype}: {reason}; use --dtype {dtypes[0]}")
    _run_on(name, traits.target, number)
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    if traits.launches_blocking:
        mindspore.runtime.launch_blocking()
    other = "" if dtype == dtypes[0] else dtypes[0]
    return Choice(traits.name(number or 0), getattr(mindspore, dtype), traits, other)


def verify(choice: Choice, *, training: bool) -> None:
    """Check that the products of `choice` have the precision, and in training the range, of its dtype, by a trial.

    The names of cards do not tell: the environment and the configuration of CANN change both.

    Raises:
        UserError: float32 products are rounded, or float16 products do not overflow to infinity in training.
    """
    if not choice.traits.verified:
        return
    if choice.dtype == mindspore.float32 and not keeps_float32():
        raise UserError(
            f"--dtype float32 (the default of inference): {choice.device} computes products of float32 matrices with "
            f"fewer bits; use --dtype {choice.other_dtype}"
        )
    if training and choice.dtype == mindspore.float16 and not overflows_to_infinity():
        instead = f"--dtype {choice.other_dtype}" if choice.other_dtype else "--device cpu"
        raise UserError(
            f"--dtype float16: {choice.device} gives 65504 instead of infinity for larger numbers, so that training "
            f"cannot detect an overflow; use {instead}"
        )


@cache
def keeps_float32() -> bool:
    """Return whether products of float32 matrices keep 13 bits of their factors: float16 and HF32 have 11."""
    factor = np.full((16, 16), 1.0 + 2.0**-12, np.float32)
    found = ops.MatMul()(Tensor(factor), Tensor(np.eye(16, dtype=np.float32))).asnumpy()
    return bool((found == factor).all())


@cache
def overflows_to_infinity() -> bool:
    """Return whether a float16 product is infinite where it exceeds 65504, the largest float16 number (IEEE 754)."""
    factor = Tensor(np.full((16, 16), 256.0, np.float16))  # products: 2^20
    return bool(np.isinf(ops.MatMul()(factor, factor).asnumpy()).all())


def _run_on(name: str, target: str, number: int | None) -> None:
    """Set MindSpore's device. MindSpore rejects that after its first operator, even if the device is the same."""
    before = mindspore.get_current_device()
    try:
        mindspore.set_device(target, process_rank().local_rank if number is None else number)
    except RuntimeError:
        if before.device_target != target or number not in (None, before.device_id):
            asked, used = name, before.device_target
            if number is not None and used == target:
                asked, used = f"{name}:{number}", f"{name}:{before.device_id}"
            raise UserError(
                f"--device {asked}: this process has used {used}, and MindSpore cannot change the device; "
                "use a new process"
            ) from None


def buckets(traits: MindSporeTraits, n_ctx: int) -> Sequence[int]:
    """Return the padded lengths of batches, few because each is compiled."""
    return (n_ctx,) if traits.single_length else (16, 32, 48, 64, 96, *range(128, n_ctx + 64, 64))


def has_ascend() -> bool:
    """Return whether MindSpore finds an Ascend device."""
    return bool(mindspore.device_context.ascend.is_available()) and ascend_count() > 0


def ascend_count() -> int:
    """Return the number of visible Ascend devices."""
    return int(mindspore.device_context.ascend.device_count())


def ascend_card(number: int) -> str:
    """Return the name of the processor of an Ascend device: "Ascend910B2"."""
    return str(mindspore.hal.get_device_name(number, "Ascend"))


def ascend_lacks_bfloat16(number: int) -> str:
    card = ascend_card(number)
    return "" if BFLOAT16_CARDS.match(card) else f"{card} does not have it"


def describe() -> dict[str, Any]:
    """Return version and devices for `gpt1 doctor`, with the measured matmul speed of each dtype in GFLOP/s."""
    device, dtype, traits, _ = choose(DeviceConfig())
    dtypes = traits.dtypes[traits.dtypes.index(str(dtype).lower()) :]  # from the default on
    gflops = {each: round(matmul_speed(getattr(mindspore, each))) for each in dtypes}
    return {
        "version": mindspore.__version__,
        "unavailable": unavailable(TRAITS),
        "devices": [{"name": device, "auto_dtype": dtypes[0], "gflops": gflops}],
    }


def matmul_speed(dtype: Any, seconds: float = 0.3) -> float:
    """Return the best of several measured speeds, in GFLOP/s, of a (2048, 768) x (768, 3072) product.

    It is the largest product of a layer of the paper's model.
    """
    a, b = (ops.cast(ops.randn(*shape), dtype) for shape in ((2048, 768), (768, 3072)))
    best, spent = float("inf"), 0.0
    while spent < seconds:
        start = time.perf_counter()
        ops.cast(ops.matmul(a, b)[:1], mindspore.float32).asnumpy()  # NumPy has no bfloat16
        elapsed = time.perf_counter() - start
        best, spent = min(best, elapsed), spent + elapsed
    return 2 * 2048 * 768 * 3072 / best / 1e9
