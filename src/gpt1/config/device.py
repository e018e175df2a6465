"""Backend, device and dtype settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, Self

from gpt1.config.checks import require
from gpt1.config.overrides import did_you_mean

DType = Literal["auto", "float32", "bfloat16", "float16"]
Backend = Literal["auto", "torch", "mindspore"]
DEVICES = ["auto", "cpu", "cuda", "mps", "ascend"]
"""Types of devices that `--device` names. `TYPE:N` is device number N of the type."""


@dataclass(frozen=True)
class DeviceConfig:
    """Backend, device and dtype."""

    backend: Backend = "auto"
    """Framework. `auto`: the installed one, PyTorch if both are."""
    device: str = "auto"
    """Device: auto, cpu, cuda, mps, ascend, cuda:N or ascend:N. `auto`: an accelerator if available."""
    dtype: DType = "auto"
    """Dtype of the computation. `auto`: float32 for inference; for training (with float32 weights) bfloat16 on devices
    that compute it fast, float16 on CUDA cards that lack it, otherwise float32."""
    compile: bool = False
    """Compile the model with torch.compile, on CUDA."""
    eager: bool = False
    """Run MindSpore operator by operator instead of as compiled graphs, for debugging."""

    def __post_init__(self) -> None:
        name, colon, number = self.device.partition(":")
        near = did_you_mean(name, DEVICES)
        require(name in DEVICES, "device", self.device, f"one of {', '.join(DEVICES)}{near}")
        numbered = not colon or re.fullmatch("[0-9]{1,4}", number) is not None
        require(numbered, "device", self.device, f"{name} or {name}:N, where N is a number, as in {name}:0")

    def float32_unless_set(self) -> Self:
        """Return these settings with the dtype `auto` replaced by float32, the default for inference."""
        return replace(self, dtype="float32") if self.dtype == "auto" else self
