"""The header of a table: lookup of a field's column by its flag or by common names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import shorten

from gpt1.config import Columns
from gpt1.errors import UserError

_LISTED_CHARACTERS = 40  # of a column name in a message; if the header line is missing, the names are whole texts


@dataclass(frozen=True, slots=True)
class Header:
    """Column `names` of `file`, and the `columns` set by flags."""

    file: str
    names: tuple[str, ...]
    columns: Columns

    def has_flag(self, field: str) -> bool:
        """Return whether the field has a flag, that is, is a field of `Columns`."""
        return hasattr(self.columns, field)

    def flagged(self, field: str) -> str | None:
        """Return the column set by the field's flag; None if there is no such flag or it is not set."""
        return getattr(self.columns, field, None)

    def find(self, field: str, usual: Sequence[str], *, required: bool = True) -> str | None:
        """Return the column of a field; None if no flag is set and no column has a common name.

        The first of the `usual` names takes precedence; of the others at most one may be present.

        Raises:
            UserError: the column set by the flag is missing (if `required`), or several columns have common names.
        """
        if (name := self.flagged(field)) is not None:
            return self.named(field, name, required=required)
        matches = self.among(usual[:1]) or self.among(usual[1:])
        if len(matches) > 1:
            advice = f"select one with {flag(field)}, for example {flag(field)} {matches[0]}"
            if not self.has_flag(field):
                advice = "rename the others"
            raise UserError(f"{self.file}: several possible columns for {field}: {join_words(matches)}; {advice}")
        return matches[0] if matches else None

    def named(self, field: str, name: str, *, required: bool = True) -> str | None:
        """Return the column called `name`, ignoring case; None if it is missing and not `required`.

        Raises:
            UserError: the column is missing and `required`.
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
        """Return the columns whose case-folded names are in `usual`."""
        return [name for name in self.names if name.casefold() in usual]

    def missing(self, fields: Sequence[str], usual: Iterable[str]) -> UserError:
        """Return the error for missing columns of `fields`, whose common names are `usual`."""
        advice = "select one with " + " ".join(f"{flag(field)} COLUMN" for field in fields)
        if not all(map(self.has_flag, fields)):
            advice = "rename the column"
        return UserError(
            f"{self.file}: no column for {join_words(fields)} (common names: {', '.join(usual)}); "
            f"its columns are {self.listed()}; {advice}"
        )

    def listed(self) -> str:
        """Return the column names, shortened, for messages."""
        return ", ".join(shorten(name, _LISTED_CHARACTERS, placeholder=" …") for name in self.names)


def flag(field: str) -> str:
    """Return the command-line flag of a field of `Columns`."""
    return "--" + field.replace("_", "-")


def join_words(words: Iterable[str]) -> str:
    """Return "a", "a and b", or "a, b and c"."""
    *rest, last = words
    return f"{', '.join(rest)} and {last}" if rest else last
