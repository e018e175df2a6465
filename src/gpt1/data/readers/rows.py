"""The row of a table, and the error of a malformed one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gpt1.data.header import join_words

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


def repeated_name(names: Sequence[str]) -> str | None:
    """Return what is wrong if a name other than "" occurs more than once among the `names` of the columns."""
    name = next((name for name in names if name and names.count(name) > 1), None)
    if name is None:
        return None
    at = join_words(str(number) for number, each in enumerate(names, 1) if each == name)
    return f"column {name!r} occurs more than once in the header (columns {at}); rename one of them"
