"""Record batches of an Arrow IPC stream, one at a time.

Format: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc. polars
reads a stream as a whole, so each record batch is passed to it as a stream of its own.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

_MAGIC = b"ARROW1"
_FEATHER_1 = b"FEA1"
_CONTINUATION = 0xFFFFFFFF
_END = struct.pack("<Ii", _CONTINUATION, 0)
_RECORD_BATCH = 3  # MessageHeader (format/Message.fbs)
_HEADER_TYPE, _BODY_LENGTH = 1, 3  # fields of Message


class DamagedArrow(Exception):
    """Bytes that are not those of an Arrow file or stream."""


def is_stream(file: BinaryIO) -> bool:
    """Return whether Arrow data is a stream, not a file (Feather 2), and seek to its start.

    Raises:
        DamagedArrow: it is a file of Feather version 1.
    """
    magic = file.read(len(_MAGIC))
    file.seek(0)
    if magic.startswith(_FEATHER_1):
        raise DamagedArrow("Feather version 1; expected version 2, which pandas writes since 1.1")
    return magic != _MAGIC


def record_batches(file: BinaryIO) -> Iterator[bytes]:
    """Yield each record batch of a stream as a stream of its own, with the schema and the dictionaries.

    Raises:
        DamagedArrow: the data is truncated, of another format, or older than Arrow 0.15.
    """
    before = b""
    for header_type, message in _messages(file):
        if header_type == _RECORD_BATCH:
            yield before + message + _END
        else:
            before += message


def _messages(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield (header type, message) up to the end-of-stream marker or the end of the file."""
    first = True
    while prefix := file.read(8):
        marker, size = struct.unpack("<Ii", prefix) if len(prefix) == 8 else (0, 0)
        if marker != _CONTINUATION or size < 0:
            reason = "not an Arrow file or stream, or one older than Arrow 0.15" if first else "damaged or incomplete"
            raise DamagedArrow(reason)
        if size == 0:
            return
        metadata = _read(file, size)
        try:
            header_type, length = _integer(metadata, _HEADER_TYPE, "<B"), _integer(metadata, _BODY_LENGTH, "<q")
        except struct.error:
            raise DamagedArrow("damaged or incomplete") from None
        yield header_type, prefix + metadata + _read(file, length)
        first = False


def _read(file: BinaryIO, size: int) -> bytes:
    if not 0 <= size <= os.fstat(file.fileno()).st_size - file.tell():
        raise DamagedArrow("damaged or incomplete: the file ends within a message")
    return file.read(size)


def _integer(table: bytes, field: int, form: str) -> int:
    """Return an integer field of the root table of a FlatBuffer; 0 if it is absent."""
    (root,) = struct.unpack_from("<I", table)
    vtable = root - struct.unpack_from("<i", table, root)[0]
    (size,) = struct.unpack_from("<H", table, vtable)
    at = 4 + 2 * field
    offset = struct.unpack_from("<H", table, vtable + at)[0] if at < size else 0
    value: int = struct.unpack_from(form, table, root + offset)[0] if offset else 0
    return value
