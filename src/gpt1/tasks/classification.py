"""Classification of one text: `<bos> text <eos>`."""

from __future__ import annotations

from gpt1.data.tables import Example
from gpt1.tasks.base import Part


class Classification:
    name = "classification"
    kind = "single"

    def sequences(self, example: Example) -> list[list[Part]]:
        (text,) = example.parts
        return [[(text,)]]
