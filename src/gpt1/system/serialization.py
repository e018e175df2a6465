"""Conversion to JSON, with nan and infinity as null."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any


def to_json(
    value: Any, indent: int | None = None, default: Callable[[Any], Any] | None = None, *, ascii_only: bool = False
) -> str:
    """Return `value` as JSON; nan and infinity, which JSON does not support, become null.

    Args:
        value: mappings, lists, tuples, strings, numbers, booleans, None, and what `default` converts.
        indent: spaces of indentation; `None`: one line.
        default: converts an object of another type, or raises.
        ascii_only: escape characters that are not ASCII.
    """
    return json.dumps(plain(value), indent=indent, ensure_ascii=ascii_only, allow_nan=False, default=default)


def plain(value: Any) -> Any:
    """Return a copy of `value` with tuples as lists, and nan and infinity as None."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
