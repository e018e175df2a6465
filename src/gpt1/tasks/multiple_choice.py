"""Multiple choice: `<bos> context question <sep> choice <eos>` for each choice, with a softmax over their scores."""

from __future__ import annotations

from collections.abc import Sequence

from gpt1.config import Head
from gpt1.data.example import Example
from gpt1.data.paper_kinds import CHOICES
from gpt1.tasks.base import Part, Task
from gpt1.tasks.labels import Labels
from gpt1.tasks.problem_types import SINGLE_LABEL


class MultipleChoice(Task):
    """Selection of the correct choice for a context."""

    name = "multiple-choice"
    input_kind = CHOICES
    problem_types = (SINGLE_LABEL,)
    default_for = (SINGLE_LABEL,)

    def sequences(self, example: Example) -> list[list[Part]]:
        """Return one sequence per choice."""
        return [[example.parts, (choice,)] for choice in example.choices]

    def labels(self, train: Sequence[Example], names: Sequence[str] | None = None) -> Labels:
        """Return labels without names, since labels are indices of choices."""
        return Labels()

    def metrics(self, head: Head) -> tuple[str, ...]:
        """Return accuracy only."""
        return ("accuracy",)
