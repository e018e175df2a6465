"""Conversion of rows to examples, with validation; errors name file and row.

Labels are spelled as in the file; `label_column` converts those of a whole data set, tasks map them to ids.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import Any

from gpt1 import console
from gpt1.config import DETECTED, Columns, TableFormat
from gpt1.data.column_detection import BY_USUAL_NAMES, Layout, find_layout
from gpt1.data.example import Example, shown, usable_text
from gpt1.data.header import join_words
from gpt1.data.input_kinds import InputKind
from gpt1.data.label_column import label_of_cell, one_label_type, renamed
from gpt1.data.nested import cell_names, value_at
from gpt1.data.readers.delimited import missing_header
from gpt1.data.readers.fasttext import NO_LABELS
from gpt1.data.readers.rows import Note, Row
from gpt1.data.readers.table import read_rows
from gpt1.errors import UserError


def read_examples(
    path: Path | Sequence[Path],
    columns: Columns = BY_USUAL_NAMES,
    kind: InputKind | None = None,
    *,
    table: TableFormat = DETECTED,
    labelled: bool = True,
) -> list[Example]:
    """Return the examples of one file, or of the shards of one split, with labels of one type (`one_label_type`).

    Raises:
        UserError: any error of `stream_examples` or `one_label_type`.
    """
    paths = [path] if isinstance(path, Path) else list(path)
    examples = Reader(columns, kind, table).read(paths, labelled=labelled)
    return one_label_type(renamed([examples], columns.renames)[0])[0]


def stream_examples(
    path: Path, columns: Columns = BY_USUAL_NAMES, kind: InputKind | None = None, labelled: bool = False,
    *, table: TableFormat = DETECTED,
) -> Iterator[Example]:  # fmt: skip
    """Return an iterator over the examples of a file, in constant memory; labels are spelled as in the file.

    Args:
        path: The file.
        columns: Columns set by flags.
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


def stream_rows(reader: Reader, path: Path) -> Iterator[tuple[Row, Example]]:
    """Return an iterator over the rows of a file with their examples, without labels; the first is read immediately."""
    rows = reader.rows(path, labelled=None)
    return chain([next(rows)], rows)


class Reader:
    """Reader of the files of a data set: the first file sets the columns and the number of choices for all.

    `remembered` are the columns that a run was trained on (see `find_layout`), `note` is called with a line about the
    format of a file that is not plain. `group` is the column of groups.
    """

    def __init__(
        self, columns: Columns, kind: InputKind | None, table: TableFormat = DETECTED, note: Note = console.say,
        remembered: Columns = BY_USUAL_NAMES, group: str | None = None,
    ) -> None:  # fmt: skip
        self.columns, self.kind, self.table, self.note, self.remembered = columns, kind, table, note, remembered
        self.group = group
        self.layout: Layout | None = None
        self.names: list[str] = []
        self.n_choices: int | None = None
        self.stripped_labels = 0

    @property
    def notes(self) -> list[str]:
        """Notes on the columns and cells that were read."""
        notes = self.layout.notes(self.columns) if self.layout else []
        used = self.layout.used if self.layout else ()
        if unused := [name for name in self.names if name and name not in used]:  # an index has no name
            notes.append(f"Columns not used: {', '.join(unused)}.")
        if self.stripped_labels:
            notes.append(f"Blanks around {self.stripped_labels:,} labels were removed.")
        return notes

    def read(self, paths: Iterable[Path], *, labelled: bool) -> list[Example]:
        """Return the examples of several files."""
        return [example for path in paths for example in self.stream(path, labelled=labelled)]

    def stream(self, path: Path, *, labelled: bool) -> Iterator[Example]:
        """Yield the examples of a file in constant memory."""
        return (example for _, example in self.rows(path, labelled=labelled))

    def rows(self, path: Path, *, labelled: bool | None) -> Iterator[tuple[Row, Example]]:
        """Yield the rows of a file with their examples; None = labels are not read. Errors as in `stream_examples`."""
        for row in read_rows(path, self.table, self.note):
            if self.layout is None:
                names = cell_names(row.cells)
                if labelled and names == ["text"] and path.name.lower().partition(".")[2].startswith("txt"):
                    raise UserError(f"{path.name}: {NO_LABELS}")
                try:
                    self.layout = find_layout(
                        path.name,
                        names,
                        self.columns,
                        self.kind,
                        labelled=labelled,
                        remembered=self.remembered,
                        group=self.group,
                    )
                except UserError as error:
                    raise UserError(missing_header(path, self.table, row.cells) or str(error)) from None
                self.names = names
            example = _example(row, self.layout)
            if self.layout.label and isinstance(cell := _optional_cell(row, self.layout.label), str):
                self.stripped_labels += cell != cell.strip() and example.label is not None
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
    parts = tuple([_joined(row, columns) for columns in layout.parts.values()])
    choices = _choices(row, layout.choices) if layout.choices else ()
    label = None if layout.label is None else label_of_cell(_optional_cell(row, layout.label), row.where, layout.label)
    weight = 1.0 if layout.weight is None else _weight(row, layout.weight)
    if label is not None:
        label = layout.kind.label_of(label, len(choices), row.where)
    return Example(parts, choices, label, weight, row.where, _group(row, layout.group))


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


def _joined(row: Row, columns: Sequence[str]) -> str:
    """Return the text of an example; that of several columns, some of which may be empty, has a line for each."""
    if len(columns) == 1:
        return _text(row, columns[0], _cell(row, columns[0]))
    cells = [(column, _cell(row, column)) for column in columns]
    texts = [
        _text(row, *cell) for cell in cells if cell[1] is not None and not str(cell[1]).isspace() and cell[1] != ""
    ]
    if not texts:
        raise UserError(f"{row.where}: {join_words(map(repr, columns))} are empty")
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
        raise UserError(f'{row.where}: {column!r} is {shown(values)}, expected a list such as ["one", "two"]')
    if len(values) < 2:
        raise UserError(f"{row.where}: {column!r} needs at least 2 choices, found {len(values)}")
    return tuple([_text(row, f"{column}[{i}]", value) for i, value in enumerate(values)])


def _group(row: Row, column: str | None) -> str | None:
    """Return the group of a row; None for a missing or empty cell."""
    value = None if column is None else _optional_cell(row, column)
    if isinstance(value, list | dict):
        raise UserError(f"{row.where}: the group {column!r} is {shown(value)}, expected a text or number")
    return None if value is None or value != value else str(value).strip() or None


def _weight(row: Row, column: str) -> float:
    value = _cell(row, column)
    weight = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError):
            weight = float(value)
    if not 0 <= weight < math.inf:
        raise UserError(f"{row.where}: the weight {column!r} is {shown(value)}, expected a number of at least 0")
    return weight
