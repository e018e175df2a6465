"""The row of an accelerator in a backend's table of devices, with tensors on the CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any


def on_cpu(traits: Any) -> Any:
    """Return the traits of an accelerator, with tensors on the CPU."""
    return replace(
        traits,
        available=lambda: True,
        torch_device="cpu",
        name=lambda device: "an accelerator's row on a CPU",
        count=None,
        training_dtype=lambda device: "float32",
        lacks_bfloat16=lambda device: "",
    )
