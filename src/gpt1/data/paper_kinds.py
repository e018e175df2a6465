"""Input kinds of the paper's tasks: single text, pair of texts, context with choices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

from gpt1.data.bad_rows import RowError
from gpt1.data.example import INTEGER, Example, Label, usable_text
from gpt1.data.header import Header
from gpt1.data.input_kinds import InputKind, TextField, usable_arguments
from gpt1.errors import UserError

_ONE_CHOICE = re.compile(r"(?:choice|option|ending)[_ ]?(\d+|[a-z])", re.IGNORECASE)  # choice_0, option_a, ending1


@dataclass(frozen=True)
class _Pair(InputKind):
    """Two texts, whose columns are detected together."""

    usual_pairs: tuple[tuple[str, str], ...] = ()

    def recognises(self, header: Header) -> bool:
        """Return whether the columns of a pair are found."""
        return bool(self._find_pair(header))

    def find_parts(self, header: Header) -> dict[str, tuple[str, ...]]:
        """Return the two columns; raise UserError if they are missing."""
        parts = self._find_pair(header)
        if not parts:
            raise header.missing(self.column_fields, ("/".join(pair) for pair in self.usual_pairs))
        return {field: (part,) for field, part in zip(self.column_fields, parts, strict=True)}

    def _find_pair(self, header: Header) -> tuple[str, ...]:
        flagged = [(name, column) for name in self.column_fields if (column := header.flagged(name)) is not None]
        if len(flagged) == 1:
            raise UserError("--text-a and --text-b must be set together")
        if flagged:
            return tuple(header.named(*each) for each in flagged)
        remembered = [getattr(header.remembered, name) for name in self.column_fields]
        known = [column for name in remembered if name and (column := header.resolve(name))]
        if len(known) == len(remembered):
            return tuple(known)
        for first, second in self.usual_pairs:
            if (in_a := header.among([first])) and (in_b := header.among([second])):
                return in_a[0], in_b[0]
        return ()


@dataclass(frozen=True)
class ChoicesKind(InputKind):
    """Texts with a list of choices; the label is the index of the correct choice."""

    choices: TextField = field(default_factory=lambda: TextField("choices"))

    @property
    def column_fields(self) -> tuple[str, ...]:
        """Names of the text fields, then of the choices."""
        return (*super().column_fields, self.choices.name)

    def recognises(self, header: Header) -> bool:
        """Return whether columns of choices are found."""
        return bool(self._find_choices(header))

    def find_choices(self, header: Header) -> tuple[str, ...]:
        """Return the columns of the choices; raise UserError if they are missing."""
        columns = self._find_choices(header)
        if not columns:
            raise header.missing([self.choices.name], self.choices.columns)
        return columns

    def _find_choices(self, header: Header) -> tuple[str, ...]:
        name = self.choices.name
        named = header.flagged(name)
        if named is not None and "," in named and named not in header.names:
            return tuple(header.named(name, part.strip()) for part in named.split(","))
        remembered = (header.remembered.choices or "").split(",")
        if named is None and len(remembered) > 1 and all(map(header.resolve, remembered)):
            return tuple(column for each in remembered if (column := header.resolve(each)))
        if column := header.find(name, self.choices.columns):
            return (column,)
        numbered = {match[1].lower(): name for name in header.names if (match := _ONE_CHOICE.fullmatch(name))}
        for first in "01a":
            run = [chr(ord(first) + i) for i in range(len(numbered))]
            if len(run) > 1 and set(run) == set(numbered):
                return tuple(numbered[key] for key in run)
        return ()

    def label_of(self, label: Label, n_choices: int, where: str) -> int | None:
        """Convert a number or letter to the index of a choice; -1, which marks unlabelled rows on the hub, to None."""
        letters = ascii_uppercase[:n_choices]
        index: Label | None = label
        if isinstance(label, str):
            index = int(label) if INTEGER.fullmatch(label) else None
            if len(label) == 1 and label.upper() in letters:
                index = letters.index(label.upper())
        if index == -1:
            return None
        if index is not None and index in range(n_choices):
            return int(index)
        expected = f"a choice, 0 to {n_choices - 1} (counted from 0) or {letters[0]} to {letters[-1]}"
        raise RowError(f"{where}: the label is {label!r}, expected {expected}", "label that is not a choice")

    def matches(self, value: Any) -> bool:
        """Return whether a Python value is a sequence of texts followed by a sequence of at least two choices."""
        match value:
            case [*texts, [_, _, *_]]:
                return self.n_required <= len(texts) <= len(self.fields) and all(isinstance(t, str) for t in texts)
        return False

    def from_python(self, value: Any, where: str) -> Example:
        """Convert (text, …, choices); raise UserError if a text is blank or cannot be encoded."""
        *texts, choices = value
        parts = tuple(usable_text(text, where) for text in texts)
        return Example(parts, tuple(usable_text(choice, where) for choice in choices), origin=where)

    def n_arguments(self, available: int) -> int:
        """Return `available`: all command-line arguments form one example."""
        return max(1, available)

    @property
    def arguments(self) -> str:
        """The command-line arguments of an example, for messages."""
        required = (each.name.upper() for each in self.fields if each.required)
        return f"{' '.join(required)} CHOICE CHOICE …"

    def from_arguments(self, texts: Sequence[str], where: str) -> Example | None:
        """Convert the required texts followed by two or more choices; return None if there are fewer."""
        if len(texts) < self.n_required + 2:
            return None
        usable = usable_arguments(texts)
        return Example(usable[: self.n_required], usable[self.n_required :], origin=where)

    @property
    def json_fields(self) -> dict[str, tuple[bool, bool]]:
        """Fields of the JSON object: those of the texts, and the required list of choices."""
        return super().json_fields | {self.choices.name: (True, True)}

    def from_json(self, values: Mapping[str, Any], where: str) -> Example:
        """Convert a JSON object that has been validated by its schema."""
        parts = super().from_json(values, where).parts
        return Example(parts, tuple(values[self.choices.name]), origin=where)

    def holds(self, example: Example) -> bool:
        """Return whether the example has the parts of this kind and at least two choices."""
        return self.n_required <= len(example.parts) <= len(self.fields) and len(example.choices) > 1

    def names_of(self, example: Example) -> Example:
        """Return an example with the names of the parts, and "choice 0", "choice 1", …, as its texts."""
        parts = super().column_fields[: len(example.parts)]
        return Example(parts, tuple(f"choice {index}" for index in range(len(example.choices))))

    def sample(self) -> Example:
        """Return an example with all fields and two choices, whose texts are their names."""
        parts = super().column_fields
        return self.names_of(Example(parts, ("", "")))


SINGLE = InputKind(
    "single",
    (
        TextField(
            "text", ("text", "sentence", "review", "content"),
            ("comment", "body", "message", "tweet", "description", "reviewText", "文本", "内容", "评论"),
            ("title", "body"),
        ),
    ),
    "a text", "texts", "text",
)  # fmt: skip
PAIR = _Pair(
    "pair", (TextField("text_a"), TextField("text_b")), "a pair of texts", "pairs of texts", "(text, text)",
    baseline="overlap", schema_name="Pair",
    schema_description="Two texts whose relation the model predicts.",
    usual_pairs=(
        ("text_a", "text_b"), ("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"),
    ),
)  # fmt: skip
CHOICES = ChoicesKind(
    "choices",
    (
        TextField("context", ("context", "article", "premise"), stand_in="question"),
        TextField("question", required=False),
    ),
    "a context with choices", "contexts with choices", "(context, [choice, choice, …])",
    baseline="choice-overlap", label_columns=("label", "labels", "answer", "target"), rare_label_columns=(),
    schema_name="Question",
    schema_description="A context, an optional question, and the choices.",
    choices=TextField("choices", ("choices", "options", "endings")),
)  # fmt: skip

INPUT_KINDS = (CHOICES, PAIR, SINGLE)
"""Input kinds in the order in which they are tried if no task is given; the last one is the default."""


def kind_of(example: Example) -> InputKind:
    """Return the built-in kind of an example."""
    return next(kind for kind in INPUT_KINDS if kind.holds(example))
