"""Generation in PyTorch: the decoder of `model.py` over plain tensors, one token at a time, keys and values kept.

Dimensions: N sequences, M of them, T time, L the most tokens of a sequence, D width, H heads, K head size (D / H), V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gpt1.backends.torch.model import GPT1, Block, Linear
from gpt1.config import ModelConfig

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From q (M, H, T, K), k and v of the same tokens, and a layer's cache to what attention gives: (M, H, T, K)."""


class Dense(NamedTuple):
    """y = x Wᵀ + b."""

    weight: Tensor
    """(out, in)"""
    bias: Tensor

    @classmethod
    def of(cls, layer: Linear, dtype: torch.dtype) -> Self:
        return cls(laid_out(layer.weight.detach().T, dtype), layer.bias.detach().to(dtype))

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


class Norm(NamedTuple):
    gain: Tensor
    bias: Tensor
    epsilon: float

    @classmethod
    def of(cls, layer: nn.LayerNorm) -> Self:
        return cls(layer.weight.detach(), layer.bias.detach(), layer.eps)

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gain.shape, self.gain, self.bias, self.epsilon)


class Layer(NamedTuple):
    """The parameters of a block in the order of their use."""

    c_attn: Dense
    c_proj: Dense
    ln_1: Norm
    c_fc: Dense
    mlp_proj: Dense
    ln_2: Norm

    @classmethod
    def of(cls, block: Block, dtype: torch.dtype) -> Self:
        attn, mlp = block.attn, block.mlp
        return cls(
            Dense.of(attn.c_attn, dtype), Dense.of(attn.c_proj, dtype), Norm.of(block.ln_1),
            Dense.of(mlp.c_fc, dtype), Dense.of(mlp.c_proj, dtype), Norm.of(block.ln_2),
        )  # fmt: skip


class Weights(NamedTuple):
    """A model laid out for products with one row: what reads each weight once a token is as fast as memory is."""

    config: ModelConfig
    tokens: Tensor
    """(V, D), float32: what the tokens are looked up in."""
    positions: Tensor
    """(n_ctx, D), float32"""
    layers: tuple[Layer, ...]
    softmax: Tensor
    """(V, D), the same tokens for the tied softmax, in the dtype of the products."""

    @classmethod
    def of(cls, model: GPT1, dtype: torch.dtype) -> Self:
        tokens = model.tokens_embed.weight.detach()[: model.config.vocab_size]
        # In float32 a copy, because one row times (V, D) as it lies takes twice the time of one row times (D, V).
        softmax = laid_out(tokens.T.contiguous().T if tokens.is_cpu and dtype == torch.float32 else tokens, dtype)
        layers = tuple(Layer.of(block, dtype) for block in model.h)
        return cls(model.config, tokens, model.positions_embed.weight.detach(), layers, softmax)


def laid_out(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return an (out, in) weight in `dtype`, as products with one row are fastest on a CPU (docs/performance.md).

    That is (in, out) in memory for float32, as the parameters lie, and (out, in) for 16 bits, cast once.
    """
    return weight if dtype == torch.float32 else weight.to(dtype, memory_format=torch.contiguous_format)


class TorchDecoder:
    """`backends.base.Decoder` in PyTorch.

    The residual stream is float32, as in `model.py`. On a CPU the cache is too, also where products are bfloat16:
    attention of one query to bfloat16 keys takes five times as long there.
    """

    def __init__(self, weights: Weights, n_sequences: int, length: int):
        config = self.config = weights.config
        self.weights, self.device = weights, weights.tokens.device
        size = config.n_embd // config.n_head
        shape = config.n_layer, 2, n_sequences, config.n_head, length, size
        dtype = torch.float32 if self.device.type == "cpu" else weights.softmax.dtype
        # Zeros: a masked key has weight 0, but 0 times what lies in fresh memory may be NaN.
        self.cache = torch.zeros(shape, dtype=dtype, device=self.device)  # (layers, k and v, N, H, L, K)
        self.lengths = np.zeros(n_sequences, np.int64)

    @torch.inference_mode()
    def prefill(
        self, tokens: NDArray[np.int32], lengths: NDArray[np.int64], rows: Sequence[int]
    ) -> NDArray[np.float32]:
        time, where = tokens.shape[1], self._indices(rows)

        def attend(q: Tensor, kv: Tensor, cache: Tensor) -> Tensor:
            cache[:, where, :, :time] = kv.to(cache.dtype)
            return F.scaled_dot_product_attention(q, *kv, is_causal=True)  # right padding: no real token sees a pad

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
        # Sequences of one length need no mask: `is_causal` would let the one query see the first key alone.
        unequal = bool((positions != positions[0]).any())
        seen = torch.arange(time, device=self.device) <= at[:, None] if unequal else None  # (M, time)
        mask = None if seen is None else seen[:, None, None]

        def attend(q: Tensor, kv: Tensor, cache: Tensor) -> Tensor:
            if unequal:
                cache[:, every, :, at] = kv[..., 0, :].transpose(0, 1).to(cache.dtype)  # (M, 2, H, K)
            else:
                cache[:, :count, :, time - 1] = kv[..., 0, :]
            return F.scaled_dot_product_attention(q.to(cache.dtype), *cache[:, :count, :, :time], attn_mask=mask)

        with _fast_products(count, self.weights.softmax):
            states = self._states(self._indices(tokens)[:, None], at[:, None], attend)  # (M, 1, D)
            logits = self._logits(states[:, 0])
        self.lengths[:count] += 1
        return logits

    @torch.inference_mode()
    def copy(self, source: int, target: int) -> None:
        time = int(self.lengths[source])
        self.cache[:, :, target, :, :time] = self.cache[:, :, source, :, :time]
        self.lengths[target] = time

    def _states(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Return the last layer's states (M, T, D) of `tokens` (M, T) at `positions` (M, T) or (T,)."""
        heads = (3, self.config.n_head, self.cache.size(-1))
        x = F.embedding(tokens, self.weights.tokens) + F.embedding(positions, self.weights.positions)
        for layer, cache in zip(self.weights.layers, self.cache, strict=True):
            qkv = layer.c_attn(x).unflatten(-1, heads).permute(2, 0, 3, 1, 4)  # (3, M, H, T, K)
            out = attend(qkv[0], qkv[1:], cache).transpose(1, 2).flatten(2)  # (M, T, D)
            x = layer.ln_1(x + layer.c_proj(out))
            x = layer.ln_2(x + layer.mlp_proj(F.gelu(layer.c_fc(x), approximate="tanh")))
        return x

    def _logits(self, states: Tensor) -> NDArray[np.float32]:
        """Return the logits (M, V) after states (M, D)."""
        logits = F.linear(states.to(self.weights.softmax.dtype), self.weights.softmax)
        values: NDArray[np.float32] = logits.float().cpu().numpy()
        return values

    def _indices(self, values: Any) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.int64), device=self.device)


@contextmanager
def _fast_products(rows: int, weight: Tensor) -> Iterator[None]:
    """Leave oneDNN out meanwhile where one row meets 16-bit weights on a CPU.

    PyTorch's own kernel reads them as fast as memory gives them; oneDNN's takes twice the time. With more rows it is
    the other way round. The flag is the process's: another thread's products may be slower meanwhile, never wrong.
    """
    before = torch.backends.mkldnn.enabled
    if rows > 1 or weight.dtype == torch.float32 or not weight.is_cpu or not before:
        yield
        return
    torch.backends.mkldnn.enabled = False
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before
