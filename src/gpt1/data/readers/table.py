"""Rows of tables of all formats.

`read_rows` yields the same `Row`s for all formats and reports errors of the file itself (missing, damaged, not UTF-8)
with file, row and line. A malformed row (not JSON, wrong number of cells) is yielded with its problem.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gpt1 import console
from gpt1.config import DETECTED, TableFormat
from gpt1.data.readers.archive import member_type
from gpt1.data.readers.class_folders import class_folder_rows, class_folders
from gpt1.data.readers.columnar import arrow_rows, excel_rows, parquet_rows
from gpt1.data.readers.delimited import delimited_rows, is_tab_separated
from gpt1.data.readers.fasttext import has_labels, txt_rows
from gpt1.data.readers.files import FORMATS, FileType, file_type
from gpt1.data.readers.json_rows import json_rows, jsonl_rows
from gpt1.data.readers.rows import BadRow, Note, ParsedRows, Row
from gpt1.data.readers.saved_dataset import is_saved_dataset, saved_rows
from gpt1.errors import UserError

TEXT_FORMATS = ("csv", "tsv", "txt", "json", "jsonl", "classes")
"""Formats whose files have an encoding."""

_FIRST_ROWS = 100
"""Rows by which a file is refused of which more than half are malformed; otherwise its end is waited for."""


def read_rows(path: Path, table: TableFormat = DETECTED, note: Note = console.say) -> Iterator[Row]:
    """Yield the rows of one table, at least one; in constant memory, except of .json and .xlsx.

    Args:
        path: The file.
        table: Format of the file; what it leaves open is detected.
        note: Function that is called with a line about what was detected, if it is not the usual format.

    Raises:
        UserError: the file is missing, empty, damaged, of an unknown format, or more than half of its rows are
            malformed; or `table` sets what does not apply to the file's format.
    """
    kind = type_of_content(path, table)
    _require_applicable(path, kind, table)
    rows = class_folder_rows(path, table.encoding, note) if kind.format == "classes" else _rows(path, kind, table, note)
    number, malformed, first = 0, 0, None
    for number, row in enumerate(rows, 1):
        if row.problem is not None:
            malformed, first = malformed + 1, first or row
        if number == _FIRST_ROWS:
            _require_mostly_well_formed(first, malformed, number)
        yield row
    _require_mostly_well_formed(first, malformed, number)


def _require_mostly_well_formed(first: Row | None, malformed: int, rows: int) -> None:
    if first is not None and 2 * malformed > rows:
        share = f"; {malformed:,} of the first {rows:,} rows are malformed" if rows > 1 else ""
        raise UserError(f"{first.where}: {first.problem}{share}")


def _rows(path: Path, kind: FileType, table: TableFormat, note: Note) -> Iterator[Row]:
    number = 0
    try:
        for number, (line, cells) in enumerate(_parsed(path, kind, table, note), 1):
            where = _where(path, number, line)
            yield Row(where, {}, cells) if isinstance(cells, BadRow) else Row(where, cells)
    except BadRow as error:
        in_header = error.line == 1 and kind.format in ("csv", "tsv")
        where = f"{path.name} line 1" if in_header else _where(path, number + 1, error.line)
        raise UserError(f"{where}: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if not number:
        raise UserError(
            f"{path} has no rows{' below its header line' if kind.format in ('csv', 'tsv', 'xlsx') else ''}"
        )


def _parsed(path: Path, kind: FileType, table: TableFormat, note: Note) -> ParsedRows:
    match kind.format:
        case "csv" | "tsv":
            return delimited_rows(path, kind.format, table, note)
        case "txt":
            return txt_rows(path, table.encoding, note)
        case "json":
            return json_rows(path, table.encoding, note)
        case "jsonl":
            return jsonl_rows(path, table.encoding, note)
        case "parquet":
            return parquet_rows(path)
        case "arrow":
            return arrow_rows(path)
        case "xlsx":
            return excel_rows(path, note)
        case "saved":
            return saved_rows(path)
    raise AssertionError(kind.format)


def _require_applicable(path: Path, kind: FileType, table: TableFormat) -> None:
    """Raise a UserError if `table` sets something that files of this kind do not have."""
    if kind.format in ("csv", "tsv"):
        return
    flags = {"--delimiter": table.delimiter, "--quoting": table.quoting, "--no-header": None if table.header else ""}
    if kind.format not in TEXT_FORMATS:
        flags["--encoding"] = table.encoding
    for flag, value in flags.items():
        if value is not None:
            raise UserError(f"{flag}{value and f' {value!r}'}: does not apply to {path.name}; remove the flag")


def require_table(path: Path) -> FileType:
    """Return the type of a table, from its name, that of the member of a .zip, or the files of a folder.

    The format of a folder is `classes` (`class_folders`) or `saved` (`saved_dataset`).

    Raises:
        UserError: the path is missing, not a table, empty, or a .zip without exactly one table.
    """
    if path.is_dir():
        if folder := folder_format(path):
            return FileType(path.name, folder, None)
        raise UserError(f"{path} is a folder; expected a table: {FORMATS}")
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if (kind := file_type(path)) is None:
        advice = next((f": {advice}" for ends, advice in _ADVICE.items() if path.name.lower().endswith(ends)), "")
        raise UserError(f"{path}: unknown format{advice or f'; expected a name that ends in {FORMATS}'}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes)")
    return kind._replace(format=member_type(path).format) if kind.packing == "zip" else kind


def type_of_content(path: Path, table: TableFormat) -> FileType:
    """Return the type of a table as `require_table` does; the format of a .txt with cells is tsv."""
    kind = require_table(path)
    if kind.format != "txt":
        return kind
    encoding = table.encoding
    has_cells = table.delimiter is not None or (not has_labels(path, encoding) and is_tab_separated(path, encoding))
    return kind._replace(format="tsv") if has_cells else kind


_ADVICE = {
    (".xls", ".xlsm", ".xlsb", ".ods", ".numbers"): "save it as .xlsx or .csv",
    (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".rar", ".7z"): "unpack it and give the folder or a file of it",
    (".pkl", ".pickle", ".pt", ".npy", ".npz"): "a pickle can run code; save the texts and labels as .jsonl or .csv",
    (".parquet.gz", ".parquet.zst", ".parquet.xz", ".parquet.bz2"): "unpack it; .parquet is compressed by itself",
}  # by suffix


def folder_format(path: Path) -> str | None:
    """Return the format of a folder that is a table by itself: `saved` or `classes`; None for other folders."""
    return "saved" if is_saved_dataset(path) else "classes" if class_folders(path) else None


def _where(path: Path, row: int, line: int | None) -> str:
    return f"{path.name} row {row}" + (f" (line {line})" if line not in (None, row) else "")
