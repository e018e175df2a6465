"""What every settings class asks of its values."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

from gpt1.errors import UserError


def require(condition: bool, flag: str, value: object, expected: str) -> None:
    if not condition:
        raise UserError(f"--{flag.replace('_', '-')} {value}: expected {expected}")


def require_one_of(choices: Any, flag: str, value: object) -> None:
    require(value in get_args(choices), flag, value, f"one of {', '.join(get_args(choices))}")


def known(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(values) - {item.name for item in fields(cls)})
    if unknown:
        raise UserError(f"{cls.__name__}: unknown setting {unknown[0]!r}")
    return values
