"""Causal attention in PyTorch: with masks from the host, at one position, its weights.

Dimensions: N sequences, T time, H heads, K head size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from gpt1.backends.dropout import QUERY_BLOCK, keep_scale
from gpt1.backends.torch.functional import DropoutRng


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
    """Explicit causal attention: each block of queries is multiplied with the keys up to its end only.

    The factors 1 / √K and of dropout are those of the matrix products (`alpha`), the mask is what they are added to.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, p: float, rng: DropoutRng) -> Tensor:
        shape = q.shape
        q, k, v = (x.contiguous().flatten(0, 1) for x in (q, k, v))  # (N H, T, K)
        scale = 1.0 / math.sqrt(shape[-1])
        out = torch.empty_like(v)
        saved = []
        for start, end in _query_blocks(shape[-2]):
            future = _future(start, end, q)
            scores = torch.baddbmm(future, q[:, start:end], k[:, :end].mT, alpha=scale)  # (N H, end - start, end)
            weights = torch.softmax(scores, -1)
            keep = rng.keep((*shape[:2], end - start, end), p, weights.dtype).flatten(0, 1) if p else None
            dropped = weights if keep is None else weights * keep
            _product(dropped, v[:, :end], keep_scale(p), out[:, start:end])
            saved += [weights, keep, dropped]
        ctx.save_for_backward(q, k, v, *saved)
        ctx.shape, ctx.scale, ctx.keep_scale = shape, scale, keep_scale(p)
        return out.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *saved = ctx.saved_tensors
        grad = grad.contiguous().flatten(0, 1)
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for block, (start, end) in enumerate(_query_blocks(ctx.shape[-2])):
            weights, keep, dropped = saved[3 * block : 3 * block + 3]
            grad_out = grad[:, start:end]
            grad_v[:, :end].baddbmm_(dropped.mT, grad_out, alpha=ctx.keep_scale)
            grad_weights = _product(grad_out, v[:, :end].mT, ctx.keep_scale)
            if keep is not None:
                grad_weights *= keep
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            _product(grad_scores, k[:, :end], ctx.scale, grad_q[:, start:end])
            grad_k[:, :end].baddbmm_(grad_scores.mT, q[:, start:end], alpha=ctx.scale)
        return *(x.view(ctx.shape) for x in (grad_q, grad_k, grad_v)), None, None


def _query_blocks(time: int) -> list[tuple[int, int]]:
    """Return start and end of each block of queries."""
    return [(start, min(start + QUERY_BLOCK, time)) for start in range(0, time, QUERY_BLOCK)]


def _future(start: int, end: int, like: Tensor) -> Tensor:
    """Return the mask (end - start, end) of a block of queries: -inf for keys after the query, otherwise 0."""
    return like.new_full((end - start, end), -math.inf).triu_(start + 1)


def _product(a: Tensor, b: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """Return `scale` times the batched product of a and b."""
    return torch.baddbmm(a.new_zeros(()), a, b, beta=0, alpha=scale, out=out)
