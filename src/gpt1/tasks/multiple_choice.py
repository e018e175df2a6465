"""Which ending or answer fits: `<bos> context question <sep> choice <eos>` for each choice, softmax over the scores."""

from __future__ import annotations

from typing import ClassVar

from gpt1.config import TaskName
from gpt1.data.dataset import Example
from gpt1.tasks.base import Kind, Part


class MultipleChoice:
    name: ClassVar[TaskName] = "multiple-choice"
    kind: ClassVar[Kind] = "choices"

    def sequences(self, example: Example) -> list[list[Part]]:
        return [[example.parts, (choice,)] for choice in example.choices]
