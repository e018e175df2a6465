"""Fast path for ftfy.fix_text: ftfy is called only for the lines that it may change.

ftfy processes a few megabytes per second; most lines are ASCII, ASCII with typography, or Latin text without mojibake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gpt1.errors import UserError
from gpt1.system.extras import install_command

_SUSPECT = re.compile(r"[\x00-\x08\x0b\x0d-\x1f\x7f]|&#?[0-9A-Za-z]{1,24};")
"""Parts of ASCII text that ftfy may change: control characters, carriage returns, entities."""
_TYPEWRITTEN = {"—": "-", "–": "-", "―": "-", "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"'}
"""Typography to ASCII, as by ftfy and then `text_standardize`. Next to ASCII, ftfy never takes it for mojibake."""
_LATIN = re.compile(f"[\x00-\x7f\xa0-\xff{''.join(_TYPEWRITTEN)}]*")
"""Text that ftfy changes only if it is mojibake."""
_WINDOWS = re.compile(r"(?<=[\x00-\x7f])[\x82-\x8c\x8e\x91-\x9c\x9e\x9f](?=[\x00-\x7f])")
"""A single punctuation mark of Windows-1252 that was decoded as Latin-1, not part of a UTF-8 sequence."""
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_REACH = 9
"""Number of characters around non-ASCII ones within which ftfy recognises any mojibake."""
_SEGMENT = 1_000_000
"""Length above which ftfy processes a line in pieces of that many characters."""


def repaired_lines(text: str) -> list[str]:
    """Return the lines of ftfy.fix_text(text), some of them with typography already converted to ASCII."""
    lines = text.split("\n")
    return lines if all(map(_is_plain, lines)) else _repaired(text, lines)


def _is_plain(line: str) -> bool:
    """Return whether a line is ASCII that ftfy does not change."""
    # `isprintable` is ten times as fast as the regular expression.
    return line.isascii() and ((line.isprintable() and "&" not in line) or not _SUSPECT.search(line))


def _repaired(text: str, lines: list[str]) -> list[str]:
    """Return the lines of ftfy.fix_text(text), typography in ASCII; call ftfy for the lines that it may change.

    ftfy replaces entities up to the first line that contains "<", which may be HTML.
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
        else:  # with the line break: ftfy recognises mojibake by the characters after it, and it may end with one
            repaired.append(ftfy.fix_text(line + end, unescape_html=unescape))
    return "".join(repaired).split("\n")


def typewritten(line: str) -> str:
    """Return `line` with typography converted to ASCII."""
    if not line.isascii():
        for mark, plain in _TYPEWRITTEN.items():
            line = line.replace(mark, plain)
    return line


def _is_sound(line: str, ftfy: Any) -> bool:
    """Return whether a line is Latin text in which ftfy's own test, around non-ASCII characters, finds no mojibake."""
    if not _LATIN.fullmatch(line) or _SUSPECT.search(line):
        return False
    return not any(map(ftfy.badness.is_bad, _around(line)))


def _windows_1252(line: str, ftfy: Any) -> str | None:
    """Return a Latin-1 line with its Windows-1252 punctuation decoded, as by ftfy; None if ftfy may differ.

    ftfy first tries to decode the whole line as UTF-8, which fails for a line with such a mark; then parts of it as
    UTF-8, by a pattern; then, if the line is Latin-1, as Windows-1252.
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
    """Yield the surroundings of the non-ASCII characters of a line."""
    line += "\n"
    return (line[max(0, at.start() - _REACH) : at.end() + _REACH] for at in _FOREIGN.finditer(line))


def _ftfy() -> Any:
    try:
        import ftfy
    except ImportError:
        raise not_installed("ftfy") from None
    return ftfy


def not_installed(package: str) -> UserError:
    """Return the error for a missing package of the pre-tokenizer `openai`."""
    return UserError(
        f"{package} is not installed; the original tokenization (pre-tokenizer `openai`) requires it; "
        f"run: {install_command('openai')}"
    )
