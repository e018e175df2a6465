"""Does the first text entail the second: `<bos> premise <sep> hypothesis <eos>`."""

from __future__ import annotations

from gpt1.data.tables import Example
from gpt1.tasks.base import Part


class Entailment:
    name = "entailment"
    kind = "pair"

    def sequences(self, example: Example) -> list[list[Part]]:
        premise, hypothesis = example.parts
        return [[(premise,), (hypothesis,)]]
