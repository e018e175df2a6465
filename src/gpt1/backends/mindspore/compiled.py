"""Cells compiled to graphs. MindSpore compiles one graph per set of input shapes, which takes seconds."""

from __future__ import annotations

import time
from typing import Any

import mindspore
from mindspore import Tensor, nn

from gpt1 import console

ABSENT = Tensor(0)
"""Placeholder for a missing input: inputs of a graph must be tensors. No other input has 0 dimensions."""


class Compiled:
    """Cell that runs as a graph, compiled at the first call with inputs of new shapes.

    After the first compilation a message that calls the cell `announced` is printed once.
    """

    def __init__(self, cell: nn.Cell, announced: str = ""):
        cell.construct = mindspore.jit(cell.construct)
        self.cell, self.announced = cell, announced

    def __call__(self, *inputs: Any) -> Any:
        start = time.perf_counter()
        # Inputs that are not mutable are constants of the graph: each new value would be compiled anew.
        result = self.cell(*(mindspore.mutable(each) for each in inputs))
        if self.announced:
            seconds = time.perf_counter() - start
            console.say(
                f"MindSpore compiled {self.announced} in {seconds:.0f} s; it does so for each new shape of batch"
            )
            self.announced = ""
        return result
