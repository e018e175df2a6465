"""Standard streams that accept any text: encodings other than UTF-8, closed streams."""

from __future__ import annotations

import codecs
import os
import sys

ASCII = {"█": "#", "─": "-", "–": "-", "…": "...", "→": "->", "×": "x", "·": "-", "⏎": "\\n"}
"""ASCII replacements for streams that cannot encode these characters; any other character becomes an escape."""

_ERRORS = "gpt1_ascii"


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Handle an encoding error: replace a character by its entry in `ASCII`, or by a backslash escape."""
    assert isinstance(error, UnicodeEncodeError)
    characters = error.object[error.start : error.end]
    return "".join(ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in characters), error.end


codecs.register_error(_ERRORS, _replace)


def prepare_streams() -> None:
    """Make stdout and stderr accept every text; a closed stream discards it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller, as by `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ERRORS)


def is_utf8(encoding: str | None) -> bool:
    """Return whether an encoding (None: unknown) is UTF-8."""
    try:
        return encoding is None or codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        return False
