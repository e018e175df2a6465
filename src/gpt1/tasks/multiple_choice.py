"""Multiple choice: `<bos> context question <sep> choice <eos>` for each choice, softmax over their scores."""

from __future__ import annotations

from collections.abc import Sequence

from gpt1.config import Head
from gpt1.data.example import Example
from gpt1.data.paper_kinds import CHOICES
from gpt1.tasks.base import Part, Task
from gpt1.tasks.labels import Labels
from gpt1.tasks.problem_types import SINGLE_LABEL


class MultipleChoice(Task):
    name = "multiple-choice"
    input_kind = CHOICES
    problem_types = (SINGLE_LABEL,)
    default_for = (SINGLE_LABEL,)

    def sequences(self, example: Example) -> list[list[Part]]:
        return [[example.parts, (choice,)] for choice in example.choices]

    def labels(self, train: Sequence[Example], names: Sequence[str] | None = None) -> Labels:
        """Return labels without names: the indices of the choices."""
        return Labels()

    def metrics(self, head: Head) -> tuple[str, ...]:
        return ("accuracy",)
