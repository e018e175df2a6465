"""Which device and dtype a run gets, and what this machine's MindSpore can do. All that asks for a device is here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import mindspore
from mindspore import ops

from gpt1.backends.dist import process_rank
from gpt1.config import DeviceConfig
from gpt1.errors import UserError

TARGETS = {"cpu": "CPU", "ascend": "Ascend"}
"""The names of devices here and in MindSpore."""

DTYPES = {"cpu": ("float32", "float16"), "ascend": ("float16", "bfloat16", "float32")}
"""The dtypes of products on each device, the one of `--dtype auto` first."""

TOKENS_AT_ONCE = {"cpu": 1_024, "ascend": 16_384}
"""Padded tokens of an inference batch."""


def choose(hardware: DeviceConfig) -> tuple[str, Any]:
    """Return the device that `hardware` asks for, "cpu" or "ascend", with the dtype of products; MindSpore runs there.

    Raises:
        UserError: the device is not there, or cannot do what is asked.
    """
    name = hardware.device
    if hardware.compile:
        raise UserError("--compile: PyTorch's; MindSpore compiles training anyhow, unless --eager says otherwise")
    if name == "cuda":
        raise UserError("--device cuda: needs the PyTorch backend; MindSpore runs on cpu or ascend")
    if name == "auto":
        name = "ascend" if has_ascend() else "cpu"
    if name == "ascend" and not has_ascend():
        raise UserError("--device ascend: MindSpore sees no Ascend device; use --device cpu")
    dtype = DTYPES[name][0] if hardware.dtype == "auto" else hardware.dtype
    if dtype not in DTYPES[name]:
        raise UserError(f"--dtype {dtype}: MindSpore has no kernels for it on {name}; use --dtype {DTYPES[name][0]}")
    _run_on(name)
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    if name == "cpu":  # operators that are handed to other threads wait for a core where there are few
        mindspore.runtime.launch_blocking()
    return name, getattr(mindspore, dtype)


def _run_on(name: str) -> None:
    """Let MindSpore run on a device; once it has computed something, it is told nothing that it does already."""
    before = mindspore.get_current_device().device_target
    try:
        mindspore.set_device(TARGETS[name], process_rank().local_rank)
    except RuntimeError:  # it takes a device before its first operator alone, though it be the same one
        if before != TARGETS[name]:
            raise UserError(
                f"--device {name}: this process has computed on {before}, and MindSpore keeps to one device; "
                "use a new process"
            ) from None


def buckets(name: str, n_ctx: int) -> Sequence[int]:
    """Return the padded lengths of batches: each is a graph of its own, and Ascend wants a single one."""
    return (n_ctx,) if name == "ascend" else (16, 32, 48, 64, 96, *range(128, n_ctx + 64, 64))


def has_ascend() -> bool:
    return bool(mindspore.hal.is_available("Ascend"))


def describe() -> dict[str, Any]:
    """Return what `gpt1 doctor` shows: version, devices, and the dtypes that work there, with measured matmul speed."""
    name, _ = choose(DeviceConfig())
    gflops = {dtype: round(matmul_speed(getattr(mindspore, dtype))) for dtype in DTYPES[name]}
    return {
        "version": mindspore.__version__,
        "devices": [{"name": name, "auto_dtype": DTYPES[name][0], "gflops": gflops}],
    }


def matmul_speed(dtype: Any, seconds: float = 0.3) -> float:
    """Return GFLOP/s of a (2048, 768) x (768, 3072) product, the model's largest, best of several."""
    a, b = (ops.cast(ops.randn(*shape), dtype) for shape in ((2048, 768), (768, 3072)))
    best, spent = float("inf"), 0.0
    while spent < seconds:
        start = time.perf_counter()
        ops.matmul(a, b).asnumpy()
        elapsed = time.perf_counter() - start
        best, spent = min(best, elapsed), spent + elapsed
    return 2 * 2048 * 768 * 3072 / best / 1e9
