"""Task loss and LM loss in MindSpore; `backends.losses` defines how a step combines them.

Dimensions: D width, V vocabulary, B examples, C columns of the task's head, M positions.
"""

from __future__ import annotations

import mindspore
from mindspore import Tensor, nn, ops

from gpt1.backends.mindspore.functional import DType, product
from gpt1.config import Head


def task_losses(logits: Tensor, labels: Tensor, head: Head) -> Tensor:
    """Return the (B,) cross-entropies, or squared errors of a regression, of `logits` (B, C)."""
    if head.regression:
        return ops.square(logits[:, 0] - labels)
    return cross_entropy(logits, labels)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the (B,) cross-entropies of `labels` (B,) under `logits` (B, C)."""
    return -_at(ops.log_softmax(logits, -1), labels)


class LmLoss(nn.Cell):
    """Weighted sum of the LM losses of M positions, computed in slices of positions.

    The gradient is linear in the loss's, so it is computed in the forward pass too: a backward pass would have to
    compute the logits of every slice again. Products are computed in `dtype`; the logits (rows, V) of a slice have up
    to `logits_at_once` elements.
    """

    def __init__(self, dtype: DType = mindspore.float32, logits_at_once: int = 1 << 25):
        super().__init__()
        self.dtype, self.logits_at_once = dtype, logits_at_once

    def construct(
        self, states: Tensor, embedding: Tensor, targets: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sum of `weights` times the cross-entropies of `targets`, and its gradients by the first two.

        `states` is (M, D), `embedding` (V, D), `targets` and `weights` are (M,).
        """
        rows = max(1, self.logits_at_once // embedding.shape[0])
        loss, of_embedding, of_states = 0.0, 0.0, ()
        for start in range(0, states.shape[0], rows):
            some, wanted = states[start : start + rows], targets[start : start + rows]
            weight = weights[start : start + rows].reshape(-1, 1)
            logprobs = _logprobs(some, embedding, self.dtype)
            loss = loss - (_at(logprobs, wanted) * weight[:, 0]).sum()
            predicted = ops.exp(logprobs)
            of_states += ((product(predicted, embedding, self.dtype) - ops.gather(embedding, wanted, 0)) * weight,)
            of_embedding = of_embedding + product(predicted, some * weight, self.dtype, transpose_a=True)
        observed = states * -weights.reshape(-1, 1)
        return loss, ops.cat(of_states), ops.TensorScatterAdd()(of_embedding, targets.reshape(-1, 1), observed)

    def bprop(
        self, states: Tensor, embedding: Tensor, targets: Tensor, weights: Tensor, out: tuple, dout: tuple
    ) -> tuple[Tensor, ...]:
        _, of_states, of_embedding = out
        return of_states * dout[0], of_embedding * dout[0], ops.zeros_like(targets), ops.zeros_like(weights)


def target_logprobs(states: Tensor, embedding: Tensor, targets: Tensor, dtype: DType = mindspore.float32) -> Tensor:
    """Return the (M,) log-probabilities of `targets` (M,) under softmax(states embeddingᵀ), the product in `dtype`.

    `states` is (M, D), `embedding` (V, D) (Radford et al. 2018, eq. 2).
    """
    return _at(_logprobs(states, embedding, dtype), targets)


def _logprobs(states: Tensor, embedding: Tensor, dtype: DType) -> Tensor:
    return ops.LogSoftmax(-1)(product(states, embedding, dtype, transpose_b=True))  # (M, V)


def _at(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the (M,) elements of `rows` (M, C) at `columns` (M,)."""
    return ops.gather_elements(rows, 1, columns.reshape(-1, 1))[:, 0]
