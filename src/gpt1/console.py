"""Notices, tables and progress bars of commands and functions.

Every notice is a record of the logger `gpt1`: INFO, or WARNING if urgent. By default its text is printed on stderr; in
a notebook on stdout, because notebooks show stderr as errors.
Python code routes or silences it as usual:

    logger = logging.getLogger("gpt1")
    logger.setLevel("WARNING")  # urgent notices only, no progress bars
    logger.addHandler(handler)  # this handler gets the notices; stderr gets none

Handlers of the root logger (`logging.basicConfig()`) get them too, unless `logger.propagate` is False. Commands ignore
handlers of the root logger, which other libraries may install.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO
from unicodedata import category, east_asian_width

_notices: TextIO | None = None
"""File that notices are written to in place of the logger (see `notices_to`)."""
_muted = 0
"""Number of open `muted` blocks."""
_counting = threading.Lock()
_NO_COLUMN = ("Mn", "Me", "Cf")
"""Unicode categories of accents, joiners and variation selectors, which take no column of a terminal."""


class _Stderr(logging.Handler):
    """Prints records on stderr above the progress bars, if no other handler receives them."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        if self._alone():
            before, after = getattr(record, "spacing", ("", ""))
            with _terminal_may_close():
                stream = sys.stdout if _in_notebook() else sys.stderr
                tqdm.write(f"{before}{self.format(record)}{after}", file=stream)

    def _alone(self) -> bool:
        logger: logging.Logger | None = _logger
        while logger:
            if any(handler is not self for handler in logger.handlers):
                return False
            logger = logger.parent if logger.propagate else None
        return True


_logger = logging.getLogger("gpt1")
_stderr = _Stderr()
_logger.addHandler(_stderr)
if _logger.level == logging.NOTSET:
    _logger.setLevel(logging.INFO)


def say(text: str = "", *, urgent: bool = False) -> None:
    """Log a notice; an urgent one also inside `muted` and `notices_to`."""
    if _notices is not None:
        print(text, file=_notices, flush=True)
    if (_notices is None and not _muted) or urgent:
        _log(logging.WARNING if urgent else logging.INFO, text)


def _log(level: int, text: str) -> None:
    """Log a text; empty lines around it, or alone, are printed on stderr but are not part of a record."""
    if words := text.strip("\n"):
        before, _, after = text.partition(words)
        _logger.log(level, words, extra={"spacing": (before, after)}, stacklevel=3)
    elif _logger.isEnabledFor(level) and _stderr in _logger.handlers:
        _stderr.handle(logging.makeLogRecord({"msg": text, "levelno": level}))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 document, 2,000 documents."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@contextmanager
def command_line() -> Iterator[None]:
    """Inside the block, notices are not passed on to handlers of the root logger."""
    before, _logger.propagate = _logger.propagate, False
    try:
        yield
    finally:
        _logger.propagate = before


@contextmanager
def _terminal_may_close() -> Iterator[None]:
    """Discard stderr from now on if its terminal was closed: the run must reach its checkpoint."""
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
    """Inside the block, drop all notices but urgent ones and show no progress bars, if `mute` is true."""
    global _muted
    with _counting:  # estimators may be fitted in parallel threads
        _muted += mute
    try:
        yield
    finally:
        with _counting:
            _muted -= mute


@contextmanager
def notices_to(path: Path) -> Iterator[None]:
    """Inside the block, append notices to a file, so that the runs of a series do not flood stderr.

    Progress bars are still shown, and urgent notices are logged as well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file, _notices_in(file):
        yield


@contextmanager
def notices_on_stdout() -> Iterator[None]:
    """Inside the block, print notices on stdout: they are the result of the command."""
    with _notices_in(sys.stdout):
        yield


@contextmanager
def _notices_in(stream: TextIO) -> Iterator[None]:
    global _notices
    before, _notices = _notices, stream
    try:
        yield
    finally:
        _notices = before


def table(header: Sequence[str], rows: Iterable[Sequence[object]], text: Collection[int] = (0,)) -> None:
    """Log a table, one notice per line (see `table_lines`)."""
    for line in table_lines(header, rows, text):
        say(line)


def table_lines(header: Sequence[str], rows: Iterable[Sequence[object]], text: Collection[int] = (0,)) -> Iterator[str]:
    """Yield the lines of a table; columns in `text` (indices) are left-aligned, the others right-aligned."""
    cells = [list(map(str, header)), *(list(map(str, row)) for row in rows)]
    widths = [max(map(_columns, column)) for column in zip(*cells, strict=True)]
    for number, row in enumerate(cells):
        blanks = [" " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)]
        pairs = enumerate(zip(row, blanks, strict=True))
        aligned = (f"{cell}{blank}" if index in text else f"{blank}{cell}" for index, (cell, blank) in pairs)
        yield "  ".join(["", *aligned]).rstrip()
        if number == 0:
            yield "  " + "  ".join("─" * width for width in widths)


def _columns(text: str) -> int:
    """Return the columns that a text takes in a terminal: two for a Chinese character, none for an accent or joiner."""
    return sum(0 if category(c) in _NO_COLUMN else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def reading(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts unchanged, with a progress bar that counts their characters."""
    bar = Bar(0, "reading", " characters", scaled=True)
    try:
        for text in texts:
            yield text
            bar.advance(len(text))
    finally:
        bar.close()


def _in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


class Bar:
    """Progress bar on stderr, or a widget in a notebook.

    Hidden if stderr is neither a terminal nor a notebook, inside `muted`, and if the logger's level is above INFO.
    """

    def __init__(self, total: int, label: str, unit: str, done: int = 0, *, scaled: bool = False):
        """Show `done` of `total` units; `scaled` prints 12.3M in place of 12345678."""
        from tqdm.auto import tqdm

        hidden = _muted or not _logger.isEnabledFor(logging.INFO)
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=label,
            unit=unit,
            unit_scale=scaled,
            file=sys.stderr,
            disable=True if hidden else False if _in_notebook() else None,  # None: hidden without a terminal
            dynamic_ncols=True,
            leave=False,
        )

    def advance(self, count: int = 1, **shown: str) -> None:
        """Count `count` more units; `shown` is printed behind the bar, such as `loss="0.31"`."""
        if shown:
            self._bar.set_postfix(shown, refresh=False)
        with _terminal_may_close():
            self._bar.update(count)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        with _terminal_may_close():
            self._bar.close()
