"""Reading of files as examples; errors name file and row.

Labels are spelled as in the file; `label_column` converts those of a whole data set, tasks map them to ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from gpt1 import console
from gpt1.config import DETECTED, Columns, TableFormat
from gpt1.data.bad_rows import BadRows, RowError
from gpt1.data.column_detection import BY_USUAL_NAMES, Layout, find_layout
from gpt1.data.example import Example
from gpt1.data.header import NotFound
from gpt1.data.input_kinds import InputKind
from gpt1.data.label_column import one_label_type, renamed
from gpt1.data.nested import cell_names
from gpt1.data.readers.delimited import missing_header
from gpt1.data.readers.fasttext import NO_LABELS
from gpt1.data.readers.rows import Note, Row
from gpt1.data.readers.table import read_rows
from gpt1.data.row_conversion import example_of, optional_cell
from gpt1.errors import UserError

NO_LABEL = (None, -1, "-1")
"""Labels of rows without one; data sets on the hub have -1."""


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
    reader = Reader(columns, kind, table)
    examples = reader.read(paths, labelled=labelled)
    reader.require_usable()
    for note in reader.bad.notes():
        console.say(note)
    return one_label_type(renamed([examples], columns.renames, fold=columns.fold_labels)[0])[0]


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


def stream_rows(reader: Reader, path: Path) -> Iterator[tuple[Row, Example | RowError]]:
    """Return an iterator over the rows of a file with their examples, without labels, or why they cannot be used.

    The latter are counted in `reader.bad`; with --on-bad-row skip they are left out. The rows up to the first one that
    sets the columns are read immediately.
    """
    rows = reader.counted_rows(path, labelled=None)
    first = []
    for each in rows:
        first.append(each)
        if reader.layout is not None:
            break
    return chain(first, rows)


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
        self.bad = BadRows()
        """Rows of the splits that were `read`, or of the last file of `counted_rows`."""

    @property
    def notes(self) -> list[str]:
        """Notes on the columns, cells and rows that were read."""
        notes = self.layout.notes(self.columns) if self.layout else []
        if self.layout and (unused := self.layout.unused(self.names)):
            notes.append(f"Columns not used: {', '.join(unused)}.")
        if self.stripped_labels:
            notes.append(f"Blanks around {self.stripped_labels:,} labels were removed.")
        return notes + self.bad.notes()

    def answered_notes(self, answered: str) -> list[str]:
        """Return the note on bad rows of a command that answers them; `answered` is what they have or lack.

        With --on-bad-row they were left out.
        """
        return self.bad.notes(answered if self.table.on_bad_row is None else "were left out")

    def read(self, paths: Iterable[Path], *, labelled: bool) -> list[Example]:
        """Return the examples of the files of a split; rows that cannot be used are left out and added to `bad`.

        Without `labelled`, the split may have no labels at all; otherwise, a row without one is a bad row.

        Raises:
            UserError: a file cannot be read, or none of its rows can be used.
        """
        examples, bad, unlabelled = [], BadRows(), BadRows()
        for row, example in chain.from_iterable(self.rows(path, labelled=labelled) for path in paths):
            bad.rows += 1
            if isinstance(example, RowError):
                bad.add(example)
                continue
            examples.append(example)
            if example.label is None:
                unlabelled.add(self._no_label(row))
        if any(example.label not in NO_LABEL for example in examples):
            examples = [example for example in examples if example.label is not None]
            bad.add_all(unlabelled)
        if not examples:
            raise bad.error()
        self.bad.add_all(bad)
        return examples

    def stream(self, path: Path, *, labelled: bool) -> Iterator[Example]:
        """Yield the examples of a file in constant memory.

        Raises:
            UserError: a row cannot be used, unless --on-bad-row skip is set; or no row can be used.
        """
        for _, example in self.counted_rows(path, labelled=labelled):
            if isinstance(example, RowError):
                raise self.bad.error()
            yield example
        self.require_usable()
        for note in self.bad.notes():
            self.note(f"{path.name}: {note}")

    def counted_rows(self, path: Path, *, labelled: bool | None) -> Iterator[tuple[Row, Example | RowError]]:
        """Yield `rows` and count them in `bad`; with --on-bad-row skip, leave bad rows out."""
        self.bad = BadRows()
        for row, example in self.rows(path, labelled=labelled):
            self.bad.rows += 1
            if isinstance(example, RowError):
                self.bad.add(example)
                if self.table.on_bad_row == "skip":
                    continue
            yield row, example

    def require_usable(self, *, answered: bool = False) -> None:
        """Check the rows in `bad`.

        Args:
            answered: Whether a bad row has an empty result, unless --on-bad-row is set, so that it is no error.

        Raises:
            UserError: there are bad rows and they may not be left out, or there are no others.
        """
        allowed = self.table.on_bad_row == "skip" or (answered and self.table.on_bad_row is None)
        if self.bad.bad and (not allowed or self.bad.bad == self.bad.rows):
            raise self.bad.error()

    def rows(self, path: Path, *, labelled: bool | None) -> Iterator[tuple[Row, Example | RowError]]:
        """Yield the rows of a file with their examples, or why a row cannot be used; None = labels are not read.

        Raises:
            UserError: the file or its columns cannot be read.
        """
        for row in read_rows(path, self.table, self.note):
            if row.problem is not None:
                yield row, RowError(f"{row.where}: {row.problem}", row.problem.kind)
                continue
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
                    kind = NotFound if isinstance(error, NotFound) else UserError
                    raise kind(missing_header(path, self.table, row.cells) or str(error)) from None
                self.names = names
            try:
                yield row, self._example(row, self.layout, labelled=labelled)
            except RowError as error:
                yield row, error

    def _example(self, row: Row, layout: Layout, *, labelled: bool | None) -> Example:
        example = example_of(row, layout)
        if layout.label and isinstance(cell := optional_cell(row, layout.label), str):
            self.stripped_labels += cell != cell.strip() and example.label is not None
        if labelled and example.label is None:
            raise self._no_label(row)
        if self.n_choices is None:
            self.n_choices = len(example.choices)
        elif len(example.choices) != self.n_choices:
            difference = f"{len(example.choices)} choices, expected {self.n_choices} as in the previous rows"
            raise RowError(f"{row.where}: {difference}", "another number of choices")
        return example

    def _no_label(self, row: Row) -> RowError:
        """Return the error for a row without a label."""
        assert self.layout is not None
        cell = optional_cell(row, self.layout.label)
        found = "" if cell is None else f" (found {cell!r})"
        kind = "empty label" if cell is None or not str(cell).strip() else f"label {str(cell).strip()}"
        return RowError(f"{row.where}: no label in column {self.layout.label!r}{found}", kind)
