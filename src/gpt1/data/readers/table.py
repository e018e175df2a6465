"""Rows of tables of all formats.

`read_rows` yields the same `Row`s for all formats and reports errors of the file itself (missing, damaged, not UTF-8,
not JSON, wrong number of cells) with file, row and line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gpt1.data.readers.archive import member_type
from gpt1.data.readers.class_folders import class_folder_rows, class_folders
from gpt1.data.readers.columnar import arrow_rows, excel_rows, other_sheets, parquet_rows
from gpt1.data.readers.delimited import delimited_rows
from gpt1.data.readers.fasttext import txt_rows
from gpt1.data.readers.files import FORMATS, FileType, file_type
from gpt1.data.readers.json_rows import holds_json_lines, json_rows, jsonl_rows
from gpt1.data.readers.rows import BadRow, Row
from gpt1.data.readers.saved_dataset import is_saved_dataset, saved_rows
from gpt1.errors import UserError

_READERS = {
    "csv": delimited_rows, "tsv": delimited_rows, "txt": txt_rows, "json": json_rows, "jsonl": jsonl_rows,
    "parquet": parquet_rows, "arrow": arrow_rows, "xlsx": excel_rows, "saved": saved_rows,
}  # fmt: skip


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of one table, at least one; in constant memory, except of .json and .xlsx.

    Raises:
        UserError: the file is missing, empty, damaged, of an unknown format, or a row is malformed.
    """
    kind = require_table(path)
    if kind.format == "classes":
        yield from class_folder_rows(path)
        return
    parse = _READERS[kind.format]
    number = 0
    try:
        for number, (line, cells) in enumerate(parse(path), 1):
            yield Row(_where(path, number, line), cells)
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


_ADVICE = {
    (".xls", ".xlsm", ".xlsb", ".ods", ".numbers"): "save it as .xlsx or .csv",
    (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".rar", ".7z"): "unpack it and give the folder or a file of it",
    (".pkl", ".pickle", ".pt", ".npy", ".npz"): "a pickle can run code; save the texts and labels as .jsonl or .csv",
    (".parquet.gz", ".parquet.zst", ".parquet.xz", ".parquet.bz2"): "unpack it; .parquet is compressed by itself",
}  # by suffix


def folder_format(path: Path) -> str | None:
    """Return the format of a folder that is a table by itself: `saved` or `classes`; None for other folders."""
    return "saved" if is_saved_dataset(path) else "classes" if class_folders(path) else None


def table_notes(path: Path) -> list[str]:
    """Return notes on choices in reading a table that its name does not tell."""
    kind = require_table(path)
    if kind.format == "xlsx":
        return list(filter(None, [other_sheets(path)]))
    if kind.format == "json" and holds_json_lines(path):
        return [f"{path.name}: read as JSON lines, one object a line."]
    return []


def _where(path: Path, row: int, line: int | None) -> str:
    return f"{path.name} row {row}" + (f" (line {line})" if line not in (None, row) else "")
