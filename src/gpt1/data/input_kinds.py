"""Input kinds: the texts of an example, and its conversion from table rows, Python values, command lines and JSON.

The kinds of the paper's tasks are in `paper_kinds`; tasks of other packages can define their own:

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
"""Usual names of the label column; the first takes precedence."""
RARE_LABEL_COLUMNS = ("rating", "overall", "intent", "y", "标签")
"""Names of the label column if no column has one of `LABEL_COLUMNS`."""


@dataclass(frozen=True)
class TextField:
    """One text of an example."""

    name: str
    """Key in JSON, name in explanations, and, if the column has a flag, field of `Columns`."""
    usual: tuple[str, ...] = ()
    """Usual names of its column (default: `name`); the first takes precedence."""
    rare: tuple[str, ...] = ()
    """Names of its column if no column has a usual name."""
    together: tuple[str, ...] = ()
    """Names of columns that are joined where all of them are present and none has a usual name."""
    required: bool = True
    stand_in: str | None = None
    """A field whose column can replace this one if it is missing."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Usual names of the column."""
        return self.usual or (self.name,)


@dataclass(frozen=True)
class InputKind:
    """Kind of input: an example has one text for each field, in the order of `fields`.

    Raises:
        ValueError: `fields` is empty, or an optional field is not the last one.
    """

    name: str
    """Name in messages and in /v1/models."""
    fields: tuple[TextField, ...]
    singular: str = ""
    """One example in messages: "a text" (default: derived from the field names)."""
    plural: str = ""
    """Several examples in messages: "texts"."""
    grammar: str = ""
    """An example in Python notation, in messages: "(text, text)"."""
    baseline: str = "tf-idf"
    """Features of the baseline for comparison: a key of `evaluation.baselines.FEATURES`."""
    label_columns: tuple[str, ...] = LABEL_COLUMNS
    rare_label_columns: tuple[str, ...] = RARE_LABEL_COLUMNS
    schema_name: str = ""
    """Name of the JSON schema (default: derived from `name`)."""
    schema_description: str | None = None

    def __post_init__(self) -> None:
        if not self.fields or not all(field.required for field in self.fields[:-1]):
            raise ValueError(f"input kind {self.name}: expected at least one field, and only the last one optional")
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
        """Number of required fields."""
        return sum(each.required for each in self.fields)

    # ---- columns of a table

    @property
    def column_fields(self) -> tuple[str, ...]:
        """Names of the fields that are read from columns."""
        return tuple(each.name for each in self.fields)

    def recognises(self, header: Header) -> bool:
        """Return whether the column names identify this kind; flags are ignored."""
        return False

    def find_parts(self, header: Header) -> dict[str, tuple[str, ...]]:
        """Return the columns of each of an example's texts by field, without choices and absent optional fields.

        Raises:
            UserError: a required column is missing or ambiguous.
        """
        columns = {
            each.name: header.find_joined(each.name, each.columns, each.rare, each.together) for each in self.fields
        }
        for each in self.fields:
            if each.required and not columns[each.name] and not columns.get(each.stand_in or ""):
                raise header.missing([each.name], (*each.columns, *each.rare))
        return {field: found for field, found in columns.items() if found}

    def find_choices(self, header: Header) -> tuple[str, ...]:
        """Return the columns of an example's choices: one column of lists, or one column per choice.

        Raises:
            UserError: the kind has choices and no column is found.
        """
        return ()

    def label_of(self, label: Label, n_choices: int, where: str) -> Label | None:
        """Return the label for `Example.label`; None for a value that marks unlabelled rows.

        Raises:
            RowError: the value is not a valid label for this example.
        """
        return label

    # ---- Python values, command lines, JSON

    def matches(self, value: Any) -> bool:
        """Return whether a Python value has the form of an example of this kind; its texts are not validated."""
        if len(self.fields) == 1:
            return isinstance(value, str)
        return (
            isinstance(value, list | tuple)
            and self.n_required <= len(value) <= len(self.fields)
            and all(isinstance(text, str) for text in value)
        )

    def from_python(self, value: Any, where: str) -> Example:
        """Convert a Python value for which `matches` is true.

        Raises:
            UserError: a text is blank or cannot be encoded.
        """
        texts = [value] if isinstance(value, str) else value
        return Example(tuple(usable_text(text, where) for text in texts), origin=where)

    def n_arguments(self, available: int) -> int:
        """Return how many of `available` command-line arguments form one example."""
        return len(self.fields) if self.n_required == len(self.fields) else max(1, available)

    @property
    def arguments(self) -> str:
        """The command-line arguments of an example, for messages."""
        return " ".join(each.name.upper() if each.required else f"[{each.name.upper()}]" for each in self.fields)

    def from_arguments(self, texts: Sequence[str], where: str) -> Example | None:
        """Convert command-line arguments to an example; return None if there are too few or too many.

        Raises:
            UserError: a text is blank.
        """
        if not self.n_required <= len(texts) <= len(self.fields):
            return None
        return Example(usable_arguments(texts), origin=where)

    @property
    def json_fields(self) -> dict[str, tuple[bool, bool]]:
        """Fields of an example's JSON object: {key: (required, is a list of texts)}."""
        return {each.name: (each.required, False) for each in self.fields}

    @property
    def is_plain_json(self) -> bool:
        """Whether an example is a JSON string instead of an object."""
        return len(self.json_fields) == 1

    @property
    def json_description(self) -> str:
        """Description of an example in JSON, for messages."""
        if self.is_plain_json:
            return self.singular
        required = [f'"{key}"' for key, (required, _) in self.json_fields.items() if required]
        return f"an object with {join_words(required)}"

    def from_json(self, values: Mapping[str, Any], where: str) -> Example:
        """Convert a JSON object that has been validated by its schema."""
        parts = (values.get(each.name) for each in self.fields)
        return Example(tuple(part for part in parts if part is not None), origin=where)

    # ---- form of an example

    def holds(self, example: Example) -> bool:
        """Return whether the numbers of parts and choices of the example are those of this kind."""
        return self.n_required <= len(example.parts) <= len(self.fields) and not example.choices

    def names_of(self, example: Example) -> Example:
        """Return an example with the names of the texts of `example` as its texts."""
        return Example(self.column_fields[: len(example.parts)])

    def sample(self) -> Example:
        """Return an example with all fields, whose texts are the field names."""
        return Example(self.column_fields)


def usable_arguments(texts: Sequence[str]) -> tuple[str, ...]:
    """Validate command-line texts; lone surrogates, which stand for bytes that are not UTF-8, are replaced.

    Raises:
        UserError: a text is blank.
    """
    return tuple(usable_text(valid_unicode(text), f"text {text!r}") for text in texts)
