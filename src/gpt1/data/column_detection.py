"""Detection of the input kind and of the text, label and weight columns, by flags or by common names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpt1.config import Columns
from gpt1.data.header import Header, flag, join_words
from gpt1.data.input_kinds import InputKind
from gpt1.data.paper_kinds import INPUT_KINDS
from gpt1.errors import UserError

BY_USUAL_NAMES = Columns()


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns found in one file."""

    kind: InputKind
    parts: tuple[str, ...]
    choices: tuple[str, ...]
    """One column of lists, or one column per choice."""
    label: str | None
    weight: str | None

    @property
    def used(self) -> tuple[str, ...]:
        """Names of all columns that are read."""
        return tuple(c for c in (*self.parts, *self.choices, self.label, self.weight) if c is not None)


def find_layout(file: str, names: Sequence[str], columns: Columns, kind: InputKind | None, *, labelled: bool) -> Layout:
    """Find the columns of `file`, whose columns are called `names`, by flags and common names.

    Args:
        kind: Input kind of the examples; None = inferred from the flags, else from the column names.
        labelled: Whether the label column is required.

    Raises:
        UserError: a column is missing, unknown or ambiguous, or flags of two kinds are mixed.
    """
    header = Header(file, tuple(names), columns)
    kind = _find_kind(header, kind)
    parts, choices = kind.find_parts(header), kind.find_choices(header)
    label = header.find("label", kind.label_columns, required=labelled)
    if label is None and labelled:
        raise header.missing(["label"], kind.label_columns)
    return Layout(kind, parts, choices, label, header.find("weight", ()))


def _find_kind(header: Header, kind: InputKind | None) -> InputKind:
    flags = {
        each: [flag(name) for name in each.column_fields if header.flagged(name) is not None]
        for each in reversed(INPUT_KINDS)
    }
    if kind is not None:
        own = [flag(name) if header.has_flag(name) else name for name in kind.column_fields]
        if foreign := [name for names in flags.values() for name in names if name not in own]:
            raise UserError(f"{foreign[0]} does not apply to this task, which reads {join_words(own)}")
        return kind
    flagged = {each: names[0] for each, names in flags.items() if names}
    if len(flagged) > 1:
        raise UserError(f"{join_words(flagged.values())} belong to different kinds of task: set only one of them")
    recognised = (each for each in INPUT_KINDS if each.recognises(header))
    return next(iter(flagged), None) or next(recognised, INPUT_KINDS[-1])
