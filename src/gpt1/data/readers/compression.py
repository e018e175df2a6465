"""Decompression of .gz, .bz2, .xz, .zst and .zip, in constant memory and of bounded size."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from gpt1.data.readers.archive import open_table
from gpt1.errors import UserError

MOST_EXPANSION, ALWAYS_READ = 100, 1 << 28
"""A compressed file may unpack to so many times its size, and to so many bytes in any case."""

_CHUNK = 1 << 16  # bytes


@contextmanager
def open_binary(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading its bytes, decompressed according to its last suffix.

    Raises:
        UserError: the compressed data is damaged or truncated, or unpacks to more than `MOST_EXPANSION` times its size;
            also raised while reading within the `with` block.
    """
    opener: Any  # Path -> context manager of a stream of bytes
    broken: tuple[type[Exception], ...] = (EOFError, zlib.error)
    match path.suffix.lower():
        case ".gz":
            import gzip

            opener, broken = gzip.open, (gzip.BadGzipFile, *broken)
        case ".bz2":
            import bz2

            opener, broken = bz2.open, (OSError, *broken)
        case ".xz":
            import lzma

            opener, broken = lzma.open, (lzma.LZMAError, *broken)
        case ".zst":
            try:
                import zstandard
            except ImportError:
                raise UserError(f"{path}: .zst files need zstandard; run: pip install zstandard") from None
            opener, broken = _ZstdFile, (zstandard.ZstdError, *broken)
        case ".zip":
            import zipfile

            opener, broken = open_table, (zipfile.BadZipFile, *broken)
        case _:
            opener = None
    try:
        with path.open("rb") if opener is None else opener(path) as stream:
            yield stream if opener is None else io.BufferedReader(cast(io.RawIOBase, _Bounded(stream, path)), _CHUNK)
    except broken as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of the data
            raise
        raise UserError(f"{path} is damaged or incomplete: {error}") from error


class _Bounded(io.RawIOBase):
    """Bytes of a decompressed stream, up to a limit."""

    def __init__(self, stream: Any, path: Path) -> None:
        self._stream, self._path = stream, path
        self._limit = max(ALWAYS_READ, MOST_EXPANSION * path.stat().st_size)
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n: int = self._stream.readinto(buffer)
        self._read += n
        if self._read > self._limit:
            raise UserError(
                f"{self._path} unpacks to more than {self._limit:,} bytes, {MOST_EXPANSION} times its size or "
                f"{ALWAYS_READ >> 20} MiB, the most that is read; if it is what you expect, unpack it and give the "
                "unpacked file"
            )
        return n


class _ZstdFile(io.RawIOBase):
    """Decompressed bytes of a .zst file; raises EOFError for a truncated file, unlike zstandard's own reader."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._chunks = self._decompress()
        self._rest = memoryview(b"")

    def _decompress(self) -> Iterator[bytes]:
        import zstandard

        frame = zstandard.ZstdDecompressor().decompressobj()
        while chunk := self._file.read(_CHUNK):
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
