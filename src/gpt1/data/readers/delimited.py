"""Rows of .csv and .tsv files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from textwrap import shorten
from typing import Any, NoReturn, cast

from gpt1.config import TableFormat
from gpt1.data.readers.dialect import DELIMITERS, Dialect, find_dialect, is_row, looks_like_data
from gpt1.data.readers.files import file_type
from gpt1.data.readers.rows import BadRow, Note, ParsedRows, repeated_name
from gpt1.data.readers.text import decoded_lines, text_lines

SAMPLE_CHARACTERS = 1 << 18
"""Characters by which delimiter and quoting are detected."""

_SEPARATOR_LINE = re.compile(r'"?sep=(?P<delimiter>.)"?\s*', re.IGNORECASE)  # Excel's, above the header
_TABBED_LINES = 20  # by which a .txt is taken for a table
_CSV_FIELD_LIMIT = 2**31 - 1  # maximum of a C long of 32 bits (Windows)
_LISTED_CHARACTERS = 100  # of the header in a message
_LISTED_CHARACTERS_OF_CELL = 40


def delimited_rows(path: Path, usual_format: str, table: TableFormat, note: Note) -> ParsedRows:
    """Yield (first line, cells) of each row, in constant memory; `usual_format` is csv or tsv."""
    lines, dialect, start = _opened(path, usual_format, table, note)
    names: list[str] | None = None
    for line, cells in _records(lines, dialect, start):
        if names is None:
            names = _names(cells, dialect, table, line)
            if table.header:
                continue
        if len(cells) != len(names):
            hint = "; a cell that contains the separator must be quoted" if len(cells) > len(names) else ""
            expected = f"{len(names)} ({shorten(', '.join(names), _LISTED_CHARACTERS, placeholder=' …')})"
            yield line, BadRow(f"cells: {len(cells)}, expected {expected}{hint}", kind="wrong number of cells")
        else:
            yield line, dict(zip(names, cells, strict=True))


def is_tab_separated(path: Path, encoding: str | None = None) -> bool:
    """Return whether the first lines of a text file have the same number of tabs, at least one."""
    lines = islice(text_lines(path, 1 << 20, encoding, note=lambda _: None), _TABBED_LINES)
    counts = [line.count("\t") for line in lines if not line.isspace()]
    return len(counts) > 1 and counts[0] > 0 and len(set(counts)) == 1


def dialect_of(path: Path, usual_format: str, table: TableFormat) -> tuple[Dialect, bool | None]:
    """Return how the cells of a .csv or .tsv file are separated and quoted, and whether the first row is a header.

    The latter is None if the row is read as a header, but looks like data.
    """
    lines, dialect, start = _opened(path, usual_format, table, lambda _: None)
    first: list[list[str]] = []
    with suppress(BadRow):  # which the reading of the rows reports
        first.extend(cells for _, cells in islice(_records(lines, dialect, start), 2))
    in_doubt = table.header and len(first) == 2 and looks_like_data([cell.strip() for cell in first[0]], first[1])
    return dialect, None if in_doubt else table.header


def _opened(path: Path, usual_format: str, table: TableFormat, note: Note) -> tuple[Iterator[str], Dialect, int]:
    """Return the lines of a file from its header on, how they are separated, and the number of the first line."""
    csv.field_size_limit(max(csv.field_size_limit(), _CSV_FIELD_LIMIT))
    usual = "\t" if usual_format == "tsv" else ","
    facts = _Facts(path.name, note)
    lines, sample = _sampled(decoded_lines(path, table.encoding, facts.add, newline=""))
    cut = sum(map(len, sample)) >= SAMPLE_CHARACTERS
    start = 1
    if separator := _SEPARATOR_LINE.fullmatch(sample[0] if sample else ""):
        table = replace(table, delimiter=table.delimiter or separator["delimiter"])
        sample, start = sample[1:], 2
        next(lines)
    dialect = find_dialect(path.name, usual, sample, table, cut=cut)
    facts.say(dialect.facts)
    return lines, dialect, start


def missing_header(path: Path, table: TableFormat, row: Mapping[str, Any]) -> str:
    """Return what to do if the first row of a delimited file, whose cells are the keys of `row`, is data; else ""."""
    kind = file_type(path)
    names, cells = list(row), list(row.values())
    if (
        not table.header
        or kind is None
        or kind.format not in ("csv", "tsv", "txt")
        or not looks_like_data(names, cells)
    ):
        return ""
    text = max(range(len(names)), key=lambda i: len(names[i])) + 1
    flags = f"--text {text}" + (f" --label {1 if text > 1 else 2}" if len(names) > 1 else "")
    shown = ", ".join(shorten(name, _LISTED_CHARACTERS_OF_CELL, placeholder=" …") for name in names)
    return (
        f"{path.name}: there seems to be no header, since line 1 looks like data ({shown}); "
        f"add --no-header and name the columns by number, for example --no-header {flags}"
    )


class _Facts:
    """Lines about a file: those found at the start together, later ones as they are found."""

    def __init__(self, name: str, note: Note) -> None:
        self.start, self.note = f"{name}: ", note
        self.first: list[str] | None = []

    def add(self, line: str) -> None:
        if self.first is None:
            self.note(line)
        else:
            self.first.append(line.removeprefix(self.start))

    def say(self, more: Sequence[str]) -> None:
        if facts := [*(self.first or ()), *more]:
            self.note(self.start + ", ".join(facts))
        self.first = None


def _sampled(lines: Iterator[str]) -> tuple[Iterator[str], list[str]]:
    """Return all lines, and the first of them; an error within the first is raised when its line is reached."""
    sample: list[str] = []
    size = 0
    try:
        for line in lines:
            sample.append(line)
            size += len(line)
            if size >= SAMPLE_CHARACTERS:
                break
    except BadRow as error:
        return chain(sample, _raised(error)), sample
    return chain(sample, lines), sample


def _raised(error: BadRow) -> Iterator[NoReturn]:
    raise error
    yield


def _records(lines: Iterator[str], dialect: Dialect, start: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (first line, cells) of each record; `start` is the number of the first line."""
    held: list[str] = []
    reader = cast(Any, dialect.reader(lines if dialect.certain else _kept(lines, held)))
    n_cells = 0
    while True:
        line = reader.line_num + start
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise BadRow(f"{_reason(error)}; {_quoting_advice(dialect)}", line) from None
        if len(held) > 1 and all(is_row(each, dialect.delimiter, n_cells or len(cells)) for each in held):
            lines_of = f"a quote opens a cell of {len(held)} lines, each of which is a row itself"
            raise BadRow(f"{lines_of}; set --quoting none if quotes are part of the text, else --quoting minimal", line)
        held.clear()
        if cells:  # not a blank line
            n_cells = n_cells or len(cells)
            yield line, cells


def _kept(lines: Iterator[str], held: list[str]) -> Iterator[str]:
    for line in lines:
        held.append(line)
        yield line


def _reason(error: csv.Error) -> str:
    return str(error).replace("\t", "\\t")


def _quoting_advice(dialect: Dialect) -> str:
    if dialect.quoting == "none":
        return "set another --delimiter or --quoting"
    return 'a quote (") inside a quoted cell must be doubled (""), or set --quoting none if quotes are part of the text'


def _names(cells: list[str], dialect: Dialect, table: TableFormat, line: int) -> list[str]:
    """Return the names of the columns from the first row: its cells or, without a header, numbers."""
    if len(cells) == 1 and table.delimiter is not None:
        for other in DELIMITERS:
            if other in cells[0]:
                found = f"the first row is separated by {other!r}, expected {dialect.delimiter!r}"
                raise BadRow(f"{found}; correct or remove --delimiter", line)
    if not table.header:
        return [str(number) for number in range(1, len(cells) + 1)]
    names = [cell.strip() for cell in cells]
    if problem := repeated_name(names):
        raise BadRow(problem, line)
    return names
