"""Documents of text files in chunks of bounded size that tokenize like the whole document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from gpt1 import console
from gpt1.data.readers.rows import Note
from gpt1.data.readers.text import text_lines
from gpt1.tokenization.html_tags import unfinished_tag

CHUNK_SIZE = 4_096
"""Characters after which a chunk ends at the next suitable line break."""

LONGEST_LINE = 1 << 20
"""Maximum characters of a line in memory; longer lines are split at a blank."""

_BLANKS = "".join(c for c in map(chr, range(0x3001)) if c.isspace() and not "\x1c" <= c <= "\x1f")
"""Characters that the tokenizer's `\\s` matches; `str.isspace` also includes the ASCII separators."""


class DocumentChunk(NamedTuple):
    """Consecutive lines of a document."""

    text: str
    """The text without leading and trailing blanks."""
    starts: bool
    """Whether this is the first chunk of its document."""
    ends: bool
    """Whether this is the last chunk of its document."""
    after_break: bool
    """Whether a line break separates it from the previous chunk."""
    size: int
    """UTF-8 bytes including leading and trailing blanks."""


def documents(
    path: Path, end_of_document: str = "", encoding: str | None = None, note: Note = console.say
) -> Iterator[DocumentChunk]:
    """Yield the documents of a text file (.txt, also .gz .xz .zst) chunk by chunk, in constant memory.

    A document ends at a line equal to `end_of_document` and at the end of the file; blank documents are skipped.
    Chunks that are encoded one by one, with the id of a line break where `after_break` is set, give the ids of the
    whole document: they are split at line breaks that are neither followed by a blank nor next to or inside an HTML
    tag. Exceptions: a line longer than `LONGEST_LINE` without a blank is split at that length, and with pre-tokenizer
    `openai`, ftfy checks each chunk separately for HTML entities.

    Args:
        path: The file.
        end_of_document: The line that ends a document.
        encoding: Encoding of the file; None = detected.
        note: Function that is called with a line about the detected encoding, if it is not UTF-8.

    Raises:
        UserError: the file is missing, damaged, or in another encoding.
    """
    return chunks(text_lines(path, LONGEST_LINE, encoding, note), end_of_document)


def chunks(lines: Iterable[str], end_of_document: str = "") -> Iterator[DocumentChunk]:
    """Yield the documents of `lines`; a line that does not end in a line break continues in the next item."""
    held = ""
    starts, after_break = True, False
    at_line_start = True
    for line in lines:
        if at_line_start and end_of_document and line.strip() == end_of_document:
            if text := held.strip(_BLANKS):
                yield DocumentChunk(text, starts, True, after_break, len(held.encode()))
            held, starts, after_break = "", True, False
            continue
        at_line_start = line.endswith("\n")
        if len(held) >= CHUNK_SIZE and (end := _cut(held, line)):
            before, held = held[:end], held[end:]
            text = before.strip(_BLANKS)
            yield DocumentChunk(text, starts, False, after_break, len(before.encode()))
            starts = False
            after_break = any(mark in before[len(before.rstrip(_BLANKS)) :] for mark in "\r\n")
        held += line
    if text := held.strip(_BLANKS):
        yield DocumentChunk(text, starts, True, after_break, len(held.encode()))


def _cut(held: str, following: str) -> int:
    """Return how many characters of `held` can form a chunk if `following` comes next; 0 if none."""
    unfinished = unfinished_tag(held)
    if held.endswith("\n"):
        beside_tag = following[0] == "<" or held.rstrip().endswith(">")
        return 0 if unfinished is not None or beside_tag or following[0].isspace() else len(held)
    # Inside a line of more than LONGEST_LINE characters.
    blank = held.rfind(" ", 0, unfinished)
    if held[: max(0, blank)].strip(_BLANKS):
        return blank + 1
    return len(held) if len(held) >= LONGEST_LINE else 0
