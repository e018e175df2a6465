"""Devices of PyTorch: traits of each type, choice of device and dtype, measured speeds."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt1.backends.device_traits import DeviceTraits, choose_traits, unavailable
from gpt1.config import DeviceConfig
from gpt1.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

BFLOAT16_CAPABILITY = (8, 0)
"""Lowest CUDA compute capability with bfloat16 units (Ampere)."""


# ---- traits


@dataclass(frozen=True, kw_only=True)
class TorchTraits(DeviceTraits):
    """Traits of a type of device in PyTorch. The defaults suit an accelerator with its own random generator."""

    torch_device: str
    """Type of the `torch.device` of the tensors. Tests use the traits of an accelerator with "cpu"."""
    name: Callable[[torch.device], str]
    """Name of a device, for messages."""
    training_dtype: Callable[[torch.device], str] = lambda device: "float32"
    """`--dtype auto` in training: the fastest dtype of products with which a model is as good as with float32."""
    lacks_bfloat16: Callable[[torch.device], str] = lambda device: ""
    """Reason why a device does not support bfloat16; empty if it does."""
    compiles: bool = False
    """Whether `--compile` is supported."""
    lacks_compiler: Callable[[], str] = lambda: ""
    """Reason why `--compile` cannot work on this machine; empty if it can."""
    fused_optimizer: bool = True
    """Whether PyTorch has a fused AdamW for the device."""
    process_group: str = ""
    """Backend of `torch.distributed`; empty if training with several processes is not supported."""
    pins_memory: bool = False
    """Whether arrays are copied to the device from pinned memory, asynchronously."""
    dropout_on_host: bool = False
    """Whether dropout masks are drawn on the host (`backends.dropout`), not by the generator of the device."""
    positions_at_once: int = 1 << 30
    """Maximum number of positions whose logits are computed at one time, besides `logits_at_once`."""
    adds_gradients: bool = False
    """Whether embeddings and 16-bit linear layers add to `grad` in their own backward pass (`functional.py`)."""
    vocabulary_multiple: int = 1
    """The embedding is padded with zeros to a multiple of this many rows for the softmax: matrix units may need it."""
    float32_cache: bool = False
    """Whether the KV cache is float32 even if products are 16 bits."""
    lays_out_for_one_row: bool = False
    """Whether products with one row are faster with weights in a layout for them, and with 16 bits without oneDNN."""
    packs_weights: bool = False
    """Whether inference in bfloat16 uses oneDNN's linear layers with packed weights (`functional.py`)."""
    keeps_freed_memory: bool = False
    """Whether training asks the C library to keep large freed blocks."""


def _cuda_lacks_bfloat16(device: torch.device) -> str:
    if torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY:
        return ""
    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)} has compute capability {major}.{minor}; 8.0 or newer is required"


def _cuda_training_dtype(device: torch.device) -> str:
    return "float16" if _cuda_lacks_bfloat16(device) else "bfloat16"


def _cuda_lacks_compiler() -> str:
    return "" if importlib.util.find_spec("triton") else "Triton, which compiles for CUDA, is not installed"


def _mps_lacks_bfloat16(device: torch.device) -> str:
    return "" if torch.backends.mps.is_macos_or_newer(14, 0) else "MPS supports it on macOS 14 or newer"


BFLOAT16_INSTRUCTIONS = {"AVX512-BF16": "_is_avx512_bf16_supported", "AMX": "_is_amx_tile_supported"}
"""CPU instructions for bfloat16 products, with the functions of `torch.cpu` that find them."""


def _bfloat16_instructions() -> list[str]:
    return [name for name, probe in BFLOAT16_INSTRUCTIONS.items() if getattr(torch.cpu, probe, lambda: False)()]


def _cpu_training_dtype(device: torch.device) -> str:
    return "bfloat16" if _bfloat16_instructions() else "float32"


def _cpu_name(device: torch.device) -> str:
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' * (threads > 1)})"


TRAITS: dict[str, TorchTraits] = {
    "cuda": TorchTraits(
        label="CUDA",
        available=lambda: torch.cuda.is_available(),
        dtypes=("float32", "bfloat16", "float16"),
        tokens_at_once=16_384,
        logits_at_once=1 << 28,
        torch_device="cuda",
        name=lambda device: f"cuda ({torch.cuda.get_device_name(device)})",
        count=lambda: torch.cuda.device_count(),
        training_dtype=_cuda_training_dtype,
        lacks_bfloat16=_cuda_lacks_bfloat16,
        compiles=True,
        lacks_compiler=_cuda_lacks_compiler,
        process_group="cpu:gloo,cuda:nccl",
        pins_memory=True,
        vocabulary_multiple=128,  # matrix units are several times slower with odd widths
    ),
    "mps": TorchTraits(
        label="MPS",
        available=lambda: torch.backends.mps.is_available(),
        dtypes=("float32", "bfloat16", "float16"),
        tokens_at_once=4_096,  # not measured
        logits_at_once=1 << 26,  # not measured
        torch_device="mps",
        name=lambda device: "mps",
        lacks_bfloat16=_mps_lacks_bfloat16,
    ),
    "cpu": TorchTraits(
        label="CPU",
        available=lambda: True,
        dtypes=("float32", "bfloat16"),
        tokens_at_once=2_048 if "AMX" in _bfloat16_instructions() else 1_024,  # docs/performance.md
        logits_at_once=1 << 25,
        torch_device="cpu",
        name=_cpu_name,
        training_dtype=_cpu_training_dtype,
        process_group="gloo",
        dropout_on_host=True,  # PyTorch's dropout takes several times as long (docs/performance.md)
        positions_at_once=1_024,  # with more, the logits of a small vocabulary leave the cache
        adds_gradients=True,  # a dense gradient of the embedding takes much longer than the look-up
        float32_cache=True,  # attention from one query to bfloat16 keys takes five times as long
        lays_out_for_one_row=True,
        packs_weights=True,
        keeps_freed_memory=True,
    ),
}
"""Traits by the values of `--device`, in the order in which `auto` tries them."""


# ---- choice


class Choice(NamedTuple):
    """Device and dtype of an engine."""

    device: torch.device
    dtype: torch.dtype
    """Dtype of matrix products."""
    traits: TorchTraits


def choose(hardware: DeviceConfig, *, training: bool) -> Choice:
    """Return the device and the dtype of matrix products for `hardware`.

    Raises:
        UserError: the device is unavailable, or does not support the dtype or an option.
    """
    name, number, traits = choose_traits(hardware.device, TRAITS, "PyTorch")
    if hardware.eager:
        raise UserError("--eager: for --backend mindspore; PyTorch is always eager, except with --compile")
    if hardware.compile and not traits.compiles:
        compiling = " or ".join(name for name, row in TRAITS.items() if row.compiles)
        raise UserError(f"--compile: only on --device {compiling}; on {name} it is not faster")
    if hardware.compile and (reason := traits.lacks_compiler()):
        raise UserError(f"--compile: {reason}; run without --compile")
    device = _torch_device(traits, number)
    if hardware.dtype == "auto":
        return Choice(device, DTYPES[traits.training_dtype(device)], traits)
    dtype = hardware.dtype
    if dtype == "bfloat16" and (reason := traits.lacks_bfloat16(device)):
        others = " or ".join(each for each in traits.dtypes if each != dtype)
        raise UserError(f"--dtype bfloat16: {reason}; use --dtype {others}")
    if dtype not in traits.dtypes:
        raise UserError(
            f"--dtype {dtype}: not supported on --device {name}; use --dtype {' or '.join(reversed(traits.dtypes))}"
        )
    return Choice(device, DTYPES[dtype], traits)


def _torch_device(traits: TorchTraits, number: int | None) -> torch.device:
    return torch.device(traits.torch_device) if number is None else torch.device(traits.torch_device, number)


def to_device(array: NDArray[Any], device: torch.device, traits: TorchTraits) -> Tensor:
    """Copy `array` to a tensor on `device`."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if traits.pins_memory and device.type != "cpu":  # tests use these traits on the CPU, which needs no pinned memory
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def seed_generator(device: torch.device, seed: int) -> None:
    """Seed the generator that PyTorch's dropout on `device` uses."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.get_device_module(device).manual_seed(seed)


def keep_freed_memory() -> None:
    """Ask the C library, if it is glibc, to keep large freed blocks.

    By default it maps and unmaps memory for each large tensor, and every page of it faults again.
    """
    if sys.platform != "linux":
        return
    m_trim_threshold, m_mmap_threshold = -1, -3  # <malloc.h>
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(m_mmap_threshold, 1 << 30)
        mallopt(m_trim_threshold, (1 << 31) - 1)


# ---- measurements


def describe() -> dict[str, Any]:
    """Return version, CPU instructions and devices for `gpt1 doctor`.

    A device has its measured matmul speed of each dtype in GFLOP/s.
    """
    return {
        "version": torch.__version__,
        "unavailable": unavailable(TRAITS),
        "cpu_instructions": [torch.backends.cpu.get_cpu_capability(), *_bfloat16_instructions()],
        "devices": [
            {
                "name": traits.name(device),
                "auto_dtype": traits.training_dtype(device),
                "gflops": {
                    name: round(matmul_speed(device, DTYPES[name]))
                    for name in traits.dtypes
                    if name != "bfloat16" or not traits.lacks_bfloat16(device)
                },
            }
            for traits in reversed(TRAITS.values())
            if traits.available()
            for device in _every_device(traits)
        ],
    }


def _every_device(traits: TorchTraits) -> list[torch.device]:
    return [_torch_device(traits, number) for number in (range(traits.count()) if traits.count else (None,))]


def matmul_speed(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """Return the best of several measured speeds, in GFLOP/s, of a (2048, 768) x (768, 3072) product.

    It is the largest product of a layer of the paper's model.
    """
    a = torch.randn(2048, 768, device=device).to(dtype)
    b = torch.randn(768, 3072, device=device).to(dtype)
    best, spent = float("inf"), 0.0
    while spent < seconds:
        start = time.perf_counter()
        a @ b
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        elapsed = time.perf_counter() - start
        best, spent = min(best, elapsed), spent + elapsed
    return 2 * 2048 * 768 * 3072 / best / 1e9
