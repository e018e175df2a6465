"""Which column of a table holds what: by the usual names, or as flags say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import shorten

from gpt1.config import Columns
from gpt1.errors import UserError

# The first name of a field wins over its others; of the others only one may be present.
USUAL_NAMES = {
    "text": ("text", "sentence", "review", "content"),
    "context": ("context", "article", "premise"),
    "question": ("question",),
    "choices": ("choices", "options", "endings"),
    "label": ("label", "labels", "class", "category", "sentiment", "target", "score", "stars"),
    "answer": ("label", "labels", "answer", "target"),  # the label of multiple choice
}
USUAL_PAIRS = (("text_a", "text_b"), ("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"))

_FIELDS = {"single": ("text",), "pair": ("text_a", "text_b"), "choices": ("context", "question", "choices")}
_ONE_CHOICE = re.compile(r"(?:choice|option|ending)[_ ]?(\d+|[a-z])", re.IGNORECASE)  # choice_0, option_a, ending1
_LISTED_CHARACTERS = 40  # of a column's name in a message; without a header line the names are texts


BY_USUAL_NAMES = Columns()


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns found in one file."""

    kind: str
    """single | pair | choices"""
    parts: tuple[str, ...]
    choices: tuple[str, ...]
    """one column of lists, or one column a choice"""
    label: str | None
    weight: str | None

    @property
    def used(self) -> tuple[str, ...]:
        return tuple(c for c in (*self.parts, *self.choices, self.label, self.weight) if c is not None)


def find_layout(file: str, names: Sequence[str], columns: Columns, kind: str | None, *, labelled: bool) -> Layout:
    """Match flags and usual names with the column `names` of `file`.

    Args:
        kind: single | pair | choices; None = what the flags, or else the names of the columns, speak for.
        labelled: False = a file without the label column is welcome.

    Raises:
        UserError: a column is missing, unknown or ambiguous, or flags of two kinds are mixed.
    """
    header = _Header(file, tuple(names), columns)
    kind = _find_kind(header, kind)
    choices: tuple[str, ...] = ()
    if kind == "single":
        parts = [header.find("text")]
    elif kind == "pair":
        parts = list(_find_pair(header))
    else:
        choices = _find_choices(header)
        parts = [header.find("context"), header.find("question")]
    found = tuple(part for part in parts if part is not None)
    if not found:
        raise header.missing(*_FIELDS[kind][: 2 if kind == "pair" else 1])
    if kind == "choices" and not choices:
        raise header.missing("choices")
    label = header.find("label", USUAL_NAMES["answer" if kind == "choices" else "label"], required=labelled)
    if label is None and labelled:
        raise header.missing("label")
    return Layout(kind, found, choices, label, header.find("weight", ()))


@dataclass(frozen=True, slots=True)
class _Header:
    file: str
    names: tuple[str, ...]
    columns: Columns

    def find(self, field: str, usual: Sequence[str] | None = None, *, required: bool = True) -> str | None:
        """The column of a field; None where no flag names it and no usual name is there."""
        if (flag := getattr(self.columns, field)) is not None:
            return self.named(field, flag, required=required)
        usual = USUAL_NAMES[field] if usual is None else usual
        found = self.among(usual[:1]) or self.among(usual[1:])
        if len(found) > 1:
            choice = f"say which by {_flag(field)}, for example {_flag(field)} {found[0]}"
            raise UserError(f"{self.file}: the {field} could be in {_and(found)}: {choice}")
        return found[0] if found else None

    def named(self, field: str, flag: str, *, required: bool = True) -> str | None:
        if flag in self.names:
            return flag
        found = self.among([flag.casefold()])
        if len(found) == 1:
            return found[0]
        if not required:
            return None
        raise UserError(f"{_flag(field)} {flag}: no such column in {self.file}; its columns are {self.listed()}")

    def among(self, usual: Iterable[str]) -> list[str]:
        return [name for name in self.names if name.casefold() in usual]

    def missing(self, *fields: str) -> UserError:
        pairs = ["/".join(pair) for pair in USUAL_PAIRS]
        usual = ", ".join(pairs if fields[0] == "text_a" else USUAL_NAMES[fields[0]])
        say = " ".join(f"{_flag(field)} COLUMN" for field in fields)
        return UserError(
            f"{self.file}: no column for {_and(fields)} (usual names: {usual}); "
            f"its columns are {self.listed()}; name one by {say}"
        )

    def listed(self) -> str:
        return ", ".join(shorten(name, _LISTED_CHARACTERS, placeholder=" …") for name in self.names)


def _find_kind(header: _Header, kind: str | None) -> str:
    given = {k: [_flag(f) for f in fields if getattr(header.columns, f) is not None] for k, fields in _FIELDS.items()}
    flags = [(k, names[0]) for k, names in given.items() if names]
    if kind is not None:
        if foreign := [flag for k, flag in flags if k != kind]:
            raise UserError(f"{foreign[0]} does not fit this task, which reads {_and(map(_flag, _FIELDS[kind]))}")
        return kind
    if len(flags) > 1:
        raise UserError(f"{_and(flag for _, flag in flags)} belong to different kinds of task: give one of them")
    if flags:
        return flags[0][0]
    if _find_choices(header):
        return "choices"
    return "pair" if _find_pair(header) else "single"


def _find_pair(header: _Header) -> tuple[str | None, ...]:
    a, b = header.columns.text_a, header.columns.text_b
    if a is not None and b is not None:
        return header.named("text_a", a), header.named("text_b", b)
    if a is not None or b is not None:
        raise UserError("--text-a and --text-b go together, and only one of them is given")
    for first, second in USUAL_PAIRS:
        if (in_a := header.among([first])) and (in_b := header.among([second])):
            return in_a[0], in_b[0]
    return ()


def _find_choices(header: _Header) -> tuple[str, ...]:
    flag = header.columns.choices
    if flag is not None and "," in flag and flag not in header.names:
        return tuple(column for name in flag.split(",") if (column := header.named("choices", name.strip())))
    if column := header.find("choices"):
        return (column,)
    numbered = {match[1].lower(): name for name in header.names if (match := _ONE_CHOICE.fullmatch(name))}
    for first in "01a":
        run = [chr(ord(first) + i) for i in range(len(numbered))]
        if len(run) > 1 and set(run) == set(numbered):
            return tuple(numbered[key] for key in run)
    return ()


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def _and(words: Iterable[str]) -> str:
    *rest, last = words
    return f"{', '.join(rest)} and {last}" if rest else last
