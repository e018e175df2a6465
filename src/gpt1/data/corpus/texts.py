"""Texts of files of any kind: the texts of tables, the documents of text files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from gpt1.config import DETECTED, Columns, TableFormat
from gpt1.data.corpus.documents import LONGEST_LINE, documents
from gpt1.data.corpus.prepare import is_text
from gpt1.data.examples import stream_examples
from gpt1.data.readers.files import FORMATS, file_type
from gpt1.data.readers.table import require_table
from gpt1.data.readers.text import text_lines
from gpt1.errors import UserError


def files_with_text(path: Path, flag: str) -> list[Path]:
    """Return the tables and text files of a folder, searched recursively and sorted by path, or the file itself.

    Raises:
        UserError: the path does not exist, its format is unknown, or the folder has no such file.
    """
    formats = FORMATS
    if path.is_dir():
        inside = [file for file in path.rglob("*") if file.is_file() and _is_readable(file)]
        if not inside:
            raise UserError(f"{flag} {path}: no file with texts in this folder; expected {formats}")
        return sorted(inside)
    if not path.exists():
        raise UserError(f"{flag} {path}: no such file or folder")
    if not _is_readable(path):
        raise UserError(f"{flag} {path}: unknown format; expected {formats}")
    return [path]


def _is_readable(file: Path) -> bool:
    return not file.name.startswith(".") and (file_type(file) is not None or is_text(file))


def read_texts(
    files: Iterable[Path], columns: Columns, end_of_document: str, *, table: TableFormat = DETECTED,
    text_a_line: bool = False,
) -> Iterator[str]:  # fmt: skip
    """Yield the texts of tables and the chunks of the documents of text files, in constant memory.

    A document of less than `documents.CHUNK_SIZE` characters is one chunk. With `text_a_line`, each line of a text file
    without a line `end_of_document` is a text.

    Raises:
        UserError: a file or a row cannot be read.
    """
    for file in files:
        if not is_text(file):
            delimited = require_table(file).format in ("csv", "tsv")
            own = table if delimited else TableFormat(encoding=table.encoding, on_bad_row=table.on_bad_row)
            for example in stream_examples(file, columns, table=own):
                yield from example.texts
        elif text_a_line and not _has_line(file, end_of_document, table.encoding):
            yield from filter(None, map(str.strip, text_lines(file, LONGEST_LINE, table.encoding)))
        else:
            yield from (chunk.text for chunk in documents(file, end_of_document, table.encoding))


def _has_line(file: Path, wanted: str, encoding: str | None) -> bool:
    lines = text_lines(file, LONGEST_LINE, encoding, note=lambda _: None)  # the notes follow when the file is read
    return any(line.strip() == wanted for line in lines)
