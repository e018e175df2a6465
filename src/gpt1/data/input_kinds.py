"""Input kinds: of which texts an example consists, and how it is made from rows, Python values, texts and JSON.

A kind is one object. `paper_kinds` has the paper's; a task of another package brings its own:

    InputKind("article", (TextField("title"), TextField("body"), TextField("summary", required=False)))
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpt1.data.example import Example, Label, usable_text
from gpt1.data.header import Header, join_words
from gpt1.tokenization.pretokenizers import valid_unicode

LABEL_COLUMNS = ("label", "labels", "class", "category", "sentiment", "target", "score", "stars")
"""Usual names of the label's column."""


@dataclass(frozen=True)
class TextField:
    """One text of an example."""

    name: str
    """Key in JSON, name of the text in explanations, and field of `Columns` where it has a flag."""
    usual: tuple[str, ...] = ()
    """Usual names of its column (default: `name`); the first wins over the others."""
    required: bool = True
    stand_in: str | None = None
    """The field whose column may stand alone in place of this one."""

    @property
    def columns(self) -> tuple[str, ...]:
        return self.usual or (self.name,)


@dataclass(frozen=True)
class InputKind:
    """Texts with names; an example has one text for each field, in their order.

    Raises:
        ValueError: no field, or an optional field that is not the last one.
    """

    name: str
    """In /v1/models, and for people."""
    fields: tuple[TextField, ...]
    singular: str = ""
    """One example, for messages: "a text" (default: made of the fields' names)."""
    plural: str = ""
    """Several examples, for messages: "texts"."""
    grammar: str = ""
    """An example in Python: "(text, text)"."""
    baseline: str = "tf-idf"
    """Features of the baseline that the task is compared with: a key of `evaluation.baselines.FEATURES`."""
    label_columns: tuple[str, ...] = LABEL_COLUMNS
    schema_name: str = ""
    """Name of the JSON schema (default: made of `name`)."""
    schema_description: str | None = None

    def __post_init__(self) -> None:
        if not self.fields or not all(field.required for field in self.fields[:-1]):
            raise ValueError(f"input kind {self.name}: expected fields of which at most the last one is optional")
        names = join_words(f"{each.name}{'' if each.required else ' (optional)'}" for each in self.fields)
        listed = f"({', '.join(each.name for each in self.fields)})"
        defaults = {
            "singular": f"an example with {names}", "plural": f"examples with {names}", "grammar": listed,
            "schema_name": re.sub(r"\W", "", self.name.title()),
        }  # fmt: skip
        for name, value in defaults.items():
            if not getattr(self, name):
                object.__setattr__(self, name, value)

    @property
    def n_required(self) -> int:
        return sum(each.required for each in self.fields)

    # ---- columns of a table

    @property
    def column_fields(self) -> tuple[str, ...]:
        """The fields that columns are found for."""
        return tuple(each.name for each in self.fields)

    def recognises(self, header: Header) -> bool:
        """Return whether the columns' names are those of this kind and of no other; flags aside."""
        return False

    def find_parts(self, header: Header) -> tuple[str, ...]:
        """Return the columns of an example's parts.

        Raises:
            UserError: a required column is missing, or could be several.
        """
        columns = {each.name: header.find(each.name, each.columns) for each in self.fields}
        for each in self.fields:
            if each.required and columns[each.name] is None and columns.get(each.stand_in or "") is None:
                raise header.missing([each.name], each.columns)
        return tuple(column for column in columns.values() if column is not None)

    def find_choices(self, header: Header) -> tuple[str, ...]:
        """Return the columns of an example's choices: one of lists, or one a choice.

        Raises:
            UserError: there is none where the kind has choices.
        """
        return ()

    def label_of(self, label: Label, n_choices: int, where: str) -> Label | None:
        """Return a row's label as the example keeps it; None for one that marks unlabelled rows.

        Raises:
            UserError: it cannot be the label of this example.
        """
        return label

    # ---- Python values, command lines, JSON

    def matches(self, value: Any) -> bool:
        """Return whether a Python value has the form of an example of this kind (its texts are not checked)."""
        if len(self.fields) == 1:
            return isinstance(value, str)
        return (
            isinstance(value, list | tuple)
            and self.n_required <= len(value) <= len(self.fields)
            and all(isinstance(text, str) for text in value)
        )

    def from_python(self, value: Any, where: str) -> Example:
        """Return the example of a Python value that `matches`.

        Raises:
            UserError: a text cannot be used.
        """
        texts = [value] if isinstance(value, str) else value
        return Example(tuple(usable_text(text, where) for text in texts), origin=where)

    def n_arguments(self, available: int) -> int:
        """Return how many of `available` texts on a command line make one example."""
        return len(self.fields) if self.n_required == len(self.fields) else max(1, available)

    @property
    def arguments(self) -> str:
        """The texts of an example on a command line, for messages."""
        return " ".join(each.name.upper() if each.required else f"[{each.name.upper()}]" for each in self.fields)

    def from_arguments(self, texts: Sequence[str], where: str) -> Example | None:
        """Return the example that texts on a command line make; None where these are too few or too many.

        Raises:
            UserError: a text cannot be used.
        """
        if not self.n_required <= len(texts) <= len(self.fields):
            return None
        return Example(usable_arguments(texts), origin=where)

    @property
    def json_fields(self) -> dict[str, tuple[bool, bool]]:
        """{key: (required, whether it is a list of texts)} of the JSON object of an example."""
        return {each.name: (each.required, False) for each in self.fields}

    @property
    def is_plain_json(self) -> bool:
        """Whether an example is a string in JSON, and no object."""
        return len(self.json_fields) == 1

    @property
    def json_description(self) -> str:
        """An example in JSON, for messages."""
        if self.is_plain_json:
            return self.singular
        required = [f'"{key}"' for key, (required, _) in self.json_fields.items() if required]
        return f"an object with {join_words(required)}"

    def from_json(self, values: Mapping[str, Any], where: str) -> Example:
        """Return the example of a JSON object that its schema has checked."""
        parts = (values.get(each.name) for each in self.fields)
        return Example(tuple(part for part in parts if part is not None), origin=where)

    # ---- what an example of this kind looks like

    def holds(self, example: Example) -> bool:
        """Return whether the example has as many parts and choices as this kind."""
        return self.n_required <= len(example.parts) <= len(self.fields) and not example.choices

    def names_of(self, example: Example) -> Example:
        """Return an example whose texts are the names of those of `example`: its task arranges them alike."""
        return Example(self.column_fields[: len(example.parts)])

    def sample(self) -> Example:
        """Return an example of all fields, whose texts are their names."""
        return Example(self.column_fields)


def usable_arguments(texts: Sequence[str]) -> tuple[str, ...]:
    """Return texts of a command line, whose bytes that are no UTF-8 arrive as lone surrogates and are replaced.

    Raises:
        UserError: one is blank.
    """
    return tuple(usable_text(valid_unicode(text), f"text {text!r}") for text in texts)
