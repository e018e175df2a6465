"""Dynamic batching: the queued examples that are computed together."""

from __future__ import annotations

from collections.abc import Sequence

MOST_PADDING = 1.5
"""A batch is not made wider than this many times its narrowest example: what padding costs, batching must gain."""


def next_batch(widths: Sequence[int], budget: int) -> list[int]:
    """Return the indices of the examples to compute next: the one that has waited longest, and those of similar width.

    `widths` (B,) are their padded tokens, in the order of arrival; count times widest is at most `budget` tokens,
    unless the first is wider alone. So short texts, where a batch gains, are many at once, and long ones, where it
    gains nothing, are computed one by one (docs/performance.md).
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
