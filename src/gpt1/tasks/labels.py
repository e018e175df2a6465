"""Labels of a data set or model: names, ids and problem type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from gpt1.config import Head, TaskName, problem_name
from gpt1.data.example import Example, Label
from gpt1.data.label_column import label_name, numbers_of
from gpt1.errors import UserError
from gpt1.tasks.problem_types import PROBLEM_TYPES, ProblemType

MOST_LABELS = 1_000
"""Maximum number of different labels; a column with more is rejected."""


@dataclass(frozen=True)
class Labels:
    """Label names with ids, or numeric labels of a regression."""

    names: tuple[str, ...] = ()
    """Label names in the order of their ids; empty for regression and multiple choice."""
    regression: bool = False
    numbered: bool = field(default=False, compare=False)
    """Whether the data set stores ids, as one of the catalogue does: 0 is the label `names[0]`."""

    @classmethod
    def of(cls, train: Sequence[Example], names: Sequence[str] | None = None) -> Labels:
        """Return the labels of a classification, inferred from the training examples.

        `names` are the names of the integer labels 0, 1, …, from the catalogue.

        Raises:
            UserError: there is only one label, more than `MOST_LABELS`, or a different one for each example.
        """
        values = Counter(example.label for example in train)
        numbers = all(isinstance(value, int | float) for value in values)
        where = train[0].origin
        if len(values) == 1:
            raise UserError(
                f"{where}: every training example has the label {train[0].label!r}, expected at least two labels; "
                "select the right column with --label"
            )
        if len(values) > MOST_LABELS or (len(values) == len(train) and len(train) > 2):
            predict = ", or predict numbers with --task regression" if numbers else ""
            raise UserError(
                f"{where}: {str(train[0].label)[:40]!r} is one of {len(values):,} different labels in {len(train):,} "
                f"training examples: this column does not contain labels; select the right one with --label{predict}"
            )
        ordered = sorted(values, key=float) if numbers else sorted(values, key=str)  # type: ignore[arg-type]
        if names and numbers and all(value in range(len(names)) for value in ordered):
            return cls(tuple(names), numbered=True)
        whole = numbers and all(float(value).is_integer() for value in ordered)  # type: ignore[arg-type]
        return cls(tuple(label_name(value) if whole else str(value) for value in ordered))

    @property
    def problem_type(self) -> ProblemType:
        """Single label or regression."""
        return PROBLEM_TYPES[problem_name(self.regression)]

    def head(self, task: TaskName) -> Head:
        """Return the head that predicts these labels."""
        return Head(task, len(self.names) or 1, self.regression)

    def ids(self, examples: Sequence[Example]) -> NDArray[Any]:
        """Return label ids (B,) int64, or values (B,) float32 of a regression; see `ProblemType.targets`."""
        return self.problem_type.targets(named(examples, self.names) if self.numbered else examples, self.names)

    def __str__(self) -> str:
        return self.problem_type.description(self.names)


def named(examples: Sequence[Example], names: Sequence[str]) -> list[Example]:
    """Return the examples with the names of their labels, which are the integers 0, 1, …; others stay."""

    def name(label: Label | None) -> Label | None:
        number = float(label) if isinstance(label, int | float) else numbers_of([str(label)]).get(str(label), -1)
        return names[int(number)] if number in range(len(names)) else label

    return [replace(example, label=name(example.label)) for example in examples]


def has_fractions(examples: Sequence[Example]) -> bool:
    """Return whether some labels are numbers with a fraction."""
    return any(isinstance(e.label, float) and not e.label.is_integer() for e in examples)
