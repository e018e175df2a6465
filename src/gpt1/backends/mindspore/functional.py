"""What the model computes in its own way, for speed or because MindSpore has no kernel for it on a CPU.

Dimensions: N sequences, T time, D width, H heads, K head size, V vocabulary, M positions, C columns of a task's head.
"""

from __future__ import annotations

import mindspore
from mindspore import Tensor, ops

from gpt1.backends.noise import keep_scale


def gelu(x: Tensor) -> Tensor:
    """Return the tanh approximation of GELU (Hendrycks & Gimpel 2016, section 2), written with a sigmoid.

    (1 + tanh y) / 2 = sigmoid(2 y); on a CPU `ops.gelu` takes as long as the matrix product beside it.
    """
    return x * ops.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))  # 2 √(2/π)


def drop(x: Tensor, keep: Tensor | None, p: float) -> Tensor:
    """Return x where `keep`, which broadcasts against it, is true, scaled so that the mean stays; else 0.

    `keep` has 0 dimensions where nothing is dropped, and is `None` when not training.
    """
    if keep is None or keep.ndim == 0:
        return x
    return x * (ops.cast(keep, mindspore.float32) * keep_scale(p))


def attention(q: Tensor, k: Tensor, v: Tensor, future: Tensor, keep: Tensor | None, p: float) -> Tensor:
    """Return softmax(q kᵀ / √K + future) v with attention dropout: q is (N, H, Q, K), k and v are (N, H, T, K).

    `future` is -inf where a query (Q) may not see a key (T), else 0; it broadcasts against (N, H, Q, T), the shape of
    `keep`.
    """
    size = q.shape[-1]
    scores = ops.BatchMatMul(transpose_b=True)(q * size**-0.5, k) + future  # (N, H, Q, T)
    weights = ops.softmax(scores, -1)
    if keep is not None and keep.ndim:  # the scale is applied to the smaller factor
        return ops.BatchMatMul()(weights * ops.cast(keep, mindspore.float32), v * keep_scale(p))
    return ops.BatchMatMul()(weights, v)


def rows_at(x: Tensor, position: Tensor) -> Tensor:
    """Return (N, D), the rows of x (N, T, D) at `position` (N,)."""
    n, time, width = x.shape
    return ops.gather(x.reshape(n * time, width), position + time * ops.arange(n), 0)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the (B,) cross-entropies of `labels` (B,) under `logits` (B, C)."""
    return -ops.gather_elements(ops.log_softmax(logits, -1), 1, labels.reshape(-1, 1))[:, 0]


def lm_cross_entropy(states: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
    """Return the (M,) cross-entropies of `targets` (M,) under softmax(states embeddingᵀ).

    `states` is (M, D), `embedding` (V, D) (Radford et al. 2018, eq. 1 and 2).
    """
    logits = ops.MatMul(transpose_b=True)(states, embedding)  # (M, V)
    largest = ops.stop_gradient(logits.max(-1, keepdims=True))
    log_sums = ops.log(ops.exp(logits - largest).sum(-1)) + largest[:, 0]
    return log_sums - (states * ops.gather(embedding, targets, 0)).sum(-1)
