"""Backend, device and dtype settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

DType = Literal["auto", "float32", "bfloat16", "float16"]
Backend = Literal["auto", "torch", "mindspore"]
Device = Literal["auto", "cpu", "cuda", "mps", "ascend"]


@dataclass(frozen=True)
class DeviceConfig:
    """Backend, device and dtype."""

    backend: Backend = "auto"
    """Framework. `auto`: the installed one, PyTorch if both are."""
    device: Device = "auto"
    """Device. `auto`: CUDA or Ascend if available, otherwise the CPU."""
    dtype: DType = "auto"
    """Dtype of the computation. `auto`: float32 for inference; for training (with float32 weights) bfloat16 on devices
    that compute it fast, float16 on Ascend, otherwise float32."""
    compile: bool = False
    """Compile the model with torch.compile, on CUDA."""
    eager: bool = False
    """Run MindSpore operator by operator instead of as compiled graphs, for debugging."""

    def float32_unless_set(self) -> Self:
        """Return these settings with the dtype `auto` replaced by float32, the default for inference."""
        return replace(self, dtype="float32") if self.dtype == "auto" else self
