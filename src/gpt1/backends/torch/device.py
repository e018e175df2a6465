"""Which device and dtype a run gets, and what this machine's PyTorch can do."""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Any

import torch

from gpt1.backends.dist import process_rank
from gpt1.config import DeviceConfig
from gpt1.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TOKENS_AT_ONCE = {"cpu": 1_024, "cuda": 16_384}
"""Padded tokens of an inference batch. On a CPU larger activations fall out of the cache (docs/performance.md)."""

BFLOAT16_CAPABILITY = (8, 0)
"""The first CUDA compute capability with bfloat16 units (Ampere)."""


def choose(hardware: DeviceConfig, *, training: bool) -> tuple[torch.device, torch.dtype]:
    """Return the device and the dtype of matrix products that `hardware` asks for.

    Raises:
        UserError: the device is not there, or cannot do what is asked.
    """
    name = hardware.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "ascend":
        raise UserError("--device ascend: needs the MindSpore backend; PyTorch runs on cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda: PyTorch sees no CUDA device; use --device cpu, and gpt1 doctor to see what works"
        )
    if hardware.eager:
        raise UserError("--eager: for --backend mindspore; PyTorch trains so anyhow, unless --compile says otherwise")
    if hardware.compile and name == "cpu":
        raise UserError("--compile: works on --device cuda; on the CPU it gains nothing here")
    local_rank = process_rank().local_rank
    if name == "cuda" and local_rank and local_rank >= (there := torch.cuda.device_count()):
        raise UserError(f"torchrun started process {local_rank} on a machine of {there} CUDA devices, one for each")
    device = torch.device(name, local_rank) if name == "cuda" else torch.device(name)
    fast = has_fast_bfloat16(device)
    if hardware.dtype == "auto":
        return device, torch.bfloat16 if fast else torch.float32
    dtype = DTYPES[hardware.dtype]
    if dtype == torch.bfloat16 and name == "cuda" and not fast:
        major, minor = torch.cuda.get_device_capability(device)
        raise UserError(
            f"--dtype bfloat16: {torch.cuda.get_device_name(device)} has compute capability {major}.{minor}, "
            "8.0 or newer is needed; use --dtype float32"
        )
    if dtype == torch.float16 and (training or name == "cpu"):
        raise UserError("--dtype float16: only for inference on --device cuda; use --dtype bfloat16 or float32")
    return device, dtype


def has_fast_bfloat16(device: torch.device) -> bool:
    """Say whether `device` computes bfloat16 products faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe)() for probe in probes if hasattr(torch.cpu, probe))


def name_of(device: torch.device) -> str:
    """Return the device's name for people."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' * (threads > 1)})"


def keep_freed_memory() -> None:
    """Let the C library keep large freed blocks, where it is glibc.

    By default each large tensor is mapped and unmapped anew, and every page of it faults again.
    """
    if sys.platform != "linux":
        return
    m_trim_threshold, m_mmap_threshold = -1, -3  # <malloc.h>
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(m_mmap_threshold, 1 << 30)
        mallopt(m_trim_threshold, (1 << 31) - 1)


def describe() -> dict[str, Any]:
    """Return what `gpt1 doctor` shows: version, devices, and the dtypes that work there, with measured matmul speed."""
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices += [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return {
        "version": torch.__version__,
        "devices": [
            {
                "name": name_of(device),
                "auto_dtype": "bfloat16" if has_fast_bfloat16(device) else "float32",
                "gflops": {
                    name: round(matmul_speed(device, dtype))
                    for name, dtype in DTYPES.items()
                    if device.type == "cuda" or dtype != torch.float16
                },
            }
            for device in devices
        ],
    }


def matmul_speed(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """Return GFLOP/s of a (2048, 768) x (768, 3072) product, the model's largest, best of several."""
    a = torch.randn(2048, 768, device=device).to(dtype)
    b = torch.randn(768, 3072, device=device).to(dtype)
    best, spent = float("inf"), 0.0
    while spent < seconds:
        start = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elapsed = time.perf_counter() - start
        best, spent = min(best, elapsed), spent + elapsed
    return 2 * 2048 * 768 * 3072 / best / 1e9
