"""Rows of columnar files: .parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt1.errors import UserError

_PARQUET_ROWS = 1 << 14  # in memory at a time


def parquet_rows(path: Path) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """Yield (None, cells) of each row, in constant memory."""
    try:
        import polars
    except ImportError:
        raise UserError(f"{path}: .parquet files need polars; run: pip install polars") from None
    start = 0
    try:
        while len(table := polars.scan_parquet(path).slice(start, _PARQUET_ROWS).collect()):
            for cells in table.iter_rows(named=True):
                yield None, cells
            start += len(table)
    except polars.exceptions.PolarsError as error:
        raise UserError(f"{path} is damaged or not a parquet file: {str(error).splitlines()[0]}") from error
