"""Device traits: what an engine must know about a type of device, in one row a type.

Each backend has a table of rows by the values of `--device`, the preferred device first. A new device is a row of that
table and a name in `config.device.Device`; no other code asks for a device by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from gpt1.errors import UserError


@dataclass(frozen=True, kw_only=True)
class DeviceTraits:
    """Traits that the devices of every backend have."""

    label: str
    """Name of the type for messages: "CUDA"."""
    available: Callable[[], bool]
    """Whether this machine has such a device."""
    automatic: bool = True
    """Whether `--device auto` takes it where it is available."""
    dtypes: tuple[str, ...]
    """Dtypes of matrix products in training and inference."""
    inference_dtypes: tuple[str, ...] = ()
    """Dtypes of matrix products in inference alone."""
    tokens_at_once: int
    """Padded tokens of an inference batch that the device computes fastest."""
    logits_at_once: int
    """Elements of the (positions, V) logits that exist at one time."""


Row = TypeVar("Row", bound=DeviceTraits)

BACKEND_OF = {"cuda": "PyTorch", "mps": "PyTorch", "ascend": "MindSpore"}
"""Backend of each device that only one of them has."""


def choose_traits(device: str, rows: Mapping[str, Row], backend: str) -> tuple[str, Row]:
    """Return the name and the traits of the device for `--device device`; `rows` and `backend` are the backend's own.

    Raises:
        UserError: the backend has no such device, or this machine has none.
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
            f"--device {device}: {backend} sees no {rows[device].label} device; use --device cpu, and gpt1 doctor to "
            "see what works"
        )
    return device, rows[device]
