"""What the model computes in its own way, for speed or because MindSpore has no kernel for it on a CPU.

Dimensions: N sequences, T time, D width, H heads, K head size, V vocabulary, M positions, C columns of a task's head.
"""

from __future__ import annotations

import mindspore
from mindspore import Tensor, nn, ops
from mindspore.ops.auto_generate import LogSoftmaxGrad

from gpt1.backends.dropout import keep_scale

DType = mindspore.dtype.Type


def product(a: Tensor, b: Tensor, dtype: DType, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    """Return the product of two matrices in float32, computed in `dtype`."""
    result = ops.MatMul(transpose_a=transpose_a, transpose_b=transpose_b)(ops.cast(a, dtype), ops.cast(b, dtype))
    return ops.cast(result, mindspore.float32)


def products(a: Tensor, b: Tensor, dtype: DType, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    """Return those of all matrices in the last two dimensions of both. (MindSpore cannot derive where both are one.)"""
    result = ops.BatchMatMul(transpose_a=transpose_a, transpose_b=transpose_b)(ops.cast(a, dtype), ops.cast(b, dtype))
    return ops.cast(result, mindspore.float32)


class Gelu(nn.Cell):
    """The tanh approximation of GELU (Hendrycks & Gimpel 2016, section 2), written with a sigmoid.

    (1 + tanh y) / 2 = sigmoid(2 y); on a CPU `ops.gelu` takes as long as the matrix product beside it.
    """

    linear = 1.5957691216057308  # 2 √(2/π)
    cubic = linear * 0.044715

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return GELU(x), of any shape, and the share of x that it is."""
        share = ops.sigmoid(x * (self.linear + self.cubic * (x * x)))
        return x * share, share

    def bprop(self, x: Tensor, out: tuple, dout: tuple) -> tuple[Tensor]:
        y, share = out
        return ((share + y * (1.0 - share) * (self.linear + 3.0 * self.cubic * (x * x))) * dout[0],)


class Affine(nn.Cell):
    """x W + b, the product and those of its gradient in `dtype`."""

    def __init__(self, dtype: DType):
        super().__init__()
        self.dtype = dtype

    def construct(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Map x (M, I) to (M, O); `weight` is (I, O), `bias` (O,)."""
        return ops.BiasAdd()(product(x, weight, self.dtype), bias)

    def bprop(
        self, x: Tensor, weight: Tensor, bias: Tensor, out: Tensor, dout: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        of_x = product(dout, weight, self.dtype, transpose_b=True)
        return of_x, product(x, dout, self.dtype, transpose_a=True), _column_sums(dout)


class Normalise(nn.Cell):
    """Layer norm (Ba et al. 2016). Its gradient is made of products: `LayerNormGrad` takes three times as long."""

    def __init__(self, epsilon: float):
        super().__init__()
        self.epsilon = epsilon
        self.norm = ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=epsilon)

    def construct(self, x: Tensor, gain: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the norm (M, D) of x (M, D) with the mean and the variance (M, 1) of each row."""
        return self.norm(x, gain, bias)

    def bprop(self, x: Tensor, gain: Tensor, bias: Tensor, out: tuple, dout: tuple) -> tuple[Tensor, Tensor, Tensor]:
        _, mean, variance = out
        width = x.shape[1]
        rate = ops.rsqrt(variance + self.epsilon)  # (M, 1)
        normal = x * _spread(rate, width) - _spread(mean * rate, width)  # (M, D)
        by_normal = normal * dout[0]
        row, column = gain.reshape(1, -1), gain.reshape(-1, 1) / width
        mean_of_grad = ops.MatMul()(dout[0], column)  # (M, 1), of the gradient by `normal`
        mean_of_product = ops.MatMul()(by_normal, column)  # (M, 1)
        of_x = (
            dout[0] * ops.MatMul()(rate, row)
            - normal * _spread(rate * mean_of_product, width)
            - _spread(rate * mean_of_grad, width)
        )
        return of_x, _column_sums(by_normal), _column_sums(dout[0])


def _column_sums(x: Tensor) -> Tensor:
    """Return the sums (O,) of the columns of x (M, O): by a product, since a reduction takes longer."""
    return ops.MatMul()(ops.ones((1, x.shape[0]), x.dtype), x).reshape(-1)


def _spread(column: Tensor, width: int) -> Tensor:
    """Return `column` (M, 1) repeated `width` times, (M, `width`).

    Operators that broadcast a column by themselves are slow on a CPU, and for each the graph keeps an index twice the
    size of its result for good.
    """
    return ops.MatMul()(column, ops.ones((1, width), column.dtype))


def drop(x: Tensor, keep: Tensor | None, p: float) -> Tensor:
    """Return x where `keep`, which broadcasts against it, is true, scaled so that the mean stays; else 0.

    `keep` has 0 dimensions where nothing is dropped, and is `None` when not training.
    """
    if keep is None or keep.ndim == 0:
        return x
    return x * (ops.cast(keep, mindspore.float32) * keep_scale(p))


class Attend(nn.Cell):
    """softmax(q kᵀ / √K + future) v with attention dropout, the products in `dtype`.

    The gradient by the scores, w (g - Σ w g) for the weights w and their gradient g, is `LogSoftmaxGrad` of log w: what
    MindSpore derives sums in a kernel that is five times slower.
    """

    def __init__(self, pdrop: float, dtype: DType):
        super().__init__()
        self.scale, self.dtype = keep_scale(pdrop), dtype

    def construct(self, q: Tensor, k: Tensor, v: Tensor, future: Tensor, keep: Tensor | None) -> tuple[Tensor, ...]:
        """Return (N, H, Q, K) and two matrices for the way back: q is (N, H, Q, K), k and v are (N, H, T, K).

        `future` (N, H, Q, T) is -inf where a query (Q) may not see a key (T), else 0; `keep` has its shape.
        """
        scores = products(q * q.shape[-1] ** -0.5, k, self.dtype, transpose_b=True) + future
        weights = ops.softmax(scores, -1)
        if keep is None or keep.ndim == 0:
            return products(weights, v, self.dtype), weights, weights
        kept = weights * ops.cast(keep, mindspore.float32)  # the scale is applied to the smaller factor
        return products(kept, v * self.scale, self.dtype), weights, kept

    def bprop(
        self, q: Tensor, k: Tensor, v: Tensor, future: Tensor, keep: Tensor, out: tuple, dout: tuple
    ) -> tuple[Tensor, ...]:
        _, weights, kept = out
        scale = 1.0 if keep.ndim == 0 else self.scale
        of_kept = products(dout[0], v * scale, self.dtype, transpose_b=True)
        of_scores = LogSoftmaxGrad(-1)(ops.log(weights), kept * of_kept)
        of_q = products(of_scores, k, self.dtype) * q.shape[-1] ** -0.5
        of_k = products(of_scores, q * q.shape[-1] ** -0.5, self.dtype, transpose_a=True)
        of_v = products(kept, dout[0] * scale, self.dtype, transpose_a=True)
        return of_q, of_k, of_v, ops.zeros_like(future), ops.zeros_like(keep)


def split_heads(x: Tensor, size: int) -> Tensor:
    """Return x (N, T, D) as (N, H, T, K) with K = `size`; this is faster than a transposition."""
    return ops.stack(ops.split(x, size, -1), 1)


def merged_heads(x: Tensor) -> Tensor:
    """Return x (N, H, T, K) as (N, T, D)."""
    return ops.cat(ops.unstack(x, 1), -1)


def rows_at(x: Tensor, position: Tensor) -> Tensor:
    """Return (N, D), the rows of x (N, T, D) at `position` (N,)."""
    n, time, width = x.shape
    return ops.gather(x.reshape(n * time, width), position + time * ops.arange(n), 0)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the (B,) cross-entropies of `labels` (B,) under `logits` (B, C)."""
    return -_at(ops.log_softmax(logits, -1), labels)


def target_logprobs(states: Tensor, embedding: Tensor, targets: Tensor, dtype: DType = mindspore.float32) -> Tensor:
    """Return the (M,) log-probabilities of `targets` (M,) under softmax(states embeddingᵀ), the product in `dtype`.

    `states` is (M, D), `embedding` (V, D) (Radford et al. 2018, eq. 2).
    """
    return _at(_logprobs(states, embedding, dtype), targets)


class LmLoss(nn.Cell):
    """The weighted sum of the LM losses of M positions, whose (M, V) logits never exist all at once.

    They are computed a slice of positions at a time, and on the way forward the gradient too, which is linear in them:
    the way back would have to compute each slice again. Products are computed in `dtype`; a slice has up to
    `logits_at_once` elements of the logits.
    """

    def __init__(self, dtype: DType = mindspore.float32, logits_at_once: int = 1 << 25):
        super().__init__()
        self.dtype, self.logits_at_once = dtype, logits_at_once

    def construct(
        self, states: Tensor, embedding: Tensor, targets: Tensor, shares: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sum of `shares` times the cross-entropies of `targets`, with its gradients by the first two.

        `states` is (M, D), `embedding` (V, D), `targets` and `shares` are (M,).
        """
        rows = max(1, self.logits_at_once // embedding.shape[0])
        loss, of_embedding, of_states = 0.0, 0.0, ()
        for start in range(0, states.shape[0], rows):
            some, wanted = states[start : start + rows], targets[start : start + rows]
            share = shares[start : start + rows].reshape(-1, 1)
            logprobs = _logprobs(some, embedding, self.dtype)
            loss = loss - (_at(logprobs, wanted) * share[:, 0]).sum()
            predicted = ops.exp(logprobs)
            of_states += ((product(predicted, embedding, self.dtype) - ops.gather(embedding, wanted, 0)) * share,)
            of_embedding = of_embedding + product(predicted, some * share, self.dtype, transpose_a=True)
        observed = ops.UnsortedSegmentSum()(states * shares.reshape(-1, 1), targets, embedding.shape[0])
        return loss, ops.cat(of_states), of_embedding - observed

    def bprop(
        self, states: Tensor, embedding: Tensor, targets: Tensor, shares: Tensor, out: tuple, dout: tuple
    ) -> tuple[Tensor, ...]:
        _, of_states, of_embedding = out
        return of_states * dout[0], of_embedding * dout[0], ops.zeros_like(targets), ops.zeros_like(shares)


def _logprobs(states: Tensor, embedding: Tensor, dtype: DType) -> Tensor:
    return ops.LogSoftmax(-1)(product(states, embedding, dtype, transpose_b=True))  # (M, V)


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
