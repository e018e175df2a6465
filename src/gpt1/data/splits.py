"""Seeded random splits of examples."""

from __future__ import annotations

import random
from collections import defaultdict

from gpt1.data.example import Example

OPENAI_SEED = 3535999445
"""The seed of OpenAI's split of ROCStories."""


def stratified_split(examples: list[Example], fraction: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Draw `fraction` of the examples at random, stratified by label; return (remaining, drawn) in file order.

    The fraction of each label is exact to within one row, and at least one row of each label remains. Without strata
    (see `strata`) the draw is not stratified. The result is the same on every machine, since only `random.random` is
    used, which Python keeps stable.
    """
    groups = strata(examples)
    quotas = [fraction * len(group) for group in groups]
    counts = [int(quota) for quota in quotas]
    spare = round(fraction * len(examples)) - sum(counts)
    growing = [i for i, group in enumerate(groups) if counts[i] + 1 < len(group)]
    for i in sorted(growing, key=lambda i: counts[i] - quotas[i])[:spare]:
        counts[i] += 1
    # The seed includes the size, so that a second draw from the remaining examples uses other random numbers.
    rng = random.Random(f"{seed} of {len(examples)}")
    rank = [rng.random() for _ in examples]
    drawn: set[int] = set()
    for group, count in zip(groups, counts, strict=True):
        drawn.update(sorted(group, key=rank.__getitem__)[:count])
    return (
        [example for row, example in enumerate(examples) if row not in drawn],
        [example for row, example in enumerate(examples) if row in drawn],
    )


def openai_split(examples: list[Example], fraction: float) -> tuple[list[Example], list[Example]]:
    """Draw `fraction` of the examples as OpenAI did for ROCStories; return (remaining, drawn).

    This is scikit-learn's `train_test_split` with OpenAI's seed, not stratified (openai/finetune-transformer-lm
    `datasets.py`), and keeps its order: for 1,871 rows and 374 / 1,871 the result is OpenAI's split.
    """
    from sklearn.model_selection import train_test_split

    count = min(round(fraction * len(examples)), len(examples) - 1)
    if count < 1:
        return examples, []
    rest, drawn = train_test_split(examples, test_size=count, random_state=OPENAI_SEED)
    return rest, drawn


def strata(examples: list[Example]) -> list[list[int]]:
    """Return row numbers grouped by label; one group if labels are floats or more numerous than half the rows."""
    rows: dict[object, list[int]] = defaultdict(list)
    for row, example in enumerate(examples):
        rows[example.label].append(row)
    if len(rows) > len(examples) / 2 or any(isinstance(label, float) for label in rows):
        return [list(range(len(examples)))]
    return list(rows.values())
