"""Operations of the model that are not PyTorch's own, for speed or exactness: dropout, embedding, linear layers.

Dimensions: N sequences, T time, D width, H heads, K head size.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from gpt1.backends.dropout import HostDropoutRng, generator_seed, keep_scale, threshold
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


def linear(x: Tensor, weight: Tensor, bias: Tensor, low: tuple[Tensor, Tensor], columns: slice) -> Tensor:
    """Return the `columns` of x W + b (..., O) for x (..., I), computed with copies `low` of W (I, O) and b (O,).

    The gradients of W and b are added to `weight.grad` and `bias.grad`; matrix products have the dtype of the copies.
    """
    out: Tensor = _Linear.apply(x, weight, bias, *low, columns)  # type: ignore[no-untyped-call]
    return out


class _Linear(torch.autograd.Function):
    """Linear layer whose weight gradient xᵀ g is a product of two matrices that are contiguous in memory.

    oneDNN takes twice as long for a transposed first factor in 16 bits, so the smaller of x and g is transposed before.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, low_weight: Tensor, low_bias: Tensor, columns: slice
    ) -> Tensor:
        low_x = x.to(low_weight.dtype).flatten(0, -2)  # (M, I)
        low_weight = low_weight[:, columns]
        ctx.save_for_backward(low_x, low_weight)
        ctx.weight, ctx.bias, ctx.columns = weight, bias, columns
        return torch.addmm(low_bias[columns], low_x, low_weight).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        low_x, low_weight = ctx.saved_tensors
        shape, grad = grad.shape[:-1], grad.flatten(0, -2)  # (M, O)
        narrower, wider = sorted((low_x, grad), key=lambda matrix: matrix.size(1))
        product = narrower.T.contiguous() @ wider
        add_gradient(ctx.weight, product if narrower is low_x else product.T, ctx.columns)
        add_gradient(ctx.bias, grad.sum(0), ctx.columns)
        return (grad @ low_weight.T).view(*shape, -1), None, None, None, None, None


def can_pack() -> bool:
    """Whether this build and this CPU have oneDNN's linear layer with packed weights and an activation."""
    operators = torch.ops.mkldnn
    return (
        all(hasattr(operators, name) for name in ("_reorder_linear_weight", "_linear_pointwise"))
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and bool(operators._is_mkldnn_bf16_supported())
    )


def packed(weight: Tensor) -> Tensor:
    """Return a weight (I, O) in the layout that oneDNN chooses for this CPU, which only `packed_linear` can read."""
    out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.T.contiguous())
    return out


def packed_linear(x: Tensor, weight: Tensor, bias: Tensor, *, gelu: bool) -> Tensor:
    """Return x W + b (..., O), or its GELU, in one kernel, for a `packed` weight; there is no gradient.

    PyTorch's compiler calls the same operators. GELU is that of `torch.nn.functional.gelu` with "tanh".
    """
    activation, variant = ("gelu", "tanh") if gelu else ("none", "")
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], variant)
    return out


def add_gradient(leaf: Tensor, gradient: Tensor, columns: slice = slice(None)) -> None:
    """Add `gradient` to the gradient of a leaf, or of some `columns` (last dimension) of it."""
    if leaf.grad is None and gradient.shape == leaf.shape:
        leaf.grad = torch.empty_like(leaf).copy_(gradient)
    else:
        gradient_of(leaf)[..., columns] += gradient
