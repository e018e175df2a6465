"""Ids of the labels of a data set among the names of a model's labels."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

from gpt1.console import counted
from gpt1.data.example import Example, Label, folded_text
from gpt1.data.header import join_words
from gpt1.data.label_column import label_name, numbers_of
from gpt1.errors import UserError

NAMES_LISTED = 20
"""Maximum number of labels in a message."""


class LabelIds:
    """Ids of labels by name: spelled as the name or, for names that are numbers, of the same value.

    The ids are those of `transformers` if a model's labels have no names (LABEL_0, LABEL_1). Booleans are 0 and 1.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._by_name = {name: index for index, name in enumerate(names)}
        numbers = numbers_of(names)
        self._by_value = {value: self._by_name[name] for name, value in numbers.items()}
        if all(name == f"LABEL_{index}" for index, name in enumerate(names)):
            self._by_value = {index: index for index in range(len(names))}
        if {*names} == {"0", "1"}:  # gpt1 named booleans so before
            self._by_name |= {"false": self._by_name["0"], "true": self._by_name["1"]}
        if {*names} == {"false", "true"}:
            self._by_value = {0: self._by_name["false"], 1: self._by_name["true"]}

    def __getitem__(self, label: Label | None) -> int:
        """Return the id of a label; -1 if it is unknown."""
        if (index := self._by_name.get(label if isinstance(label, str) else label_name(label))) is not None:
            return index
        number = numbers_of([label]).get(label) if isinstance(label, str) else label
        return -1 if number is None else self._by_value.get(number, -1)


def require_known(examples: Sequence[Example], names: Sequence[str], in_file: Sequence[Example] | None = None) -> None:
    """Require that every label is one of the `names`; `in_file` are the examples before --label-map.

    Raises:
        UserError: some are not. The message lists them with their counts, and the --label-map that names all labels.
    """
    ids = LabelIds(names)
    unknown = [example for example in examples if ids[example.label] < 0]
    if not unknown:
        return
    counts = Counter(label_name(example.label) for example in unknown)
    known = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
    listed = join_words([f"{label!r} ({counted(count, 'row')})" for label, count in counts.most_common(NAMES_LISTED)])
    more = f" and {len(counts) - NAMES_LISTED} more" if len(counts) > NAMES_LISTED else ""
    verb, plural = ("does", "") if len(counts) == 1 else ("do", "s")
    new_names = {label_name(old.label): new.label for old, new in zip(in_file or examples, examples, strict=True)}
    raise UserError(
        f"{unknown[0].origin}: label{plural} {listed}{more} {verb} not occur in the training split (known: {known}); "
        f"{_remedy(new_names, counts, names, ids)}"
    )


def _remedy(new_names: Mapping[str, Label | None], unknown: Counter[str], names: Sequence[str], ids: LabelIds) -> str:
    """Return what to do about `unknown` labels; `new_names` are the labels of the file with their present names."""
    folded = {folded_text(name) for name in names}
    if all(folded_text(label) in folded for label in unknown):
        return "they differ only in case or blanks: add --fold-labels"
    pairs = {old: label_name(new) for old, new in new_names.items() if old != label_name(new) and ids[new] >= 0}
    open_names = {old: label_name(new) for old, new in new_names.items() if ids[new] < 0}
    are_numbers = numbers_of(open_names) and not numbers_of(names)
    for old in sorted(open_names, key=float if are_numbers else list(open_names).index):
        pairs[old] = _nearest(open_names[old], [name for name in names if name not in pairs.values()] or names)
        if not are_numbers and old == open_names[old]:  # the word of another class
            break
    start = "name the numbers, for example" if are_numbers else "remove these rows, or rename labels, as in"
    return f"{start} --label-map {shlex.quote(','.join(f'{old}={new}' for old, new in pairs.items()))}"


def _nearest(label: str, names: Sequence[str]) -> str:
    """Return the first of the names that are most similar to a label."""
    return max(names, key=lambda name: SequenceMatcher(None, label.casefold(), name.casefold()).ratio())
