"""Device traits: the properties of each type of device that engines depend on.

Each backend has a table of traits by the types of `--device`, in the order in which `auto` tries them. To add a
device, add a row to that table and its name to `config.device.DEVICES`; no other code depends on a device's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from gpt1.backends.dist import process_rank
from gpt1.errors import UserError


@dataclass(frozen=True, kw_only=True)
class DeviceTraits:
    """Traits of a type of device that all backends have in common."""

    label: str
    """Name of the type for messages: "CUDA"."""
    available: Callable[[], bool]
    """Whether this machine has such a device."""
    count: Callable[[], int] | None = None
    """Number of devices, of which each process of a run uses one; `None`: a single one without a number, which all
    processes share."""
    dtypes: tuple[str, ...]
    """Dtypes of matrix products."""
    tokens_at_once: int
    """Padded tokens of an inference batch with which the device is fastest."""
    logits_at_once: int
    """Maximum number of elements of the (positions, V) logits in memory at one time."""


Row = TypeVar("Row", bound=DeviceTraits)

BACKEND_OF = {"cuda": "torch", "mps": "torch", "ascend": "mindspore"}
"""Backend of each device that only one backend supports."""


def choose_traits(device: str, rows: Mapping[str, Row], backend: str) -> tuple[str, int | None, Row]:
    """Return type, number and traits of the device for `--device DEVICE`, from `rows`, the traits of `backend`.

    `DEVICE` is "auto", a type, or a type and a number ("cuda:1"). Without a number, it is that of this process on its
    machine (0 for a single process). The number is `None` for a type of which there is only one device.

    Raises:
        UserError: the backend does not support the device, this machine has none, or too few for its processes.
    """
    name, colon, number = device.partition(":")
    if name == "auto":
        if colon:
            raise UserError(f"--device {device}: auto has no number; use --device auto, or a type, as in cuda:{number}")
        name = next(name for name, row in rows.items() if row.available())
    if name not in rows:
        other = BACKEND_OF.get(name)
        reason = f"needs --backend {other}" if other else "unknown device"
        *names, last = rows
        listed = f"{', '.join(names)} or {last}" if names else last
        raise UserError(f"--device {device}: {reason}; {backend} runs on {listed}")
    row = rows[name]
    if not row.available():
        raise UserError(
            f"--device {device}: {backend} finds no {row.label} device; use --device cpu, and run gpt1 doctor "
            "to list the devices"
        )
    return name, _number(device, name, int(number) if colon else None, row, backend), row


def unavailable(rows: Mapping[str, Row]) -> list[str]:
    """Return the labels of the types of devices that this machine lacks."""
    return [row.label for row in rows.values() if not row.available()]


def _number(device: str, name: str, wanted: int | None, row: DeviceTraits, backend: str) -> int | None:
    """Return the number of the device of this process; `wanted` is the one in `--device DEVICE`, if any."""
    process = process_rank()
    if row.count is None:
        if wanted:
            raise UserError(f"--device {device}: there is one {row.label} device; use --device {name}")
        return None
    count = row.count()
    devices = f"{count} {row.label} device{'s' * (count != 1)}"
    if wanted is not None:
        if process.size > 1:
            raise UserError(
                f"--device {device}: {process.launcher} started {process.size} processes, each with a device of its "
                f"own; use --device {name}"
            )
        if wanted >= count:
            usable = f"{name}:0 to {name}:{count - 1}" if count > 1 else f"{name}:0"
            raise UserError(f"--device {device}: {backend} finds {devices}; use {usable}, or --device cpu")
        return wanted
    if process.local_rank and process.local_rank >= count:
        raise UserError(
            f"{process.launcher} started process {process.local_rank} on a machine with {devices}; start at most one "
            "process per device"
        )
    return process.local_rank
