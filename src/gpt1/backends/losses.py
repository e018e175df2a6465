"""Loss of an optimizer step: formula, denominators, and weights of its terms.

Over the micro-batches of a step, on all ranks, it is (Radford et al. 2018, eq. 5)

    sum_i w_i * task_loss_i / sum_i w_i  +  lm_coef * lm_loss

where task_loss_i is the cross-entropy or squared error of example i, w_i its weight, and lm_loss, by `lm_mean` of
`config.LossConfig`,

    token      sum_t lm_loss_t / (number of targets)
    sequence   sum_s (sum_t lm_loss_st / number of targets of s) / (number of sequences s with a target)

lm_loss_t is the cross-entropy of a target under softmax(state · Eᵀ). The rows of E are those of the token embedding
(without the segments') and, with `lm_over_positions`, those of the position embedding.

Every denominator except the number of targets of one sequence is taken over the *whole* step, so that accumulating
micro-batches of unequal length gives the gradient of one large batch. `torch/losses.py` and `mindspore/losses.py`
compute task_loss_i and the sums of lm_loss_t.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.base import IGNORE, Batch
from gpt1.backends.dist import Ranks
from gpt1.config import LmMean, LossConfig, ModelConfig

LOSS_SCALES = (2.0**14, 2.0**10, 2.0**6, 2.0**2)
"""Loss scales for float16 products, which keep small gradients from underflowing to 0.

A step starts with the first; if its gradients overflow, it is computed again with the next. So no state is kept
between steps."""


class Denominators(NamedTuple):
    """Denominators of a step's task loss and LM loss; 0 where the step has no such loss."""

    example_weight: float
    """Sum of the examples' weights."""
    lm_count: float
    """Number of targets, or of sequences with a target."""


def denominators(batches: Sequence[Batch], config: ModelConfig, loss: LossConfig, ranks: Ranks) -> Denominators:
    """Return the denominators of the step of which this rank computes `batches`. Waits for all ranks."""
    weight = sum(batch.example_weight for batch in batches) if config.head else 0.0
    by_sequence = loss.lm_mean == "sequence"
    count = sum(batch.target_sequences if by_sequence else batch.target_count for batch in batches)
    return Denominators(*ranks.total(weight, count if lm_coefficient(config, loss) else 0))


def lm_coefficient(config: ModelConfig, loss: LossConfig) -> float:
    """Return the coefficient of the LM loss: 1 for a model without a head (pretraining)."""
    return loss.lm_coef if config.head else 1.0


def target_weights(batch: Batch, lm_mean: LmMean) -> NDArray[np.float64]:
    """Return the (N, T) weights of the LM losses of `batch` in the numerator of `lm_loss`; 0 without a target."""
    assert batch.lm_targets is not None
    has_target = batch.lm_targets != IGNORE
    per_sequence = np.maximum(has_target.sum(1, keepdims=True), 1)  # (N, 1)
    weights: NDArray[np.float64] = has_target / (per_sequence if lm_mean == "sequence" else 1)
    return weights
