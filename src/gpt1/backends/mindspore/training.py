"""A training step as two cells, `Gradients` and `Update`, which run compiled or operator by operator.

A graph has static shapes and takes seconds to compile. So the gradients are compiled once for each shape of
micro-batch, and the update, which does not depend on it, once; the gradients of several micro-batches are summed
between the two. What differs from step to step (denominators, learning rate, masks) is an input. The shapes of a
micro-batch follow from `Batch` alone: the LM loss is computed at every position, with weight 0 where there is no
target, because the number of targets differs in every batch.

Dimensions: N sequences, T time, B examples of k sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mindspore
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from gpt1.backends.base import IGNORE, Batch
from gpt1.backends.losses import Denominators, lm_coefficient, target_weights
from gpt1.backends.mindspore.compiled import ABSENT
from gpt1.backends.mindspore.functional import Sums, rows_at
from gpt1.backends.mindspore.losses import LmLoss, task_losses
from gpt1.backends.mindspore.masks import Masks
from gpt1.backends.mindspore.model import GPT1
from gpt1.backends.optim import clip_factor, corrections
from gpt1.backends.parameters import decays
from gpt1.config import LmMean, LossConfig, OptimConfig


class Inputs(NamedTuple):
    """Micro-batch on the device. `ABSENT` labels or targets do not contribute to the loss."""

    tokens: Tensor
    """(N, T)"""
    segments: Tensor
    """(N, T)"""
    eos_positions: Tensor
    """(N,)"""
    labels: Tensor
    """(B,)"""
    label_shares: Tensor
    """(B,) weights of the examples in the task loss; they sum to 1 over a step."""
    targets: Tensor
    """(N * T,) token ids; 0 where there is no target."""
    target_shares: Tensor
    """(N * T,) weights of the targets in the LM loss, 0 where there is no target; they sum to 1 over a step."""


def inputs(batch: Batch, step: Denominators, lm_mean: LmMean) -> Inputs:
    """Copy a micro-batch to the device, with weights that are divided by the denominators of its step."""
    labels = label_shares = targets = target_shares = ABSENT
    if step.example_weight and batch.labels is not None:
        labels = Tensor(batch.labels.astype(np.float32 if batch.labels.dtype.kind == "f" else np.int32))
        weights = np.ones(len(batch.labels)) if batch.weights is None else batch.weights.astype(np.float64)
        label_shares = Tensor((weights / step.example_weight).astype(np.float32))
    if step.lm_count and batch.target_count:
        targets = Tensor(np.where(batch.lm_targets != IGNORE, batch.lm_targets, 0).astype(np.int32).ravel())
        target_shares = Tensor((target_weights(batch, lm_mean) / step.lm_count).astype(np.float32).ravel())
    segments = ABSENT if batch.segments is None else Tensor(batch.segments.astype(np.int32))
    return Inputs(
        Tensor(batch.tokens.astype(np.int32)), segments, Tensor(batch.eos_positions.astype(np.int32)),
        labels, label_shares, targets, target_shares,
    )  # fmt: skip


class Losses(nn.Cell):
    """Contribution of one micro-batch to the losses of its step (see `backends.losses`)."""

    def __init__(self, model: GPT1, loss: LossConfig, logits_at_once: int):
        super().__init__()
        self.model, self.over_positions = model, loss.lm_over_positions
        self.lm_coef = lm_coefficient(model.config, loss)
        self.lm_loss = LmLoss(model.dtype, logits_at_once)

    def construct(self, arrays: tuple, masks: Masks, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return `scale` times the loss, the loss, the task loss and the LM loss, all scalars; `arrays` are `Inputs`.

        `scale` is (1,), or `ABSENT` for no scaling.
        """
        tokens, segments, eos_positions, labels, label_shares, targets, target_shares = arrays
        of_matrices, of_body, of_state = masks
        embeddings = self.model.embeddings(of_matrices)
        task = lm = ops.zeros((), mindspore.float32)
        position = None if targets.ndim else eos_positions
        states = self.model(tokens, segments if segments.ndim else None, position, embeddings, of_body)
        if labels.ndim:
            at_eos = rows_at(states, eos_positions) if targets.ndim else states  # (N, D)
            logits = self.model.task_logits(at_eos, tokens.shape[0] // labels.shape[0], of_state)
            task = (task_losses(logits, labels, self.model.config.head) * label_shares).sum()
        if targets.ndim:
            every = embeddings[0]
            if self.model.config.n_segments:  # the softmax is over tokens only
                every = every[: self.model.config.vocab_size]
            if self.over_positions:
                every = ops.cat((every, embeddings[1]))
            rows = states.reshape(-1, states.shape[-1])  # (N * T, D)
            lm = self.lm_loss(rows, every, targets, target_shares)[0]
        loss = task + self.lm_coef * lm
        return loss * scale if scale.ndim else loss, loss, task, lm


class Gradients(nn.Cell):
    """Losses of a micro-batch, and the gradient of its loss by every parameter."""

    def __init__(self, losses: Losses, params: Sequence[Parameter]):
        super().__init__()
        self.of = mindspore.value_and_grad(losses, None, weights=ParameterTuple(params), has_aux=True)

    def construct(
        self, arrays: tuple, masks: Masks, scale: Tensor
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, ...]]:
        """Return (loss, task loss, LM loss) and the gradients, which are computed times `scale` and then divided."""
        losses, grads = self.of(arrays, masks, scale)
        if scale.ndim:
            grads = tuple([grad / scale for grad in grads])
        return losses[1:], grads


class Update(nn.Cell):
    """Update of every parameter and its moments, in place: `optim.adamw` on the clipped gradients.

    MindSpore's fused kernel has the form at the end of section 2 of Kingma & Ba 2015: both bias corrections are part
    of the learning rate, and epsilon is added to the square root of the uncorrected second moment.
    """

    def __init__(self, params: Sequence[Parameter], optim: OptimConfig, sums: Sums):
        super().__init__()
        self.optim, self.sums = optim, sums
        self.params = ParameterTuple(params)
        self.first, self.second = self.params.clone("first", "zeros"), self.params.clone("second", "zeros")
        self.decay = tuple(optim.weight_decay > 0 and decays(p.name, p.shape) for p in params)
        self.adam = ops.Adam()

    def construct(self, grads: tuple[Tensor, ...], numbers: tuple[Tensor, ...]) -> Tensor:
        """Return the global norm of `grads` before clipping; `numbers` is the result of `numbers` for the step."""
        lr, kept, beta1_power, beta2_power, eps = numbers
        norm = ops.sqrt(self.sums.of_squares(grads))
        factor = clip_factor(norm, self.optim.max_grad_norm)
        for i in range(len(self.decay)):
            if self.decay[i]:
                ops.assign(self.params[i], self.params[i] * kept)
            self.adam(
                self.params[i], self.first[i], self.second[i], beta1_power, beta2_power, lr, self.optim.beta1,
                self.optim.beta2, eps, grads[i] * factor,
            )  # fmt: skip
        return norm


def numbers(step: int, lr: float, optim: OptimConfig) -> tuple[Tensor, ...]:
    """Return the scalars of update number `step` (0-based) for `Update`, as tensors: constants would be compiled in.

    They are the learning rate, the factor of weight decay, β1^t, β2^t, and epsilon for the uncorrected second moment.
    """
    eps, weight_decay = corrections(step, optim)
    beta1_power, beta2_power = (beta ** (step + 1) for beta in (optim.beta1, optim.beta2))
    values = (lr, 1.0 - lr * weight_decay, beta1_power, beta2_power, eps * (1.0 - beta2_power) ** 0.5)
    return tuple(Tensor(value, mindspore.float32) for value in values)
