"""The header of a table: lookup of a field's column by its flag, by the columns of a run, or by usual names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from textwrap import shorten

from gpt1.config import Columns
from gpt1.config.overrides import SIMILARITY
from gpt1.errors import UserError

_LISTED_CHARACTERS = 40  # of a column name in a message; if the header line is missing, the names are whole texts
_SIMILARITY_TO_USUAL = 0.75  # of a name that is suggested although no flag asks for a similar one
_NEVER_SUGGESTED = ("", "id", "index")


class MissingColumn(UserError):
    """The columns of one field are missing; `find_layout` reports those of all fields at once."""

    def __init__(self, problem: str, fields: Sequence[str], wanted: Sequence[str], *, flagged: bool = False) -> None:
        super().__init__(problem)
        self.fields, self.wanted, self.flagged = fields, wanted, flagged


class NotFound(UserError):
    """No column has a usual name of a field, and no flag is set."""


@dataclass(frozen=True, slots=True)
class Header:
    """Column `names` of `file`, the `columns` set by flags, and the `remembered` columns that a run was trained on."""

    file: str
    names: tuple[str, ...]
    columns: Columns
    remembered: Columns

    def has_flag(self, field: str) -> bool:
        """Return whether the field has a flag: --group, or that of a field of `Columns`."""
        return field == "group" or hasattr(self.columns, field)

    def flagged(self, field: str) -> str | None:
        """Return the column set by the field's flag; None if there is no such flag or it is not set."""
        return getattr(self.columns, field, None)

    def find(self, field: str, usual: Sequence[str], rare: Sequence[str] = ()) -> str | None:
        """Return the column of a field; None if no flag is set and no column has a usual name.

        The order is: the flag, the run's column, the first of the `usual` names, the others, the `rare` names, and
        names that consist of these words (`Sentiment Label`). Of each group at most one may be present.

        Raises:
            UserError: the column set by the flag is missing, or several columns have usual names.
        """
        if (name := self.flagged(field)) is not None:
            return self.named(field, name)
        if (name := getattr(self.remembered, field, None)) is not None and (column := self.resolve(name)):
            return column
        groups = (self.among(usual[:1]), self.among(usual[1:]), self.among(rare), self.composed((*usual, *rare)))
        matches = next(filter(None, groups), [])
        if len(matches) > 1:
            advice = f"select one with {flag(field)}, for example {flag(field)} {quoted(matches[0])}"
            if not self.has_flag(field):
                advice = "rename the others"
            raise UserError(f"{self.file}: several possible columns for {field}: {join_words(matches)}; {advice}")
        return matches[0] if matches else None

    def find_joined(
        self, field: str, usual: Sequence[str], rare: Sequence[str], together: Sequence[str]
    ) -> tuple[str, ...]:
        """Return the columns whose texts are joined to the text of a field; an empty tuple if there are none.

        Several columns are those of `--text a,b`, which is one column if one has this name, or the usual names that
        stand `together`, unless a column has one of the `usual` names.

        Raises:
            UserError: a column set by the flag is missing, or several columns have usual names.
        """
        if (given := self.flagged(field)) is not None:
            if column := self.resolve(given):
                return (column,)
            parts = self._parts(given)
            return tuple(self.named(field, part) for part in parts)
        if (given := getattr(self.remembered, field, None)) is not None:
            columns = [self.resolve(given)] if self.resolve(given) else [self.resolve(p) for p in self._parts(given)]
            if all(columns):
                return tuple(column for column in columns if column is not None)
        pair = [self.among([name]) for name in together]
        if pair and all(len(found) == 1 for found in pair) and not self.among(usual):
            return tuple(found[0] for found in pair)
        column = self.find(field, usual, rare)
        return () if column is None else (column,)

    def _parts(self, given: str) -> list[str]:
        """Split `a,b` at commas; a column whose name contains a comma stays whole."""
        parts, rest = [], given.split(",")
        while rest:
            size = next((n for n in range(len(rest), 1, -1) if ",".join(rest[:n]) in self.names), 1)
            parts.append(",".join(rest[:size]).strip())
            rest = rest[size:]
        return parts

    def named(self, field: str, name: str) -> str:
        """Return the column called `name`; see `resolve`.

        Raises:
            MissingColumn: there is none.
        """
        if (column := self.resolve(name)) is not None:
            return column
        raise MissingColumn(f"{flag(field)} {name}", [field], [name], flagged=True)

    def resolve(self, name: str) -> str | None:
        """Return the column called `name`, else the only one that differs in case, blanks or underscores."""
        if name in self.names:
            return name
        matches = self.among([name])
        return matches[0] if len(matches) == 1 else None

    def among(self, usual: Iterable[str]) -> list[str]:
        """Return the columns with one of the `usual` names, regardless of case, blanks and underscores."""
        keys = {_key(name) for name in usual} - {""}
        return [name for name in self.names if _key(name) in keys]

    def composed(self, words: Iterable[str]) -> list[str]:
        """Return the columns whose names consist of several of the `words`: `Review Text`, `sentimentLabel`."""
        keys = [re.escape(_key(word)) for word in words if len(_key(word)) > 1]
        pattern = re.compile(f"(?:{'|'.join(keys)})+")
        return [name for name in self.names if keys and pattern.fullmatch(_key(name))]

    def missing(self, fields: Sequence[str], usual: Iterable[str]) -> MissingColumn:
        """Return the error for missing columns of `fields`, whose usual names are `usual`."""
        wanted = tuple(usual)
        return MissingColumn(f"no column for {join_words(fields)} (usual names: {', '.join(wanted)})", fields, wanted)

    def all_missing(self, errors: Sequence[MissingColumn]) -> UserError:
        """Return the error that reports all missing columns, with the nearest names."""
        flagged = [str(each) for each in errors if each.flagged]
        others = join_words([str(each) for each in errors if not each.flagged] or [""])
        if flagged:
            start = f"{', '.join(flagged)}: no such column{'s' * (len(flagged) > 1)} in {self.file}"
            problem = f"{start}, and {others}" if others else start
        else:
            problem = f"{self.file}: {others}"
        fields = [field for each in errors for field in each.fields]
        near = {each.fields[0]: quoted(name) for each in errors if (name := self._nearest(each))}
        flags = " ".join(f"{flag(field)} {near.get(field, 'COLUMN')}" for field in fields)
        advice = f"did you mean {flags}?" if near else f"select one with {flags}"
        if not all(map(self.has_flag, fields)):
            advice = "rename the column"
        kind = UserError if flagged else NotFound
        return kind(f"{problem}; its columns are {self.listed()}; {advice}")

    def _nearest(self, error: MissingColumn) -> str | None:
        """Return the column whose name is most similar to one of the wanted names; None if none is similar.

        Of an object, it is the first of its cells.
        """
        if len(error.fields) > 1:  # a pair
            return None
        for name in self.names:
            if any(name.startswith(f"{each}.") for each in error.wanted):
                return name
        ratios = {
            name: max(SequenceMatcher(None, _key(name), _key(each)).ratio() for each in error.wanted)
            for name in self.names
            if _key(name) not in _NEVER_SUGGESTED
        }
        best = max(ratios, key=ratios.__getitem__, default=None)
        least = SIMILARITY if error.flagged else _SIMILARITY_TO_USUAL
        return best if best is not None and ratios[best] >= least else None

    def listed(self) -> str:
        """Return the column names, shortened, for messages."""
        return ", ".join(shorten(name, _LISTED_CHARACTERS, placeholder=" …") or "''" for name in self.names)


def _key(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.casefold())


def flag(field: str) -> str:
    """Return the command-line flag of a field of `Columns`."""
    return "--" + field.replace("_", "-")


def quoted(name: str) -> str:
    """Return a column name as a shell word."""
    return name if re.fullmatch(r"[\w.,-]+", name) else f'"{name}"'


def join_words(words: Iterable[str]) -> str:
    """Return "a", "a and b", or "a, b and c"."""
    *rest, last = words
    return f"{', '.join(rest)} and {last}" if rest else last
