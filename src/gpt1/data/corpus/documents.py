"""Documents of text files in chunks of bounded size, whose token ids are those of the whole document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from gpt1.data.readers import text_lines

CHUNK_SIZE = 4_096
"""Characters after which a chunk ends at the next possible line."""

LONGEST_LINE = 1 << 20
"""Bytes of a line that are held at once; a longer one is cut at a blank."""

_LONGEST_TAG = 1_010
"""Characters, rounded up, inside which pre-tokenizer `fast` looks for the end of an HTML tag."""

_BLANKS = "".join(c for c in map(chr, range(0x3001)) if c.isspace() and not "\x1c" <= c <= "\x1f")
"""What a regular expression's `\\s` matches: Python also counts the ASCII separators."""


class DocumentChunk(NamedTuple):
    """Consecutive lines of a document."""

    text: str
    """Neither starts nor ends with a blank."""
    starts: bool
    """Whether its document starts here."""
    ends: bool
    """Whether its document ends here."""
    after_break: bool
    """Whether a line break separates it from the previous chunk."""
    size: int
    """UTF-8 bytes, with the blanks around it."""


def documents(path: Path, end_of_document: str = "") -> Iterator[DocumentChunk]:
    """Yield the documents of a text file (.txt, also .gz .xz .zst) chunk by chunk, in constant memory.

    A line that is `end_of_document` ends a document, and so does the end of the file; documents of nothing but blanks
    are left out. Encoded one by one, with a line break's id where `after_break` says so, the chunks have the ids of the
    whole document: they are cut between lines, where neither a blank nor an HTML tag begins the next one or ends this
    one with `>`, and inside no tag. (A line longer than `LONGEST_LINE` without a blank is cut where that leaves it.
    With pre-tokenizer `openai`, ftfy decides in each chunk anew whether the text has HTML entities in it.)

    Raises:
        UserError: the file is missing, damaged, or not UTF-8.
    """
    return chunks(text_lines(path, LONGEST_LINE), end_of_document)


def chunks(lines: Iterable[str], end_of_document: str = "") -> Iterator[DocumentChunk]:
    """Yield the documents of `lines`, each with its line break; one without is a part of the line it stands in."""
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
    """Return how much of `held` can be a chunk before the text `following`; 0 if nothing can."""
    tail = held[-_LONGEST_TAG:]
    inside_tag = tail.rfind("<") > tail.rfind(">")
    if held.endswith("\n"):
        beside_tag = following[0] == "<" or tail.rstrip().endswith(">")
        return 0 if inside_tag or beside_tag or following[0].isspace() else len(held)
    # Inside a line of more than LONGEST_LINE bytes.
    blank = held.rfind(" ", 0, held.rfind("<") if inside_tag else len(held))
    if held[: max(0, blank)].strip(_BLANKS):
        return blank + 1
    return len(held) if len(held) >= LONGEST_LINE else 0
