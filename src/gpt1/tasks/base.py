"""A task: its input kind, problem types, sequences, labels, metrics and baseline (Radford et al. 2018, §3.3)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from gpt1.config import Head, Pooling, TaskName, pooling_of
from gpt1.data.example import Example
from gpt1.data.in_memory import examples_of
from gpt1.data.input_kinds import InputKind
from gpt1.data.paper_kinds import INPUT_KINDS
from gpt1.errors import UserError
from gpt1.tasks.labels import Labels
from gpt1.tasks.problem_types import PROBLEM_TYPES, REGRESSION, SINGLE_LABEL, ProblemType

Part = tuple[str, ...]
"""Texts that follow each other without a separator."""


class Task(ABC):
    """One kind of task: a file of this folder each, or a class of another package."""

    name: ClassVar[TaskName]
    input_kind: ClassVar[InputKind]
    problem_types: ClassVar[tuple[ProblemType, ...]] = (SINGLE_LABEL, REGRESSION)
    """What its answers may be; the data decide which."""
    default_for: ClassVar[tuple[ProblemType, ...]] = ()
    """The problem types for which data of this input kind pose this task where none is named."""

    @abstractmethod
    def sequences(self, example: Example) -> list[list[Part]]:
        """Return the sequences of one example; the parts of a sequence are joined by `<sep>`."""

    @property
    def n_parts(self) -> int:
        """How many parts a sequence has."""
        return len(self.sequences(self.input_kind.sample())[0])

    @property
    def pooling(self) -> Pooling:
        """How an example's sequences become one row of scores."""
        return pooling_of(self.name)

    @property
    def baseline(self) -> str:
        """Features of the baseline to compare with: a key of `evaluation.baselines.FEATURES`."""
        return self.input_kind.baseline

    def examples(self, values: Any, name: str) -> list[Example]:
        """Return the examples of this task that Python `values`, called `name`, are.

        Raises:
            UserError: they are none, or those of another input kind.
        """
        kind, examples = examples_of(values, name, [self.input_kind, *INPUT_KINDS])
        if kind != self.input_kind:
            raise UserError(
                f"{name}: {kind.plural} given; this model's task is {self.name}, which takes {self.input_kind.plural}: "
                f"[{self.input_kind.grammar}, …]"
            )
        return examples

    def labels(self, train: Sequence[Example], names: Sequence[str] | None = None) -> Labels:
        """Return the labels of training examples; `names` are those of the labels 0, 1, … (`Labels.of`)."""
        return Labels.of(train, names)

    def metrics(self, head: Head) -> tuple[str, ...]:
        """Return the metrics to report; the first one selects the best model."""
        return PROBLEM_TYPES[head.problem_type].metrics(head.n_labels)
