"""Rows of tables of all formats.

`read_rows` yields the same `Row`s for all formats and reports errors of the file itself (missing, damaged, not UTF-8,
not JSON, wrong number of cells) with file, row and line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt1 import console
from gpt1.config import DETECTED, TableFormat
from gpt1.data.readers.columnar import parquet_rows
from gpt1.data.readers.delimited import delimited_rows
from gpt1.data.readers.files import FORMATS, FileType, file_type
from gpt1.data.readers.json_rows import jsonl_rows
from gpt1.data.readers.rows import BadRow, Note, Row
from gpt1.errors import UserError


def read_rows(path: Path, table: TableFormat = DETECTED, note: Note = console.say) -> Iterator[Row]:
    """Yield the rows of one file, at least one, in constant memory.

    Args:
        path: The file.
        table: Format of the file; what it leaves open is detected.
        note: Function that is called with a line about what was detected, if it is not the usual format.

    Raises:
        UserError: the file is missing, empty, damaged, of an unknown format, or a row is malformed; or `table` sets
            what does not apply to the file's format.
    """
    kind = require_table(path)
    _require_applicable(path, kind, table)
    number = 0
    try:
        for number, (line, cells) in enumerate(_parsed(path, kind, table, note), 1):
            yield Row(_where(path, number, line), cells)
    except BadRow as error:
        in_header = error.line == 1 and kind.format in ("csv", "tsv")
        where = f"{path.name} line 1" if in_header else _where(path, number + 1, error.line)
        raise UserError(f"{where}: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if not number:
        raise UserError(f"{path} has no rows{'' if kind.format in ('jsonl', 'parquet') else ' below its header line'}")


def _parsed(path: Path, kind: FileType, table: TableFormat, note: Note) -> Iterator[tuple[int | None, dict[str, Any]]]:
    match kind.format:
        case "parquet":
            return parquet_rows(path)
        case "jsonl":
            return jsonl_rows(path, table.encoding, note)
        case _:
            return delimited_rows(path, table, note)


def _require_applicable(path: Path, kind: FileType, table: TableFormat) -> None:
    """Raise a UserError if `table` sets something that files of this kind do not have."""
    if kind.format in ("csv", "tsv"):
        return
    flags = {"--delimiter": table.delimiter, "--quoting": table.quoting, "--no-header": None if table.header else ""}
    if kind.format == "parquet":
        flags["--encoding"] = table.encoding
    for flag, value in flags.items():
        if value is not None:
            raise UserError(f"{flag}{value and f' {value!r}'}: does not apply to {path.name}; remove the flag")


def require_table(path: Path) -> FileType:
    """Return the type of a file of rows, from its name.

    Raises:
        UserError: the file is missing, a folder, empty, or of an unknown format.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected a file: {FORMATS}")
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if (kind := file_type(path)) is None:
        raise UserError(f"{path}: unknown format; expected a name that ends in {FORMATS}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes)")
    return kind


def _where(path: Path, row: int, line: int | None) -> str:
    return f"{path.name} row {row}" + (f" (line {line})" if line not in (None, row) else "")
