"""The header of a table: finds the column of a field by its flag or by its usual names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import shorten

from gpt1.config import Columns
from gpt1.errors import UserError

_LISTED_CHARACTERS = 40  # of a column's name in a message; without a header line the names are texts


@dataclass(frozen=True, slots=True)
class Header:
    """The column `names` of `file`, and the `columns` that flags name."""

    file: str
    names: tuple[str, ...]
    columns: Columns

    def has_flag(self, field: str) -> bool:
        """Return whether the field is one of `Columns`."""
        return hasattr(self.columns, field)

    def flagged(self, field: str) -> str | None:
        """Return the column that the field's flag names; None where there is no such flag, or it is not given."""
        return getattr(self.columns, field, None)

    def find(self, field: str, usual: Sequence[str], *, required: bool = True) -> str | None:
        """Return the column of a field; None where no flag names it and no usual name is there.

        The first usual name wins over the others; of the others only one may be present.

        Raises:
            UserError: the flag names no column (unless not `required`), or several columns have usual names.
        """
        if (name := self.flagged(field)) is not None:
            return self.named(field, name, required=required)
        matches = self.among(usual[:1]) or self.among(usual[1:])
        if len(matches) > 1:
            advice = f"say which by {flag(field)}, for example {flag(field)} {matches[0]}"
            if not self.has_flag(field):
                advice = "rename the others"
            raise UserError(f"{self.file}: the {field} could be in {join_words(matches)}: {advice}")
        return matches[0] if matches else None

    def named(self, field: str, name: str, *, required: bool = True) -> str | None:
        """Return the column of this name, in any case; None where it is missing and not `required`.

        Raises:
            UserError: there is none.
        """
        if name in self.names:
            return name
        matches = self.among([name.casefold()])
        if len(matches) == 1:
            return matches[0]
        if not required:
            return None
        raise UserError(f"{flag(field)} {name}: no such column in {self.file}; its columns are {self.listed()}")

    def among(self, usual: Iterable[str]) -> list[str]:
        """Return the columns whose names, in any case, are among `usual`."""
        return [name for name in self.names if name.casefold() in usual]

    def missing(self, fields: Sequence[str], usual: Iterable[str]) -> UserError:
        """Return the error that says that the columns of `fields` are missing."""
        advice = "name one by " + " ".join(f"{flag(field)} COLUMN" for field in fields)
        if not all(map(self.has_flag, fields)):
            advice = "rename the column"
        return UserError(
            f"{self.file}: no column for {join_words(fields)} (usual names: {', '.join(usual)}); "
            f"its columns are {self.listed()}; {advice}"
        )

    def listed(self) -> str:
        return ", ".join(shorten(name, _LISTED_CHARACTERS, placeholder=" …") for name in self.names)


def flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def join_words(words: Iterable[str]) -> str:
    """Return "a", "a and b", or "a, b and c"."""
    *rest, last = words
    return f"{', '.join(rest)} and {last}" if rest else last
