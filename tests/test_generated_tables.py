"""Generated tables are read equal, refused, or called a guess; none is misread silently.

Run: pytest tests/test_generated_tables.py
"""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path
from typing import NamedTuple

import pytest

from gpt1.config import TableFormat
from gpt1.config.data import Quoting
from gpt1.data.readers.table import read_rows
from gpt1.errors import UserError

TABLES = 1_000
UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
LETTERS = {
    "cp1252": "éüß’“”€ñÀ",
    "latin-1": "éüßñÀ",
    "cp1251": "приветмир",
    "koi8-r": "приветмир",
    "gb18030": "这部电影很好看的是我不在",
    "big5": "這部電影很好看的是我不在",
    "shift_jis": "これはとてもよい映画のにを",
    "euc_jp": "これはとてもよい映画のにを",
    "euc_kr": "이영화는정말좋아요다가",
}
ENCODINGS = (*UNICODE, *LETTERS)
SPECIAL = ['"', '""', ",", ";", "\t", "|", "\n", "\r", "\r\n", "=1+1", "'", "\\", " ", "\0", "\u2028", "7", "0.5"]
GUESS = "is a guess"
OWN_QUOTES = "quotes around cells are not part of the text"
"""Note about a file with commas whose quotes could be those of CSV."""


class Table(NamedTuple):
    """A generated table: what is written, and how."""

    names: list[str]
    rows: list[list[str]]
    delimiter: str
    encoding: str
    quoting: Quoting
    data: bytes

    @property
    def format(self) -> TableFormat:
        """The format with nothing left to detect."""
        return TableFormat(self.delimiter, self.encoding, quoting=self.quoting)


def generated(seed: int) -> Table:
    """Return a table of 1 to 4 columns and 1 to 40 rows; every third one is written without quoting."""
    draw = random.Random(seed)
    encoding = draw.choice(ENCODINGS)
    delimiter = draw.choice(",;\t|")
    quoting: Quoting = "none" if seed % 3 == 0 else "minimal"
    words = ["good", "bad", "film", "the", "a", *LETTERS.get(encoding, "é这’😀"), LETTERS.get(encoding, "é这’😀")]
    special = [each for each in SPECIAL if each.isascii() or encoding in UNICODE] if draw.random() < 0.7 else [" "]
    if quoting == "none":
        special = [each for each in special if delimiter not in each and not {"\n", "\r"} & set(each)]
    rare = draw.choice([0.02, 0.3])

    def cell() -> str:
        pieces = [draw.choice(special if draw.random() < rare else words) for _ in range(draw.randint(1, 6))]
        return draw.choice(["", " "]).join(pieces)

    names = [f"column {i}" for i in range(draw.randint(1, 4))]
    rows = [[cell() for _ in names] for _ in range(draw.randint(1, 40))]
    end = draw.choice(["\n", "\r\n"])
    if quoting == "none":
        text = "".join(delimiter.join(row) + end for row in [names, *rows])
    else:
        style = draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        written: list[str] = []
        for row in [names, *rows]:
            line = io.StringIO(newline="")
            csv.writer(line, delimiter=delimiter, quoting=style, lineterminator="\r\n").writerow(row)
            written.append(line.getvalue().removesuffix("\r\n") + end)
        text = "".join(written)
    return Table(names, rows, delimiter, encoding, quoting, text.encode(encoding))


def read(path: Path, table: TableFormat) -> tuple[list[list[str]] | str, list[str]]:
    """Return the rows of a file, or the message of an error or of a malformed row, and the notes."""
    notes: list[str] = []
    try:
        rows = list(read_rows(path, table, notes.append))
        malformed = next((f"{row.where}: {row.problem}" for row in rows if row.problem), None)
        return malformed or [list(row.cells.values()) for row in rows], notes
    except UserError as error:
        return str(error), notes


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Table]]:
    folder = tmp_path_factory.mktemp("tables")
    made = []
    for seed in range(TABLES):
        table = generated(seed)
        path = folder / f"{seed}.{'tsv' if table.delimiter == chr(9) and seed % 2 else 'csv'}"
        path.write_bytes(table.data)
        made.append((path, table))
    return made


def test_tables_of_a_given_format_are_read_equal(tables: list[tuple[Path, Table]]) -> None:
    results = [(path.name, table, read(path, table.format)) for path, table in tables]
    wrong = [(name, table.encoding, rows) for name, table, (rows, _) in results if rows != table.rows]
    assert wrong == []


def test_tables_of_a_detected_format_are_read_equal_or_refused_or_called_a_guess(
    tables: list[tuple[Path, Table]],
) -> None:
    refused = equal = 0
    wrong = []
    for path, table in tables:
        rows, notes = read(path, TableFormat())
        refused += isinstance(rows, str)
        equal += rows == table.rows
        guess = table.encoding not in UNICODE and any(GUESS in note for note in notes)
        guess |= table.quoting == "none" and any(OWN_QUOTES in note for note in notes)
        if not (isinstance(rows, str) or rows == table.rows or guess):
            wrong.append((path.name, table.encoding, table.delimiter, table.quoting, notes, rows, table.rows))
    assert wrong == []
    assert equal > 0.6 * len(tables)
    assert refused < 0.2 * len(tables)
