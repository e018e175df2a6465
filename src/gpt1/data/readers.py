"""Readers of tables: .csv .tsv .jsonl .parquet, the first three also compressed (.gz .xz .zst).

`read_rows` yields the same `Row`s for all formats and reports errors of the file itself (missing, damaged, not UTF-8,
not JSON, wrong number of cells) with file, row and line.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any, BinaryIO, NamedTuple, cast

from gpt1.errors import UserError

FORMATS = ".csv .tsv .jsonl .parquet (all but .parquet also compressed: .gz .xz .zst)"

_FILE_NAME = re.compile(
    r"(?P<stem>.+?)\.(?:(?P<text>csv|tsv|jsonl)(?:\.(?P<packing>gz|xz|zst))?|parquet)", re.IGNORECASE
)
_CSV_FIELD_LIMIT = 2**31 - 1  # maximum of a C long of 32 bits (Windows)
_LISTED_CHARACTERS = 100  # of the header in a message
_ZSTD_CHUNK = 1 << 16  # compressed bytes
_PARQUET_ROWS = 1 << 14  # in memory at a time


class FileType(NamedTuple):
    """Name parts of a file of rows."""

    stem: str  # "train" of "train.jsonl.xz"
    format: str  # csv | tsv | jsonl | parquet
    packing: str | None  # gz | xz | zst


class Row(NamedTuple):
    """One row of a file."""

    where: str  # "train.csv row 17 (line 18)"
    cells: Mapping[str, Any]  # by column; csv and tsv hold str only


class _BadRow(Exception):
    """Malformed row; `read_rows` adds its number."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def file_type(path: Path) -> FileType | None:
    """Return stem, format and compression by the file name; None if it is not the name of a file of rows."""
    if (match := _FILE_NAME.fullmatch(path.name)) is None:
        return None
    packing = match["packing"]
    return FileType(match["stem"], (match["text"] or "parquet").lower(), packing.lower() if packing else None)


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of one file, at least one, in constant memory.

    Raises:
        UserError: the file is missing, empty, damaged, of an unknown format, or a row is malformed.
    """
    kind = require_table(path)
    parse = {"jsonl": _jsonl_rows, "parquet": _parquet_rows}.get(kind.format, _csv_rows)
    number = 0
    try:
        for number, (line, cells) in enumerate(parse(path), 1):
            yield Row(_where(path, number, line), cells)
    except _BadRow as error:
        in_header = error.line == 1 and kind.format in ("csv", "tsv")
        where = f"{path.name} line 1" if in_header else _where(path, number + 1, error.line)
        raise UserError(f"{where}: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if not number:
        raise UserError(f"{path} has no rows{'' if kind.format in ('jsonl', 'parquet') else ' below its header line'}")


def text_lines(path: Path, longest: int = -1) -> Iterator[str]:
    """Yield the lines of a plain text file, compressed or not, in constant memory.

    Lines of more than `longest` bytes (-1: unlimited) are yielded in parts.

    Raises:
        UserError: the file is missing, damaged, or not UTF-8.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        yield from _text_lines(path, longest)
    except _BadRow as error:
        raise UserError(f"{path.name} line {error.line}: {error}") from None


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


# ---------------------------------------------------------------------------------------------------------------------
# Bytes and lines


@contextmanager
def open_binary(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading its bytes, decompressed according to its last suffix.

    Raises:
        UserError: the compressed data is damaged or truncated; also raised while reading within the `with` block.
    """
    opener: Any  # Path -> context manager of a BinaryIO
    broken: tuple[type[Exception], ...] = (EOFError,)
    match path.suffix.lower():
        case ".gz":
            import gzip
            import zlib

            opener, broken = gzip.open, (gzip.BadGzipFile, zlib.error, *broken)
        case ".xz":
            import lzma

            opener, broken = lzma.open, (lzma.LZMAError, *broken)
        case ".zst":
            try:
                import zstandard
            except ImportError:
                raise UserError(f"{path}: .zst files need zstandard; run: pip install zstandard") from None
            opener, broken = _open_zstd, (zstandard.ZstdError, *broken)
        case _:
            opener = partial(Path.open, mode="rb")
    try:
        with opener(path) as stream:
            yield stream
    except broken as error:
        raise UserError(f"{path} is damaged or incomplete: {error}") from error


def _open_zstd(path: Path) -> io.BufferedReader:
    return io.BufferedReader(_ZstdFile(path))


class _ZstdFile(io.RawIOBase):
    """Decompressed bytes of a .zst file; raises EOFError for a truncated file, unlike zstandard's own reader."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._chunks = self._decompress()
        self._rest = memoryview(b"")

    def _decompress(self) -> Iterator[bytes]:
        import zstandard

        frame = zstandard.ZstdDecompressor().decompressobj()
        while chunk := self._file.read(_ZSTD_CHUNK):
            while chunk:
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(chunk)
                chunk = frame.unused_data
        if not frame.eof:
            raise EOFError("the file ends within a zstd frame")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            if (chunk := next(self._chunks, None)) is None:
                return 0
            self._rest = memoryview(chunk)
        n = min(len(buffer), len(self._rest))
        buffer[:n], self._rest = self._rest[:n], self._rest[n:]
        return n

    def close(self) -> None:
        self._file.close()
        super().close()


def _text_lines(path: Path, longest: int = -1) -> Iterator[str]:
    """Yield lines including line ends, in parts of at most `longest` bytes, without a byte-order mark."""
    offset, line = 0, 1
    with open_binary(path) as stream:
        while raw := stream.readline(longest):
            if len(raw) == longest:
                raw += _rest_of_character(stream, raw)
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                at = f"byte 0x{raw[error.start]:02x} at offset {offset + error.start}"
                utf16 = line == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff")
                fix = _iconv_command(path, "UTF-16" if utf16 else "WINDOWS-1252")
                raise _BadRow(f"{at} is not UTF-8; convert the file, for example: {fix}", line) from None
            yield text.removeprefix("\ufeff") if offset == 0 else text
            offset += len(raw)
            line += raw.endswith(b"\n")


def _rest_of_character(stream: BinaryIO, raw: bytes) -> bytes:
    """Read the missing bytes of the last UTF-8 character of `raw`."""
    for back in range(1, min(3, len(raw)) + 1):
        if (lead := raw[-back]) >= 0xC0:
            return stream.read(max(0, (2 if lead < 0xE0 else 3 if lead < 0xF0 else 4) - back))
        if lead < 0x80:
            break
    return b""


def _iconv_command(path: Path, encoding: str) -> str:
    unpack = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}.get(path.suffix.lower())
    plain = Path(path.stem if unpack else path.name)
    source, target = shlex.quote(path.name), shlex.quote(f"{plain.stem}-utf8{plain.suffix}")
    if unpack is None:
        return f"iconv -f {encoding} -t UTF-8 {source} > {target}"
    return f"{unpack} -dc {source} | iconv -f {encoding} -t UTF-8 > {target}"


# ---------------------------------------------------------------------------------------------------------------------
# Formats; each reader yields (first line of the row or None, cells by column)


def _csv_rows(path: Path) -> Iterator[tuple[int | None, dict[str, str]]]:
    delimiter = "\t" if cast(FileType, file_type(path)).format == "tsv" else ","
    csv.field_size_limit(max(csv.field_size_limit(), _CSV_FIELD_LIMIT))
    reader = csv.reader(_text_lines(path), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = str(error).replace("\t", "\\t")
            raise _BadRow(f'{reason}; a quote (") inside a quoted cell must be doubled ("")', line) from None
        if not cells:
            continue  # a blank line
        if header is None:
            header = _checked_header(cells, delimiter, line)
        elif len(cells) != len(header):
            hint = "; a cell that contains the separator must be quoted" if len(cells) > len(header) else ""
            expected = f"{len(header)} ({shorten(', '.join(header), _LISTED_CHARACTERS, placeholder=' …')})"
            raise _BadRow(f"cells: {len(cells)}, expected {expected}{hint}", line)
        else:
            yield line, dict(zip(header, cells, strict=True))


def _checked_header(cells: list[str], delimiter: str, line: int) -> list[str]:
    header = [cell.strip() for cell in cells]
    for other, fix in {"\t": "rename it to .tsv", ",": "rename it to .csv", ";": "save it with commas"}.items():
        if len(header) == 1 and other in header[0] and other != delimiter:
            raise _BadRow(f"the header is separated by {other!r}, expected {delimiter!r}: {fix}", line)
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise _BadRow(f"column {twice[0]!r} occurs more than once in the header", line)
    return header


def _jsonl_rows(path: Path) -> Iterator[tuple[int | None, dict[str, Any]]]:
    for line, text in enumerate(_text_lines(path), 1):
        if not text or text.isspace():
            continue
        try:
            cells = json.loads(text)
        except json.JSONDecodeError as error:
            reason = f"not JSON ({error.msg} at column {error.colno})"
            raise _BadRow(f"{reason}; expected one JSON object on each line", line) from None
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits; deep nesting
            raise _BadRow(f"invalid JSON ({error})", line) from None
        if not isinstance(cells, dict):
            raise _BadRow(f"a JSON {type(cells).__name__}; expected one JSON object on each line", line)
        yield line, cells


def _parquet_rows(path: Path) -> Iterator[tuple[int | None, dict[str, Any]]]:
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
