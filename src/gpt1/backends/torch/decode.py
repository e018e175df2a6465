"""Generation in PyTorch: the blocks of `model.py`, one token at a time, with a KV cache.

Dimensions: N sequences, M of them in one call, T time, L maximum length, D width, H heads, K head size (D / H),
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol, Self, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gpt1.backends.torch.device import TorchTraits
from gpt1.backends.torch.model import GPT1, Block
from gpt1.config import DropoutConfig, ModelConfig


class CachedAttend(Protocol):
    """Attention of new tokens to a layer's cache, to which their keys and values are added."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, cache: Tensor) -> Tensor:
        """Map q, k and v (M, H, T, K) of the new tokens, and a layer's cache (2, N, H, L, K), to (M, H, T, K)."""


class DecoderWeights(NamedTuple):
    """Weights of a model in the memory layout that is fastest for products with one row.

    Decoding one token reads every weight once, so memory bandwidth limits it.
    """

    config: ModelConfig
    traits: TorchTraits
    tokens: Tensor
    """(V, D), float32, for the token look-up."""
    positions: Tensor
    """(n_ctx, D), float32"""
    blocks: tuple[Block, ...]
    """Blocks that share the model's layer norms; their weights are in the dtype of the products."""
    softmax: Tensor
    """(V, D), the token embedding for the tied softmax, in the dtype of the products."""

    @classmethod
    def of(cls, model: GPT1, dtype: torch.dtype) -> Self:
        config, traits = model.config, model.traits
        tokens = model.tokens_embed.weight.detach()[: config.vocab_size]
        # A copy in float32: one row times a transposed (V, D) matrix takes twice as long as one row times (D, V).
        copied = traits.lays_out_for_one_row and dtype == torch.float32
        softmax = laid_out(tokens.T.contiguous().T if copied else tokens, dtype)
        blocks = tuple(decoding_block(cast(Block, block), config, dtype) for block in model.h)
        return cls(config, traits, tokens, model.positions_embed.weight.detach(), blocks, softmax)


def decoding_block(block: Block, config: ModelConfig, dtype: torch.dtype) -> Block:
    """Return a block with the layer norms of `block` and copies of its weights in `dtype`, laid out for one row."""
    with torch.device("meta"):
        copy = Block(config, DropoutConfig.none())
    copy.ln_1, copy.ln_2 = block.ln_1, block.ln_2
    for new, old in (
        (copy.attn.c_attn, block.attn.c_attn),
        (copy.attn.c_proj, block.attn.c_proj),
        (copy.mlp.c_fc, block.mlp.c_fc),
        (copy.mlp.c_proj, block.mlp.c_proj),
    ):
        new.low = laid_out(old.weight.detach().T, dtype).T, old.bias.detach().to(dtype)
    return copy


def laid_out(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return an (out, in) weight in `dtype`, in the layout that is fastest for one row on a CPU.

    In memory that is (in, out), the layout of the parameters, for float32, and (out, in) for 16 bits
    (docs/performance.md).
    """
    return weight if dtype == torch.float32 else weight.to(dtype, memory_format=torch.contiguous_format)


class TorchDecoder:
    """`backends.base.Decoder` in PyTorch.

    The residual stream is float32; the cache is float32 with `TorchTraits.float32_cache`, otherwise in the dtype of
    the products.
    """

    def __init__(self, weights: DecoderWeights, n_sequences: int, length: int):
        config = self.config = weights.config
        self.weights, self.device = weights, weights.tokens.device
        size = config.n_embd // config.n_head
        shape = config.n_layer, 2, n_sequences, config.n_head, length, size
        dtype = torch.float32 if weights.traits.float32_cache else weights.softmax.dtype
        # Zeros, not empty: a masked key has weight 0, but 0 times uninitialized memory may be NaN.
        self.cache = torch.zeros(shape, dtype=dtype, device=self.device)  # (n_layer, 2, N, H, L, K)
        self.lengths = np.zeros(n_sequences, np.int64)

    @torch.inference_mode()
    def prefill(
        self, tokens: NDArray[np.int32], lengths: NDArray[np.int64], rows: Sequence[int]
    ) -> NDArray[np.float32]:
        time, indices = tokens.shape[1], self._indices(rows)

        def attend(q: Tensor, k: Tensor, v: Tensor, cache: Tensor) -> Tensor:
            for part, new in zip(cache, (k, v), strict=True):
                part[indices, :, :time] = new.to(cache.dtype)
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)  # right padding: no real token sees a pad

        self.lengths[list(rows)] = lengths
        positions = torch.arange(time, device=self.device)
        states = self._states(self._indices(tokens), positions, attend)  # (M, T, D)
        return self._logits(states[torch.arange(len(states), device=self.device), self._indices(lengths - 1)])

    @torch.inference_mode()
    def step(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        count = len(tokens)
        positions = self.lengths[:count]
        time = int(positions.max()) + 1
        every, at = torch.arange(count, device=self.device), self._indices(positions)
        # Sequences of equal length need no mask. (With `is_causal` the single query would see the first key only.)
        unequal = bool((positions != positions[0]).any())
        seen = torch.arange(time, device=self.device) <= at[:, None] if unequal else None  # (M, time)
        mask = None if seen is None else seen[:, None, None]

        def attend(q: Tensor, k: Tensor, v: Tensor, cache: Tensor) -> Tensor:
            for part, new in zip(cache, (k[:, :, 0], v[:, :, 0]), strict=True):  # (M, H, K)
                if unequal:
                    part[every, :, at] = new.to(cache.dtype)
                else:
                    part[:count, :, time - 1] = new
            keys, values = cache[:, :count, :, :time]
            return F.scaled_dot_product_attention(q.to(cache.dtype), keys, values, attn_mask=mask)

        with _fast_products(count, self.weights):
            states = self._states(self._indices(tokens)[:, None], at[:, None], attend)  # (M, 1, D)
            logits = self._logits(states[:, 0])
        self.lengths[:count] += 1
        return logits

    @torch.inference_mode()
    def copy(self, source: int, target: int) -> None:
        time = int(self.lengths[source])
        self.cache[:, :, target, :, :time] = self.cache[:, :, source, :, :time]
        self.lengths[target] = time

    def _states(self, tokens: Tensor, positions: Tensor, attend: CachedAttend) -> Tensor:
        """Return the states (M, T, D) of the last layer for `tokens` (M, T) at `positions` (M, T) or (T,)."""
        x = F.embedding(tokens, self.weights.tokens) + F.embedding(positions, self.weights.positions)
        for block, cache in zip(self.weights.blocks, self.cache, strict=True):
            x = block(x, partial(attend, cache=cache))
        return x

    def _logits(self, states: Tensor) -> NDArray[np.float32]:
        """Return the logits (M, V) after states (M, D)."""
        logits = F.linear(states.to(self.weights.softmax.dtype), self.weights.softmax)
        values: NDArray[np.float32] = logits.float().cpu().numpy()
        return values

    def _indices(self, values: Any) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.int64), device=self.device)


@contextmanager
def _fast_products(rows: int, weights: DecoderWeights) -> Iterator[None]:
    """Disable oneDNN in the body if one row is multiplied with 16-bit weights that are laid out for it.

    There, PyTorch's own kernel runs at memory bandwidth and oneDNN's takes twice as long; with more rows oneDNN is
    faster. The flag is global: products of other threads may be slower during the body, but are correct.
    """
    before = torch.backends.mkldnn.enabled
    laid_out_16_bits = weights.traits.lays_out_for_one_row and weights.softmax.dtype != torch.float32
    if rows > 1 or not laid_out_16_bits or not before:
        yield
        return
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # a descriptor, which torch does not type
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before
