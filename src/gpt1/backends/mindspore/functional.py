"""Operations of the model that are not MindSpore's own, for speed or because it has no CPU kernel.

Dimensions: N sequences, T time, D width, H heads, K head size, M rows, I and O input and output width of a layer.
"""

from __future__ import annotations

import mindspore
from mindspore import Tensor, nn, ops
from mindspore.ops.auto_generate import LogSoftmaxGrad

from gpt1.backends.dropout import keep_scale

DType = mindspore.dtype.Type


def product(a: Tensor, b: Tensor, dtype: DType, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    """Return the float32 product of two matrices, computed in `dtype`."""
    result = ops.MatMul(transpose_a=transpose_a, transpose_b=transpose_b)(ops.cast(a, dtype), ops.cast(b, dtype))
    return ops.cast(result, mindspore.float32)


def products(a: Tensor, b: Tensor, dtype: DType, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    """Return the float32 products of the matrices in the last two dimensions of a and b, computed in `dtype`.

    This is not `product`, because MindSpore cannot differentiate one function for both operators.
    """
    result = ops.BatchMatMul(transpose_a=transpose_a, transpose_b=transpose_b)(ops.cast(a, dtype), ops.cast(b, dtype))
    return ops.cast(result, mindspore.float32)


class Sums(nn.Cell):
    """Sums, and products with a column, in float32, by the operators that are fast on the device.

    With `by_products` they are matrix products. On a CPU a reduction takes several times as long, and for an operator
    that broadcasts a column the graph permanently stores an index, twice as large as the result. On Ascend a product
    of float32 matrices may be computed in 16 or 19 bits, so there they are reductions.
    """

    def __init__(self, by_products: bool = True):
        super().__init__()
        self.by_products = by_products

    def of_columns(self, x: Tensor) -> Tensor:
        """Return the sums (O,) of the columns of x (M, O)."""
        if self.by_products:
            return ops.MatMul()(ops.ones((1, x.shape[0]), x.dtype), x).reshape(-1)
        return x.sum(0)

    def of_rows(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return the sums (M, 1) of the rows of x (M, O), times `weights` (O,)."""
        if self.by_products:
            return ops.MatMul()(x, weights.reshape(-1, 1))
        return (x * weights).sum(-1, keepdims=True)

    def of_squares(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """Return the sum of the squares of all elements, a scalar."""
        total = 0.0
        for each in tensors:
            if self.by_products:
                row = each.reshape(1, -1)
                total = total + ops.MatMul(transpose_b=True)(row, row).reshape(())
            else:
                total = total + ops.square(each).sum()
        return total

    def outer(self, column: Tensor, row: Tensor) -> Tensor:
        """Return `column` (M, 1) times `row` (O,), as (M, O)."""
        row = row.reshape(1, -1)
        return ops.MatMul()(column, row) if self.by_products else column * row


class Gelu(nn.Cell):
    """The tanh approximation of GELU (Hendrycks & Gimpel 2016, section 2), computed as x · sigmoid(2 y).

    (1 + tanh y) / 2 = sigmoid(2 y). On a CPU `ops.gelu` takes as long as the matrix product before it.
    """

    linear = 1.5957691216057308  # 2 √(2/π)
    cubic = linear * 0.044715

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return GELU(x) and GELU(x) / x, both of the shape of x."""
        share = ops.sigmoid(x * (self.linear + self.cubic * (x * x)))
        return x * share, share

    def bprop(self, x: Tensor, out: tuple, dout: tuple) -> tuple[Tensor]:
        y, share = out
        return ((share + y * (1.0 - share) * (self.linear + 3.0 * self.cubic * (x * x))) * dout[0],)


class Affine(nn.Cell):
    """x W + b; the product and those of the gradients are computed in `dtype`."""

    def __init__(self, dtype: DType, sums: Sums):
        super().__init__()
        self.dtype, self.sums = dtype, sums

    def construct(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Map x (M, I) to (M, O); `weight` is (I, O), `bias` (O,)."""
        return ops.BiasAdd()(product(x, weight, self.dtype), bias)

    def bprop(
        self, x: Tensor, weight: Tensor, bias: Tensor, out: Tensor, dout: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        of_x = product(dout, weight, self.dtype, transpose_b=True)
        return of_x, product(x, dout, self.dtype, transpose_a=True), self.sums.of_columns(dout)


class Normalise(nn.Cell):
    """Layer norm (Ba et al. 2016), with a gradient from `Sums`: on a CPU `LayerNormGrad` takes three times as long.

    `ops.LayerNorm` also returns mean and reciprocal standard deviation, but on a CPU the variance in place of the
    latter. So the gradient computes them from x.
    """

    def __init__(self, epsilon: float, sums: Sums):
        super().__init__()
        self.epsilon, self.sums = epsilon, sums
        self.norm = ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=epsilon)

    def construct(self, x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        """Return the layer norm (M, D) of x (M, D)."""
        return self.norm(x, gain, bias)[0]

    def bprop(self, x: Tensor, gain: Tensor, bias: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sums, ones = self.sums, ops.ones_like(gain)
        share, gain_share = ones / x.shape[1], gain / x.shape[1]
        centred = x - sums.outer(sums.of_rows(x, share), ones)
        rate = ops.rsqrt(sums.of_rows(centred * centred, share) + self.epsilon)  # (M, 1)
        normal = centred * sums.outer(rate, ones)  # (M, D)
        by_normal = normal * dout
        mean_of_grad = sums.of_rows(dout, gain_share)  # (M, 1), mean of the gradient by `normal`
        mean_of_product = sums.of_rows(by_normal, gain_share)  # (M, 1)
        of_x = (
            dout * sums.outer(rate, gain)
            - normal * sums.outer(rate * mean_of_product, ones)
            - sums.outer(rate * mean_of_grad, ones)
        )
        return of_x, sums.of_columns(by_normal), sums.of_columns(dout)


def drop(x: Tensor, keep: Tensor | None, p: float) -> Tensor:
    """Apply dropout to x with the mask `keep`: scale the kept elements by 1 / (1 - p), zero the others.

    `keep` is true where an element is kept, and broadcasts to the shape of x. With 0 dimensions (nothing is dropped)
    or `None` (not training), x is returned.
    """
    if keep is None or keep.ndim == 0:
        return x
    return x * (ops.cast(keep, mindspore.float32) * keep_scale(p))


class Attend(nn.Cell):
    """softmax(q kᵀ / √K + future) v with attention dropout; products are computed in `dtype`.

    The gradient by the scores is w (g - Σ w g), with the weights w and their gradient g. On a CPU the reduction in it
    takes five times as long as `LogSoftmaxGrad` of log w, which computes the same.
    """

    def __init__(self, pdrop: float, dtype: DType, sums_by_products: bool = True):
        super().__init__()
        self.scale, self.dtype, self.sums_by_products = keep_scale(pdrop), dtype, sums_by_products

    def construct(self, q: Tensor, k: Tensor, v: Tensor, future: Tensor, keep: Tensor | None) -> tuple[Tensor, ...]:
        """Return the sums (N, H, Q, K), the attention weights (N, H, Q, T), and these after dropout.

        q is (N, H, Q, K), k and v are (N, H, T, K). `future` (N, H, Q, T) is -inf where a query must not see a key,
        otherwise 0; the dropout mask `keep` has the same shape.
        """
        scores = products(q * q.shape[-1] ** -0.5, k, self.dtype, transpose_b=True) + future
        weights = ops.softmax(scores, -1)
        if keep is None or keep.ndim == 0:
            return products(weights, v, self.dtype), weights, weights
        kept = weights * ops.cast(keep, mindspore.float32)  # v is scaled instead: it is smaller
        return products(kept, v * self.scale, self.dtype), weights, kept

    def bprop(
        self, q: Tensor, k: Tensor, v: Tensor, future: Tensor, keep: Tensor, out: tuple, dout: tuple
    ) -> tuple[Tensor, ...]:
        _, weights, kept = out
        scale = 1.0 if keep.ndim == 0 else self.scale
        of_kept = products(dout[0], v * scale, self.dtype, transpose_b=True)
        shares = kept * of_kept
        if self.sums_by_products:
            of_scores = LogSoftmaxGrad(-1)(ops.log(weights), shares)
        else:  # no logarithm of the weights 0 of masked keys, for which that kernel is not documented
            of_scores = shares - weights * shares.sum(-1, keepdims=True)
        of_q = products(of_scores, k, self.dtype) * q.shape[-1] ** -0.5
        of_k = products(of_scores, q * q.shape[-1] ** -0.5, self.dtype, transpose_a=True)
        of_v = products(kept, dout[0] * scale, self.dtype, transpose_a=True)
        return of_q, of_k, of_v, ops.zeros_like(future), ops.zeros_like(keep)


def split_heads(x: Tensor, size: int) -> Tensor:
    """Return x (N, T, D) as (N, H, T, K) with K = `size`; faster than a transposition."""
    return ops.stack(ops.split(x, size, -1), 1)


def merged_heads(x: Tensor) -> Tensor:
    """Return x (N, H, T, K) as (N, T, D)."""
    return ops.cat(ops.unstack(x, 1), -1)


def rows_at(x: Tensor, position: Tensor) -> Tensor:
    """Return the rows (N, D) of x (N, T, D) at `position` (N,)."""
    n, time, width = x.shape
    return ops.gather(x.reshape(n * time, width), position + time * ops.arange(n), 0)
