"""Batches of token sequences: order, grouping by length, padding.

Every batch is a function of (data, seed, step), so a resumed run trains on the same batches as an uninterrupted run.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.base import BUCKETS, IGNORE, Batch
from gpt1.config import LoopConfig, Padding
from gpt1.errors import UserError

WINDOW = 64
"""Size, in batches, of the windows of shuffled examples within which examples are sorted by length."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class EncodedExamples:
    """Examples as token ids, k consecutive sequences each."""

    sequences: list[NDArray[np.int32]]
    """B * k sequences including special tokens; each ends with `<eos>`."""
    per_example: int = 1
    """Sequences per example, k."""
    segments: list[NDArray[np.int32]] | None = None
    """Segment number of each token, for models with segment embeddings."""
    labels: NDArray[Any] | None = None
    """(B,) int64 label ids or float32 values."""
    weights: NDArray[np.float32] | None = None
    """(B,) example weights; `None` means 1 for each."""
    truncated: int = 0
    """Number of examples that were truncated to the maximum length."""
    full_lengths: NDArray[np.int64] | None = None
    """(B,) number of tokens of each example's longest sequence before truncation, special tokens included."""
    unknown_bytes: NDArray[np.int64] | None = None
    """(B,) UTF-8 bytes of each example's texts that became `<unk>`."""
    text_bytes: NDArray[np.int64] | None = None
    """(B,) UTF-8 bytes of each example's texts, blanks excluded."""

    def __len__(self) -> int:
        return len(self.sequences) // self.per_example

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(B,) number of tokens of each example's longest sequence."""
        flat = np.fromiter(map(len, self.sequences), np.int64, len(self.sequences))
        longest: Indices = flat.reshape(-1, self.per_example).max(1)
        return longest

    def sha256(self) -> str:
        """Return the SHA-256 of tokens, labels and weights; a resumed run verifies its data with it."""
        digest = hashlib.sha256(self.lengths.tobytes())
        for array in (*self.sequences, self.labels, self.weights):
            if array is not None:
                digest.update(array.tobytes())
        return digest.hexdigest()


def concatenate(examples: Sequence[EncodedExamples]) -> EncodedExamples:
    """Concatenate encoded examples that all have k sequences per example; labels and weights are dropped."""
    segments = [each.segments for each in examples if each.segments is not None]
    return EncodedExamples(
        sequences=[sequence for each in examples for sequence in each.sequences],
        per_example=examples[0].per_example,
        segments=[numbers for each in segments for numbers in each] if segments else None,
    )


@dataclass(frozen=True)
class Collator:
    """Builds padded batches from encoded examples."""

    pad: int
    """Id of `<pad>`."""
    n_ctx: int
    """Maximum length of a batch in tokens."""
    padding: Padding = "bucket"
    buckets: Sequence[int] = BUCKETS
    """Lengths to which `--pad-to bucket` rounds up, ascending (see `Engine.buckets`); longer batches use `n_ctx`."""
    lm_targets: bool = False
    """Whether batches contain language-model targets (the next token at every position)."""

    def width(self, longest: int) -> int:
        """Return the padded length of a batch whose longest sequence has `longest` tokens."""
        match self.padding:
            case "max":
                return self.n_ctx
            case "longest":
                return longest
            case "bucket":
                index = bisect_left(self.buckets, longest)
                return min(self.n_ctx, self.buckets[index]) if index < len(self.buckets) else self.n_ctx

    def __call__(self, encoded: EncodedExamples, examples: Indices) -> Batch:
        """Return the batch of the examples with the given indices, in that order."""
        k = encoded.per_example
        rows = (examples[:, None] * k + np.arange(k)).ravel()
        sequences = [encoded.sequences[row] for row in rows]
        width = self.width(max(map(len, sequences)))
        tokens = _padded(sequences, width, self.pad)
        return Batch(
            tokens=tokens,
            eos_positions=np.array([len(sequence) - 1 for sequence in sequences], np.int32),
            labels=None if encoded.labels is None else encoded.labels[examples],
            weights=None if encoded.weights is None else encoded.weights[examples],
            lm_targets=_padded([s[1:] for s in sequences], width, IGNORE) if self.lm_targets else None,
            segments=None if encoded.segments is None else _padded([encoded.segments[row] for row in rows], width, 0),
            sequences_per_example=k,
        )


def _padded(sequences: Sequence[NDArray[np.int32]], width: int, fill: int) -> NDArray[np.int32]:
    out = np.full((len(sequences), width), fill, np.int32)
    for row, sequence in zip(out, sequences, strict=True):
        row[: len(sequence)] = sequence
    return out


class TrainingBatches:
    """Micro-batches of every training step: seeded, reshuffled each epoch, grouped by similar length.

    The micro-batches of a step are distributed over the ranks, which together train on the batch of a single process.
    A micro-batch holds at most `at_once` examples, so that each rank has some.

    Raises:
        UserError: `drop_last` leaves no batch.
    """

    def __init__(
        self, encoded: EncodedExamples, config: LoopConfig, collator: Collator, rank: int = 0, n_ranks: int = 1
    ):
        self.encoded, self.config, self.collator = encoded, config, collator
        self.rank, self.n_ranks = rank, n_ranks
        share = -(-config.batch_size // n_ranks)
        self.at_once = min(share, config.micro_batch_size or share)
        self.steps_per_epoch = math.ceil(len(encoded) / config.batch_size)
        if config.drop_last:
            self.steps_per_epoch = len(encoded) // config.batch_size
            if not self.steps_per_epoch:
                raise UserError(
                    f"--drop-last: {len(encoded)} training examples do not fill one batch of {config.batch_size}; "
                    "use --no-drop-last or a smaller --batch-size"
                )
        self._epoch = lru_cache(maxsize=2)(self._plan)

    def micro_batches(self, step: int) -> list[Batch]:
        """Return this rank's micro-batches of optimizer step `step` (0-based), none if there are fewer than ranks."""
        epoch, index = divmod(step, self.steps_per_epoch)
        parts = list(self._parts(self._epoch(epoch)[index]))
        return [self.collator(self.encoded, part) for part in parts[self.rank :: self.n_ranks]]

    def _plan(self, epoch: int) -> list[Indices]:
        return epoch_order(
            self.encoded.lengths, self.config.batch_size, seed=self.config.seed, epoch=epoch,
            bucketing=self.config.bucketing, drop_last=self.config.drop_last,
        )  # fmt: skip

    def _parts(self, examples: Indices) -> Iterator[Indices]:
        for start in range(0, len(examples), self.at_once):
            part = examples[start : start + self.at_once]
            if self.config.micro_batch_size is None:
                widths = [self.collator.width(int(n)) * self.encoded.per_example for n in self.encoded.lengths[part]]
                yield from split_by_tokens(part, widths, self.config.micro_batch_tokens)
            else:
                yield part


def epoch_order(
    lengths: NDArray[np.int64], batch_size: int, *, seed: int, epoch: int, bucketing: bool = True,
    drop_last: bool = False,
) -> list[Indices]:  # fmt: skip
    """Return the example indices of each step of one epoch; every example occurs once.

    With `bucketing`, the shuffled examples are sorted by length within windows of 64 batches, and the resulting batches
    are shuffled again; otherwise consecutive shuffled examples form a batch. With `drop_last`, the last examples of the
    shuffled order that do not fill a batch are dropped before sorting.
    """
    stream = np.random.default_rng([seed, epoch])
    order = stream.permutation(len(lengths))
    if drop_last:
        order = order[: len(order) // batch_size * batch_size]
    if not bucketing:
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    batches: list[Indices] = []
    for start in range(0, len(order), WINDOW * batch_size):
        window = order[start : start + WINDOW * batch_size]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
    return [batches[i] for i in stream.permutation(len(batches))]


def split_by_tokens(examples: Indices, widths: Sequence[int], budget: int) -> Iterator[Indices]:
    """Split `examples` into consecutive parts, each at least one example and at most `budget` tokens when padded."""
    start, widest = 0, 0
    for end, width in enumerate(widths):
        if end > start and max(widest, width) * (end - start + 1) > budget:
            yield examples[start:end]
            start, widest = end, 0
        widest = max(widest, width)
    if start < len(examples):
        yield examples[start:]


def inference_batches(
    encoded: EncodedExamples, collator: Collator, tokens_at_once: int
) -> Iterator[tuple[Indices, Batch]]:
    """Yield (example indices, batch) for all examples, longest first, so that memory use peaks at the start."""
    order = np.argsort(-encoded.lengths, kind="stable")
    widths = [collator.width(int(n)) * encoded.per_example for n in encoded.lengths[order]]
    parts = list(split_by_tokens(order, widths, tokens_at_once))
    shapes = [(len(part), collator.width(int(encoded.lengths[part[0]]))) for part in parts]  # longest first
    counts = Counter(shapes)
    for part, shape in zip(parts, shapes, strict=True):
        yield part, replace(collator(encoded, part), batches_of_this_shape=counts[shape])
