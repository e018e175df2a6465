"""Rows that cannot be used: their numbers by kind, the first of them, and the error or note about them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gpt1.errors import UserError

LISTED_ROWS = 20
"""Maximum number of rows that an error lists."""


class RowError(UserError):
    """Row or value that cannot be used; `kind` groups such rows in counts."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind

    def reason(self, where: str) -> str:
        """Return the message without the location, `where`, at its start."""
        return str(self).removeprefix(where).lstrip(": ")


@dataclass
class BadRows:
    """Count of the rows of one or more files, and of those that cannot be used."""

    rows: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    first: list[RowError] = field(default_factory=list)
    """At most `LISTED_ROWS`."""

    @property
    def bad(self) -> int:
        """Number of rows that cannot be used."""
        return self.by_kind.total()

    @property
    def kinds(self) -> str:
        """Kinds with their numbers, the most frequent first: "empty label (12), empty text (7)"; one without number."""
        counts = self.by_kind.most_common()
        return counts[0][0] if len(counts) == 1 else ", ".join(f"{kind} ({count:,})" for kind, count in counts)

    def add(self, error: RowError) -> None:
        """Count a row that cannot be used."""
        self.by_kind[error.kind] += 1
        if len(self.first) < LISTED_ROWS:
            self.first.append(error)

    def add_all(self, other: BadRows) -> None:
        """Add the counts of other files."""
        self.rows += other.rows
        self.by_kind += other.by_kind
        self.first += other.first[: LISTED_ROWS - len(self.first)]

    def notes(self, what: str = "were left out") -> list[str]:
        """Return a note on the rows that cannot be used, if any; `what` is what became of them."""
        return [f"{self.bad:,} of {self.rows:,} rows {what}: {self.kinds}."] if self.bad else []

    def error(self) -> UserError:
        """Return the error that lists the rows: one line if there is one row, or if no row can be used."""
        first, *others = map(str, self.first)
        if self.bad == self.rows:
            kinds = f" ({self.kinds})" if len(self.by_kind) > 1 else ""
            return UserError(first + (f"; none of the {self.rows:,} rows can be used{kinds}" if others else ""))
        if not others:
            return UserError(f"{first}; correct the row, or leave it out: --on-bad-row skip")
        more = self.bad - len(self.first)
        lines = [
            f"{self.bad:,} of {self.rows:,} rows cannot be used: {self.kinds}",
            *(f"  {each}" for each in self.first),
            *([f"  and {more:,} more"] if more else []),
            "Correct these rows, or leave them out: --on-bad-row skip",
        ]
        return UserError("\n".join(lines))
