"""Classification of one text: `<bos> text <eos>`."""

from __future__ import annotations

from typing import ClassVar

from gpt1.config import TaskName
from gpt1.data.dataset import Example
from gpt1.tasks.base import Kind, Part


class Classification:
    name: ClassVar[TaskName] = "classification"
    kind: ClassVar[Kind] = "single"

    def sequences(self, example: Example) -> list[list[Part]]:
        (text,) = example.parts
        return [[(text,)]]
