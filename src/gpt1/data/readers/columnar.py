"""Rows of columnar files: .parquet, .arrow and .feather, .xlsx."""

from __future__ import annotations

import glob
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt1.data.readers.arrow_stream import DamagedArrow, is_stream, record_batches
from gpt1.data.readers.rows import Note, ParsedRows, repeated_name
from gpt1.errors import UserError
from gpt1.system.extras import install_command

if TYPE_CHECKING:
    import polars

_ROWS = 1 << 14  # in memory at a time
_UNNAMED = "__UNNAMED__"  # fastexcel's name of a column without one


def parquet_rows(path: Path) -> ParsedRows:
    """Yield (None, cells) of each row, in constant memory."""
    with _readable(path, "a Parquet file"):
        yield from _slices(_polars(path).scan_parquet(path, glob=False))


def arrow_rows(path: Path) -> ParsedRows:
    """Yield (None, cells) of each row of an Arrow IPC file (Feather 2) or stream, in constant memory.

    Of a stream, a record batch is in memory.
    """
    polars = _polars(path)
    with _readable(path, "an Arrow file"), path.open("rb") as file:
        if is_stream(file):
            for batch in record_batches(file):
                yield from _rows(polars.read_ipc_stream(io.BytesIO(batch)))
        else:  # scan_ipc maps the file into memory; older versions of polars have no glob=False
            yield from _slices(polars.scan_ipc(glob.escape(str(path))))


def _slices(table: polars.LazyFrame) -> Iterator[tuple[None, dict[str, Any]]]:
    start = 0
    while len(rows := table.slice(start, _ROWS).collect()):
        yield from _rows(rows)
        start += len(rows)


def _rows(table: polars.DataFrame) -> Iterator[tuple[None, dict[str, Any]]]:
    for rows in table.iter_slices(_ROWS):
        for cells in rows.iter_rows(named=True):
            yield None, cells


def excel_rows(path: Path, note: Note) -> ParsedRows:
    """Yield (None, cells) of each row of the first sheet that is not empty, without blank rows.

    A column of numbers and texts is read as text.

    Raises:
        UserError: also if a name occurs twice in the header.
    """
    sheet = _sheet(path)
    if sheet is None:
        return
    if others := _other_sheets(path):
        note(others)
    header, table = sheet
    if problem := repeated_name(["" if cell is None else str(cell).strip() for cell in header.row(0)]):
        raise UserError(f"{path.name}: {problem}")
    for cells in table.iter_rows(named=True):
        yield None, {name.strip(): cell for name, cell in cells.items() if not name.startswith(_UNNAMED)}


def _other_sheets(path: Path) -> str:
    """Return a note on the sheet that is read, empty if there is only one."""
    with _readable(path, "an Excel file"):
        names = _workbook(path).sheet_names
    if len(names) == 1:
        return ""
    chosen = next((name for name in names if not _read_sheet(path, name, n_rows=1).is_empty()), names[0])
    others = ", ".join(repr(name) for name in names if name != chosen)
    return f"{path.name}: sheet {chosen!r} is read, the first with rows; not used: {others}."


def _sheet(path: Path) -> tuple[polars.DataFrame, polars.DataFrame] | None:
    """Return the first row and the rows below it of the first sheet that is not empty."""
    with _readable(path, "an Excel file"):
        for name in _workbook(path).sheet_names:
            header = _read_sheet(path, name, n_rows=1)
            if not header.is_empty():
                return header, _read_sheet(path, name)
    return None


def _read_sheet(path: Path, name: str, n_rows: int | None = None) -> polars.DataFrame:
    """Return a sheet below its header; with `n_rows`, the first rows including the header."""
    sheet: polars.DataFrame = _polars(path).read_excel(
        path, sheet_name=name, engine="calamine", has_header=n_rows is None, infer_schema_length=None,
        raise_if_empty=False, drop_empty_cols=False, read_options={} if n_rows is None else {"n_rows": n_rows},
    )  # fmt: skip
    return sheet


def _workbook(path: Path) -> Any:
    _polars(path)
    try:
        import fastexcel
    except ImportError:
        raise UserError(f"{path}: .xlsx files need fastexcel; run: {install_command('excel')}") from None
    return fastexcel.read_excel(path)


def _polars(path: Path) -> Any:
    try:
        import polars
    except ImportError:
        raise UserError(f"{path}: {path.suffix} files need polars; run: pip install polars") from None
    return polars


@contextmanager
def _readable(path: Path, what: str) -> Iterator[None]:
    """Convert the errors of the libraries to a UserError."""
    try:
        yield
    except (UserError, OSError, GeneratorExit):
        raise
    except DamagedArrow as error:
        raise UserError(f"{path}: {error}") from None
    except BaseException as error:
        if type(error).__module__.partition(".")[0] not in ("polars", "fastexcel", "_fastexcel", "pyo3_runtime"):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is damaged or not {what}: {reason}") from error
