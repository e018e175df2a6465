"""Notes on the labels of a data set: absent and rare classes, numbers used as classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gpt1.data.example import Example
from gpt1.data.label_column import numbers_of
from gpt1.tasks.labels import Labels

IMBALANCE = 4
"""Ratio of the most frequent to the rarest label from which labels are called imbalanced."""

LISTED = 10
"""Maximum number of classes in a note."""


def label_notes(splits: Mapping[str, Sequence[Example]], labels: Labels) -> list[str]:
    """Return the notes on a classification with named labels; none for other tasks.

    Raises:
        UserError: a label does not occur in the training split, or is not a number in a regression.
    """
    names = labels.names
    ids = {split: labels.ids(rows) for split, rows in splits.items()}
    if not names:
        return []
    counts = {split: np.bincount(each, minlength=len(names)) for split, each in ids.items()}
    notes = []
    if len(names) > 2 and not labels.numbered and (numbers := list(numbers_of(names).values())):
        notes.append(
            f"The labels are numbers from {min(numbers):g} to {max(numbers):g}, used as {len(names)} classes; --task "
            "regression predicts a number instead."
        )
    for split, rows in counts.items():
        if absent := [name for name, count in zip(names, rows, strict=True) if not count]:
            verb = "has" if len(absent) == 1 else "have"
            notes.append(f"{split}: {len(absent)} of {len(names)} labels {verb} no row: {listed(absent)}.")
    if imbalance := imbalance_note(dict(zip(names, counts["train"].tolist(), strict=True))):
        notes.append(imbalance)
    return notes


def imbalance_note(counts: Mapping[str, int]) -> str | None:
    """Return a note if the numbers of training examples of the labels differ by `IMBALANCE` times, else None."""
    if not counts or max(counts.values()) < IMBALANCE * max(1, min(counts.values())):
        return None
    most, rarest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    share = counts[rarest] / sum(counts.values())
    return (
        f"train: imbalanced labels: {counts[most]:,} examples of {most}, {counts[rarest]:,} of {rarest} ({share:.1%}). "
        "Accuracy favours the frequent labels; check macro-F1 and the scores per label."
    )


def listed(names: Sequence[str]) -> str:
    """Return the first names, separated by commas, and the number of the others."""
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
