"""Cells inside objects: `meta.rating.label` of {"meta": {"rating": {"label": 1}}}."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def value_at(cells: Mapping[str, Any], name: str) -> Any:
    """Return the cell called `name`, or the one inside objects that its parts between dots lead to.

    A column with exactly this name takes precedence.

    Raises:
        KeyError: there is no such cell.
    """
    if name in cells:
        return cells[name]
    first, dot, rest = name.partition(".")
    while dot:
        if isinstance(inside := cells.get(first), Mapping):
            try:
                return value_at(inside, rest)
            except KeyError:
                pass
        more, dot, rest = rest.partition(".")
        first = f"{first}.{more}"
    raise KeyError(name)


def cell_names(cells: Mapping[str, Any]) -> list[str]:
    """Return the names of the cells of a row, those inside objects in place of the objects."""
    return list(_names(cells))


def _names(cells: Mapping[str, Any]) -> Iterator[str]:
    for name, value in cells.items():
        if isinstance(value, Mapping) and value:
            yield from (f"{name}.{inner}" for inner in _names(value))
        else:
            yield name
