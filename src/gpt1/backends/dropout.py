"""Dropout masks drawn on the host from counted random bits, the same on every backend that uses them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

MASK_LEVELS = 1 << 16
"""A mask compares 16 random bits an element, so a drop probability is met to within 1/131,072."""

QUERY_BLOCK = 128
"""Queries of causal attention whose mask is drawn at once, for the keys up to the block's end."""


class HostDropoutRng:
    """The random bits of one micro-batch: a function of (seed, step, micro-batch), so that resuming needs no RNG state.

    What is drawn depends on the order of the calls, which is the order of the forward pass.
    """

    def __init__(self, *counters: int):
        self.generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence(counters)))

    def bits(self, shape: tuple[int, ...]) -> NDArray[np.int16]:
        """Return 16 random bits for each element of `shape`; a mask keeps those at `threshold(p)` and above."""
        size = math.prod(shape)
        words = self.generator.integers(0, 1 << 64, -(-size // 4), dtype=np.uint64)
        return words.view(np.int16)[:size].reshape(shape)

    def keep(self, shape: tuple[int, ...], p: float) -> NDArray[np.bool_]:
        """Return a mask of `shape` that is true with probability 1 - p."""
        kept: NDArray[np.bool_] = self.bits(shape) >= threshold(p)
        return kept


def generator_seed(*counters: int) -> int:
    """Return a seed of 63 bits for another generator, a function of the counters as `HostDropoutRng` is."""
    # An int before the shift: NumPy 1.26 has none for uint64 and a Python integer.
    return int(np.random.SeedSequence(counters).generate_state(1, np.uint64)[0]) >> 1


def threshold(p: float) -> int:
    """Return the least of 16 random bits, read as a signed number, with which an element is kept."""
    return _drop_levels(p) - MASK_LEVELS // 2


def keep_scale(p: float) -> float:
    """Return what the kept elements are multiplied with, so that the mean stays."""
    return MASK_LEVELS / (MASK_LEVELS - _drop_levels(p))


def _drop_levels(p: float) -> int:
    return min(round(p * MASK_LEVELS), MASK_LEVELS - 1)
