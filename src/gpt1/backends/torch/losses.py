"""Task loss and LM loss in PyTorch; `backends.losses` defines how a step combines them.

Dimensions: D width, V vocabulary, B examples, C columns of the task's head, M positions that have a target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt1.backends.torch.device import TorchTraits
from gpt1.config import Head


def task_losses(logits: Tensor, labels: Tensor, head: Head) -> Tensor:
    """Return the (B,) cross-entropies, or squared errors of a regression, of float32 `logits` (B, C)."""
    if head.regression:
        return (logits[:, 0] - labels).square()
    return F.cross_entropy(logits, labels, reduction="none")


def lm_loss_and_gradient(
    states: Tensor,
    embedding: Sequence[Tensor],
    targets: Tensor,
    scale: float,
    embedding_grad: Sequence[Tensor],
    dtype: torch.dtype,
    traits: TorchTraits,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the sum of the cross-entropies of `targets` under softmax(states Eᵀ), and its gradient by `states`.

    The logits are computed in slices, so memory does not grow with M * V (Radford et al. 2018, eq. 1 and 2).

    Args:
        states: (M, D) float32.
        embedding: float32 matrices with D columns; E, with V rows in all, is their concatenation.
        targets: (M,) token ids.
        scale: factor of the gradients, which are those of `scale` times the sum.
        embedding_grad: one for each of `embedding`; its gradient is added to it.
        dtype: dtype of the matrix products; the softmax is float32.
        weights: (M,) weights of the targets in the sum; `None`: 1 each.
    """
    low_states, low_embedding = states.to(dtype), _concatenate(embedding, dtype, traits)
    factors = scale if weights is None else scale * weights[:, None]
    scaled = (states * factors).to(dtype)  # the factors of all gradients: the logits need none
    heights = [len(matrix) for matrix in embedding]
    n_tokens, n_padded = sum(heights), len(low_embedding) - sum(heights)
    grad_states = torch.empty_like(states)
    total = states.new_zeros(())
    rows = _rows_at_once(low_embedding, traits)
    for start in range(0, len(states), rows):
        part = slice(start, start + rows)
        wanted = targets[part, None]
        logprobs = _logprobs(low_states[part], low_embedding, n_tokens)  # (rows, V + padding)
        at_targets = logprobs.gather(1, wanted)[:, 0]
        total -= at_targets.sum() if weights is None else at_targets @ weights[part]
        grad_logits = logprobs.exp_().scatter_add_(1, wanted, logprobs.new_full(wanted.shape, -1.0)).to(dtype)
        grad_states[part] = grad_logits @ low_embedding
        of_embedding = scaled[part].T.contiguous() @ grad_logits  # (D, V + padding), faster than its transpose
        for grad, columns in zip(embedding_grad, torch.split(of_embedding, [*heights, n_padded], 1), strict=False):
            grad += columns.T
    return total, grad_states.mul_(factors)


def target_logprobs(
    states: Tensor, embedding: Tensor, targets: Tensor, dtype: torch.dtype, traits: TorchTraits
) -> Tensor:
    """Return the (M,) float32 natural-log probabilities of `targets` (M,) after `states` (M, D); no gradient."""
    low_embedding = _concatenate([embedding], dtype, traits)
    rows = _rows_at_once(low_embedding, traits)
    parts = [
        _logprobs(some.to(dtype), low_embedding, len(embedding)).gather(1, wanted[:, None])[:, 0]
        for some, wanted in zip(torch.split(states, rows), torch.split(targets, rows), strict=True)
    ]
    return torch.cat(parts) if parts else states.new_zeros(0)


def _concatenate(matrices: Sequence[Tensor], dtype: torch.dtype, traits: TorchTraits) -> Tensor:
    """Concatenate the rows of `matrices` and rows of zeros up to a multiple of `traits.vocabulary_multiple`."""
    low = [matrix.to(dtype) for matrix in matrices]
    if missing := -sum(map(len, low)) % traits.vocabulary_multiple:
        low.append(low[0].new_zeros(missing, low[0].size(1)))
    return low[0] if len(low) == 1 else torch.cat(low)


def _rows_at_once(embedding: Tensor, traits: TorchTraits) -> int:
    return max(1, min(traits.logits_at_once // len(embedding), traits.positions_at_once))


def _logprobs(states: Tensor, embedding: Tensor, n_tokens: int) -> Tensor:
    """Return float32 log-probabilities over the rows of `embedding`; those from `n_tokens` on are padding."""
    logits = states @ embedding.T
    logits[:, n_tokens:] = -math.inf
    return torch.log_softmax(logits, -1, dtype=torch.float32)
