"""Sampling of the next token from logits, in NumPy, so that every backend samples the same tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpt1.config import GenerateConfig
from gpt1.errors import UserError

Ids = NDArray[np.int64]


class Sampler:
    """Sampler with the settings of a `GenerateConfig`.

    Applies forbidden tokens, repetition penalty, temperature, top-k and top-p, in this order. Ties are broken by the
    lower token id.
    """

    def __init__(self, config: GenerateConfig, forbidden: Sequence[int] = ()):
        self.config, self.forbidden = config, list(forbidden)

    def sample_token(self, logits: NDArray[np.float32], seen: Sequence[int], sample: int, position: int) -> int:
        """Return the token at `position` of sample number `sample` after the tokens `seen`, from logits (V,)."""
        ids, probabilities = self.choices(logits, seen)
        if len(ids) == 1:
            return int(ids[0])
        # A function of (seed, sample, position), so that samples are independent of each other.
        number = np.random.default_rng([self.config.seed, sample, position]).random()
        totals = np.cumsum(probabilities)
        return int(ids[min(int(np.searchsorted(totals, number * totals[-1], side="right")), len(ids) - 1)])

    def choices(self, logits: NDArray[np.float32], seen: Sequence[int]) -> tuple[Ids, NDArray[np.float64]]:
        """Return the ids that can be sampled and their probabilities, which sum to 1."""
        logits = self._adjusted(logits, seen)
        best = int(logits.argmax())
        if not np.isfinite(logits[best]):
            raise UserError("the model's logits are not finite: its weights are damaged, or training diverged")
        if self.config.temperature == 0:
            return np.array([best]), np.ones(1)
        # In float64 and relative to the maximum, so that a tiny temperature does not overflow.
        with np.errstate(over="ignore"):
            scaled = (logits - logits[best]).astype(np.float64) / self.config.temperature
        ids = np.flatnonzero(scaled > -np.inf)
        if self.config.top_k is not None:
            ids = most_likely(scaled, ids, self.config.top_k)
        weights = np.exp(scaled[ids])
        probabilities = weights / weights.sum()
        if self.config.top_p < 1:
            kept = nucleus(probabilities, self.config.top_p)
            ids, probabilities = ids[kept], probabilities[kept] / probabilities[kept].sum()
        return ids, probabilities

    def _adjusted(self, logits: NDArray[np.float32], seen: Sequence[int]) -> NDArray[np.float32]:
        logits = logits.copy()
        if self.config.repetition_penalty != 1:
            again, penalty = np.array(seen, np.int64), np.float32(self.config.repetition_penalty)
            values = logits[again]
            logits[again] = np.where(values > 0, values / penalty, values * penalty)
        logits[self.forbidden] = -np.inf
        return logits


def most_likely(scores: NDArray[np.float64], ids: Ids, k: int) -> Ids:
    """Return the k of the ascending `ids` with the highest scores, in ascending order; ties prefer the lower id."""
    return ids if k >= len(ids) else _highest(scores, ids, k, np.partition(scores[ids], -k)[-k])


def nucleus(probabilities: NDArray[np.float64], share: float) -> Ids:
    """Return the smallest set of the most probable indices whose sum is at least `share`, in ascending order."""
    # Probabilities below (1 - share) / V sum to less than 1 - share, so sorting the others is enough.
    candidates = np.flatnonzero(probabilities >= (1 - share) / len(probabilities))
    descending = np.sort(probabilities[candidates])[::-1]
    k = int(np.searchsorted(np.cumsum(descending), share)) + 1
    return candidates if k >= len(candidates) else _highest(probabilities, candidates, k, descending[k - 1])


def _highest(scores: NDArray[np.float64], ids: Ids, k: int, least: np.float64) -> Ids:
    """Return the k of `ids` with the highest scores; `least` is the lowest score among these."""
    values = scores[ids]
    kept = values > least
    kept[np.flatnonzero(values == least)[: k - int(kept.sum())]] = True
    return ids[kept]
