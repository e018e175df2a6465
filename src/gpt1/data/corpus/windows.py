"""Batches of contiguous windows of a corpus in a seeded order (Radford et al. 2018, §4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.base import IGNORE, Batch
from gpt1.config import LoopConfig
from gpt1.errors import UserError


class Tokens(Protocol):
    """One long sequence of token ids."""

    def tokens(self, start: int, stop: int) -> NDArray[np.int32]:
        """Return the token ids of the range [start, stop)."""


class TrainingWindows:
    """Micro-batches of every training step: windows of `context` tokens and their next tokens, reshuffled each epoch.

    The windows of an epoch are adjacent and each is used once. They start at a random offset, so that their borders
    differ between epochs; the tokens before the first and after the last window (less than two windows) are not used.

    The micro-batches of a step are distributed over the ranks, which together train on the batch of a single process.

    Raises:
        UserError: there are too few tokens for one window.
    """

    def __init__(
        self, corpus: Tokens, n_tokens: int, context: int, config: LoopConfig, rank: int = 0, n_ranks: int = 1
    ):
        if n_tokens < context + 1:
            raise UserError(
                f"--corpus: {n_tokens:,} training tokens, a window needs {context + 1:,}; "
                "add text, or use a smaller --context"
            )
        self.corpus, self.n_tokens, self.context, self.config = corpus, n_tokens, context, config
        self.n_windows = max(1, (n_tokens - context) // context)
        self.steps_per_epoch = -(-self.n_windows // config.batch_size)
        self.rank, self.n_ranks = rank, n_ranks
        fitting = config.micro_batch_size or max(1, config.micro_batch_tokens // context)
        self.at_once = min(fitting, -(-config.batch_size // n_ranks))
        self._epoch = lru_cache(maxsize=2)(self._starts)

    def micro_batches(self, step: int) -> list[Batch]:
        """Return this rank's micro-batches of optimizer step `step` (0-based), none if there are fewer than ranks."""
        epoch, index = divmod(step, self.steps_per_epoch)
        starts = self._epoch(epoch)[index * self.config.batch_size : (index + 1) * self.config.batch_size]
        mine = range(self.rank * self.at_once, len(starts), self.n_ranks * self.at_once)
        return [self._batch(starts[i : i + self.at_once]) for i in mine]

    def _starts(self, epoch: int) -> NDArray[np.int64]:
        """Return the position of the first token of each window of an epoch, in training order."""
        stream = np.random.default_rng([self.config.seed, epoch])
        most = min(self.context - 1, self.n_tokens - 1 - self.n_windows * self.context)
        offset = stream.integers(0, most + 1)
        return offset + self.context * stream.permutation(self.n_windows)

    def _batch(self, starts: NDArray[np.int64]) -> Batch:
        rows = np.stack([self.corpus.tokens(int(start), int(start) + self.context + 1) for start in starts])
        last = np.full(len(rows), self.context - 1, np.int32)
        return Batch(np.ascontiguousarray(rows[:, :-1]), last, lm_targets=np.ascontiguousarray(rows[:, 1:]))


@dataclass(frozen=True)
class ValidationWindows:
    """Adjacent windows in which every token but the first is predicted once, from up to `context` preceding tokens."""

    corpus: Tokens
    start: int
    stop: int
    context: int
    pad: int
    rank: int = 0
    n_ranks: int = 1

    @property
    def n_windows(self) -> int:
        """Number of windows; the last one may be shorter."""
        return -(-(self.stop - self.start - 1) // self.context)

    def batches(self, tokens_at_once: int, most: int | None = None) -> Iterator[Batch]:
        """Yield this rank's batches of all windows, or of at most `most` evenly spaced windows."""
        numbers = np.arange(self.n_windows)
        if most is not None and most < self.n_windows:
            numbers = np.linspace(0, self.n_windows - 1, most).round().astype(np.int64)
        at_once = max(1, tokens_at_once // self.context)
        for first in range(self.rank * at_once, len(numbers), self.n_ranks * at_once):
            rows = [self._window(int(number)) for number in numbers[first : first + at_once]]
            widest = max(map(len, rows)) - 1
            tokens = np.full((len(rows), widest), self.pad, np.int32)
            targets = np.full((len(rows), widest), IGNORE, np.int32)
            for index, row in enumerate(rows):
                tokens[index, : len(row) - 1], targets[index, : len(row) - 1] = row[:-1], row[1:]
            last = np.array([len(row) - 2 for row in rows], np.int32)
            full = tokens.shape == (at_once, self.context)
            yield Batch(tokens, last, lm_targets=targets, batches_of_this_shape=len(numbers) // at_once if full else 1)

    def _window(self, number: int) -> NDArray[np.int32]:
        start = self.start + number * self.context
        return self.corpus.tokens(start, min(start + self.context + 1, self.stop))
