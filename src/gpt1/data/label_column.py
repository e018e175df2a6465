"""The label column of a data set: cells to labels, new names, spellings, and one type for all labels."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from gpt1.data.bad_rows import RowError
from gpt1.data.example import Example, Label, folded_text, require_unicode, shown
from gpt1.data.header import join_words
from gpt1.errors import UserError

Splits = Sequence[list[Example]]

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,399})")  # Python refuses ints of thousands of digits
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)\.(?P<decimals>[0-9]+)")

LISTED = 3
"""Maximum number of labels, or of groups of labels, in a note."""


def label_of_cell(cell: Any, where: str, column: str) -> Label | None:
    """Return the label of a cell; None for a missing or empty cell, null, or NaN.

    Blanks around a text are removed; booleans are `true` and `false`.

    Raises:
        RowError: the cell is not a single text or finite number.
    """
    match cell:
        case str(text):
            require_unicode(text, f"{where}: {column!r}")
            text = text.strip()
            return None if text.casefold() in ("", "nan") else text
        case bool(value):
            return "true" if value else "false"
        case int(value):
            return value
        case float(value) if math.isinf(value):
            raise RowError(f"{where}: the label is {value}, expected a finite number", "infinite label")
        case float(value):
            return None if math.isnan(value) else value
        case None:
            return None
        case list():
            problem = "several labels of one text (multi-label) are not supported yet"
        case dict(fields):
            field = next(iter(fields), "NAME")
            problem = f"an object; select the field that holds the label, for example --label {column}.{field}"
        case _:
            problem = "expected a single text or number as the label"
    raise RowError(f"{where}: {column!r} is {shown(cell)}: {problem}", "not a single label")


# ---- type


def numbers_of(labels: Iterable[str]) -> dict[str, int | float]:
    """Return {label: its number}; empty unless all labels are numbers.

    Labels are numbers if each is a plain decimal with the same number of decimals (5.000, 3.800), or each is spelled as
    Python prints the number (7, 2.5), and no two of them are equal. `007`, `1E2` and `+1` are texts.
    """
    cells = list(dict.fromkeys(labels))
    decimals = {match and len(match["decimals"]) for match in map(_DECIMAL.fullmatch, cells)}
    values: dict[str, int | float] = {}
    if all(map(_INTEGER.fullmatch, cells)):
        values = {cell: int(cell) for cell in cells}
    elif (None not in decimals and len(decimals) == 1) or all(map(_is_canonical, cells)):
        values = {cell: float(cell) for cell in cells}
    distinct = len(set(values.values())) == len(cells) and all(map(math.isfinite, map(float, values.values())))
    return values if distinct else {}


def _is_canonical(cell: str) -> bool:
    if _INTEGER.fullmatch(cell):
        return True
    try:
        return repr(float(cell)) == cell and math.isfinite(float(cell))
    except ValueError:
        return False


def one_label_type(splits: Splits) -> list[list[Example]]:
    """Convert the labels of all splits to one type: int if all are whole numbers, float if all are numbers, else str.

    The numbers of each split are recognized by `numbers_of`, so that the format of a file does not matter.

    Raises:
        UserError: some labels of a JSON or columnar file are text and some are numbers.
    """
    cells = [{e.label: e for e in split if e.label is not None} for split in splits]
    texts = [[label for label in each if isinstance(label, str)] for each in cells]
    found = [numbers_of(each) for each in texts]
    numeric = all(bool(each) for each, labels in zip(found, texts, strict=True) if labels)
    if any(texts) and not numeric:
        _require_text(cells)
        return [list(split) for split in splits]
    numbers: dict[Label | None, int | float] = dict(chain.from_iterable(each.items() for each in found))
    values = {value for each in cells for label in each if isinstance(value := numbers.get(label, label), int | float)}
    to_type: type = int if all(float(value).is_integer() for value in values) else float
    return [
        [e if e.label is None else replace(e, label=to_type(numbers.get(e.label, e.label))) for e in split]
        for split in splits
    ]


def _require_text(cells: Sequence[Mapping[Label, Example]]) -> None:
    seen = {isinstance(label, str): e for each in cells for label, e in each.items()}
    if len(seen) > 1:
        examples = f"{seen[True].label!r} at {seen[True].origin} and {seen[False].label!r} at {seen[False].origin}"
        raise UserError(f"labels must be all text or all numbers; found {examples}")


# ---- names


def label_name(label: Label | None) -> str:
    """Return the name of a label; whole floats are written as integers."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def relabelled(splits: Splits, renames: Mapping[str, str], *, fold: bool) -> tuple[list[list[Example]], list[str]]:
    """Return the examples with the labels of --fold-labels and then --label-map, and notes (`folded`, `renamed`).

    With `fold`, a new name is merged with the labels from which it differs only in case or blanks.

    Raises:
        UserError: no label has a new name.
    """
    first, notes = folded(splits, merge=True) if fold and renames else (splits, [])
    new, absent = renamed(first, renames, fold=fold)
    last, differing = folded(new, merge=fold)
    return last, [*notes, *absent, *differing]


def renamed(
    splits: Splits, renames: Mapping[str, str], *, fold: bool, required: bool = True
) -> tuple[list[list[Example]], list[str]]:
    """Return the examples with the labels of --label-map, and notes about old labels that do not occur.

    With `fold`, case and blanks do not matter in old labels.

    Raises:
        UserError: no label has a new name, although one is `required`.
    """
    if not renames:
        return [list(split) for split in splits], []
    key = folded_text if fold else str
    by_key = {key(old): new for old, new in renames.items()}

    def new(label: Label | None) -> Label | None:
        if label is None:
            return None
        return by_key.get(key(str(label)), by_key.get(key(label_name(label)), str(label)))

    labels = {e.label: None for split in splits for e in split if e.label is not None}
    present = {key(name) for label in labels for name in (str(label), label_name(label))}
    absent = [old for old in renames if key(old) not in present]
    if required and len(absent) == len(renames):
        known = sorted(map(label_name, labels))
        raise UserError(
            f"--label-map: no row has the label {' or '.join(absent)}; the labels are {', '.join(known[:20])}"
        )
    notes = [f"--label-map: no row has the label {', '.join(absent)}."] if absent else []
    return [[replace(e, label=new(e.label)) for e in split] for split in splits], notes


def folded(splits: Splits, *, merge: bool) -> tuple[list[list[Example]], list[str]]:
    """Return the examples, and a note about labels that differ only in case or blanks.

    With `merge`, they have the most frequent spelling.
    """
    counts = Counter(e.label for split in splits for e in split if isinstance(e.label, str))
    groups: dict[str, list[str]] = defaultdict(list)
    for label, _ in counts.most_common():
        groups[folded_text(label)].append(label)
    several = [group for group in groups.values() if len(group) > 1]
    if not several:
        return [list(split) for split in splits], []
    listed = "; ".join(join_words(f"{name} ({counts[name]:,})" for name in group) for group in several[:LISTED])
    listed += "; …" * (len(several) > LISTED)
    if not merge:
        note = f"Labels that differ only in case or blanks are different classes: {listed}; --fold-labels merges them."
        return [list(split) for split in splits], [note]
    first = {name: group[0] for group in several for name in group}
    merged = [[replace(e, label=first.get(str(e.label), e.label)) for e in split] for split in splits]
    return merged, [f"--fold-labels: labels that differ only in case or blanks were merged: {listed}."]


def folded_into(examples: Sequence[Example], names: Sequence[str]) -> list[Example]:
    """Return the examples with those of the `names` from which their labels differ only in case or blanks."""
    known: dict[str, list[str]] = defaultdict(list)
    for name in names:
        known[folded_text(name)].append(name)
    same = {key: found[0] for key, found in known.items() if len(found) == 1}
    return [
        e if e.label in names else replace(e, label=same.get(folded_text(label_name(e.label)), e.label))
        for e in examples
    ]
