"""Notices, tables and progress bars of a command, all on stderr."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_notices: TextIO | None = None
"""Where lines go instead of stderr (see `notices_to`)."""
_muted = 0
"""How many ask that only urgent lines are printed (see `muted`)."""
_counting = threading.Lock()


def say(text: str = "", *, urgent: bool = False) -> None:
    """Print a line for people; an urgent one stands on stderr also where notices go to a file."""
    if _notices is not None:
        print(text, file=_notices, flush=True)
    if (_notices is None and not _muted) or urgent:
        from tqdm import tqdm

        with _terminal_may_close():
            tqdm.write(text, file=sys.stderr)


@contextmanager
def _terminal_may_close() -> Iterator[None]:
    """Discard stderr from now on if its terminal has been closed: the run must reach its checkpoint."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stderr.fileno())
        os.close(null)


@contextmanager
def muted(mute: bool) -> Iterator[None]:
    """Print nothing but urgent lines meanwhile, where `mute` says so: another process says the same."""
    global _muted
    with _counting:  # estimators may be fitted side by side, in threads
        _muted += mute
    try:
        yield
    finally:
        with _counting:
            _muted -= mute


@contextmanager
def notices_to(path: Path) -> Iterator[None]:
    """Add the lines that are said meanwhile to a file, so that the runs of a series do not flood stderr.

    Progress bars, which leave nothing behind, and urgent lines are still seen.
    """
    global _notices
    path.parent.mkdir(parents=True, exist_ok=True)
    before = _notices
    with path.open("a", encoding="utf-8") as _notices:
        try:
            yield
        finally:
            _notices = before


def table(header: Sequence[str], rows: Iterable[Sequence[object]], text: Collection[int] = (0,)) -> None:
    """Print aligned columns; those at the places `text` are text, the others figures, which stand to the right."""
    cells = [list(map(str, header)), *(list(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for number, row in enumerate(cells):
        aligned = (
            cell.ljust(width) if index in text else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        say("  ".join(["", *aligned]).rstrip())
        if number == 0:
            say("  " + "  ".join("─" * width for width in widths))


def reading(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts, and show meanwhile how many characters came so far."""
    bar = Bar(0, "reading", " characters", scaled=True)
    try:
        for text in texts:
            yield text
            bar.advance(len(text))
    finally:
        bar.close()


class Bar:
    """A progress bar where stderr is a terminal; silent elsewhere."""

    def __init__(self, total: int, label: str, unit: str, done: int = 0, *, scaled: bool = False):
        from tqdm import tqdm

        self._bar = tqdm(
            total=total,
            initial=done,
            desc=label,
            unit=unit,
            unit_scale=scaled,  # 12.3M instead of 12345678
            file=sys.stderr,
            disable=True if _muted else None,
            dynamic_ncols=True,
            leave=False,
        )

    def advance(self, count: int = 1, **shown: str) -> None:
        if shown:
            self._bar.set_postfix(shown, refresh=False)
        with _terminal_may_close():
            self._bar.update(count)

    def close(self) -> None:
        with _terminal_may_close():
            self._bar.close()
