"""Does the first text entail the second: `<bos> premise <sep> hypothesis <eos>`."""

from __future__ import annotations

from typing import ClassVar

from gpt1.config import TaskName
from gpt1.data.dataset import Example
from gpt1.tasks.base import Kind, Part


class Entailment:
    name: ClassVar[TaskName] = "entailment"
    kind: ClassVar[Kind] = "pair"

    def sequences(self, example: Example) -> list[list[Part]]:
        premise, hypothesis = example.parts
        return [[(premise,), (hypothesis,)]]
