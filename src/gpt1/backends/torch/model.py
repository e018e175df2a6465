"""GPT-1 (Radford et al. 2018) in PyTorch: a post-norm transformer decoder, and the head of a task on its `<eos>` state.

Dimensions: N sequences, T time, D width, H heads, K head size (D / H), B examples, C columns of the task's head.
Parameters have the names and layouts of `gpt1.backends.parameters`. Inside an autocast region the products run in its
dtype; the residual stream, the layer norms, the losses and all weights are float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt1.backends.torch.device import TorchTraits
from gpt1.backends.torch.functional import DropoutRng, DroppedMatrix, causal_attention, causal_attention_at, embed
from gpt1.config import DropoutConfig, Head, ModelConfig

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From queries (N, H, Q, K), keys and values (N, H, T, K) to the weighted sums of values (N, H, Q, K)."""


class Linear(nn.Module):
    """x W + b with W stored (in, out), as OpenAI's code and Hugging Face's `Conv1D` have it."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.empty(n_out))
        self.frozen: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.tensors()
        if self.frozen:  # autocast does it too, where it is on
            x = x.to(weight.dtype)
        return F.linear(x, weight.T, bias)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias: the parameters, or their copies of lower precision while the layer is frozen."""
        return self.frozen or (self.weight, self.bias)

    def freeze(self, dtype: torch.dtype | None) -> None:
        """Compute with copies in `dtype` from now on (autocast would cast at every call); `None` undoes it."""
        self.frozen = None if dtype is None else (self.weight.detach().to(dtype), self.bias.detach().to(dtype))


class Attention(nn.Module):
    """The projections of multi-head self-attention; `attend` computes what stands between them."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, attend: Attend, position: Tensor | None = None) -> Tensor:
        """Map (N, T, D) to the same shape, or to (N, 1, D) with the queries at `position` (N,) alone."""
        out = attend(*(self._heads(self.c_attn(x)) if position is None else self._heads_at(x, position)))
        return self.c_proj(out.transpose(1, 2).flatten(2))

    def _heads_at(self, x: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        """Return q (N, H, 1, K) at one position, k and v (N, H, T, K)."""
        width = x.size(-1)
        (w_q, w_kv), (b_q, b_kv) = (p.split([width, 2 * width], -1) for p in self.c_attn.tensors())
        (q,) = self._heads(F.linear(rows_at(x, position), w_q.T, b_q))
        return q, *self._heads(F.linear(x, w_kv.T, b_kv))

    def _heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Split (N, T, m D) into m tensors (N, H, T, K)."""
        width = self.c_proj.weight.size(0)
        return tuple(part.unflatten(-1, (self.n_head, -1)).transpose(1, 2) for part in x.split(width, -1))


class MLP(nn.Module):
    """Two layers with the tanh approximation of GELU between them."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    """x = LN(x + attention(x)), then x = LN(x + MLP(x)): the norms stand after the residual sums."""

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
        """Map (N, T, D) to the same shape, or to (N, 1, D) at `position` (N,) where nothing else will be read.

        `attend` is the attention of all queries, of those at `position`, or of a decoder to its cache.
        """
        residual = x if position is None else rows_at(x, position)
        x = self.ln_1(residual + self._drop(self.attn(x, attend, position), rng))
        return self.ln_2(x + self._drop(self.mlp(x), rng))

    def _drop(self, x: Tensor, rng: DropoutRng | None) -> Tensor:
        return (rng.drop(x, self.pdrop) if rng else x).float()


class Embeddings(NamedTuple):
    """The matrices that the look-ups and the tied softmax read."""

    tokens: Tensor
    """(V + segments, D)"""
    positions: Tensor
    """(n_ctx, D)"""


class GPT1(nn.Module):
    """The decoder and the head of one task. Layers are on the meta device until parameters are loaded."""

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
        """Return the last layer's states: (N, T, D), or (N, 1, D) at `position` (N,) where only that will be read.

        `tokens` and `segments` are (N, T) integers; `rng` is the dropout, `None` when not training; `embeddings` are
        what to look up in, the parameters where it is `None`.
        """
        embeddings = embeddings or self.embeddings()
        x = self.embedded(self._rows(embeddings.tokens, tokens), segments, embeddings)
        if rng and not self.dropout.embd_matrix:
            x = rng.drop(x, self.dropout.embd_pdrop)
        return self.decoded(x, rng, position)

    def embedded(self, tokens: Tensor, segments: Tensor | None, embeddings: Embeddings) -> Tensor:
        """Return what enters the first block (N, T, D): the rows of the tokens (N, T, D) with those of their places."""
        x = tokens + embeddings.positions[: tokens.size(1)]
        return x if segments is None else x + self._rows(embeddings.tokens, self.config.vocab_size + segments)

    def decoded(self, x: Tensor, rng: DropoutRng | None = None, position: Tensor | None = None) -> Tensor:
        """Return the last layer's states, as `forward`, of what enters the first block (N, T, D)."""
        p = self.dropout.attn_pdrop
        attend = partial(causal_attention, p=p, rng=rng)
        *blocks, last = self.h
        for block in blocks:
            x = block(x, attend, rng)
        if position is not None:
            attend = partial(causal_attention_at, position=position, p=p, rng=rng)
        return last(x, attend, rng, position)

    def _rows(self, matrix: Tensor, rows: Tensor) -> Tensor:
        return embed(matrix, rows, adds_gradient_by_row=self.traits.adds_gradient_by_row)

    def embeddings(self) -> Embeddings:
        return Embeddings(self.tokens_embed.weight, self.positions_embed.weight)

    def dropped_embeddings(self, rng: DropoutRng) -> list[DroppedMatrix]:
        """Return both embeddings with dropout on the matrices, where that is what is asked for; else nothing."""
        p = self.dropout.embd_pdrop if self.dropout.embd_matrix else 0.0
        return [DroppedMatrix(matrix, p, rng) for matrix in self.embeddings()] if p else []

    def task_logits(self, states: Tensor, per_example: int, rng: DropoutRng | None = None) -> Tensor:
        """Return (B, C) scores from the `<eos>` states (N, D), of which each example has `per_example`.

        Similarity adds the states of both orders; multiple choice scores each choice, so that C = `per_example`
        (Radford et al. 2018, §3.3).
        """
        head = self.config.head
        assert head is not None
        pooling = head.pooling
        if pooling.sequences > 1:
            states = states.unflatten(0, (-1, per_example)).sum(1)  # (B, D)
        if rng and self.dropout.clf_shared and pooling.per_choice:
            choices = states.unflatten(0, (-1, per_example))  # (B, k, D)
            states = rng.drop_shared(choices, self.dropout.clf_pdrop, dim=1).flatten(0, 1)
        elif rng:
            states = rng.drop(states, self.dropout.clf_pdrop)
        scores: Tensor = self.score(states)
        return scores.view(-1, per_example) if pooling.per_choice else scores


def rows_at(x: Tensor, position: Tensor) -> Tensor:
    """Return (N, 1, D), the row of x (N, T, D) at `position` (N,)."""
    # size(0), where len would be a constant to torch.export
    return x[torch.arange(x.size(0), device=x.device), position][:, None]


def task_loss(logits: Tensor, labels: Tensor, head: Head) -> Tensor:
    """Return the (B,) cross-entropies, or squared errors of a regression, of float32 `logits` (B, C)."""
    if head.regression:
        return (logits[:, 0] - labels).square()
    return F.cross_entropy(logits, labels, reduction="none")
