"""Examples with the same texts: duplicates in a split, leaks between splits, contradictory labels.

Examples are the same if all their parts and choices are equal after `folded_text`.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from gpt1.data.example import Example, Label, folded_text

DIGEST_BYTES = 16
"""Size of a key; among 10⁹ different examples, two have the same key with a probability of 10⁻²¹."""


def keys(examples: Iterable[Example]) -> list[bytes]:
    """Return a digest of `DIGEST_BYTES` bytes of the texts of each example; the same examples have the same key."""
    return [hashlib.blake2b(_text(example).encode(), digest_size=DIGEST_BYTES).digest() for example in examples]


def _text(example: Example) -> str:
    """Return all folded texts, separated by control characters that `folded_text` removes from texts."""
    return "\x1e".join(("\x1f".join(map(folded_text, example.parts)), *map(folded_text, example.choices)))


@dataclass(frozen=True)
class Contradiction:
    """The same example with different labels."""

    examples: tuple[Example, ...]
    """The first example with each label."""
    rows: int
    """Number of examples with these texts."""


@dataclass(frozen=True)
class Duplicates:
    """Examples of a data set that occur more than once."""

    keys: Mapping[str, Sequence[bytes]]
    """The key of each example of each split."""
    repeated: Mapping[str, int]
    """Number of examples of each split that are the same as an earlier one of the split."""
    leaked: Mapping[str, int]
    """Number of examples of each split but train that also occur in train."""
    contradictions: tuple[Contradiction, ...]
    """Examples with different labels, of all splits, in the order of their first rows."""

    def notes(self) -> list[str]:
        """Return a note for each number that is not 0, and one about contradictory labels with the first example."""
        notes = []
        for split, keys in self.keys.items():
            if repeated := self.repeated[split]:
                notes.append(f"{split}: {repeated:,} examples are duplicates of earlier examples of the same split.")
            if leaked := self.leaked.get(split):
                notes.append(f"{split}: {leaked:,} of {len(keys):,} examples also occur in the training split.")
        if self.contradictions:
            one, other, *_ = self.contradictions[0].examples
            rows = sum(each.rows for each in self.contradictions)
            notes.append(
                f"Contradictory labels: {rows:,} examples have a text that occurs with several labels, such as "
                f"{one.label} in {one.origin} and {other.label} in {other.origin}."
            )
        return notes


def find_duplicates(splits: Mapping[str, Sequence[Example]]) -> Duplicates:
    """Return the examples that occur more than once in a data set; those without a label contradict none."""
    by_split = {split: keys(examples) for split, examples in splits.items()}
    train = set(by_split.get("train", ()))
    return Duplicates(
        keys=by_split,
        repeated={split: len(each) - len(set(each)) for split, each in by_split.items()},
        leaked={split: sum(key in train for key in each) for split, each in by_split.items() if split != "train"},
        contradictions=tuple(_contradictions([*chain(*by_split.values())], [*chain(*splits.values())])),
    )


def _contradictions(keys: Sequence[bytes], examples: Sequence[Example]) -> Iterator[Contradiction]:
    counts = Counter(keys)
    first: dict[bytes, dict[Label, Example]] = defaultdict(dict)
    for key, example in zip(keys, examples, strict=True):
        if counts[key] > 1 and example.label is not None:
            first[key].setdefault(example.label, example)
    return (Contradiction(tuple(each.values()), counts[key]) for key, each in first.items() if len(each) > 1)
