"""Entailment between two texts: `<bos> premise <sep> hypothesis <eos>`."""

from __future__ import annotations

from gpt1.data.example import Example
from gpt1.data.paper_kinds import PAIR
from gpt1.tasks.base import Part, Task
from gpt1.tasks.problem_types import SINGLE_LABEL


class Entailment(Task):
    """Classification of an ordered pair of texts."""

    name = "entailment"
    input_kind = PAIR
    default_for = (SINGLE_LABEL,)

    def sequences(self, example: Example) -> list[list[Part]]:
        """Return one sequence: premise, hypothesis."""
        premise, hypothesis = example.parts
        return [[(premise,), (hypothesis,)]]
