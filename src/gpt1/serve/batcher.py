"""Dynamic batching: selection of the queued examples that form the next batch."""

from __future__ import annotations

from collections.abc import Sequence

MOST_PADDING = 1.5
"""Maximum ratio of the widest to the narrowest example of a batch; above it, padding costs more than batching gains."""


def next_batch(widths: Sequence[int], budget: int) -> list[int]:
    """Return the sorted indices of the next batch: the oldest example and others of similar width.

    `widths` (B,) are the padded tokens of the examples in order of arrival. Batch size times the largest width is at
    most `budget` tokens, unless the oldest example alone exceeds it. So short texts, which gain from batching, form
    large batches, and long texts, which do not, are computed one by one (docs/performance.md).
    """
    first = widths[0]
    chosen, widest, narrowest = [0], first, first
    for index in sorted(range(1, len(widths)), key=lambda index: abs(widths[index] - first)):
        wide, narrow = max(widest, widths[index]), min(narrowest, widths[index])
        if wide * (len(chosen) + 1) > budget or wide > MOST_PADDING * narrow:
            continue
        chosen.append(index)
        widest, narrowest = wide, narrow
    return sorted(chosen)
