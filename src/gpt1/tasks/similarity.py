"""How alike are two texts: neither comes first by nature, so both orders are read and their `<eos>` states added."""

from __future__ import annotations

from gpt1.data.tables import Example
from gpt1.tasks.base import Part


class Similarity:
    name = "similarity"
    kind = "pair"

    def sequences(self, example: Example) -> list[list[Part]]:
        a, b = example.parts
        return [[(a,), (b,)], [(b,), (a,)]]
