"""Description of a table without its rows: size, format, encoding, delimiter, quoting, header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt1.config import DETECTED, TableFormat
from gpt1.data.readers.class_folders import class_folders, text_files
from gpt1.data.readers.delimited import dialect_of
from gpt1.data.readers.dialect import DELIMITERS
from gpt1.data.readers.table import TEXT_FORMATS, type_of_content
from gpt1.data.readers.text import encoding_of
from gpt1.system.files import size_of

NAMES = {
    "csv": "CSV", "tsv": "TSV", "txt": "text", "json": "JSON", "jsonl": "JSON lines", "parquet": "Parquet",
    "arrow": "Arrow", "xlsx": "Excel", "saved": "saved data set", "classes": "a folder per label",
}  # fmt: skip
"""Names of the formats of `FileType`."""


def describe(path: Path, table: TableFormat = DETECTED) -> dict[str, Any]:
    """Return the description of a table as JSON values.

    Returns:
        {file, bytes, format, compression, encoding, delimiter, quoting, header}; None for what the format does not
        have, and for a header that looks like data. What `table` leaves open is detected as for reading. `encoding` is
        that of the first text of a folder.

    Raises:
        UserError: the file is missing, empty, damaged or of an unknown format.
    """
    kind = type_of_content(path, table)
    first = text_files(class_folders(path)[0])[0] if kind.format == "classes" else path
    described: dict[str, Any] = {
        "file": path.name, "bytes": size_of(path), "format": kind.format, "compression": kind.packing,
        "encoding": encoding_of(first, table.encoding) if kind.format in TEXT_FORMATS else None,
        "delimiter": None, "quoting": None, "header": None,
    }  # fmt: skip
    if kind.format in ("csv", "tsv"):
        dialect, header = dialect_of(path, kind.format, table)
        described |= {"delimiter": dialect.delimiter, "quoting": dialect.quoting, "header": header}
    return described


def in_words(described: Mapping[str, Any]) -> str:
    """Return the description of a table in words: "CSV (gz), utf-8, separated by ",", header"."""
    words = [NAMES[described["format"]] + (f" ({described['compression']})" if described["compression"] else "")]
    if encoding := described["encoding"]:
        words.append(encoding.upper() if encoding.startswith(("utf", "ascii", "gb")) else encoding)
    if delimiter := described["delimiter"]:
        words.append(f"separated by {DELIMITERS.get(delimiter, repr(delimiter))}")
    if described["header"] is not None:
        words.append("header" if described["header"] else "no header")
    if described["quoting"] == "none":
        words.append("quotes are text")
    return ", ".join(words)
