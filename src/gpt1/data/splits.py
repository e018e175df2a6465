"""Seeded random splits of examples."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TypeVar

from gpt1.config import SPLIT_VERSION
from gpt1.data.example import Example

OPENAI_SEED = 3535999445
"""The seed of OpenAI's split of ROCStories."""

QUANTILES = 10
"""Maximum number of strata of numeric labels."""

Item = TypeVar("Item")


def stratified_split(
    examples: list[Example], fraction: float, seed: int, groups: Sequence[int] | None = None,
    version: int = SPLIT_VERSION,
) -> tuple[list[Example], list[Example]]:  # fmt: skip
    """Draw `fraction` of the examples at random, stratified by label; return (remaining, drawn) in file order.

    See `draw`.
    """
    return partition(examples, draw(examples, fraction, seed, groups, version))


def draw(
    examples: Sequence[Example], fraction: float, seed: int, groups: Sequence[int] | None = None,
    version: int = SPLIT_VERSION,
) -> set[int]:  # fmt: skip
    """Draw `fraction` of the examples at random, stratified by label (`strata`); return their row numbers.

    Groups are taken in random order; one is drawn if the numbers of rows per label come closer to the fraction and at
    least one row of each label remains. Without larger groups, the fraction of each label is exact to within one row.
    If no group comes closer because all are too large, the one that is off least is drawn.

    The result is the same on every machine, since only `random.random` is used, which Python keeps stable.

    Args:
        examples: The examples, in file order.
        fraction: Share of the examples to draw, in [0, 1).
        seed: Seed of the draw.
        groups: First row of each example's group, which is not divided (`linked`); None = each example is a group.
        version: 1 = numeric labels are not stratified (--split-version).
    """
    groups = range(len(examples)) if groups is None else groups
    # The seed includes the size, so that a second draw from the remaining examples uses other random numbers.
    rng = random.Random(f"{seed} of {len(examples)}")
    rank = [rng.random() for _ in examples]
    order = sorted(set(groups), key=rank.__getitem__)
    others: dict[int, list[int]] = defaultdict(list)  # of the group, besides its first row
    for row, group in enumerate(groups):
        if row != group:
            others[group].append(row)
    of_label = strata(examples, len(order), version)
    stratum = [0] * len(examples)
    for number, of_one in enumerate(of_label):
        for row in of_one:
            stratum[row] = number
    remaining = [len(rows) for rows in of_label]
    missing = _quotas(remaining, fraction)
    never = -len(examples)

    def gain(group: int) -> int:
        """Return by how many rows the numbers per label come closer to their quotas; `never` if no row remains."""
        counts: dict[int, int] = defaultdict(int)
        for row in (group, *others.get(group, ())):
            counts[stratum[row]] += 1
        closer = 0
        for label, count in counts.items():
            if remaining[label] <= count:
                return never
            closer += abs(missing[label]) - abs(missing[label] - count)
        return closer

    drawn: set[int] = set()
    unmet = sum(missing)
    for group in order:
        if not unmet:
            break
        if gain(group) > 0:
            rows = (group, *others.get(group, ()))
            drawn.update(rows)
            for label in map(stratum.__getitem__, rows):
                unmet -= missing[label] > 0
                missing[label] -= 1
                remaining[label] -= 1
    if unmet and not drawn:
        nearest = max(order, key=gain)
        drawn.update((nearest, *others.get(nearest, ())) if gain(nearest) > never else ())
    return drawn


def _quotas(sizes: Sequence[int], fraction: float) -> list[int]:
    """Return the number of rows to draw from strata of the given sizes, fewer than each; the sum is rounded."""
    exact = [fraction * size for size in sizes]
    quotas = [int(quota) for quota in exact]
    spare = round(fraction * sum(sizes)) - sum(quotas)
    growing = [i for i, size in enumerate(sizes) if quotas[i] + 1 < size]
    for i in sorted(growing, key=lambda i: quotas[i] - exact[i])[:spare]:
        quotas[i] += 1
    return quotas


def partition(items: Sequence[Item], drawn: set[int]) -> tuple[list[Item], list[Item]]:
    """Return (remaining, drawn) items, in order."""
    return (
        [item for row, item in enumerate(items) if row not in drawn],
        [item for row, item in enumerate(items) if row in drawn],
    )


def linked(*columns: Sequence[Hashable]) -> list[int]:
    """Return the number of each row's group: rows with the same value in a column are linked, also by way of others.

    The number of a group is that of its first row (connected components by union-find). None is no value.
    """
    parent = list(range(len(columns[0])))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    for column in columns:
        first: dict[Hashable, int] = {}
        for row, value in enumerate(column):
            if value is not None and (earlier := first.setdefault(value, row)) != row:
                one, other = root(earlier), root(row)
                parent[max(one, other)] = min(one, other)
    return [root(row) for row in range(len(parent))]


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


def strata(examples: Sequence[Example], n_groups: int, version: int = SPLIT_VERSION) -> list[list[int]]:
    """Return row numbers grouped by label.

    Labels that are fractional numbers, or more numerous than half the rows, are one stratum; if they are numbers, there
    is a stratum for each of up to `QUANTILES` quantiles, ten groups each (not in version 1).
    """
    rows: dict[object, list[int]] = defaultdict(list)
    for row, example in enumerate(examples):
        rows[example.label].append(row)
    if len(rows) <= len(examples) / 2 and not any(isinstance(label, float) for label in rows):
        return list(rows.values())
    n_strata = min(QUANTILES, n_groups // 10)
    if version == 1 or n_strata < 2 or not all(isinstance(label, int | float) for label in rows):
        return [list(range(len(examples)))]
    ascending = sorted(range(len(examples)), key=lambda row: examples[row].label)  # type: ignore[arg-type,return-value]
    return [ascending[len(ascending) * i // n_strata : len(ascending) * (i + 1) // n_strata] for i in range(n_strata)]
