"""Validation shared by the settings classes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

from gpt1.errors import UserError


def require(condition: bool, flag: str, value: object, expected: str) -> None:
    """Raise a UserError that names the flag, its value and what was expected, unless `condition` holds."""
    if not condition:
        raise UserError(f"--{flag.replace('_', '-')} {value}: expected {expected}")


def require_one_of(choices: Any, flag: str, value: object) -> None:
    """Raise a UserError unless `value` is one of the values of the Literal type `choices`."""
    require(value in get_args(choices), flag, value, f"one of {', '.join(get_args(choices))}")


def known(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return `values`; raise a UserError if one of its keys is no field of the dataclass `cls`."""
    unknown = sorted(set(values) - {item.name for item in fields(cls)})
    if unknown:
        raise UserError(f"{cls.__name__}: unknown setting {unknown[0]!r}")
    return values
