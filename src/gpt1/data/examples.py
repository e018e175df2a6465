"""Conversion of rows to examples, with validation; errors name file and row.

Labels keep the values of the file (strings or numbers); tasks map them to ids.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import Any

from gpt1 import console
from gpt1.config import DETECTED, Columns, TableFormat
from gpt1.data.column_detection import BY_USUAL_NAMES, Layout, find_layout
from gpt1.data.example import INTEGER, Example, Label, require_unicode, shown, usable_text
from gpt1.data.input_kinds import InputKind
from gpt1.data.nested import cell_names, value_at
from gpt1.data.readers.delimited import missing_header
from gpt1.data.readers.fasttext import NO_LABELS
from gpt1.data.readers.files import file_type
from gpt1.data.readers.rows import Note, Row
from gpt1.data.readers.table import read_rows
from gpt1.errors import UserError

_NUMBER = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?)", re.IGNORECASE)


def read_examples(
    path: Path | Sequence[Path],
    columns: Columns = BY_USUAL_NAMES,
    kind: InputKind | None = None,
    *,
    table: TableFormat = DETECTED,
    labelled: bool = True,
) -> list[Example]:
    """Return the examples of one file, or of the shards of one split, with labels of one type.

    Labels of csv and tsv files are converted to int, or float, if all of them are numbers; ints mixed with floats
    become floats.

    Raises:
        UserError: any error of `stream_examples`, or some labels are text and some are numbers.
    """
    paths = [path] if isinstance(path, Path) else list(path)
    return one_label_type([Reader(columns, kind, table).read(paths, labelled=labelled)], [is_untyped(paths)])[0]


def stream_examples(
    path: Path, columns: Columns = BY_USUAL_NAMES, kind: InputKind | None = None, labelled: bool = False,
    *, table: TableFormat = DETECTED,
) -> Iterator[Example]:  # fmt: skip
    """Return an iterator over the examples of a file, in constant memory; labels of csv and tsv files stay str.

    Args:
        kind: Input kind of the examples; None = inferred from the columns.
        labelled: Whether every row must have a label.
        table: Format of the file; what it leaves open is detected.

    Raises:
        UserError: the file or a row cannot be read, a column is missing, a text is empty or not a string, a label is
            missing or infinite, a weight is negative, the number of choices varies, or the label is not one of them.
            The first row is read immediately, so most of these errors are raised by the call itself.
    """
    examples = Reader(columns, kind, table).stream(path, labelled=labelled)
    return chain([next(examples)], examples)


def stream_rows(
    path: Path, columns: Columns, kind: InputKind | None, table: TableFormat = DETECTED, note: Note = console.say
) -> Iterator[tuple[Row, Example]]:
    """Return an iterator over the rows of a file with their examples; labels are optional (see `stream_examples`)."""
    rows = Reader(columns, kind, table, note).rows(path, labelled=False)
    return chain([next(rows)], rows)


class Reader:
    """Reader of the files of a data set: the first file sets the columns and the number of choices for all."""

    def __init__(
        self, columns: Columns, kind: InputKind | None, table: TableFormat = DETECTED, note: Note = console.say
    ) -> None:
        self.columns, self.kind, self.table, self.note = columns, kind, table, note
        self.layout: Layout | None = None
        self.unused: list[str] = []
        self.n_choices: int | None = None

    def read(self, paths: Iterable[Path], *, labelled: bool) -> list[Example]:
        """Return the examples of several files."""
        return [example for path in paths for example in self.stream(path, labelled=labelled)]

    def stream(self, path: Path, *, labelled: bool) -> Iterator[Example]:
        """Yield the examples of a file in constant memory."""
        return (example for _, example in self.rows(path, labelled=labelled))

    def rows(self, path: Path, *, labelled: bool) -> Iterator[tuple[Row, Example]]:
        """Yield the rows of a file with their examples; errors as in `stream_examples`."""
        for row in read_rows(path, self.table, self.note):
            if self.layout is None:
                names = cell_names(row.cells)
                if labelled and names == ["text"] and path.name.lower().partition(".")[2].startswith("txt"):
                    raise UserError(f"{path.name}: {NO_LABELS}")
                try:
                    self.layout = find_layout(path.name, names, self.columns, self.kind, labelled=labelled)
                except UserError as error:
                    raise UserError(missing_header(path, self.table, row.cells) or str(error)) from None
                self.unused = [name for name in names if name not in self.layout.used]
            example = _example(row, self.layout)
            if labelled and example.label is None:
                raise no_label(example, self.layout.label, _optional_cell(row, self.layout.label))
            if self.n_choices is None:
                self.n_choices = len(example.choices)
            elif len(example.choices) != self.n_choices:
                difference = f"{len(example.choices)} choices, expected {self.n_choices} as in the previous rows"
                raise UserError(f"{row.where}: {difference}")
            yield row, example


def no_label(example: Example, column: str | None, cell: object = None) -> UserError:
    """Return the error for an example without a label; `cell` is the content of its label column."""
    found = "" if cell is None else f" (found {cell!r})"
    return UserError(
        f"{example.origin}: no label in column {column!r}{found}; label the row or remove it from the file"
    )


# ---------------------------------------------------------------------------------------------------------------------
# One row


def _example(row: Row, layout: Layout) -> Example:
    parts = tuple([_text(row, column, _cell(row, column)) for column in layout.parts])
    choices = _choices(row, layout.choices) if layout.choices else ()
    label = None if layout.label is None else _label(row, layout.label)
    weight = 1.0 if layout.weight is None else _weight(row, layout.weight)
    if label is not None:
        label = layout.kind.label_of(label, len(choices), row.where)
    return Example(parts, choices, label, weight, row.where)


def _cell(row: Row, column: str) -> Any:
    try:
        return value_at(row.cells, column)
    except KeyError:
        raise UserError(
            f"{row.where}: no {column!r}; found {shorten(', '.join(row.cells), 100) or 'nothing'}"
        ) from None


def _optional_cell(row: Row, column: str | None) -> Any:
    """Return a cell; None if it is missing."""
    try:
        return value_at(row.cells, column or "")
    except KeyError:
        return None


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
        raise UserError(f'{row.where}: {column!r} is {shown(values)}, expected a list such as ["one", "two"]')
    if len(values) < 2:
        raise UserError(f"{row.where}: {column!r} needs at least 2 choices, found {len(values)}")
    return tuple([_text(row, f"{column}[{i}]", value) for i, value in enumerate(values)])


def _label(row: Row, column: str) -> Label | None:
    """Return the label; None for a missing or empty cell, null, or NaN."""
    match _optional_cell(row, column):
        case str(text):
            require_unicode(text, f"{row.where}: {column!r}")
            text = text.strip()
            return None if text.casefold() in ("", "nan") else text
        case bool(value):
            return int(value)
        case int(value):
            return value
        case float(value) if math.isinf(value):
            raise UserError(f"{row.where}: the label is {value}, expected a finite number")
        case float(value):
            return None if math.isnan(value) else value
        case None:
            return None
        case value:
            raise UserError(f"{row.where}: {column!r} is {shown(value)}, expected a single text or number as the label")


def _weight(row: Row, column: str) -> float:
    value = _cell(row, column)
    weight = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError):
            weight = float(value)
    if not 0 <= weight < math.inf:
        raise UserError(f"{row.where}: the weight {column!r} is {shown(value)}, expected a number of at least 0")
    return weight


# ---------------------------------------------------------------------------------------------------------------------
# The whole label column


def is_untyped(paths: Iterable[Path]) -> bool:
    """Return whether all files are csv or tsv, which contain strings only."""
    return all((kind := file_type(path)) is not None and kind.format in ("csv", "tsv") for path in paths)


def one_label_type(splits: Sequence[list[Example]], untyped: Sequence[bool]) -> list[list[Example]]:
    """Convert the labels of all splits to one type: int, float or str.

    Strings of untyped splits (csv, tsv) are converted to numbers if all of them, across splits, are numbers; ints mixed
    with floats become floats.

    Raises:
        UserError: a number is infinite, or some labels are text and some are numbers.
    """
    cells = {e.label: e for split, raw in zip(splits, untyped, strict=True) if raw for e in split}
    numbers = _numbers({label: e for label, e in cells.items() if isinstance(label, str)})
    typed = [
        [replace(e, label=numbers[e.label]) if e.label in numbers else e for e in split] if raw and numbers else split
        for split, raw in zip(splits, untyped, strict=True)
    ]
    seen = {type(e.label): e for e in chain.from_iterable(typed) if e.label is not None}
    if str in seen and len(seen) > 1:
        text, number = seen.pop(str), seen.popitem()[1]
        examples = f"{text.label!r} at {text.origin} and {number.label!r} at {number.origin}"
        raise UserError(f"labels must be all text or all numbers; found {examples}")
    if seen.keys() == {int, float}:
        return [[replace(e, label=float(e.label)) if type(e.label) is int else e for e in split] for split in typed]
    return typed


def _numbers(cells: dict[str, Example]) -> dict[Label | None, Label]:
    """Return {cell: number}; empty unless all cells are numbers."""
    if not all(_NUMBER.fullmatch(label) for label in cells):
        return {}
    to_number = int if all(INTEGER.fullmatch(label) for label in cells) else float
    for label, example in cells.items():
        if math.isinf(float(label)):
            raise UserError(f"{example.origin}: the label is {label}, expected a finite number")
    return {label: to_number(label) for label in cells}
