"""Conversion of a row to an example, with validation of its cells; errors name file and row."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from textwrap import shorten
from typing import Any

from gpt1.data.bad_rows import RowError
from gpt1.data.column_detection import Layout
from gpt1.data.example import EMPTY_TEXT, Example, shown, usable_text
from gpt1.data.header import join_words
from gpt1.data.label_column import label_of_cell
from gpt1.data.nested import value_at
from gpt1.data.readers.rows import Row


def example_of(row: Row, layout: Layout) -> Example:
    """Return the example of a row whose columns are those of `layout`.

    Raises:
        RowError: a text or choice is empty or not a string, the label or weight is invalid, or a cell is missing.
    """
    parts = tuple([_joined(row, columns) for columns in layout.parts.values()])
    choices = _choices(row, layout.choices) if layout.choices else ()
    label = None if layout.label is None else label_of_cell(optional_cell(row, layout.label), row.where, layout.label)
    weight = 1.0 if layout.weight is None else _weight(row, layout.weight)
    if label is not None:
        label = layout.kind.label_of(label, len(choices), row.where)
    return Example(parts, choices, label, weight, row.where, _group(row, layout.group))


def _cell(row: Row, column: str) -> Any:
    try:
        return value_at(row.cells, column)
    except KeyError:
        found = shorten(", ".join(row.cells), 100) or "nothing"
        raise RowError(f"{row.where}: no {column!r}; found {found}", f"no {column!r}") from None


def optional_cell(row: Row, column: str | None) -> Any:
    """Return a cell; None if it is missing."""
    try:
        return value_at(row.cells, column or "")
    except KeyError:
        return None


def _joined(row: Row, columns: Sequence[str]) -> str:
    """Return the text of an example; that of several columns, some of which may be empty, has a line for each."""
    if len(columns) == 1:
        return _text(row, columns[0], _cell(row, columns[0]))
    cells = [(column, _cell(row, column)) for column in columns]
    texts = [
        _text(row, *cell) for cell in cells if cell[1] is not None and not str(cell[1]).isspace() and cell[1] != ""
    ]
    if not texts:
        raise RowError(f"{row.where}: {join_words(map(repr, columns))} are empty", EMPTY_TEXT)
    return "\n".join(texts)


def _text(row: Row, name: str, value: Any) -> str:
    return usable_text(value, f"{row.where}: {name!r}")


def _choices(row: Row, columns: Sequence[str]) -> tuple[str, ...]:
    if len(columns) > 1:
        return tuple([_text(row, column, _cell(row, column)) for column in columns])
    [column] = columns
    values = _cell(row, column)
    if isinstance(values, str):
        with suppress(ValueError):
            values = json.loads(values)
    if not isinstance(values, list):
        expected = 'expected a list such as ["one", "two"]'
        raise RowError(f"{row.where}: {column!r} is {shown(values)}, {expected}", "not a list of choices")
    if len(values) < 2:
        found = f"needs at least 2 choices, found {len(values)}"
        raise RowError(f"{row.where}: {column!r} {found}", "less than 2 choices")
    return tuple([_text(row, f"{column}[{i}]", value) for i, value in enumerate(values)])


def _group(row: Row, column: str | None) -> str | None:
    """Return the group of a row; None for a missing or empty cell."""
    value = None if column is None else optional_cell(row, column)
    if isinstance(value, list | dict):
        found = f"the group {column!r} is {shown(value)}, expected a text or number"
        raise RowError(f"{row.where}: {found}", "invalid group")
    return None if value is None or value != value else str(value).strip() or None


def _weight(row: Row, column: str) -> float:
    value = _cell(row, column)
    weight = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError):
            weight = float(value)
    if not 0 <= weight < math.inf:
        found = f"the weight {column!r} is {shown(value)}, expected a number of at least 0"
        raise RowError(f"{row.where}: {found}", "invalid weight")
    return weight
