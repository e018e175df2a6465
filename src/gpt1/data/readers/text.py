"""Lines of text files, compressed or not, in any encoding."""

from __future__ import annotations

import codecs
import io
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from gpt1 import console
from gpt1.data.readers.compression import open_binary
from gpt1.data.readers.encoding import CP1252, SAMPLE_SIZE, by_mark, detect, first_word, utf16_by_zeros
from gpt1.data.readers.rows import BadRow, Note
from gpt1.errors import UserError

_BLOCK_SIZE = 1 << 16  # bytes
_SHOWN = 12  # characters before an invalid byte in a message
_CHANGE = "--encoding NAME sets another"


def text_lines(path: Path, longest: int = -1, encoding: str | None = None, note: Note = console.say) -> Iterator[str]:
    """Yield the lines of a plain text file, compressed or not, in constant memory.

    Lines of more than `longest` characters (-1: unlimited) are yielded in parts.

    Raises:
        UserError: the file is missing, damaged, or not in this encoding.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        yield from decoded_lines(path, encoding, note, longest)
    except BadRow as error:
        raise UserError(f"{path.name} line {error.line}: {error}") from None


def decoded_lines(
    path: Path, encoding: str | None, note: Note, longest: int = -1, newline: str = "\n"
) -> Iterator[str]:
    r"""Yield the lines of a file including line ends, without a byte-order mark.

    Args:
        path: The file, which may be compressed.
        encoding: Encoding of the file; None = detected.
        note: Function that is called with a line about the detected encoding, if it is not plain UTF-8.
        longest: Characters after which a line is yielded in parts (-1: never).
        newline: Line end: "\n", or "" for "\n", "\r" and "\r\n".

    Raises:
        BadRow: the bytes of a line are not in this encoding.
    """
    held, number = "", 1
    with open_binary(path) as stream:
        texts = _texts(stream, encoding, lambda fact: note(f"{path.name}: {fact}"))
        try:
            for text in texts:
                lines = list(io.StringIO(held + text, newline=newline))
                held = "" if not lines or lines[-1].endswith("\n") else lines.pop()
                yield from lines
                number += len(lines)
                while 0 <= longest <= len(held):
                    yield held[:longest]
                    held = held[longest:]
        except UnicodeDecodeError as error:
            raise BadRow(_reason(error, encoding), number) from None
    if held:
        yield held


def _texts(stream: BinaryIO, encoding: str | None, fact: Note) -> Iterator[str]:
    """Yield the text of a file in parts; the part before an invalid byte precedes the error.

    Without `encoding`, ASCII is decoded up to the first other byte, by which, and those that follow, the encoding is
    detected.
    """
    codec, first, blocks = yield from _ascii_start(stream, encoding, fact)
    decoder = codecs.getincrementaldecoder(codec)()
    for block in chain(blocks, [b""]):
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            yield error.object[: error.start].decode(codec, "replace").removeprefix("\ufeff")
            raise
        yield text.removeprefix("\ufeff") if first else text
        first = first and not text


def _ascii_start(
    stream: BinaryIO, encoding: str | None, fact: Note
) -> Generator[str, None, tuple[str, bool, Iterable[bytes]]]:
    """Yield the text up to the block by which the encoding is known.

    Returns:
        The codec, whether it is known by the first block, and the other blocks.
    """
    blocks = iter(partial(stream.read, _BLOCK_SIZE), b"")
    head = next(blocks, b"")
    if codec := _codec(head, encoding, fact):
        return codec, True, chain([head], blocks)
    for block in chain([head], blocks):
        if not block.isascii():
            sample = block + stream.read(SAMPLE_SIZE)
            return _detected(sample, fact), False, chain([sample], blocks)
        yield block.decode("ascii")
    return "ascii", False, ()


def encoding_of(path: Path, encoding: str | None = None) -> str:
    """Return the codec with which the lines of a file are decoded: `encoding`, or the detected one.

    A file is read up to its first byte that is not ASCII.
    """
    with open_binary(path) as stream:
        start = _ascii_start(stream, encoding, lambda _: None)
        while True:
            try:
                next(start)
            except StopIteration as end:
                codec: str = end.value[0]
                return codec


def _codec(head: bytes, encoding: str | None, fact: Note) -> str | None:
    """Return the codec that the start of a file or `encoding` tells; None if the first bytes are ASCII or UTF-8."""
    marked = by_mark(head)
    if encoding is not None:
        name = codecs.lookup(encoding).name
        if name in ("utf-16", "utf-32"):  # of unknown byte order
            order = marked[0] if marked and marked[0].startswith(name) else utf16_by_zeros(head)
            return order or f"{name}-le"
        return encoding
    if marked:
        fact(f"{marked[1]} with a byte-order mark")
        return marked[0]
    if codec := utf16_by_zeros(head):
        fact(f"UTF-16 without a byte-order mark; {_CHANGE}")
    return codec


def _detected(sample: bytes, fact: Note) -> str:
    """Return the codec of bytes that are not ASCII alone."""
    script = detect(sample)
    if script is None or (script is CP1252 and b"\0" in sample):  # binary data, refused as UTF-8
        return "utf-8"
    raw, word = first_word(sample, script.codec)
    if script is CP1252:
        fact(f'not UTF-8; cp1252 is a guess, which reads {raw} as "{word}"; {_CHANGE}')
    else:
        fact(f'{script.name}, by its characters, such as "{word}"; {_CHANGE}')
    return script.codec


def _reason(error: UnicodeDecodeError, encoding: str | None) -> str:
    """Return what is wrong with a line: its invalid bytes and those around them."""
    data, start = error.object, error.start
    line = max(data.rfind(b"\n", 0, start) + 1, start - _SHOWN)
    around = ascii(data[line : max(error.end, start + 1) + _SHOWN].partition(b"\n")[0])[1:]
    found = f"byte{'s' * (error.end - start > 1)} {data[start : error.end].hex(' ')} in {around}"
    if encoding is not None:
        return f"{found}: not {encoding}; set another --encoding, or none to detect it"
    if error.encoding == "utf-8":
        return f"{found}: not UTF-8; correct the line, or set --encoding, for example cp1252"
    detected = "cp1252" if error.encoding == "charmap" else error.encoding
    return f"{found}: not {detected}, as which the file was detected; set its --encoding"
