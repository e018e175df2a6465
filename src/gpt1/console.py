"""What a person sees while a command runs: notices, tables and progress bars, all on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence


def say(text: str = "") -> None:
    """Print a line for people."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns; the first is text, the others are figures and stand to the right."""
    cells = [list(map(str, header)), *(list(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for number, row in enumerate(cells):
        first, *rest = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        say("  ".join(["", first, *rest]).rstrip())
        if number == 0:
            say("  " + "  ".join("─" * width for width in widths))


class Bar:
    """A progress bar where stderr is a terminal; silent elsewhere."""

    def __init__(self, total: int, label: str, unit: str, done: int = 0):
        from tqdm import tqdm

        self._bar = tqdm(
            total=total,
            initial=done,
            desc=label,
            unit=unit,
            file=sys.stderr,
            disable=None,
            dynamic_ncols=True,
            leave=False,
        )

    def advance(self, count: int = 1, **shown: str) -> None:
        if shown:
            self._bar.set_postfix(shown, refresh=False)
        self._bar.update(count)

    def close(self) -> None:
        self._bar.close()
