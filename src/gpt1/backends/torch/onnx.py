"""Export to ONNX, for use without gpt1 and PyTorch.

Inputs of the graph: `tokens` (N, T) int64, right-padded; for a model with segments, `segments` (N, T) int64; for a
model with a head, `eos_positions` (N,) int64, the index of `<eos>` in each sequence. Output: `logits`, float32, with
the shape given in `Exported`. N and T are dynamic; T is at most `n_ctx`. There is no attention mask: under the causal
mask no token attends to padding on its right.
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
"""Shape (N, T) of the example input for tracing."""


class Exported(nn.Module):
    """Module that is exported, without dropout and in float32.

    Its logits are, by the model's head: none (language model) (N, T, V) for the next token of each position;
    classification and regression (N, C); similarity (N / 2, C), where the two orders of an example are consecutive
    rows; multiple choice (N, 1), one score per choice.
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
        states: Tensor = self.model(tokens, segments, position=eos_positions)
        if self.config.head is None:
            return states @ self.model.tokens_embed.weight[: self.config.vocab_size].T
        return self.model.task_logits(states[:, 0], self.config.head.pooling.sequences)


def export(config: ModelConfig, params: Mapping[str, NDArray[np.float32]], path: Path) -> None:
    """Write graph and weights into one file (at most 2 GB, protobuf's limit; the paper's model takes 0.5 GB)."""
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
    """Silence log records and warnings of the exporter in the body (operators of torchvision, names of axes)."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def input_names(config: ModelConfig) -> list[str]:
    """Return the names of the graph's inputs, in order."""
    return ["tokens", *(["eos_positions"] if config.head else []), *(["segments"] if config.n_segments else [])]
