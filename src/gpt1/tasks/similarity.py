"""How alike are two texts: neither comes first by nature, so both orders are read and their `<eos>` states added."""

from __future__ import annotations

from typing import ClassVar

from gpt1.config import TaskName
from gpt1.data.dataset import Example
from gpt1.tasks.base import Kind, Part


class Similarity:
    name: ClassVar[TaskName] = "similarity"
    kind: ClassVar[Kind] = "pair"

    def sequences(self, example: Example) -> list[list[Part]]:
        a, b = example.parts
        return [[(a,), (b,)], [(b,), (a,)]]
