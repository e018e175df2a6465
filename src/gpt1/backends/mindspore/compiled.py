"""Cells as graphs: MindSpore compiles one for each set of shapes, takes seconds for it, and then runs faster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import mindspore
from mindspore import Tensor, nn

from gpt1 import console

ABSENT = Tensor(0)
"""Stands for an input that is not there: those of a graph are tensors alone. No other input has 0 dimensions."""


class Compiled:
    """A cell that runs as one graph on inputs of shapes that it has seen `patience` times, operator by operator before.

    Patience pays where a shape may never come again. What is told to a person is `announced`, once.
    """

    def __init__(self, cell: nn.Cell, announced: str = "", patience: int = 0):
        self.cell, self.announced, self.patience = cell, announced, patience
        self.operators, self.graph = cell.construct, mindspore.jit(cell.construct)
        self.seen: dict[tuple[tuple[int, ...], ...], int] = {}
        self.seconds: dict[tuple[tuple[int, ...], ...], float] = {}
        """What the first call as a graph took with each set of shapes."""

    def __call__(self, *inputs: Any) -> Any:
        shapes = tuple(_shapes(inputs))
        seen = self.seen[shapes] = self.seen.get(shapes, 0) + 1
        self.cell.construct = self.graph if seen > self.patience else self.operators
        if seen <= self.patience:
            return self.cell(*inputs)
        # What is not marked so would be a constant of the graph, and each value of it a graph of its own.
        inputs = tuple(mindspore.mutable(each) for each in inputs)
        if seen > self.patience + 1:
            return self.cell(*inputs)
        start = time.perf_counter()
        found = self.cell(*inputs)
        self.seconds[shapes] = time.perf_counter() - start
        if self.announced and len(self.seconds) == 1:
            console.say(
                f"MindSpore compiled {self.announced} in {self.seconds[shapes]:.0f} s, once for a shape of batch"
            )
        return found


def _shapes(inputs: Any) -> Iterator[tuple[int, ...]]:
    for each in inputs:
        if isinstance(each, tuple):
            yield from _shapes(each)
        else:
            yield each.shape
