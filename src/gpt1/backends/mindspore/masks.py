"""Dropout masks of a micro-batch, drawn on the host before the step and passed to it as inputs.

They equal those of the PyTorch backend on a CPU bit for bit: both draw from `HostDropoutRng` in the order of the
forward pass.

Dimensions: N sequences, T time, D width, H heads, B examples of k sequences.
"""

from __future__ import annotations

import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from gpt1.backends.base import Batch
from gpt1.backends.dropout import QUERY_BLOCK, HostDropoutRng
from gpt1.config import DropoutConfig, ModelConfig

Keep = Tensor | None
"""Mask, true where an element is kept; `None` when not training, `EVERYTHING` where nothing is dropped."""
EVERYTHING = Tensor(True)
"""Placeholder for a missing mask: inputs of a compiled step must be tensors. No other mask has 0 dimensions."""
OfBlock = tuple[Keep, Keep, Keep]
"""Masks of the attention weights, of the attention output, and of the MLP output."""
Masks = tuple[tuple[Keep, Keep], tuple[Keep, tuple[OfBlock, ...]], Keep]
"""Masks of the token and position matrices; of the sum of the embeddings and of every block; of the head's input."""


def none(config: ModelConfig) -> Masks:
    """Return `None` for every mask, for inference."""
    return (None, None), (None, ((None, None, None),) * config.n_layer), None


def nothing_dropped(config: ModelConfig) -> tuple[OfBlock, ...]:
    """Return `EVERYTHING` for every mask of the blocks: a gradient without dropout needs tensors."""
    return ((EVERYTHING, EVERYTHING, EVERYTHING),) * config.n_layer


def draw(
    config: ModelConfig, dropout: DropoutConfig, batch: Batch, rng: HostDropoutRng, *, every_position: bool
) -> Masks:
    """Draw the masks of a forward pass over `batch`.

    Without `every_position` the last layer computes one position of each sequence, and its masks have that shape.
    """
    n, time = batch.tokens.shape
    width = config.n_embd

    def keep(p: float, *shape: int) -> Keep:
        return Tensor(rng.keep(shape, p)) if p else EVERYTHING

    on_sum, on_matrix = (0.0, dropout.embd_pdrop) if dropout.embd_matrix else (dropout.embd_pdrop, 0.0)
    of_tokens = keep(on_matrix, config.vocab_size + config.n_segments, width)
    of_positions = keep(on_matrix, config.n_ctx, width)
    of_sum = keep(on_sum, n, time, width)
    of_blocks = []
    for layer in range(config.n_layer):
        if every_position or layer < config.n_layer - 1:
            weights = _of_attention(rng, (n, config.n_head, time), dropout.attn_pdrop)
            rows: tuple[int, ...] = (n, time, width)
        else:
            weights, rows = keep(dropout.attn_pdrop, n, config.n_head, 1, time), (n, width)
        of_blocks.append((weights, keep(dropout.resid_pdrop, *rows), keep(dropout.resid_pdrop, *rows)))
    of_state: Keep = EVERYTHING
    if config.head:
        k = batch.sequences_per_example
        shape = config.head.pooling.mask_shape(n, k, width, shared=dropout.clf_shared)
        of_state = keep(dropout.clf_pdrop, *shape)
    return (of_tokens, of_positions), (of_sum, tuple(of_blocks)), of_state


def _of_attention(rng: HostDropoutRng, shape: tuple[int, int, int], p: float) -> Keep:
    """Draw a mask (N, H, T, T) in blocks of queries, each for the keys up to the block's end."""
    if not p:
        return EVERYTHING
    time = shape[2]
    mask: NDArray[np.bool_] = np.zeros((*shape, time), np.bool_)
    for start in range(0, time, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, time)
        mask[:, :, start:end, :end] = rng.keep((*shape[:2], end - start, end), p)
    return Tensor(mask)
