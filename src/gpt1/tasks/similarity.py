"""Similarity of two texts: neither comes first by nature, so both orders are read and their `<eos>` states added."""

from __future__ import annotations

from gpt1.config import Head
from gpt1.data.example import Example
from gpt1.data.paper_kinds import PAIR
from gpt1.tasks.base import Part, Task
from gpt1.tasks.problem_types import REGRESSION


class Similarity(Task):
    name = "similarity"
    input_kind = PAIR
    default_for = (REGRESSION,)

    def sequences(self, example: Example) -> list[list[Part]]:
        a, b = example.parts
        return [[(a,), (b,)], [(b,), (a,)]]

    def metrics(self, head: Head) -> tuple[str, ...]:
        """Return the metrics of GLUE's tasks of this kind, which do without Matthews' coefficient."""
        return tuple(name for name in super().metrics(head) if name != "matthews")
