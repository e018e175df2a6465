"""Where a model runs, and in which numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

DType = Literal["auto", "float32", "bfloat16", "float16"]
Backend = Literal["auto", "torch", "mindspore"]
Device = Literal["auto", "cpu", "cuda", "mps", "ascend"]


@dataclass(frozen=True)
class DeviceConfig:
    """Where the model runs."""

    backend: Backend = "auto"
    """Framework (`auto`: the installed one, PyTorch where both are)."""
    device: Device = "auto"
    """`auto` takes CUDA (PyTorch) or Ascend (MindSpore) where it is there, else the CPU."""
    dtype: DType = "auto"
    """`auto`: float32 for every answer; in training bfloat16 over float32 weights where the device computes it fast."""
    compile: bool = False
    """Compile the model (PyTorch's torch.compile)."""
    eager: bool = False
    """Train operator by operator instead of in compiled graphs, to find a fault (MindSpore)."""

    def float32_unless_set(self) -> Self:
        """Return these settings with `auto` meaning float32: what answers are computed in unless a dtype is named."""
        return replace(self, dtype="float32") if self.dtype == "auto" else self
