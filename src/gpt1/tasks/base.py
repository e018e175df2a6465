"""The interface of a task: input kind, problem types, sequences, labels, metrics (Radford et al. 2018, §3.3)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from gpt1.config import Head, Pooling, TaskName, pooling_of
from gpt1.data.example import Example
from gpt1.data.in_memory import examples_of
from gpt1.data.input_kinds import InputKind
from gpt1.data.paper_kinds import INPUT_KINDS, PAIR
from gpt1.errors import UserError
from gpt1.tasks.labels import Labels, has_fractions
from gpt1.tasks.problem_types import PROBLEM_TYPES, REGRESSION, SINGLE_LABEL, ProblemType

Part = tuple[str, ...]
"""Texts that are concatenated without a separator."""


class Task(ABC):
    """Base class of tasks; implemented in the modules of this package and in other packages."""

    name: ClassVar[TaskName]
    input_kind: ClassVar[InputKind]
    problem_types: ClassVar[tuple[ProblemType, ...]] = (SINGLE_LABEL, REGRESSION)
    """Supported problem types; the one used is inferred from the data."""
    default_for: ClassVar[tuple[ProblemType, ...]] = ()
    """Problem types for which this task is the default for data of its input kind."""

    @abstractmethod
    def sequences(self, example: Example) -> list[list[Part]]:
        """Return the sequences of one example, each a list of parts to be joined by `<sep>`."""

    @property
    def n_parts(self) -> int:
        """Number of parts of a sequence."""
        return len(self.sequences(self.input_kind.sample())[0])

    @property
    def pooling(self) -> Pooling:
        """Combination of an example's sequences into one row of scores."""
        return pooling_of(self.name)

    @property
    def baseline(self) -> str:
        """Features of the baseline for comparison: a key of `evaluation.baselines.FEATURES`."""
        return self.input_kind.baseline

    def examples(self, values: Any, name: str) -> list[Example]:
        """Convert Python `values` to examples; `name` is their name in errors.

        Raises:
            UserError: `values` is empty or of another input kind.
        """
        kind, examples = examples_of(values, name, [self.input_kind, *INPUT_KINDS])
        if kind != self.input_kind:
            raise UserError(
                f"{name}: found {kind.plural}; this model's task is {self.name}, which expects "
                f"{self.input_kind.plural}: [{self.input_kind.grammar}, …]"
            )
        return examples

    def labels(self, train: Sequence[Example], names: Sequence[str] | None = None) -> Labels:
        """Return the labels of training examples; `names` are the names of the labels 0, 1, … (see `Labels.of`).

        The task is a regression if it supports nothing else, or if the labels of pairs have fractions.
        """
        pairs = self.input_kind == PAIR and REGRESSION in self.problem_types
        if self.problem_types == (REGRESSION,) or (pairs and has_fractions(train)):
            return Labels(regression=True)
        return Labels.of(train, names)

    def metrics(self, head: Head) -> tuple[str, ...]:
        """Return the metrics to report; the first one selects the best model."""
        return PROBLEM_TYPES[head.problem_type].metrics(head.n_labels)
