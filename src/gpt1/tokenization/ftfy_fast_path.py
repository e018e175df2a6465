"""The lines of a text as ftfy repairs them, where ftfy sees those lines alone that it may change.

ftfy reads a few megabytes a second; most lines are ASCII, ASCII and typography, or Latin text without mojibake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gpt1.errors import UserError

_SUSPECT = re.compile(r"[\x00-\x08\x0b\x0d-\x1f\x7f]|&#?[0-9A-Za-z]{1,24};")
"""What ftfy may change in ASCII text: control characters, carriage returns, entities."""
_TYPEWRITTEN = {"—": "-", "–": "-", "―": "-", "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"'}
"""Typography in ASCII, as ftfy and then `text_standardize` have it. Beside ASCII, ftfy never takes it for mojibake."""
_LATIN = re.compile(f"[\x00-\x7f\xa0-\xff{''.join(_TYPEWRITTEN)}]*")
"""Characters that are mojibake or none of ftfy's business."""
_WINDOWS = re.compile(r"(?<=[\x00-\x7f])[\x82-\x8c\x8e\x91-\x9c\x9e\x9f](?=[\x00-\x7f])")
"""A mark of Windows-1252 that was read as Latin-1, by itself: no part of a UTF-8 sequence."""
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_REACH = 9
"""Characters around what is not ASCII that hold any of the sequences that ftfy takes for mojibake."""
_SEGMENT = 1_000_000
"""ftfy reads a longer line in pieces of so many characters."""


def repaired_lines(text: str) -> list[str]:
    """Return the lines of ftfy.fix_text(text), some of them with their typography in ASCII already."""
    lines = text.split("\n")
    return lines if all(map(_is_plain, lines)) else _repaired(text, lines)


def _is_plain(line: str) -> bool:
    """Whether a line is ASCII that ftfy leaves as it is. (`isprintable` takes a tenth of the expression's time.)"""
    return line.isascii() and ((line.isprintable() and "&" not in line) or not _SUSPECT.search(line))


def _repaired(text: str, lines: list[str]) -> list[str]:
    """Return the lines of ftfy.fix_text(text), typography in ASCII; ftfy itself sees those that it may change.

    ftfy turns entities into characters up to the first line with a "<" in it, which may be HTML.
    """
    ftfy = _ftfy()
    if max(map(len, lines)) >= _SEGMENT:
        return str(ftfy.fix_text(text)).split("\n")
    unescape: str | bool = "auto"
    repaired: list[str] = []
    for index, line in enumerate(lines):
        end = "\n" if index < len(lines) - 1 else ""
        if "<" in line:
            unescape = False
        plain = typewritten(line)
        if _is_plain(plain) or _is_sound(line, ftfy):
            repaired.append(plain + end)
        elif (read := _windows_1252(line, ftfy)) is not None and _is_sound(read, ftfy):
            repaired.append(typewritten(read) + end)
        else:  # mojibake is recognised by what follows it, and may end with the line break
            repaired.append(ftfy.fix_text(line + end, unescape_html=unescape))
    return "".join(repaired).split("\n")


def typewritten(line: str) -> str:
    """Return `line` with its typography in ASCII."""
    if not line.isascii():
        for mark, plain in _TYPEWRITTEN.items():
            line = line.replace(mark, plain)
    return line


def _is_sound(line: str, ftfy: Any) -> bool:
    """Whether a line is Latin text in which ftfy finds no mojibake: its own test, on what is not ASCII alone."""
    if not _LATIN.fullmatch(line) or _SUSPECT.search(line):
        return False
    return not any(map(ftfy.badness.is_bad, _around(line)))


def _windows_1252(line: str, ftfy: Any) -> str | None:
    """Return what ftfy reads in Latin-1 with marks of Windows-1252, None where it might find something else.

    It takes mojibake for UTF-8 first, which a line with such a mark by itself cannot be as a whole; then for UTF-8 in
    places, by a pattern of its own; then, where the line is Latin-1, for Windows-1252.
    """
    if not _WINDOWS.search(line) or _SUSPECT.search(line):
        return None
    if any(map(ftfy.chardata.UTF8_DETECTOR_RE.search, _around(line))):
        return None
    try:
        return line.encode("latin-1").decode("windows-1252")
    except UnicodeError:
        return None


def _around(line: str) -> Iterator[str]:
    line += "\n"
    return (line[max(0, at.start() - _REACH) : at.end() + _REACH] for at in _FOREIGN.finditer(line))


def _ftfy() -> Any:
    try:
        import ftfy
    except ImportError:
        raise not_installed("ftfy") from None
    return ftfy


def not_installed(package: str) -> UserError:
    return UserError(
        f"{package} is not installed, which the original tokenisation (pre-tokenizer `openai`) needs; "
        "run: pip install 'gpt1[openai]' (in a clone: pip install -e '.[openai]')"
    )
