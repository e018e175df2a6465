"""Files of rows: name parts, compression."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gpt1.errors import UserError

FORMATS = ".csv .tsv .jsonl .parquet (all but .parquet also compressed: .gz .xz .zst)"

_FILE_NAME = re.compile(
    r"(?P<stem>.+?)\.(?:(?P<text>csv|tsv|jsonl)(?:\.(?P<packing>gz|xz|zst))?|parquet)", re.IGNORECASE
)
_ZSTD_CHUNK = 1 << 16  # compressed bytes


class FileType(NamedTuple):
    """Name parts of a file of rows."""

    stem: str  # "train" of "train.jsonl.xz"
    format: str  # csv | tsv | jsonl | parquet
    packing: str | None  # gz | xz | zst


def file_type(path: Path) -> FileType | None:
    """Return stem, format and compression by the file name; None if it is not the name of a file of rows."""
    if (match := _FILE_NAME.fullmatch(path.name)) is None:
        return None
    packing = match["packing"]
    return FileType(match["stem"], (match["text"] or "parquet").lower(), packing.lower() if packing else None)


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
