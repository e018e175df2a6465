"""The row of a table, and the error of a malformed one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Note = Callable[[str], None]
"""Function that is called with a line about a file, such as its detected encoding."""


class Row(NamedTuple):
    """One row of a file."""

    where: str  # "train.csv row 17 (line 18)"
    cells: Mapping[str, Any]  # by column; csv and tsv hold str only


class BadRow(Exception):
    """Malformed row; the reader of the table adds its number."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line
