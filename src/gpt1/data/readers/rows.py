"""The row of a table, and the error of a malformed one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

Note = Callable[[str], None]
"""Function that is called with a line about a file, such as its detected encoding."""


class BadRow(Exception):
    """Malformed row; the reader of the table adds its number.

    A reader raises it where it cannot continue, and otherwise yields it in place of the row's cells. `kind` groups such
    rows in counts.
    """

    def __init__(self, message: str, line: int | None = None, kind: str = "malformed") -> None:
        super().__init__(message)
        self.line, self.kind = line, kind


class Row(NamedTuple):
    """One row of a file."""

    where: str  # "train.csv row 17 (line 18)"
    cells: Mapping[str, Any]  # by column; csv and tsv hold str only
    problem: BadRow | None = None  # of a malformed row, which has no cells


ParsedRows = Iterator[tuple[int | None, dict[str, Any] | BadRow]]
"""Line (None where a format has none) and cells of each row."""
