"""What the model computes in its own way, for speed or for exactness: counted dropout, causal attention, the LM loss.

Dimensions: N sequences, T time, D width, H heads, K head size, V vocabulary, M positions that have a target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from gpt1.backends.dropout import QUERY_BLOCK, HostDropoutRng, generator_seed, keep_scale, threshold
from gpt1.backends.torch.device import TorchTraits, seed_generator


class DropoutRng:
    """Random masks of one micro-batch: a function of (seed, step, micro-batch) alone, so resuming needs no RNG state.

    They are drawn on the host, by the generator that all backends share, or by the generator of `device`, which is
    seeded for it (see `TorchTraits.dropout_on_host`).
    """

    def __init__(self, device: torch.device, *counters: int, on_host: bool = True):
        self.device, self.on_host = device, on_host
        if on_host:
            self.host = HostDropoutRng(*counters)
        else:
            seed_generator(device, generator_seed(*counters))

    def keep(self, shape: tuple[int, ...], p: float, dtype: torch.dtype) -> Tensor:
        """Return a mask of `shape`: 1 with probability 1 - p, else 0."""
        return (torch.from_numpy(self.host.bits(shape)) >= threshold(p)).to(self.device, dtype)

    def drop(self, x: Tensor, p: float) -> Tensor:
        """Return x with elements zeroed with probability p and the others scaled so that the mean stays."""
        if p == 0.0:
            return x
        if not self.on_host:
            return F.dropout(x, p)
        return x * self.factors(tuple(x.shape), p, x.dtype)

    def drop_shared(self, x: Tensor, p: float, dim: int) -> Tensor:
        """As `drop`, with one mask for all places along dimension `dim`."""
        shape = list(x.shape)
        shape[dim] = 1
        return x * self.factors(tuple(shape), p, x.dtype) if p else x

    def factors(self, shape: tuple[int, ...], p: float, dtype: torch.dtype) -> Tensor:
        """Return what dropout multiplies a tensor of `shape` with: 0 with probability p, else what keeps the mean."""
        if not self.on_host:
            return F.dropout(torch.ones(shape, dtype=dtype, device=self.device), p)
        return self.keep(shape, p, dtype).mul_(keep_scale(p))


class DroppedMatrix:
    """Dropout on the elements of a parameter for one micro-batch: whatever reads `value` sees the same mask.

    `value` is a leaf of its own, which gathers the gradients of all that reads it; `add_gradient` then passes them on.
    """

    def __init__(self, parameter: Tensor, p: float, rng: DropoutRng):
        self.parameter = parameter
        self.factors = rng.factors(tuple(parameter.shape), p, parameter.dtype)
        self.value = (parameter.detach() * self.factors).requires_grad_()

    def add_gradient(self) -> None:
        """Add the gradient by `value` to that of the parameter."""
        if self.value.grad is not None:
            gradient_of(self.parameter).addcmul_(self.value.grad, self.factors)


def gradient_of(leaf: Tensor) -> Tensor:
    """Return the gradient of a leaf to be added to, zero where it has none yet."""
    if leaf.grad is None:
        leaf.grad = torch.zeros_like(leaf)
    return leaf.grad


def causal_attention(q: Tensor, k: Tensor, v: Tensor, p: float, rng: DropoutRng | None) -> Tensor:
    """Return softmax(q kᵀ / √K, future masked) v with attention dropout; all of shape (N, H, T, K).

    With masks from the host, training takes the explicit form, since the fused kernel takes no mask of ours (on a CPU
    it is slow backwards besides: docs/performance.md). Everything else uses `scaled_dot_product_attention`.
    """
    if rng is not None and rng.on_host and torch.is_grad_enabled():
        return _BlockwiseAttention.apply(q, k, v, p, rng)
    return F.scaled_dot_product_attention(q, k, v, dropout_p=p if rng else 0.0, is_causal=True)


def causal_attention_at(q: Tensor, k: Tensor, v: Tensor, position: Tensor, p: float, rng: DropoutRng | None) -> Tensor:
    """Return what `causal_attention` gives at one `position` (N,) of each sequence, with q there: (N, H, 1, K)."""
    future = torch.arange(k.size(2), device=k.device) > position[:, None]  # (N, T)
    weights = _attention_weights(q, k, future[:, None, None])
    return (rng.drop(weights, p) if rng else weights) @ v


def causal_weights(q: Tensor, k: Tensor) -> Tensor:
    """Return the softmax weights (N, H, T, T) with which `causal_attention`, without dropout, sums the values."""
    return _attention_weights(q, k, torch.ones(k.size(2), k.size(2), dtype=torch.bool, device=k.device).triu_(1))


def _attention_weights(q: Tensor, k: Tensor, future: Tensor) -> Tensor:
    return torch.softmax((q @ k.transpose(-1, -2) / k.size(-1) ** 0.5).masked_fill(future, -math.inf), -1)


class _BlockwiseAttention(torch.autograd.Function):
    """Explicit causal attention, a block of queries at a time over the keys that block may see."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, p: float, rng: DropoutRng) -> Tensor:
        *_, time, size = q.shape
        q, k, v = (q / math.sqrt(size)).contiguous(), k.contiguous(), v * keep_scale(p)
        out = torch.empty_like(v)
        saved = []
        for start in range(0, time, QUERY_BLOCK):
            end = min(start + QUERY_BLOCK, time)
            scores = q[:, :, start:end] @ k[:, :, :end].transpose(-1, -2)  # (N, H, end - start, end)
            future = torch.full((end - start, end - start), -math.inf, dtype=q.dtype, device=q.device).triu_(1)
            scores[..., start:end] += future
            weights = torch.softmax(scores, -1)
            keep = rng.keep(tuple(weights.shape), p, weights.dtype) if p else None
            dropped = weights * keep if keep is not None else weights
            out[:, :, start:end] = dropped @ v[:, :, :end]
            saved += [weights, keep, dropped]
        ctx.save_for_backward(q, k, v, *saved)
        ctx.scale = keep_scale(p)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *saved = ctx.saved_tensors
        time, size = q.shape[-2:]
        grad = grad.contiguous()
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for block, start in enumerate(range(0, time, QUERY_BLOCK)):
            end = min(start + QUERY_BLOCK, time)
            weights, keep, dropped = saved[3 * block : 3 * block + 3]
            grad_out = grad[:, :, start:end]
            grad_v[:, :, :end] += dropped.transpose(-1, -2) @ grad_out
            grad_weights = grad_out @ v[:, :, :end].transpose(-1, -2)
            if keep is not None:
                grad_weights *= keep
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_q[:, :, start:end] = grad_scores @ k[:, :, :end]
            grad_k[:, :, :end] += grad_scores.transpose(-1, -2) @ q[:, :, start:end]
        return grad_q / math.sqrt(size), grad_k, grad_v * ctx.scale, None, None


def embed(weight: Tensor, rows: Tensor, *, adds_gradient_by_row: bool) -> Tensor:
    """Return weight[rows]: (N, T) integers to (N, T, D).

    With `adds_gradient_by_row` the gradient is added to `weight.grad` row by row: on a CPU the dense gradient that
    PyTorch would make, of the size of the whole embedding, costs more than the look-up of a batch by far.
    """
    if adds_gradient_by_row and torch.is_grad_enabled():
        return _RowLookup.apply(weight, rows)
    return F.embedding(rows, weight)


class _RowLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor) -> Tensor:
        ctx.weight, ctx.rows = weight, rows.flatten().long()
        return F.embedding(rows, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        gradient_of(ctx.weight).index_add_(0, ctx.rows, grad.flatten(0, -2))
        return None, None


def lm_loss_and_gradient(
    states: Tensor,
    embedding: Sequence[Tensor],
    targets: Tensor,
    scale: float,
    embedding_grad: Sequence[Tensor],
    dtype: torch.dtype,
    traits: TorchTraits,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy of `targets` (M,) under softmax(states embeddingᵀ), and its gradient by `states`.

    `states` is (M, D), `embedding` matrices of D columns that stand below each other, V rows in all, of float32
    (Radford et al. 2018, eq. 1 and 2); `weights` (M,) are what each target counts in the sum, 1 where it is `None`. The
    gradients are those of `scale` times the sum; those by the embedding are added to `embedding_grad`. Products run in
    `dtype`, the softmax in float32. The logits exist a slice at a time, so memory does not grow with M * V.
    """
    low_states, low_embedding = states.to(dtype), _stacked(embedding, dtype, traits)
    heights = [len(matrix) for matrix in embedding]
    n_tokens, n_padded = sum(heights), len(low_embedding) - sum(heights)
    grad_states = torch.empty_like(states)
    total = states.new_zeros(())
    rows = max(1, traits.logits_at_once // len(low_embedding))
    for start in range(0, len(states), rows):
        part = slice(start, start + rows)
        wanted = targets[part, None]
        logprobs = _logprobs(low_states[part], low_embedding, n_tokens)  # (rows, V, padded)
        at_targets, factor = logprobs.gather(1, wanted), scale
        if weights is not None:
            at_targets, factor = at_targets * weights[part, None], scale * weights[part, None]
        total -= at_targets.sum()
        grad_logits = logprobs.exp_()
        grad_logits.scatter_add_(1, wanted, grad_logits.new_full(wanted.shape, -1.0))
        grad_logits = grad_logits.mul_(factor).to(dtype)
        grad_states[part] = grad_logits @ low_embedding
        for grad, columns in zip(embedding_grad, grad_logits.split([*heights, n_padded], 1), strict=False):
            grad += columns.T @ low_states[part]
    return total, grad_states


def _stacked(matrices: Sequence[Tensor], dtype: torch.dtype, traits: TorchTraits) -> Tensor:
    """Return matrices below each other, and rows of zeros below them up to `traits.vocabulary_multiple`."""
    low = [matrix.to(dtype) for matrix in matrices]
    if missing := -sum(map(len, low)) % traits.vocabulary_multiple:
        low.append(low[0].new_zeros(missing, low[0].size(1)))
    return low[0] if len(low) == 1 else torch.cat(low)


def _logprobs(states: Tensor, embedding: Tensor, n_tokens: int) -> Tensor:
    """Return float32 log-probabilities over the rows of `embedding`, of which all from `n_tokens` on are padding."""
    logits = states @ embedding.T
    logits[:, n_tokens:] = -math.inf
    return torch.log_softmax(logits, -1, dtype=torch.float32)


def target_logprobs(
    states: Tensor, embedding: Tensor, targets: Tensor, dtype: torch.dtype, traits: TorchTraits
) -> Tensor:
    """Return the (M,) float32 natural-log probabilities of `targets`; as `lm_loss`, one by one and without gradient."""
    rows = max(1, traits.logits_at_once // len(embedding))
    low_embedding = _stacked([embedding], dtype, traits)
    parts = [
        _logprobs(some.to(dtype), low_embedding, len(embedding)).gather(1, wanted[:, None])[:, 0]
        for some, wanted in zip(states.split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(parts) if parts else states.new_zeros(0)
