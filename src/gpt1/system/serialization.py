"""JSON text of plain values, nan and infinity included."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any


def to_json(
    value: Any, indent: int | None = None, default: Callable[[Any], Any] | None = None, *, ascii_only: bool = False
) -> str:
    """Return JSON text; a number that JSON has no word for (nan, infinity) becomes null.

    `default` converts an object that JSON has no type for, or raises. `ascii_only` escapes all other characters.
    """
    return json.dumps(plain(value), indent=indent, ensure_ascii=ascii_only, allow_nan=False, default=default)


def plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
