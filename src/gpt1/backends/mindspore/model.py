"""GPT-1 (Radford et al. 2018) in MindSpore: a post-norm transformer decoder with a task head on the state of `<eos>`.

Dimensions: N sequences, T time, D width, H heads, K head size (D / H), B examples, C columns of the task's head.
Parameters have the names and layouts of `gpt1.backends.parameters`.

Dropout masks are inputs (see `masks.py`), because MindSpore's own dropout cannot be seeded again inside a compiled
graph: each step would repeat the same random numbers, and a resumed run would draw others. A mask is `None` when not
training.

Matrix products are computed in `dtype`; everything else, weights and residual stream included, is float32.
"""

from __future__ import annotations

from collections.abc import Callable

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from gpt1.backends.mindspore import masks
from gpt1.backends.mindspore.functional import (
    Affine,
    Attend,
    DType,
    Gelu,
    Normalise,
    Sums,
    drop,
    merged_heads,
    rows_at,
    split_heads,
)
from gpt1.config import DropoutConfig, ModelConfig

CausalAttend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""Attention function: queries (N, Q, D), keys and values (N, T, D), mask of the attention weights to (N, Q, D)."""


def blank(shape: tuple[int, ...]) -> Parameter:
    """Return a parameter of zeros, to be replaced by the values that the engine loads."""
    return Parameter(initializer("zeros", shape))


class Linear(nn.Cell):
    """x W + b with W stored as (in, out), as in OpenAI's code and Hugging Face's `Conv1D`."""

    def __init__(self, n_in: int, n_out: int, dtype: DType, sums: Sums):
        super().__init__()
        self.weight, self.bias = blank((n_in, n_out)), blank((n_out,))
        self.n_in, self.n_out = n_in, n_out
        self.affine = Affine(dtype, sums)

    def construct(self, x: Tensor) -> Tensor:
        return self.affine(x.reshape(-1, self.n_in), self.weight, self.bias).reshape(*x.shape[:-1], self.n_out)


class Norm(nn.Cell):
    """Layer norm over the last dimension."""

    def __init__(self, width: int, epsilon: float, sums: Sums):
        super().__init__()
        self.weight, self.bias = blank((width,)), blank((width,))
        self.normalise = Normalise(epsilon, sums)

    def construct(self, x: Tensor) -> Tensor:
        return self.normalise(x.reshape(-1, x.shape[-1]), self.weight, self.bias).reshape(x.shape)


class Embedding(nn.Cell):
    """Embedding matrix. `GPT1` does the look-up, because it may apply dropout to the matrix first."""

    def __init__(self, rows: int, width: int):
        super().__init__()
        self.weight = blank((rows, width))


class Attention(nn.Cell):
    """Multi-head self-attention: projections to q, k, v, the function `attend`, and the output projection."""

    def __init__(self, config: ModelConfig, dtype: DType, sums: Sums):
        super().__init__()
        self.width = config.n_embd
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, dtype, sums)
        self.c_proj = Linear(config.n_embd, config.n_embd, dtype, sums)

    def construct(self, x: Tensor, attend: CausalAttend, keep: Tensor | None, here: Tensor | None) -> Tensor:
        """Map x (N, T, D) to (N, T, D); with `here` (N, D), compute one query per sequence, from `here`: (N, D).

        `keep` is the dropout mask of the attention weights.
        """
        if here is None:
            q, k, v = ops.split(self.c_attn(x), self.width, -1)
            return self.c_proj(attend(q, k, v, keep))
        w_q, w_kv = ops.split(self.c_attn.weight, (self.width, 2 * self.width), -1)
        b_q, b_kv = ops.split(self.c_attn.bias, (self.width, 2 * self.width), -1)
        n, time, width = x.shape
        q = self.c_attn.affine(here, w_q, b_q).reshape(n, 1, width)
        kv = self.c_attn.affine(x.reshape(-1, width), w_kv, b_kv)
        k, v = ops.split(kv.reshape(n, time, 2 * width), width, -1)
        return self.c_proj(attend(q, k, v, keep)).reshape(n, width)


class MLP(nn.Cell):
    """Feed-forward layer: D to 4 D, the tanh approximation of GELU, 4 D to D."""

    def __init__(self, config: ModelConfig, dtype: DType, sums: Sums):
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd, dtype, sums)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd, dtype, sums)
        self.gelu = Gelu()

    def construct(self, x: Tensor) -> Tensor:
        return self.c_proj(self.gelu(self.c_fc(x))[0])


class Block(nn.Cell):
    """Post-norm block: x = LN(x + attention(x)), then x = LN(x + MLP(x))."""

    def __init__(self, config: ModelConfig, dropout: DropoutConfig, dtype: DType, sums: Sums):
        super().__init__()
        self.attn = Attention(config, dtype, sums)
        self.ln_1 = Norm(config.n_embd, config.layer_norm_epsilon, sums)
        self.mlp = MLP(config, dtype, sums)
        self.ln_2 = Norm(config.n_embd, config.layer_norm_epsilon, sums)
        self.pdrop = dropout.resid_pdrop

    def construct(self, x: Tensor, attend: CausalAttend, masks: tuple, position: Tensor | None = None) -> Tensor:
        """Map x (N, T, D) to (N, T, D), or to (N, D) if only the state at `position` (N,) is needed."""
        weights, attended, mixed = masks
        here = None if position is None else rows_at(x, position)
        residual = x if here is None else here
        x = self.ln_1(residual + drop(self.attn(x, attend, weights, here), attended, self.pdrop))
        return self.ln_2(x + drop(self.mlp(x), mixed, self.pdrop))


class GPT1(nn.Cell):
    """Transformer decoder with the head of one task; matrix products are computed in `dtype`, sums by `Sums`."""

    def __init__(
        self,
        config: ModelConfig,
        dropout: DropoutConfig,
        dtype: DType = mindspore.float32,
        sums_by_products: bool = True,
    ):
        super().__init__()
        self.config, self.dropout, self.dtype = config, dropout, dtype
        self.sums = Sums(sums_by_products)
        self.tokens_embed = Embedding(config.vocab_size + config.n_segments, config.n_embd)
        self.positions_embed = Embedding(config.n_ctx, config.n_embd)
        self.h = nn.CellList([Block(config, dropout, dtype, self.sums) for _ in range(config.n_layer)])
        if config.head:
            self.score = nn.Dense(config.n_embd, config.head.n_labels, has_bias=config.head.bias)
            self.sums_sequences = config.head.pooling.sequences > 1
            self.per_choice = config.head.pooling.per_choice
        self.head_size = config.n_embd // config.n_head
        self.attend = Attend(dropout.attn_pdrop, dtype, sums_by_products)
        self.future = Tensor(np.triu(np.full((config.n_ctx, config.n_ctx), -np.inf, np.float32), 1))

    def construct(
        self, tokens: Tensor, segments: Tensor | None, position: Tensor | None, embeddings: tuple, masks: tuple
    ) -> Tensor:
        """Return the states of the last layer, (N, T, D), or (N, D) with `position`.

        Args:
            tokens: (N, T) token ids.
            segments: (N, T) segment numbers; `None` for a model without segments.
            position: (N,) the only position of each sequence whose state is needed; `None`: all.
            embeddings: result of `embeddings`, for the look-ups.
            masks: dropout masks of the sum of the embeddings and of the blocks.
        """
        of_sum, of_blocks = masks
        x = self.embedded(ops.gather(embeddings[0], tokens, 0), segments, embeddings)
        return self.decoded(drop(x, of_sum, self.dropout.embd_pdrop), position, of_blocks)

    def embedded(self, tokens: Tensor, segments: Tensor | None, embeddings: tuple) -> Tensor:
        """Return the input of the first block (N, T, D): token embeddings `tokens` (N, T, D) plus positions, segments.

        `segments` (N, T) are segment numbers.
        """
        every, positions = embeddings
        x = tokens + positions[: tokens.shape[1]]
        return x if segments is None else x + ops.gather(every, self.config.vocab_size + segments, 0)

    def decoded(self, x: Tensor, position: Tensor | None, of_blocks: tuple) -> Tensor:
        """Return the states of the last layer, as `construct`, from the input x (N, T, D) of the first block."""
        time = x.shape[1]
        attend = self.causal(self.future_of(x))
        last = self.config.n_layer - 1
        for layer in range(last):
            x = self.h[layer](x, attend, of_blocks[layer])
        if position is not None:
            seen = ops.gather(self.future[:, :time], position, 0).reshape(-1, 1, 1, time)  # (N, 1, 1, T)
            attend = self.causal(ops.tile(seen, (1, self.config.n_head, 1, 1)))
        return self.h[last](x, attend, of_blocks[last], position)

    def causal(self, future: Tensor) -> CausalAttend:
        """Return the attention function with the mask `future` (N, H, Q, T): -inf where a query must not see a key."""

        def attend(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None) -> Tensor:
            size = self.head_size
            sums = self.attend(split_heads(q, size), split_heads(k, size), split_heads(v, size), future, keep)[0]
            return merged_heads(sums)

        return attend

    def future_of(self, x: Tensor) -> Tensor:
        """Return the causal mask (N, H, T, T) for x (N, T, D): -inf above the diagonal, otherwise 0."""
        time = x.shape[1]
        return ops.tile(self.future[:time, :time], (x.shape[0], self.config.n_head, 1, 1))

    def embeddings(self, masks: tuple) -> tuple:
        """Return the matrices for the look-ups and the tied softmax, with dropout by their `masks`, if any."""
        of_tokens, of_positions = masks
        p = self.dropout.embd_pdrop
        return drop(self.tokens_embed.weight, of_tokens, p), drop(self.positions_embed.weight, of_positions, p)

    def task_logits(self, states: Tensor, per_example: int, keep: Tensor | None) -> Tensor:
        """Return (B, C) scores from the states (N, D) of `<eos>`; N = B * `per_example`.

        Similarity sums the states of both orders; multiple choice scores each choice, so C = `per_example`
        (Radford et al. 2018, §3.3). The dropout mask `keep` is (B, 1, D) if the choices share one, otherwise of the
        shape of the states.
        """
        width = self.config.n_embd
        if self.sums_sequences:
            states = states.reshape(-1, per_example, width).sum(1)  # (B, D)
        if self.per_choice:
            states = states.reshape(-1, per_example, width)  # (B, k, D)
            keep = None if keep is None or keep.ndim == 0 else keep.reshape(states.shape[0], -1, width)
        states = drop(states, keep, self.dropout.clf_pdrop)
        scores = self.score(states.reshape(-1, width))
        return scores.reshape(-1, per_example) if self.per_choice else scores


class Inference(nn.Cell):
    """`GPT1` without dropout, as a cell whose inputs are all tensors; a missing input is `ABSENT`."""

    def __init__(self, model: GPT1):
        super().__init__()
        self.model = model
        self.of_matrices, self.of_body, _ = masks.none(model.config)

    def construct(self, tokens: Tensor, segments: Tensor, position: Tensor) -> Tensor:
        """Return the states of the last layer: (N, T, D), or (N, D) with `position` (N,)."""
        embeddings = self.model.embeddings(self.of_matrices)
        some_segments, some_position = (each if each.ndim else None for each in (segments, position))
        return self.model(tokens, some_segments, some_position, embeddings, self.of_body)
