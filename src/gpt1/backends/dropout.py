"""Dropout masks drawn on the host, the same on every backend that uses them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

MASK_LEVELS = 1 << 16
"""Number of values of the 16 random bits per element: a drop probability is exact to within 1/131,072."""

QUERY_BLOCK = 128
"""Number of queries of causal attention whose mask is drawn at once, for the keys up to the block's end."""


class HostDropoutRng:
    """Random bits of one micro-batch, a function of (seed, step, micro-batch): resuming needs no RNG state.

    The masks depend on the order of the calls, which is that of the forward pass.
    """

    def __init__(self, *counters: int):
        self.generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence(counters)))

    def bits(self, shape: tuple[int, ...]) -> NDArray[np.int16]:
        """Return 16 random bits for each element of `shape`; an element is kept if they are at least `threshold(p)`."""
        size = math.prod(shape)
        words = self.generator.integers(0, 1 << 64, -(-size // 4), dtype=np.uint64)
        return words.view(np.int16)[:size].reshape(shape)

    def keep(self, shape: tuple[int, ...], p: float) -> NDArray[np.bool_]:
        """Return a mask of `shape`, true (kept) with probability 1 - p."""
        kept: NDArray[np.bool_] = self.bits(shape) >= threshold(p)
        return kept


def generator_seed(*counters: int) -> int:
    """Return a 63-bit seed for another generator, a function of the same counters as `HostDropoutRng`."""
    # Converted to int before the shift: NumPy 1.26 cannot shift a uint64 by a Python integer.
    return int(np.random.SeedSequence(counters).generate_state(1, np.uint64)[0]) >> 1


def threshold(p: float) -> int:
    """Return the smallest value of the 16 random bits, as a signed integer, for which an element is kept."""
    return _drop_levels(p) - MASK_LEVELS // 2


def keep_scale(p: float) -> float:
    """Return the factor of kept elements, 1 / (1 - p) for the exact probability of the masks, which keeps the mean."""
    return MASK_LEVELS / (MASK_LEVELS - _drop_levels(p))


def _drop_levels(p: float) -> int:
    return min(round(p * MASK_LEVELS), MASK_LEVELS - 1)
