"""Which continuation or answer fits: `<bos> context question <sep> choice <eos>` for each choice, softmax over scores."""

from __future__ import annotations

from gpt1.data.tables import Example
from gpt1.tasks.base import Part


class MultipleChoice:
    name = "multiple-choice"
    kind = "choices"

    def sequences(self, example: Example) -> list[list[Part]]:
        return [[example.parts, (choice,)] for choice in example.choices]
