"""Detection of the delimiter and the quoting of a table from its first lines."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from gpt1.config import TableFormat
from gpt1.config.data import Quoting
from gpt1.errors import UserError

DELIMITERS = {",": '","', ";": '";"', "\t": "tabs", "|": '"|"'}
"""Detected delimiters and their names."""

_TEXT = "quotes are part of the text"
_OF_CELLS = "quotes around cells are not part of the text; --quoting none: part of it"

ENOUGH_LINES = 20
"""Complete lines from which quotes are taken for text although they could also enclose several lines."""


LONGEST_NAME = 60
"""Most characters of a column's name; a longer one is taken for a text."""


@dataclass(frozen=True)
class Dialect:
    """Separator and quoting of the cells of a table."""

    delimiter: str
    quoting: Quoting
    certain: bool
    """Whether quotes are known to enclose cells; otherwise, a cell of lines that are rows themselves is an error."""
    facts: tuple[str, ...] = ()
    """Detected properties that differ from the usual format."""

    def reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Return the reader of the standard library for these lines."""
        return _reader(lines, self.delimiter, self.quoting)


@dataclass(frozen=True)
class _Parsed:
    """The records of the first lines, parsed with one delimiter and quoting."""

    records: tuple[tuple[list[str], Sequence[str]], ...]
    """(cells, lines) of each record."""
    n_lines: int
    failed: bool
    """Whether a record is malformed or does not end."""

    @property
    def n_cells(self) -> int:
        """Cells of the first record."""
        return len(self.records[0][0]) if self.records else 0

    @property
    def share(self) -> float:
        """Share of the lines in records with as many cells as the first, if these are two at least."""
        matching = sum(len(lines) for cells, lines in self.records if len(cells) == self.n_cells)
        return matching / self.n_lines if self.n_cells > 1 else 0.0


def find_dialect(name: str, usual: str, sample: Sequence[str], table: TableFormat, *, cut: bool) -> Dialect:
    """Return the dialect of a table.

    Args:
        name: Name of the file, for messages.
        usual: Delimiter by the suffix of the file.
        sample: First lines of the file.
        table: Settings; what they leave open is detected.
        cut: Whether the file continues behind the sample.

    Raises:
        UserError: two delimiters fit.
    """
    sample = [line for line in sample if line.strip("\r\n")] if table.quoting == "none" else list(sample)
    delimiter = table.delimiter or _find_delimiter(name, usual, sample, table, cut=cut)
    facts = () if delimiter == usual or table.delimiter else (f"separated by {DELIMITERS[delimiter]}",)
    if table.quoting is not None:
        return Dialect(delimiter, table.quoting, True, facts)
    quoting, certain, reason = _find_quoting(sample, delimiter, cut=cut)
    return Dialect(delimiter, quoting, certain, (*facts, reason) if reason else facts)


def is_row(line: str, delimiter: str, n_cells: int) -> bool:
    """Return whether a line alone is a row of `n_cells` cells, if quotes are ordinary characters."""
    return line.count(delimiter) == n_cells - 1 and bool(line.strip("\r\n"))


def _find_delimiter(name: str, usual: str, sample: Sequence[str], table: TableFormat, *, cut: bool) -> str:
    """Return the delimiter that gives all rows the same number of cells, or else the most of them."""
    quotings: tuple[Quoting, ...] = (table.quoting,) if table.quoting else ("minimal", "none")
    candidates = [usual, *(each for each in DELIMITERS if each != usual)]
    shares = {
        delimiter: max(_parse(sample, delimiter, quoting, cut=cut).share for quoting in quotings)
        for delimiter in candidates
        if any(delimiter in line for line in sample[:2])
    }
    best = max(shares.values(), default=0.0)
    fitting = [delimiter for delimiter, share in shares.items() if share == best]
    if not best:
        return usual
    if len(fitting) > 1 and best == 1.0:
        names = " or ".join(DELIMITERS[each] for each in fitting)
        raise UserError(f"{name}: may be separated by {names}; set --delimiter '{fitting[0]}'".replace("\t", "tab"))
    return fitting[0]


def _find_quoting(sample: Sequence[str], delimiter: str, *, cut: bool) -> tuple[Quoting, bool, str]:
    """Return the quoting, whether it is certain, and a line about it if it is not the usual one."""
    if not any('"' in line for line in sample):
        return "minimal", False, ""
    quoted, plain = (_parse(sample, delimiter, quoting, cut=cut) for quoting in ("minimal", "none"))
    n_cells = plain.n_cells if quoted.failed else quoted.n_cells
    several = [lines for _, lines in quoted.records if len(lines) > 1]
    rows_alone = all(len(cells) == n_cells for cells, _ in plain.records)
    rows_alone = rows_alone and all(is_row(line, delimiter, n_cells) for lines in several for line in lines)
    if several and n_cells == 1 and not quoted.failed:  # any line could be a row of one cell
        return "minimal", not rows_alone, _OF_CELLS
    if not rows_alone or (not quoted.failed and _has_csv_quotes(quoted, delimiter)):
        return "minimal", True, ""
    if quoted.failed:
        return (
            ("none", True, f"{_TEXT}, since they do not enclose cells") if delimiter == "\t" else ("minimal", True, "")
        )
    if several:
        if delimiter == "\t" and n_cells > 1 and len(plain.records) >= ENOUGH_LINES:
            return "none", True, f"{_TEXT}, since each line is a row by itself (--quoting minimal changes it)"
        return "minimal", False, ""
    if not _encloses_some(plain, quoted):
        return "minimal", False, ""
    if delimiter == "\t" and any('"' in cell and cell != '""' for cells, _ in plain.records for cell in cells):
        return (
            "none",
            True,
            "quotes are part of the text, because only some cells have them; --quoting minimal: of cells",
        )
    return "minimal", False, _OF_CELLS


def _has_csv_quotes(quoted: _Parsed, delimiter: str) -> bool:
    """Return whether the header is in quotes, or a cell of one line in quotes has doubled ones in it."""
    header = quoted.records[0][1][0].strip("\r\n")
    if header[0] == header[-1] == '"':
        return True
    for cells, lines in quoted.records:
        if len(lines) == 1:
            raw_cells = lines[0].rstrip("\r\n").split(delimiter)
            pairs = zip(cells, raw_cells, strict=False)
            if any('"' in cell and raw.startswith('"') and raw != cell for cell, raw in pairs):
                return True
        elif delimiter != "\t" and any('"' in cell for cell in cells) and '""' in "".join(lines):
            return True
    return False


def _encloses_some(plain: _Parsed, quoted: _Parsed) -> bool:
    """Return whether quotes enclose some cells of a column, but not all, below the header."""
    differ = [
        [a != b for a, b in zip(literal, cells, strict=False)]
        for (literal, _), (cells, _) in zip(plain.records[1:], quoted.records[1:], strict=False)
    ]
    return any(any(column) and not all(column) for column in zip(*differ, strict=False))


def _parse(sample: Sequence[str], delimiter: str, quoting: Quoting, *, cut: bool) -> _Parsed:
    held: list[str] = []
    at_end = False

    def lines() -> Iterator[str]:
        nonlocal at_end
        for line in sample:
            held.append(line)
            yield line
        at_end = True

    records = []
    n_lines = sum(bool(line.strip("\r\n")) for line in sample)
    failed = False
    try:
        for cells in _reader(lines(), delimiter, quoting):
            if cells:
                records.append((cells, tuple(held)))
            held.clear()
    except csv.Error:
        failed = not (at_end and cut and len(held) < n_lines / 2)
        n_lines -= 0 if failed else len(held)  # the sample ends within a record
    return _Parsed(tuple(records), max(1, n_lines), failed)


def _reader(lines: Iterator[str], delimiter: str, quoting: Quoting) -> Iterator[list[str]]:
    style: Literal[0, 3] = csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL
    return csv.reader(lines, delimiter=delimiter, quoting=style, strict=True)


def looks_like_data(names: Sequence[str], cells: Sequence[object]) -> bool:
    """Return whether a first row `names` is data: a long text, a number, or a cell as in the next row, `cells`."""
    return any(
        len(name) > LONGEST_NAME or name.replace(".", "", 1).isdecimal() or (name and name == cell)
        for name, cell in zip(names, cells, strict=False)
    )
