"""What the model computes in its own way, for speed or because MindSpore has no kernel for it on a CPU.

Dimensions: N sequences, T time, D width, H heads, K head size, V vocabulary, M positions, C columns of a task's head.
"""

from __future__ import annotations

import mindspore
from mindspore import Tensor, nn, ops

from gpt1.backends.noise import keep_scale

LOGITS_AT_ONCE = 1 << 25
"""Elements of the (positions, V) logits that exist at one time."""


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
    return -_at(ops.log_softmax(logits, -1), labels)


def target_logprobs(states: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
    """Return the (M,) log-probabilities of `targets` (M,) under softmax(states embeddingᵀ).

    `states` is (M, D), `embedding` (V, D) (Radford et al. 2018, eq. 2).
    """
    return _at(_logprobs(states, embedding), targets)


class LmLoss(nn.Cell):
    """The weighted sum of the LM losses of M positions, whose (M, V) logits never exist all at once.

    They are computed a slice of positions at a time, and on the way forward the gradient too, which is linear in them:
    the way back would have to compute each slice again.
    """

    def construct(
        self, states: Tensor, embedding: Tensor, targets: Tensor, shares: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sum of `shares` times the cross-entropies of `targets`, with its gradients by the first two.

        `states` is (M, D), `embedding` (V, D), `targets` and `shares` are (M,).
        """
        rows = max(1, LOGITS_AT_ONCE // embedding.shape[0])
        loss, of_embedding, of_states = 0.0, 0.0, ()
        for start in range(0, states.shape[0], rows):
            some, wanted = states[start : start + rows], targets[start : start + rows]
            share = shares[start : start + rows].reshape(-1, 1)
            logprobs = _logprobs(some, embedding)
            loss = loss - (_at(logprobs, wanted) * share[:, 0]).sum()
            predicted = ops.exp(logprobs)
            of_states += ((ops.MatMul()(predicted, embedding) - ops.gather(embedding, wanted, 0)) * share,)
            of_embedding = of_embedding + ops.MatMul(transpose_a=True)(predicted, some * share)
        observed = ops.UnsortedSegmentSum()(states * shares.reshape(-1, 1), targets, embedding.shape[0])
        return loss, ops.cat(of_states), of_embedding - observed

    def bprop(
        self, states: Tensor, embedding: Tensor, targets: Tensor, shares: Tensor, out: tuple, dout: tuple
    ) -> tuple[Tensor, ...]:
        _, of_states, of_embedding = out
        return of_states * dout[0], of_embedding * dout[0], ops.zeros_like(targets), ops.zeros_like(shares)


def _logprobs(states: Tensor, embedding: Tensor) -> Tensor:
    return ops.LogSoftmax(-1)(ops.MatMul(transpose_b=True)(states, embedding))  # (M, V)


def _at(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the (M,) elements of `rows` (M, C) at `columns` (M,)."""
    return ops.gather_elements(rows, 1, columns.reshape(-1, 1))[:, 0]


def squares(tensors: tuple[Tensor, ...]) -> Tensor:
    """Return the sum of the squares of all elements, (): by products of vectors, since a reduction takes four times as
    long."""
    total = 0.0
    for each in tensors:
        row = each.reshape(1, -1)
        total = total + ops.MatMul(transpose_b=True)(row, row)
    return total.reshape(())
