"""Lines of text files, compressed or not."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gpt1.data.readers.compression import open_binary
from gpt1.data.readers.rows import BadRow
from gpt1.errors import UserError


def text_lines(path: Path, longest: int = -1) -> Iterator[str]:
    """Yield the lines of a plain text file, compressed or not, in constant memory.

    Lines of more than `longest` bytes (-1: unlimited) are yielded in parts.

    Raises:
        UserError: the file is missing, damaged, or not UTF-8.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        yield from decoded_lines(path, longest)
    except BadRow as error:
        raise UserError(f"{path.name} line {error.line}: {error}") from None


def decoded_lines(path: Path, longest: int = -1) -> Iterator[str]:
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
                raise BadRow(f"{at} is not UTF-8; convert the file, for example: {fix}", line) from None
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
    unpack = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}.get(path.suffix.lower())
    plain = Path(path.stem if unpack else path.name)
    source, target = shlex.quote(path.name), shlex.quote(f"{plain.stem}-utf8{plain.suffix}")
    if unpack is None:
        return f"iconv -f {encoding} -t UTF-8 {source} > {target}"
    return f"{unpack} -dc {source} | iconv -f {encoding} -t UTF-8 > {target}"
