"""A model as a graph of ONNX, which other programs run without gpt1 and without PyTorch.

Inputs: `tokens` (N, T) int64, right-padded; where the model has segments, `segments` (N, T) int64; with a head,
`eos_positions` (N,) int64, the position of each sequence's `<eos>`. Output: `logits`, float32, in the shape of
`Exported`. N and T may differ from call to call, T up to `n_ctx`. Under the causal mask no real token sees a pad, so
there is no mask.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpt1.backends.parameters import shapes
from gpt1.backends.torch.device import TRAITS
from gpt1.backends.torch.model import GPT1
from gpt1.config import DropoutConfig, ModelConfig

SAMPLE = (4, 8)
"""(N, T) of the sequences that the graph is traced with."""


class Exported(nn.Module):
    """What the graph computes, without dropout and in float32.

    A language model gives (N, T, V) logits of the token after each position, over the tokens alone. A classifier and a
    regression give (N, C); similarity adds the two orders of an example, which stand next to each other: (N / 2, C);
    multiple choice gives (N, 1), a score for each choice.
    """

    def __init__(self, config: ModelConfig, params: Mapping[str, NDArray[np.float32]]):
        super().__init__()
        self.config = config
        with torch.device("meta"):
            self.model = GPT1(config, DropoutConfig(), TRAITS["cpu"])
        tensors = {name: torch.from_numpy(np.ascontiguousarray(params[name])) for name in shapes(config)}
        self.model.load_state_dict(tensors, assign=True)
        self.model.requires_grad_(False)

    def forward(self, tokens: Tensor, eos_positions: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        states = self.model(tokens, segments, position=eos_positions)
        if self.config.head is None:
            return states @ self.model.tokens_embed.weight[: self.config.vocab_size].T
        return self.model.task_logits(states[:, 0], self.config.head.pooling.sequences)


def export(config: ModelConfig, params: Mapping[str, NDArray[np.float32]], path: Path) -> None:
    """Write the graph with all weights into one file (at most 2 GB, protobuf's limit; the paper's model has 0.5)."""
    names = input_names(config)
    n, t = SAMPLE
    shapes_of = {name: (n,) if name == "eos_positions" else (n, t) for name in names}
    sample = {name: torch.ones(shape, dtype=torch.int64) for name, shape in shapes_of.items()}
    k = config.head.pooling.sequences if config.head else 1
    rows = k * torch.export.Dim("examples") if k > 1 else torch.export.Dim("sequences")
    time = torch.export.Dim("time", max=config.n_ctx)
    dims: dict[str, Any] = {name: {0: rows} if name == "eos_positions" else {0: rows, 1: time} for name in names}
    with torch.no_grad(), quiet():
        torch.onnx.export(
            Exported(config, params).eval(), kwargs=sample, f=path, input_names=names, output_names=["logits"],
            dynamic_shapes=dims, dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what the exporter says about its own workings: operators of torchvision, names of axes."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def input_names(config: ModelConfig) -> list[str]:
    """Return the inputs of a model's graph in their order."""
    return ["tokens", *(["eos_positions"] if config.head else []), *(["segments"] if config.n_segments else [])]
