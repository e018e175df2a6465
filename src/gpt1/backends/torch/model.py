"""GPT-1 (Radford et al. 2018) in PyTorch: a post-norm transformer decoder with a task head on the state of `<eos>`.

Dimensions: N sequences, T time, D width, H heads, K head size (D / H), B examples, C columns of the task's head.
Parameters have the names and layouts of `gpt1.backends.parameters`. Inside an autocast region matrix products run in
its dtype; the residual stream, layer norms, losses and weights are float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt1.backends.torch.attention import causal_attention, causal_attention_at
from gpt1.backends.torch.device import TorchTraits
from gpt1.backends.torch.functional import DropoutRng, DroppedMatrix, embed, linear, packed, packed_linear
from gpt1.config import DropoutConfig, ModelConfig

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention function: queries (N, H, Q, K), keys and values (N, H, T, K) to (N, H, Q, K)."""


class Linear(nn.Module):
    """x W + b with W stored as (in, out), as in OpenAI's code and Hugging Face's `Conv1D`."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.empty(n_out))
        self.low: tuple[Tensor, Tensor] | None = None
        """Copies of weight and bias in the dtype of the products."""
        self.packed: Tensor | None = None
        """The weight of `low` in oneDNN's layout, for inference."""

    def forward(self, x: Tensor, columns: slice = slice(None)) -> Tensor:
        """Map x (..., I) to (..., O), or to some `columns` of it."""
        if self.low is None:
            return F.linear(x, self.weight[:, columns].T, self.bias[columns])
        if torch.is_grad_enabled():
            return linear(x, self.weight, self.bias, self.low, columns)
        weight, bias = self.low
        x = x.to(weight.dtype)
        if self.packed is not None and columns == slice(None):
            return packed_linear(x, self.packed, bias, gelu=False)
        return F.linear(x, weight[:, columns].T, bias[columns])

    def gelu(self, x: Tensor) -> Tensor:
        """Return the tanh approximation of GELU of `forward`."""
        if self.low is None or self.packed is None or torch.is_grad_enabled():
            return F.gelu(self(x), approximate="tanh")
        return packed_linear(x.to(self.low[0].dtype), self.packed, self.low[1], gelu=True)

    @torch.inference_mode(False)
    @torch.no_grad()
    def cast(self, dtype: torch.dtype) -> None:
        """Compute with copies of the present parameters in `dtype` (autocast would cast at every call)."""
        if self.low is None:
            self.low = self.weight.to(dtype), self.bias.to(dtype)
        else:
            torch._foreach_copy_(self.low, [self.weight, self.bias])
        self.packed = None

    def pack(self) -> None:
        """Use a weight packed for oneDNN in inference, until the next `cast`."""
        assert self.low is not None
        self.packed = packed(self.low[0])

    def drop_copies(self) -> None:
        """Compute with the parameters themselves."""
        self.low = self.packed = None


class Attention(nn.Module):
    """Multi-head self-attention: projections to q, k, v, the function `attend`, and the output projection."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, attend: Attend, position: Tensor | None = None) -> Tensor:
        """Map x (N, T, D) to (N, T, D); with `position` (N,), compute one query per sequence: (N, 1, D)."""
        q, k, v = self._heads(self.c_attn(x)) if position is None else self._heads_at(x, position)
        out: Tensor = self.c_proj(attend(q, k, v).transpose(1, 2).flatten(2))
        return out

    def _heads_at(self, x: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        """Return q (N, H, 1, K) at `position` (N,), and k and v (N, H, T, K)."""
        width = x.size(-1)
        (q,) = self._heads(self.c_attn(rows_at(x, position), slice(width)))
        return q, *self._heads(self.c_attn(x, slice(width, None)))

    def _heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Split x (N, T, m D) into m tensors (N, H, T, K)."""
        width = self.c_proj.weight.size(0)
        parts = torch.split(x, width, -1)
        return tuple(torch.unflatten(part, -1, (self.n_head, -1)).transpose(1, 2) for part in parts)


class MLP(nn.Module):
    """Feed-forward layer: D to 4 D, the tanh approximation of GELU, 4 D to D."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(self.c_fc.gelu(x))
        return out


class Block(nn.Module):
    """Post-norm block: x = LN(x + attention(x)), then x = LN(x + MLP(x))."""

    def __init__(self, config: ModelConfig, dropout: DropoutConfig):
        super().__init__()
        self.attn = Attention(config)
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = MLP(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.pdrop = dropout.resid_pdrop

    def forward(
        self, x: Tensor, attend: Attend, rng: DropoutRng | None = None, position: Tensor | None = None
    ) -> Tensor:
        """Map x (N, T, D) to (N, T, D), or to (N, 1, D) if only the state at `position` (N,) is needed."""
        residual = x if position is None else rows_at(x, position)
        x = self.ln_1(residual + self._drop(self.attn(x, attend, position), rng))
        out: Tensor = self.ln_2(x + self._drop(self.mlp(x), rng))
        return out

    def _drop(self, x: Tensor, rng: DropoutRng | None) -> Tensor:
        return (rng.drop(x, self.pdrop) if rng else x).float()


class Embeddings(NamedTuple):
    """Embedding matrices, read by the look-ups and by the tied softmax."""

    tokens: Tensor
    """(V + segments, D)"""
    positions: Tensor
    """(n_ctx, D)"""


class GPT1(nn.Module):
    """Transformer decoder with the head of one task, created without values: the engine loads the parameters."""

    def __init__(self, config: ModelConfig, dropout: DropoutConfig, traits: TorchTraits):
        super().__init__()
        self.config, self.dropout, self.traits = config, dropout, traits
        self.tokens_embed = nn.Embedding(config.vocab_size + config.n_segments, config.n_embd)
        self.positions_embed = nn.Embedding(config.n_ctx, config.n_embd)
        self.h = nn.ModuleList(Block(config, dropout) for _ in range(config.n_layer))
        if config.head:
            self.score = nn.Linear(config.n_embd, config.head.n_labels, bias=config.head.bias)

    def forward(
        self,
        tokens: Tensor,
        segments: Tensor | None,
        rng: DropoutRng | None = None,
        position: Tensor | None = None,
        embeddings: Embeddings | None = None,
    ) -> Tensor:
        """Return the states of the last layer, (N, T, D), or (N, 1, D) with `position`.

        Args:
            tokens: (N, T) token ids.
            segments: (N, T) segment numbers; `None` for a model without segments.
            rng: dropout; `None` when not training.
            position: (N,) the only position of each sequence whose state is needed; `None`: all.
            embeddings: matrices for the look-ups; `None`: the parameters.
        """
        embeddings = embeddings or self.embeddings()
        x = self.embedded(self._rows(embeddings.tokens, tokens), segments, embeddings)
        if rng and not self.dropout.embd_matrix:
            x = rng.drop(x, self.dropout.embd_pdrop)
        return self.decoded(x, rng, position)

    def embedded(self, tokens: Tensor, segments: Tensor | None, embeddings: Embeddings) -> Tensor:
        """Return the input of the first block (N, T, D): token embeddings `tokens` (N, T, D) plus positions, segments.

        `segments` (N, T) are segment numbers.
        """
        x = tokens + embeddings.positions[: tokens.size(1)]
        return x if segments is None else x + self._rows(embeddings.tokens, self.config.vocab_size + segments)

    def decoded(self, x: Tensor, rng: DropoutRng | None = None, position: Tensor | None = None) -> Tensor:
        """Return the states of the last layer, as `forward`, from the input x (N, T, D) of the first block."""
        p = self.dropout.attn_pdrop
        attend = partial(causal_attention, p=p, rng=rng)
        *blocks, last = self.h
        for block in blocks:
            x = block(x, attend, rng)
        if position is not None:
            attend = partial(causal_attention_at, position=position, p=p, rng=rng)
        states: Tensor = last(x, attend, rng, position)
        return states

    def _rows(self, matrix: Tensor, rows: Tensor) -> Tensor:
        return embed(matrix, rows, adds_gradient_by_row=self.traits.adds_gradients)

    def embeddings(self) -> Embeddings:
        """Return the parameters of both embeddings."""
        return Embeddings(self.tokens_embed.weight, self.positions_embed.weight)

    def dropped_embeddings(self, rng: DropoutRng) -> list[DroppedMatrix]:
        """Return both embeddings with dropout on the matrices; empty without `DropoutConfig.embd_matrix`."""
        p = self.dropout.embd_pdrop if self.dropout.embd_matrix else 0.0
        return [DroppedMatrix(matrix, p, rng) for matrix in self.embeddings()] if p else []

    def task_logits(self, states: Tensor, per_example: int, rng: DropoutRng | None = None) -> Tensor:
        """Return (B, C) scores from the states (N, D) of `<eos>`; N = B * `per_example`.

        Similarity sums the states of both orders; multiple choice scores each choice, so C = `per_example`
        (Radford et al. 2018, §3.3).
        """
        head = self.config.head
        assert head is not None
        pooling = head.pooling
        if pooling.sequences > 1:
            states = torch.unflatten(states, 0, (-1, per_example)).sum(1)  # (B, D)
        if rng and self.dropout.clf_shared and pooling.per_choice:
            choices = torch.unflatten(states, 0, (-1, per_example))  # (B, k, D)
            states = rng.drop_shared(choices, self.dropout.clf_pdrop, dim=1).flatten(0, 1)
        elif rng:
            states = rng.drop(states, self.dropout.clf_pdrop)
        scores: Tensor = self.score(states)
        return scores.view(-1, per_example) if pooling.per_choice else scores


def rows_at(x: Tensor, position: Tensor) -> Tensor:
    """Return the rows (N, 1, D) of x (N, T, D) at `position` (N,)."""
    # size(0), because torch.export takes len(x) for a constant
    return x[torch.arange(x.size(0), device=x.device), position][:, None]
