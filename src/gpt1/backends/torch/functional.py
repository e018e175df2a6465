"""Operations of the model that are not PyTorch's own, for speed or exactness: dropout, causal attention, embedding.

Dimensions: N sequences, T time, D width, H heads, K head size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from gpt1.backends.dropout import QUERY_BLOCK, HostDropoutRng, generator_seed, keep_scale, threshold
from gpt1.backends.torch.device import seed_generator


class DropoutRng:
    """Dropout masks of one micro-batch, a function of (seed, step, micro-batch): resuming needs no RNG state.

    Args:
        device: device of the masks.
        counters: seed, step and micro-batch.
        on_host: whether `HostDropoutRng`, which all backends share, draws the masks; otherwise the generator of
            `device`, which is seeded for it, draws them (see `TorchTraits.dropout_on_host`).
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
        """Apply dropout to x: zero each element with probability p and scale the others by 1 / (1 - p)."""
        if p == 0.0:
            return x
        if not self.on_host:
            return F.dropout(x, p)
        return x * self.factors(tuple(x.shape), p, x.dtype)

    def drop_shared(self, x: Tensor, p: float, dim: int) -> Tensor:
        """Apply dropout to x with one mask that is shared along dimension `dim`."""
        shape = list(x.shape)
        shape[dim] = 1
        return x * self.factors(tuple(shape), p, x.dtype) if p else x

    def factors(self, shape: tuple[int, ...], p: float, dtype: torch.dtype) -> Tensor:
        """Return the factors of dropout for a tensor of `shape`: 0 with probability p, otherwise 1 / (1 - p)."""
        if not self.on_host:
            return F.dropout(torch.ones(shape, dtype=dtype, device=self.device), p)
        return self.keep(shape, p, dtype).mul_(keep_scale(p))


class DroppedMatrix:
    """Dropout on the elements of a parameter, with one mask for all uses of `value` in a micro-batch.

    `value` is a leaf that accumulates the gradients of all its uses; `add_gradient` adds them to the parameter's.
    """

    def __init__(self, parameter: Tensor, p: float, rng: DropoutRng):
        self.parameter = parameter
        self.factors = rng.factors(tuple(parameter.shape), p, parameter.dtype)
        self.value = (parameter.detach() * self.factors).requires_grad_()

    def add_gradient(self) -> None:
        """Add the gradient by `value`, times the mask, to the parameter's gradient."""
        if self.value.grad is not None:
            gradient_of(self.parameter).addcmul_(self.value.grad, self.factors)


def gradient_of(leaf: Tensor) -> Tensor:
    """Return the gradient of a leaf; create it as zeros if there is none."""
    if leaf.grad is None:
        leaf.grad = torch.zeros_like(leaf)
    return leaf.grad


def causal_attention(q: Tensor, k: Tensor, v: Tensor, p: float, rng: DropoutRng | None) -> Tensor:
    """Return softmax(q kᵀ / √K + causal mask) v with attention dropout; q, k, v and the result are (N, H, T, K).

    Training with masks from the host uses the explicit form, because the fused kernel does not accept a dropout mask
    (and its backward pass is slow on a CPU: docs/performance.md). Everything else uses `scaled_dot_product_attention`.
    """
    if rng is not None and rng.on_host and torch.is_grad_enabled():
        out: Tensor = _BlockwiseAttention.apply(q, k, v, p, rng)  # type: ignore[no-untyped-call]
        return out
    return F.scaled_dot_product_attention(q, k, v, dropout_p=p if rng else 0.0, is_causal=True)


def causal_attention_at(q: Tensor, k: Tensor, v: Tensor, position: Tensor, p: float, rng: DropoutRng | None) -> Tensor:
    """Return `causal_attention` at one `position` (N,) of each sequence: q and the result are (N, H, 1, K)."""
    future = torch.arange(k.size(2), device=k.device) > position[:, None]  # (N, T)
    weights = _attention_weights(q, k, future[:, None, None])
    return (rng.drop(weights, p) if rng else weights) @ v


def causal_weights(q: Tensor, k: Tensor) -> Tensor:
    """Return the attention weights (N, H, T, T) of `causal_attention` without dropout."""
    return _attention_weights(q, k, torch.ones(k.size(2), k.size(2), dtype=torch.bool, device=k.device).triu_(1))


def _attention_weights(q: Tensor, k: Tensor, future: Tensor) -> Tensor:
    return torch.softmax((q @ k.transpose(-1, -2) / k.size(-1) ** 0.5).masked_fill(future, -math.inf), -1)


class _BlockwiseAttention(torch.autograd.Function):
    """Explicit causal attention: each block of queries is multiplied with the keys up to its end only."""

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
    """Return weight[rows] (N, T, D) for `rows` (N, T).

    With `adds_gradient_by_row` the gradient is added to `weight.grad` row by row. On a CPU, PyTorch's dense gradient,
    as large as the whole embedding, takes much longer than the look-up.
    """
    if adds_gradient_by_row and torch.is_grad_enabled():
        out: Tensor = _RowLookup.apply(weight, rows)  # type: ignore[no-untyped-call]
        return out
    return F.embedding(rows, weight)


class _RowLookup(torch.autograd.Function):
    """Row look-up whose gradient is added to `weight.grad` by `index_add_`."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor) -> Tensor:
        ctx.weight, ctx.rows = weight, rows.flatten().long()
        return F.embedding(rows, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        gradient_of(ctx.weight).index_add_(0, ctx.rows, grad.flatten(0, -2))
        return None, None
