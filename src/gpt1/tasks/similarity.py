"""Similarity of two texts: a pair has no inherent order, so the `<eos>` states of both orders are added."""

from __future__ import annotations

from gpt1.config import Head
from gpt1.data.example import Example
from gpt1.data.paper_kinds import PAIR
from gpt1.tasks.base import Part, Task
from gpt1.tasks.problem_types import REGRESSION


class Similarity(Task):
    """Similarity or paraphrase of two texts."""

    name = "similarity"
    input_kind = PAIR
    default_for = (REGRESSION,)

    def sequences(self, example: Example) -> list[list[Part]]:
        """Return two sequences, one for each order of the texts."""
        a, b = example.parts
        return [[(a,), (b,)], [(b,), (a,)]]

    def metrics(self, head: Head) -> tuple[str, ...]:
        """Return the metrics of GLUE's similarity tasks, that is, without Matthews' correlation."""
        return tuple(name for name in super().metrics(head) if name != "matthews")
