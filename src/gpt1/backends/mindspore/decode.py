"""Generation in MindSpore: the blocks of `model.py`, one token at a time, with a KV cache.

It runs operator by operator: compiled, every token would need a graph for its shape.

Dimensions: N sequences, M of them in one call, T time, L maximum length, D width, H heads, K head size (D / H),
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from mindspore import Parameter, Tensor, ops
from numpy.typing import NDArray

from gpt1.backends.mindspore.functional import merged_heads, product, split_heads
from gpt1.backends.mindspore.model import GPT1


class MindSporeDecoder:
    """`backends.base.Decoder` in MindSpore."""

    def __init__(self, model: GPT1, n_sequences: int, length: int):
        config = self.config = model.config
        self.model, self.length = model, length
        self.tokens = model.tokens_embed.weight[: config.vocab_size]
        # Zeros, not empty: a masked key has weight 0, but 0 times uninitialized memory may be NaN.
        rows = np.zeros((n_sequences * length, config.n_embd), np.float32)
        self.cache = [(Parameter(Tensor(rows)), Parameter(Tensor(rows))) for _ in range(config.n_layer)]  # (N * L, D)
        self.lengths = np.zeros(n_sequences, np.int64)

    def prefill(
        self, tokens: NDArray[np.int32], lengths: NDArray[np.int64], rows: Sequence[int]
    ) -> NDArray[np.float32]:
        chosen, time = np.array(rows), tokens.shape[1]
        self.lengths[chosen] = lengths
        positions = np.broadcast_to(np.arange(time), tokens.shape)
        states = self._states(tokens, positions, chosen, time)  # right padding: no real token sees a pad
        return self._logits(states[np.arange(len(chosen)), lengths - 1])

    def step(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        count = len(tokens)
        positions = self.lengths[:count, None]
        states = self._states(tokens[:, None], positions, np.arange(count), int(positions.max()) + 1)
        self.lengths[:count] += 1
        return self._logits(states[:, 0])

    def copy(self, source: int, target: int) -> None:
        time = self.lengths[target] = self.lengths[source]
        old, new = (_integers(self._places(row, np.arange(time))) for row in (source, target))
        for part in (part for layer in self.cache for part in layer):
            ops.scatter_update(part, new, ops.gather(part, old, 0))

    def _states(
        self, tokens: NDArray[np.int32], positions: NDArray[np.int64], rows: NDArray[np.int64], time: int
    ) -> NDArray[np.float32]:
        """Return the states (M, T, D) of the last layer for `tokens` at `positions`, both (M, T).

        Their keys and values are written to the cache of the sequences `rows` (M,); attention is to its first `time`
        positions.
        """
        seen = np.arange(time) <= positions[..., None]  # (M, T, time)
        future = Tensor(np.where(seen, 0.0, -np.inf).astype(np.float32)[:, None])  # (M, 1, T, time)
        written = _integers(self._places(rows[:, None], positions))
        read = _integers(self._places(rows[:, None], np.arange(time)))
        model, size = self.model, self.model.head_size

        def attend(q: Tensor, k: Tensor, v: Tensor, keep: None, cache: Sequence[Parameter]) -> Tensor:
            for part, new in zip(cache, (k, v), strict=True):  # (M, T, D)
                ops.scatter_update(part, written, new)
            k, v = (split_heads(ops.gather(part, read, 0), size) for part in cache)  # (M, H, time, K)
            return merged_heads(model.attend(split_heads(q, size), k, v, future, keep)[0])

        x = ops.gather(self.tokens, _integers(tokens), 0)
        x = x + ops.gather(model.positions_embed.weight, _integers(positions), 0)
        for block, cache in zip(model.h, self.cache, strict=True):
            x = block(x, partial(attend, cache=cache), (None, None, None))
        states: NDArray[np.float32] = x.asnumpy()
        return states

    def _places(self, rows: NDArray[np.int64] | int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of the cache for `positions` of the sequences `rows`."""
        return rows * self.length + positions

    def _logits(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits (M, V) after states (M, D)."""
        logits = product(Tensor(np.ascontiguousarray(states)), self.tokens, self.model.dtype, transpose_b=True)
        return np.array(logits.asnumpy())


def _integers(values: NDArray[np.integer]) -> Tensor:
    return Tensor(np.ascontiguousarray(values, np.int32))
