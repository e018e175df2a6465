"""Training rows of a data set, from which missing splits are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from gpt1.config import SplitStrategy
from gpt1.console import counted
from gpt1.data.duplicates import keys
from gpt1.data.example import Example
from gpt1.data.header import join_words
from gpt1.data.splits import OPENAI_SEED, draw, linked, openai_split, partition, strata
from gpt1.errors import UserError

LARGER_SHARES = (0.2, 0.3, 0.4, 0.5)
"""Shares that are tried for a split that would be empty."""


class TrainingRows:
    """The training rows that have not been drawn into other splits yet.

    Identical examples, and rows of the same group, are drawn into the same split, unless `version` is 1.

    Args:
        examples: All training rows.
        source: Name of their file, for messages.
        seed, version: Seed and version of the draws.
        group: Name of the column of groups.
    """

    def __init__(self, examples: list[Example], source: str, seed: int, version: int, group: str | None = None) -> None:
        self.examples, self.source, self.seed, self.version, self.group = examples, source, seed, version, group

    @cached_property
    def _groups(self) -> list[int] | None:
        if self.version == 1:
            return None
        return linked(keys(self.examples), [example.group for example in self.examples])

    def require_enough(self, splits: Sequence[str], columns: Sequence[str]) -> None:
        """Raise UserError unless there is a row or group for train and for each of the `splits` that are drawn."""
        required = len(splits) + 1
        if not splits or self.n_groups >= required:
            return
        needed = f"at least {required} are required for {join_words(('train', *splits))}"
        if self.group is None:
            advice = f"add rows, or give a folder with the files {join_words(('train', *splits))}"
            raise UserError(f"{self.source}: {self._found}; {needed}; {advice}")
        found = _n_groups(self.examples)
        groups = counted(found, "group") if found > 1 else f"1 group ({self.examples[0].group!r})"
        joined = f", which identical texts join into {self.n_groups}" if self.n_groups < found else ""
        raise UserError(
            f"--group {self.group}: {groups} in {self.source}{joined}; {needed}; its columns are {', '.join(columns)}"
        )

    @property
    def n_groups(self) -> int:
        """Number of sets of rows that are drawn together."""
        return len(self.examples if self._groups is None else set(self._groups))

    def draw(
        self, split: str, share: float, strategy: SplitStrategy = "stratified", *, remaining: float = 1
    ) -> tuple[list[Example], str]:
        """Take a `share` of all rows, of which a share is `remaining`, for `split`; return the rows and a note.

        Raises:
            UserError: there are too few rows or groups.
        """
        before, n_groups, seed, fraction = self.examples, self.n_groups, self.seed, share / remaining
        if strategy == "openai":
            how, seed = "as in OpenAI's split of ROCStories", OPENAI_SEED
            self.examples, drawn = openai_split(before, fraction)
        else:
            how = "stratified by label" if len(strata(before, n_groups, self.version)) > 1 else "at random"
            if self.group is None and n_groups < len(before):
                how += ", identical examples together"
            drawn = self._take(draw(before, fraction, seed, self._groups, self.version))
        if not drawn:
            larger = (each for each in LARGER_SHARES if share < each < remaining)
            enough = next((each for each in larger if self._can_draw(each / remaining, strategy)), None)
            advice = f"set --{split}-fraction {enough}, or add rows" if enough else "add rows"
            folder = f"give a folder with the files train and {split}"
            raise UserError(f"{self.source}: {self._found}, too few for a {split} split; {advice}, or {folder}")
        groups = "" if self.group is None else f" ({_n_groups(drawn):,} of {_n_groups(before):,} groups, {self.group})"
        rows = f"{len(drawn):,} of {len(before):,} rows{groups}"
        return drawn, f"{split}: {rows} drawn from {self.source}, {how} (seed {seed})."

    def subsample(self, fraction: float) -> tuple[list[Example], str]:
        """Keep `fraction` of the rows, drawn one by one; return the others and a note."""
        n_rows = len(self.examples)
        unused = self._take(draw(self.examples, 1 - fraction, self.seed, version=self.version))
        return unused, f"train: {len(self.examples):,} of {n_rows:,} rows used (seed {self.seed})."

    @property
    def _found(self) -> str:
        n_rows, parts = len(self.examples), counted(self.n_groups, "different text" if self.group is None else "group")
        return counted(n_rows, "row") + (f" with {parts}" if self.n_groups < n_rows else "")

    def _can_draw(self, fraction: float, strategy: SplitStrategy) -> bool:
        if strategy == "openai":
            return bool(openai_split(self.examples, fraction)[1])
        return bool(draw(self.examples, fraction, self.seed, self._groups, self.version))

    def _take(self, rows: set[int]) -> list[Example]:
        if self._groups is not None:
            self._groups = linked(partition(self._groups, rows)[0])  # numbered by the rows that remain
        self.examples, taken = partition(self.examples, rows)
        return taken


def group_notes(column: str, splits: Mapping[str, Sequence[Example]]) -> list[str]:
    """Return notes on rows without a group, and on the groups of splits with own files that also occur in train."""
    notes = []
    known = {example.group for example in splits["train"]} - {None}
    for split, examples in splits.items():
        if alone := sum(example.group is None for example in examples):
            notes.append(f"{split}: {alone:,} of {len(examples):,} rows have no group ({column}).")
        if split != "train":
            shared = sum(example.group in known for example in examples)
            notes.append(
                f"{split}: {shared:,} of {len(examples):,} rows are of a group ({column}) that also occurs in train."
            )
    return notes


def _n_groups(examples: Sequence[Example]) -> int:
    """Return the number of groups; a row without one is a group of its own."""
    named = [example.group for example in examples if example.group is not None]
    return len(examples) - len(named) + len(set(named))
