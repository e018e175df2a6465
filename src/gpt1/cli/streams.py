"""Standard streams that any output fits into: encodings other than UTF-8, closed streams, narrow terminals."""

from __future__ import annotations

import codecs
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MIN_COLUMNS = 40
"""Narrowest width that help is laid out for: at 5 columns the library loops for minutes."""

ASCII = {"█": "#", "─": "-", "–": "-", "…": "...", "→": "->", "×": "x", "·": "-", "⏎": "\\n"}
"""Drawing characters and typography, for streams that cannot encode them; anything else becomes an escape."""

_ERRORS = "gpt1_ascii"


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Error handler of the streams' encoders: `ASCII`, else a backslash escape."""
    assert isinstance(error, UnicodeEncodeError)
    characters = error.object[error.start : error.end]
    return "".join(ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in characters), error.end


codecs.register_error(_ERRORS, _replace)


def prepare_streams() -> None:
    """Make stdout and stderr accept every text; a closed one discards it."""
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


@contextmanager
def wide_enough() -> Iterator[None]:
    """Let a terminal of fewer than `MIN_COLUMNS` columns count as one of so many: its lines wrap."""
    before = os.environ.get("COLUMNS")
    if shutil.get_terminal_size().columns < MIN_COLUMNS:
        os.environ["COLUMNS"] = str(MIN_COLUMNS)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        if before is not None:
            os.environ["COLUMNS"] = before
