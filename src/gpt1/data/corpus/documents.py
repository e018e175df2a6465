"""From text files to documents in bounded pieces, whose ids are those of the whole document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from gpt1.data.readers import text_lines

PIECE = 4_096
"""Characters after which a piece ends at the next place where it may."""

LONGEST_LINE = 1 << 20
"""Bytes of a line that are held at once; a longer one is cut at a blank."""

_LONGEST_TAG = 1_010
"""Characters, rounded up, inside which splitter `fast` looks for the end of an HTML tag."""

_BLANKS = "".join(c for c in map(chr, range(0x3001)) if c.isspace() and not "\x1c" <= c <= "\x1f")
"""What a regular expression's `\\s` matches: Python also counts the ASCII separators."""


class Piece(NamedTuple):
    """Some paragraphs of a document."""

    text: str
    """Neither starts nor ends with a blank."""
    starts: bool
    """Whether its document starts here."""
    ends: bool
    """Whether its document ends here."""
    after_break: bool
    """Whether a line break stands between the piece before and this one."""
    size: int
    """UTF-8 bytes, with the blanks around it."""


def documents(path: Path, end_of_document: str = "") -> Iterator[Piece]:
    """Yield the documents of a text file (.txt, also .gz .xz .zst) piece by piece, in constant memory.

    A line that is `end_of_document` ends a document, and so does the end of the file; documents of nothing but blanks
    are left out. Encoded one by one, with a line break's id where `after_break` says so, the pieces have the ids of the
    whole document: they are cut between lines, where neither a blank nor an HTML tag begins the next one or ends this
    one with `>`, and inside no tag. (A line longer than `LONGEST_LINE` without a blank is cut where that leaves it.
    With splitter `openai`, ftfy decides in each piece anew whether the text has HTML entities in it.)

    Raises:
        UserError: the file is missing, damaged, or not UTF-8.
    """
    return pieces(text_lines(path, LONGEST_LINE), end_of_document)


def pieces(lines: Iterable[str], end_of_document: str = "") -> Iterator[Piece]:
    """Yield the documents of `lines`, each with its line break; one without is a part of the line it stands in."""
    held = ""
    starts, after_break = True, False
    at_line_start = True
    for line in lines:
        if at_line_start and end_of_document and line.strip() == end_of_document:
            if text := held.strip(_BLANKS):
                yield Piece(text, starts, True, after_break, len(held.encode()))
            held, starts, after_break = "", True, False
            continue
        at_line_start = line.endswith("\n")
        if len(held) >= PIECE and (place := _cut(held, line)):
            before, held = held[:place], held[place:]
            text = before.strip(_BLANKS)
            yield Piece(text, starts, False, after_break, len(before.encode()))
            starts = False
            after_break = any(mark in before[len(before.rstrip(_BLANKS)) :] for mark in "\r\n")
        held += line
    if text := held.strip(_BLANKS):
        yield Piece(text, starts, True, after_break, len(held.encode()))


def _cut(held: str, following: str) -> int:
    """Return how much of `held` can be a piece, given what follows it; 0 where nothing can."""
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
