"""Detection of the input kind and of the text, label and weight columns, by flags or by usual names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

from gpt1.config import Columns
from gpt1.data.header import Header, MissingColumn, flag, join_words, quoted
from gpt1.data.input_kinds import InputKind
from gpt1.data.paper_kinds import INPUT_KINDS
from gpt1.errors import UserError

BY_USUAL_NAMES = Columns()

JOINED = ", joined by a line break"


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns found in one file."""

    kind: InputKind
    parts: Mapping[str, tuple[str, ...]]
    """The columns of each field; the texts of several columns are joined."""
    choices: tuple[str, ...]
    """One column of lists, or one column per choice."""
    label: str | None
    weight: str | None
    group: str | None = None

    @property
    def roles(self) -> dict[str, tuple[str, ...]]:
        """The columns that are read, by what they are used as."""
        several = {**self.parts, "choices": self.choices}
        single = {"label": self.label, "weight": self.weight, "group": self.group}
        found = {role: names for role, names in several.items() if names}
        return found | {role: (name,) for role, name in single.items() if name is not None}

    @property
    def used(self) -> tuple[str, ...]:
        """Names of all columns that are read."""
        return tuple(chain.from_iterable(self.roles.values()))

    def unused(self, names: Iterable[str]) -> list[str]:
        """Return the `names` that are not read; a column without a name, such as an index, is left out."""
        used = self.used
        return [name for name in names if name and name not in used]

    @property
    def columns(self) -> Columns:
        """The columns as flags, for the record of a run; those of fields without a flag are left out."""
        found = {field: ",".join(columns) for field, columns in self.parts.items() if hasattr(BY_USUAL_NAMES, field)}
        columns = Columns(choices=",".join(self.choices) or None, label=self.label, weight=self.weight)
        return replace(columns, **found)  # type: ignore[arg-type]  # names of columns

    def notes(self, columns: Columns) -> list[str]:
        """Return a note on the columns that were found by other names than `text` and `label`, without a flag."""
        found = {
            flag(field): column
            for field, column in vars(self.columns).items()
            if column is not None and vars(columns)[field] is None and column not in (field, "label")
        }
        told = [f"{name} {quoted(column)}" for name, column in found.items()]
        joined = any(len(part) > 1 for part in self.parts.values())
        return [f"Columns: {', '.join(told)}{JOINED if joined else ''}."] if told else []


def find_layout(
    file: str, names: Sequence[str], columns: Columns, kind: InputKind | None, *, labelled: bool | None,
    remembered: Columns = BY_USUAL_NAMES, group: str | None = None,
) -> Layout:  # fmt: skip
    """Find the columns of `file`, whose columns are called `names`, by flags and usual names.

    Args:
        file: Name of the file, for errors.
        names: Names of its columns.
        columns: Columns set by flags.
        kind: Input kind of the examples; None = inferred from the flags, else from the column names.
        labelled: Whether the label column is required; None = labels and weights are not read.
        remembered: Columns that the run was trained on, used where no flag is set and the file has them.
        group: Column set by --group.

    Raises:
        UserError: columns are missing, unknown or ambiguous, or flags of two kinds are mixed.
    """
    header = Header(file, tuple(names), columns, remembered)
    kind = _find_kind(header, kind)
    finders: list[Callable[[Header], Any]] = [kind.find_parts, kind.find_choices]
    if labelled is not None:
        finders += [partial(_find_label, kind, labelled), lambda header: header.find("weight", ())]
    if group is not None:
        finders.append(lambda header: header.named("group", str(group)))
    found: list[Any] = []
    missing: list[MissingColumn] = []
    for find in finders:
        try:
            found.append(find(header))
        except MissingColumn as error:
            missing.append(error)
    if missing:
        raise header.all_missing(missing)
    if kind.find_choices(header) and (columns.label_map is not None or columns.fold_labels):
        name = "--label-map" if columns.label_map is not None else "--fold-labels"
        raise UserError(f"{name} does not apply to multiple choice, whose labels are the numbers of choices")
    parts, choices, label, weight, group = (*found, None, None, None)[:5]
    return Layout(kind, parts, choices, label, weight, group)


def _find_label(kind: InputKind, required: bool, header: Header) -> str | None:
    given = header.columns.label
    if given is not None and header.resolve(given) is None:
        if not required:
            return None
        parts = [part.strip() for part in given.split(",")]
        if len(parts) > 1 and all(map(header.resolve, parts)):
            raise UserError(
                f"--label {given}: several columns of labels (multi-label) are not supported yet; select one of them: "
                f"--label {quoted(parts[0])}"
            )
    label = header.find("label", kind.label_columns, kind.rare_label_columns)
    if label is None and required:
        raise header.missing(["label"], (*kind.label_columns, *kind.rare_label_columns))
    return label


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
