"""Rows of .csv and .tsv files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import cast

from gpt1.config import TableFormat
from gpt1.data.readers.files import FileType, file_type
from gpt1.data.readers.rows import BadRow, Note
from gpt1.data.readers.text import decoded_lines

_CSV_FIELD_LIMIT = 2**31 - 1  # maximum of a C long of 32 bits (Windows)
_LISTED_CHARACTERS = 100  # of the header in a message


def delimited_rows(path: Path, table: TableFormat, note: Note) -> Iterator[tuple[int | None, dict[str, str]]]:
    """Yield (first line, cells) of each row, in constant memory."""
    delimiter = "\t" if cast(FileType, file_type(path)).format == "tsv" else ","
    csv.field_size_limit(max(csv.field_size_limit(), _CSV_FIELD_LIMIT))
    reader = csv.reader(decoded_lines(path, table.encoding, note), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = str(error).replace("\t", "\\t")
            raise BadRow(f'{reason}; a quote (") inside a quoted cell must be doubled ("")', line) from None
        if not cells:
            continue  # a blank line
        if header is None:
            header = _checked_header(cells, delimiter, line)
        elif len(cells) != len(header):
            hint = "; a cell that contains the separator must be quoted" if len(cells) > len(header) else ""
            expected = f"{len(header)} ({shorten(', '.join(header), _LISTED_CHARACTERS, placeholder=' …')})"
            raise BadRow(f"cells: {len(cells)}, expected {expected}{hint}", line)
        else:
            yield line, dict(zip(header, cells, strict=True))


def _checked_header(cells: list[str], delimiter: str, line: int) -> list[str]:
    header = [cell.strip() for cell in cells]
    for other, fix in {"\t": "rename it to .tsv", ",": "rename it to .csv", ";": "save it with commas"}.items():
        if len(header) == 1 and other in header[0] and other != delimiter:
            raise BadRow(f"the header is separated by {other!r}, expected {delimiter!r}: {fix}", line)
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise BadRow(f"column {twice[0]!r} occurs more than once in the header", line)
    return header
