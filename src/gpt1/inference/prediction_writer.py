"""Output formats of predictions: .jsonl, .csv and .tsv are appended chunk by chunk, .parquet is converted from .jsonl.

A line of .jsonl is {"label", "score", "scores": {label: probability}, "unknown_share", "error"}. Tables have the
columns `label`, `score`, `probability of X` for each label X, `unknown_share` and `error`, the reason for which a row
has no prediction. With `with_input`, the row's own columns come before these.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gpt1.data.readers.rows import Row
from gpt1.errors import UserError
from gpt1.system.files import sync
from gpt1.system.serialization import to_json
from gpt1.tokenization.pretokenizers import valid_unicode

FIELDS = "label score scores unknown_share error"
"""Fields of a prediction; an output that was started with others is not resumed."""
SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
PARQUET_ROWS = 1 << 14
"""Rows of a row group, which is held in memory."""
DELIMITERS = {".csv": ",", ".tsv": "\t"}

Record = dict[str, Any]


def with_own_columns(row: Row, prediction: Record) -> Record:
    """Return the cells of a row followed by its prediction.

    A column with the name of a prediction field is renamed `input NAME`.

    Raises:
        UserError: the row has a column of that name too.
    """
    names = {name: f"input {name}" if name in prediction else name for name in row.cells}
    for name, new in names.items():
        if new != name and new in row.cells:
            raise UserError(f"--with-input: {row.where} has columns {name!r} and {new!r}; rename one of them")
    return {names[name]: value for name, value in row.cells.items()} | prediction


def flat(prediction: Record) -> Record:
    """Return a prediction as a table row, with one `probability of X` per label."""
    scores = {f"probability of {name}": value for name, value in prediction["scores"].items()}
    label, score, unknown, error = (prediction[name] for name in ("label", "score", "unknown_share", "error"))
    return {"label": label, "score": score, **scores, "unknown_share": unknown, "error": error}


class PredictionFile:
    """Encoder of predictions in the format of `suffix`.

    `columns` are the columns of a table, empty until its header is written.
    """

    def __init__(self, suffix: str, *, with_input: bool):
        self.suffix, self.with_input = suffix, with_input
        self.columns: list[str] = []

    def encode(self, rows: Sequence[Row], predictions: Iterable[Record]) -> bytes:
        """Return the bytes to append for some rows; for a .csv or .tsv the first call includes the header.

        Raises:
            UserError: a cell of the input cannot be written in this format.
        """
        records = list(predictions) if self.suffix == ".jsonl" else [flat(each) for each in predictions]
        if self.with_input:
            records = [with_own_columns(row, each) for row, each in zip(rows, records, strict=True)]
        if self.suffix in DELIMITERS:
            return self._table(rows, records)
        lines = (to_json(each, default=_text_converter(row)) for row, each in zip(rows, records, strict=True))
        return _utf8("".join(f"{line}\n" for line in lines))

    def _table(self, rows: Sequence[Row], records: Sequence[Record]) -> bytes:
        lines = _Lines()
        table = csv.writer(lines, delimiter=DELIMITERS[self.suffix], lineterminator=_Lines.END)
        if not self.columns:
            self.columns = list(next((each for row, each in zip(rows, records, strict=True) if row.cells), records[0]))
            table.writerow(self.columns)
        for row, each in zip(rows, records, strict=True):
            if unknown := [name for name in each if name not in self.columns]:
                raise UserError(
                    f"--with-input: {row.where}: {unknown[0]!r} is missing from the first row, which sets the columns "
                    f"of a {self.suffix}; use --output FILE.jsonl"
                )
            table.writerow([_cell(row, each.get(name)) for name in self.columns])
        return _utf8("".join(lines))

    def read_columns(self, path: Path) -> None:
        """Read the columns from the header of a table that is to be resumed."""
        if self.suffix in DELIMITERS:
            with path.open(encoding="utf-8", newline="") as file:
                self.columns = next(csv.reader(file, delimiter=DELIMITERS[self.suffix]))

    def finish(self, partial_file: Path, output: Path) -> None:
        """Atomically replace `output` with the complete file.

        Raises:
            UserError: the output is a .parquet, and a column has values of several types.
        """
        if self.suffix == ".parquet":
            complete = partial_file.with_suffix(".assembled")
            _assemble(partial_file, complete, output)
        else:
            complete = partial_file
        sync(complete)
        complete.replace(output)
        partial_file.unlink(missing_ok=True)


class _Lines(list[str]):
    """Lines of a table, each of which ends in a line feed.

    The csv module quotes a carriage return, at which a reader ends a row, in all versions of Python only if it is part
    of the line end (Python 3.13 always quotes it).
    """

    END = "\r\n"

    def write(self, line: str) -> None:
        """Add a line, which the writer of the csv module has ended in `END`."""
        self.append(line.removesuffix(self.END) + "\n")


def _assemble(partial_file: Path, complete: Path, output: Path) -> None:
    import polars

    try:
        rows = polars.scan_ndjson(partial_file, infer_schema_length=None, schema_overrides={"error": polars.String})
        rows.sink_parquet(complete, row_group_size=PARQUET_ROWS)
    except polars.exceptions.PolarsError as error:
        message = str(error).splitlines()[0]
        raise UserError(f"--output {output}: {message}; for columns of mixed types use --output FILE.jsonl") from None


def _cell(row: Row, value: Any) -> Any:
    """Return the value of a table cell: text and numbers unchanged, everything else as JSON."""
    if isinstance(value, Mapping | list | tuple):
        return to_json(value, default=_text_converter(row))
    return value if value is None or isinstance(value, str | int | float) else _text_converter(row)(value)


def _text_converter(row: Row) -> Callable[[Any], str]:
    """Return a function that converts values unknown to JSON (dates, durations, decimals of a .parquet) to text."""
    return partial(_as_text, row.where)


def _as_text(where: str, value: Any) -> str:
    if isinstance(value, bytes):
        raise UserError(
            f"--with-input: {where} holds bytes, which cannot be written as text; remove the column from the input"
        )
    return str(value)


def _utf8(text: str) -> bytes:
    """Return UTF-8; lone surrogates, of columns that the model does not read, are replaced."""
    return valid_unicode(text).encode()
