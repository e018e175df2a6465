"""What a training step computes, as two cells that run operator by operator or compiled: gradients, and the update.

A graph has static shapes, and compiling one takes long. So the gradients are compiled once for every shape of
micro-batch and the update, which does not depend on it, once; gradients of several micro-batches are added between the
two. What differs from step to step (denominators, rates, masks) is an input. A micro-batch has its shape from `Batch`
alone: the LM loss is computed at every position and weighted with 0 where there is no target, because the number of
targets is another one in every batch.

Dimensions: N sequences, T time, B examples of k sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mindspore
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from gpt1.backends.base import IGNORE, Batch
from gpt1.backends.mindspore.compiled import ABSENT
from gpt1.backends.mindspore.functional import LmLoss, rows_at, squares
from gpt1.backends.mindspore.masks import Masks
from gpt1.backends.mindspore.model import GPT1, task_loss
from gpt1.backends.optim import clip_factor, corrections
from gpt1.backends.parameters import decays
from gpt1.config import LmMean, LossConfig, OptimConfig

LOSS_SCALES = (2.0**14, 2.0**10, 2.0**6, 2.0**2)
"""Where products are float16, gradients are computed of the loss times the first of these, so that small ones do not
become 0; a step in which that is too much is computed again with the next. So no state outlives a step."""


class Inputs(NamedTuple):
    """A micro-batch on the device. What is `ABSENT` takes no part in the loss."""

    tokens: Tensor
    """(N, T)"""
    segments: Tensor
    """(N, T)"""
    eos_positions: Tensor
    """(N,)"""
    labels: Tensor
    """(B,)"""
    label_shares: Tensor
    """(B,) what each example counts in the task's loss; those of a step sum to 1."""
    targets: Tensor
    """(N * T,) token ids, 0 where no loss looks"""
    target_shares: Tensor
    """(N * T,) what each target counts in the LM loss, 0 where no loss looks; those of a step sum to 1."""


def inputs(batch: Batch, weight: float, lm_count: float, lm_mean: LmMean) -> Inputs:
    """Return `batch` for the losses of a step whose examples weigh `weight`, with `lm_count` targets or sequences."""
    labels = label_shares = targets = target_shares = ABSENT
    if weight and batch.labels is not None:
        labels = Tensor(batch.labels.astype(np.float32 if batch.labels.dtype.kind == "f" else np.int32))
        weights = np.ones(len(batch.labels)) if batch.weights is None else batch.weights.astype(np.float64)
        label_shares = Tensor((weights / weight).astype(np.float32))
    if lm_count and batch.target_count:
        wanted = batch.lm_targets != IGNORE
        share = wanted / (np.maximum(wanted.sum(1, keepdims=True), 1) if lm_mean == "sequence" else 1)
        targets = Tensor(np.where(wanted, batch.lm_targets, 0).astype(np.int32).ravel())
        target_shares = Tensor((share / lm_count).astype(np.float32).ravel())
    segments = ABSENT if batch.segments is None else Tensor(batch.segments.astype(np.int32))
    return Inputs(
        Tensor(batch.tokens.astype(np.int32)), segments, Tensor(batch.eos_positions.astype(np.int32)),
        labels, label_shares, targets, target_shares,
    )  # fmt: skip


class Losses(nn.Cell):
    """The share of one micro-batch in the losses of its step."""

    def __init__(self, model: GPT1, loss: LossConfig, logits_at_once: int):
        super().__init__()
        self.model, self.over_positions = model, loss.lm_over_positions
        self.lm_coef = loss.lm_coef if model.config.head else 1.0
        self.lm_loss = LmLoss(model.dtype, logits_at_once)

    def construct(self, arrays: tuple, masks: Masks, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return `scale` times the loss, the loss, and its parts, the task's and the LM's; `arrays` are `Inputs`."""
        tokens, segments, eos_positions, labels, label_shares, targets, target_shares = arrays
        of_matrices, of_body, of_state = masks
        embeddings = self.model.embeddings(of_matrices)
        task = lm = ops.zeros((), mindspore.float32)
        position = None if targets.ndim else eos_positions
        states = self.model(tokens, segments if segments.ndim else None, position, embeddings, of_body)
        if labels.ndim:
            at_eos = rows_at(states, eos_positions) if targets.ndim else states  # (N, D)
            logits = self.model.task_logits(at_eos, tokens.shape[0] // labels.shape[0], of_state)
            task = (task_loss(logits, labels, self.model.config.head) * label_shares).sum()
        if targets.ndim:
            every = embeddings[0]
            if self.model.config.n_segments:  # over tokens, not over segments
                every = every[: self.model.config.vocab_size]
            if self.over_positions:
                every = ops.cat((every, embeddings[1]))
            rows = states.reshape(-1, states.shape[-1])  # (N * T, D)
            lm = self.lm_loss(rows, every, targets, target_shares)[0]
        loss = task + self.lm_coef * lm
        return loss * scale if scale.ndim else loss, loss, task, lm


class Gradients(nn.Cell):
    """The losses of a micro-batch and the gradient of its loss by every parameter."""

    def __init__(self, losses: Losses, params: Sequence[Parameter]):
        super().__init__()
        self.of = mindspore.value_and_grad(losses, None, weights=ParameterTuple(params), has_aux=True)

    def construct(
        self, arrays: tuple, masks: Masks, scale: Tensor
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, ...]]:
        """Return the loss with its parts, and the gradient; on the way there it is `scale` (1,) times as large."""
        losses, grads = self.of(arrays, masks, scale)
        if scale.ndim:
            grads = tuple([grad / scale for grad in grads])
        return losses[1:], grads


class Update(nn.Cell):
    """One update of every parameter and its moments, in place: `optim.adamw` on the clipped gradients.

    By MindSpore's fused kernel, whose form is that of Kingma & Ba 2015, end of section 2: the rate takes up the
    corrections of both moments, and epsilon stands beside the uncorrected second one.
    """

    def __init__(self, params: Sequence[Parameter], optim: OptimConfig):
        super().__init__()
        self.optim = optim
        self.params = ParameterTuple(params)
        self.first, self.second = self.params.clone("first", "zeros"), self.params.clone("second", "zeros")
        self.decay = tuple(optim.weight_decay > 0 and decays(p.name, p.shape) for p in params)
        self.adam = ops.Adam()

    def construct(self, grads: tuple[Tensor, ...], numbers: tuple[Tensor, ...]) -> Tensor:
        """Return the norm of `grads` before clipping; `numbers` are those of `numbers` for the step."""
        lr, kept, beta1_power, beta2_power, eps = numbers
        norm = ops.sqrt(squares(grads))
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
    """Return what `Update` needs for update number `step` (0-based): it would be compiled anew for other constants."""
    eps, weight_decay = corrections(step, optim)
    beta1_power, beta2_power = (beta ** (step + 1) for beta in (optim.beta1, optim.beta2))
    values = (lr, 1.0 - lr * weight_decay, beta1_power, beta2_power, eps * (1.0 - beta2_power) ** 0.5)
    return tuple(Tensor(value, mindspore.float32) for value in values)
