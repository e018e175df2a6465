"""Classification of one text: `<bos> text <eos>`."""

from __future__ import annotations

from gpt1.data.example import Example
from gpt1.data.paper_kinds import SINGLE
from gpt1.tasks.base import Part, Task
from gpt1.tasks.problem_types import REGRESSION, SINGLE_LABEL


class Classification(Task):
    """Classification or regression of one text."""

    name = "classification"
    input_kind = SINGLE
    default_for = (SINGLE_LABEL, REGRESSION)

    def sequences(self, example: Example) -> list[list[Part]]:
        """Return one sequence that consists of the text."""
        (text,) = example.parts
        return [[(text,)]]
