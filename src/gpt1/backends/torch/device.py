"""Devices of PyTorch: traits of each type, choice of device and dtype, measured speeds."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt1.backends.device_traits import DeviceTraits, choose_traits
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
    has_fast_bfloat16: Callable[[torch.device], bool]
    """Whether bfloat16 products are faster than float32 ones, so that `--dtype auto` is bfloat16."""
    lacks_bfloat16: Callable[[torch.device], str] = lambda device: ""
    """Reason why a device does not support bfloat16; empty if it does."""
    compiles: bool = False
    """Whether `--compile` is supported."""
    process_group: str = ""
    """Backend of `torch.distributed`; empty if training with several processes is not supported."""
    pins_memory: bool = False
    """Whether arrays are copied to the device from pinned memory, asynchronously."""
    dropout_on_host: bool = False
    """Whether dropout masks are drawn on the host (`backends.dropout`), not by the generator of the device."""
    adds_gradient_by_row: bool = False
    """Whether the gradient of an embedding is added row by row, not computed as a dense matrix."""
    vocabulary_multiple: int = 1
    """The embedding is padded with zeros to a multiple of this many rows for the softmax: matrix units may need it."""
    float32_cache: bool = False
    """Whether the KV cache is float32 even if products are 16 bits."""
    lays_out_for_one_row: bool = False
    """Whether products with one row are faster with weights in a layout for them, and with 16 bits without oneDNN."""
    keeps_freed_memory: bool = False
    """Whether training asks the C library to keep large freed blocks."""


def _cuda_lacks_bfloat16(device: torch.device) -> str:
    if torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY:
        return ""
    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)} has compute capability {major}.{minor}; 8.0 or newer is required"


def _cpu_has_fast_bfloat16(device: torch.device) -> bool:
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe)() for probe in probes if hasattr(torch.cpu, probe))


def _cpu_name(device: torch.device) -> str:
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' * (threads > 1)})"


TRAITS: dict[str, TorchTraits] = {
    "cuda": TorchTraits(
        label="CUDA",
        available=lambda: torch.cuda.is_available(),
        dtypes=("float32", "bfloat16"),
        inference_dtypes=("float16",),
        tokens_at_once=16_384,
        logits_at_once=1 << 28,
        torch_device="cuda",
        name=lambda device: f"cuda ({torch.cuda.get_device_name(device)})",
        count=lambda: torch.cuda.device_count(),
        has_fast_bfloat16=lambda device: not _cuda_lacks_bfloat16(device),
        lacks_bfloat16=_cuda_lacks_bfloat16,
        compiles=True,
        process_group="cpu:gloo,cuda:nccl",
        pins_memory=True,
        vocabulary_multiple=128,  # matrix units are several times slower with odd widths
    ),
    "mps": TorchTraits(
        label="MPS",
        available=lambda: torch.backends.mps.is_available(),
        dtypes=("float32",),
        inference_dtypes=("float16",),
        tokens_at_once=4_096,  # not measured
        logits_at_once=1 << 26,  # not measured
        torch_device="mps",
        name=lambda device: "mps",
        has_fast_bfloat16=lambda device: False,
    ),
    "cpu": TorchTraits(
        label="CPU",
        available=lambda: True,
        dtypes=("float32", "bfloat16"),
        tokens_at_once=1_024,  # larger activations do not fit in the cache (docs/performance.md)
        logits_at_once=1 << 25,
        torch_device="cpu",
        name=_cpu_name,
        has_fast_bfloat16=_cpu_has_fast_bfloat16,
        process_group="gloo",
        dropout_on_host=True,  # PyTorch's dropout takes several times as long (docs/performance.md)
        adds_gradient_by_row=True,
        float32_cache=True,  # attention from one query to bfloat16 keys takes five times as long
        lays_out_for_one_row=True,
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
        raise UserError(f"--compile: only on --device {_devices('compiles')}; on {name} it is not faster")
    device = _torch_device(traits, number)
    if hardware.dtype == "auto":
        return Choice(device, torch.bfloat16 if traits.has_fast_bfloat16(device) else torch.float32, traits)
    dtype = hardware.dtype
    if dtype == "bfloat16" and (reason := traits.lacks_bfloat16(device)):
        raise UserError(f"--dtype bfloat16: {reason}; use --dtype float32")
    if dtype not in traits.dtypes + (() if training else traits.inference_dtypes):
        expected = f"use --dtype {' or '.join(reversed(traits.dtypes))}"
        if any(dtype in row.dtypes for row in TRAITS.values()):
            raise UserError(f"--dtype {dtype}: not supported on --device {name}; {expected}")
        raise UserError(f"--dtype {dtype}: only for inference on --device {_devices('inference_dtypes')}; {expected}")
    return Choice(device, DTYPES[dtype], traits)


def _devices(trait: str) -> str:
    """Return the names of the devices for which a trait is set, joined by "or"."""
    return " or ".join(name for name, traits in TRAITS.items() if getattr(traits, trait))


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
    """Return version and devices for `gpt1 doctor`, with the measured matmul speed of each dtype in GFLOP/s."""
    return {
        "version": torch.__version__,
        "devices": [
            {
                "name": traits.name(device),
                "auto_dtype": "bfloat16" if traits.has_fast_bfloat16(device) else "float32",
                "gflops": {
                    name: round(matmul_speed(device, DTYPES[name])) for name in traits.dtypes + traits.inference_dtypes
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
