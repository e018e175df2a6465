"""Cells as graphs: MindSpore compiles one for each set of shapes, takes seconds for it, and then runs faster."""

from __future__ import annotations

import time
from typing import Any

import mindspore
from mindspore import Tensor, nn

from gpt1 import console

ABSENT = Tensor(0)
"""Stands for an input that is not there: those of a graph are tensors alone. No other input has 0 dimensions."""


class Compiled:
    """A cell that runs as a graph: MindSpore compiles one when inputs of its shapes come first.

    `announced` names the cell in a message that is printed once, after the first compilation.
    """

    def __init__(self, cell: nn.Cell, announced: str = ""):
        cell.construct = mindspore.jit(cell.construct)
        self.cell, self.announced = cell, announced

    def __call__(self, *inputs: Any) -> Any:
        start = time.perf_counter()
        # What is not marked so would be a constant of the graph, and each value of it a graph of its own.
        result = self.cell(*(mindspore.mutable(each) for each in inputs))
        if self.announced:
            seconds = time.perf_counter() - start
            console.say(
                f"MindSpore compiled {self.announced} in {seconds:.0f} s; it does so for each new shape of batch"
            )
            self.announced = ""
        return result
