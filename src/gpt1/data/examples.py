"""Reading of files as examples; errors name file and row.

Labels are spelled as in the file; `label_column` converts those of a whole data set, tasks map them to ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from gpt1 import console
from gpt1.config import DETECTED, Columns, TableFormat
from gpt1.data.column_detection import BY_USUAL_NAMES, Layout, find_layout
from gpt1.data.example import Example
from gpt1.data.input_kinds import InputKind
from gpt1.data.label_column import one_label_type, renamed
from gpt1.data.nested import cell_names
from gpt1.data.readers.delimited import missing_header
from gpt1.data.readers.fasttext import NO_LABELS
from gpt1.data.readers.rows import Note, Row
from gpt1.data.readers.table import read_rows
from gpt1.data.row_conversion import example_of, optional_cell
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
    format of a file that is not plain.
    """

    def __init__(
        self, columns: Columns, kind: InputKind | None, table: TableFormat = DETECTED, note: Note = console.say,
        remembered: Columns = BY_USUAL_NAMES,
    ) -> None:  # fmt: skip
        self.columns, self.kind, self.table, self.note, self.remembered = columns, kind, table, note, remembered
        self.layout: Layout | None = None
        self.unused: list[str] = []
        self.n_choices: int | None = None
        self.stripped_labels = 0

    @property
    def notes(self) -> list[str]:
        """Notes on the columns and cells that were read."""
        notes = self.layout.notes(self.columns) if self.layout else []
        if unused := [column for column in self.unused if column]:  # an index has no name
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
                        path.name, names, self.columns, self.kind, labelled=labelled, remembered=self.remembered
                    )
                except UserError as error:
                    raise UserError(missing_header(path, self.table, row.cells) or str(error)) from None
                self.unused = [name for name in names if name not in self.layout.used]
            example = example_of(row, self.layout)
            if self.layout.label and isinstance(cell := optional_cell(row, self.layout.label), str):
                self.stripped_labels += cell != cell.strip() and example.label is not None
            if labelled and example.label is None:
                raise no_label(example, self.layout.label, optional_cell(row, self.layout.label))
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
