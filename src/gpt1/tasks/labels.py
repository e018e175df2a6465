"""Labels of a data set or a model: their names and the problem type that they pose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from gpt1.config import Head, TaskName, problem_name
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.tasks.problem_types import PROBLEM_TYPES, ProblemType, label_name

MOST_LABELS = 1_000
"""More different labels than this are taken for a column that is no label."""


@dataclass(frozen=True)
class Labels:
    """Names with ids, or numbers to be predicted as they are."""

    names: tuple[str, ...] = ()
    """Label names in the order of their ids; empty for a regression and for multiple choice."""
    regression: bool = False

    @classmethod
    def of(cls, train: Sequence[Example], names: Sequence[str] | None = None) -> Labels:
        """Return the labels that the training examples have; numbers with a fraction make it a regression.

        `names` are those of integer labels 0, 1, … (a catalogue's names).

        Raises:
            UserError: one label only, or a column of all-different values.
        """
        values = Counter(example.label for example in train)
        numbers = all(isinstance(value, int | float) for value in values)
        if numbers and any(not float(value).is_integer() for value in values):  # type: ignore[arg-type]
            return cls(regression=True)
        where = train[0].origin
        if len(values) == 1:
            raise UserError(
                f"--data: every training example has the label {train[0].label!r} (first: {where}); "
                "at least two labels are needed, name the column with --label"
            )
        if len(values) > MOST_LABELS or (len(values) == len(train) and len(train) > 2):
            raise UserError(
                f"--data: {len(values):,} different labels in {len(train):,} training examples (first: {where}, "
                f"{str(train[0].label)[:40]!r}): this column is no label; name the right one with --label"
            )
        ordered = sorted(values, key=float) if numbers else sorted(values, key=str)  # type: ignore[arg-type]
        if names and numbers and all(0 <= int(value) < len(names) for value in ordered):  # type: ignore[arg-type]
            return cls(tuple(names))
        return cls(tuple(label_name(value) for value in ordered))

    @property
    def problem_type(self) -> ProblemType:
        return PROBLEM_TYPES[problem_name(self.regression)]

    def head(self, task: TaskName) -> Head:
        """Return the head that predicts these labels."""
        return Head(task, len(self.names) or 1, self.regression)

    def ids(self, examples: Sequence[Example]) -> NDArray[Any]:
        """Return (B,) int64 ids, or float32 values of a regression (`ProblemType.targets`)."""
        return self.problem_type.targets(examples, self.names)

    def __str__(self) -> str:
        return self.problem_type.description(self.names)
