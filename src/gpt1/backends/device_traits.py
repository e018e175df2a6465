"""Device traits: the properties of each type of device that engines depend on.

Each backend has a table of traits by the values of `--device`, in the order in which `auto` tries them. To add a
device, add a row to that table and its name to `config.device.Device`; no other code depends on a device's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from gpt1.errors import UserError


@dataclass(frozen=True, kw_only=True)
class DeviceTraits:
    """Traits of a type of device that all backends have in common."""

    label: str
    """Name of the type for messages: "CUDA"."""
    available: Callable[[], bool]
    """Whether this machine has such a device."""
    automatic: bool = True
    """Whether `--device auto` uses it if it is available."""
    dtypes: tuple[str, ...]
    """Dtypes of matrix products in training and inference."""
    inference_dtypes: tuple[str, ...] = ()
    """Further dtypes of matrix products, for inference only."""
    tokens_at_once: int
    """Padded tokens of an inference batch with which the device is fastest."""
    logits_at_once: int
    """Maximum number of elements of the (positions, V) logits in memory at one time."""


Row = TypeVar("Row", bound=DeviceTraits)

BACKEND_OF = {"cuda": "PyTorch", "mps": "PyTorch", "ascend": "MindSpore"}
"""Backend of each device that only one backend supports."""


def choose_traits(device: str, rows: Mapping[str, Row], backend: str) -> tuple[str, Row]:
    """Return the name and the traits of the device for `--device DEVICE`, from `rows`, the traits of `backend`.

    Raises:
        UserError: the backend does not support the device, or this machine has none.
    """
    if device == "auto":
        return next((name, row) for name, row in rows.items() if row.automatic and row.available())
    if device not in rows:
        other = BACKEND_OF.get(device)
        reason = f"needs the {other} backend" if other else "unknown device"
        *names, last = rows
        listed = f"{', '.join(names)} or {last}" if names else last
        raise UserError(f"--device {device}: {reason}; {backend} runs on {listed}")
    if not rows[device].available():
        raise UserError(
            f"--device {device}: {backend} finds no {rows[device].label} device; use --device cpu, and run gpt1 doctor "
            "to list the devices"
        )
    return device, rows[device]
