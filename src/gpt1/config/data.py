"""Which columns and which part of the data a run reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, Self

from gpt1.config.checks import require, require_one_of

Truncation = Literal["longest", "half"]
SplitStrategy = Literal["stratified", "openai"]


@dataclass(frozen=True)
class TextColumns:
    """Which column of the data holds which text; `None` finds it by its usual names. Names match in any case."""

    text: str | None = None
    """Column of the text (classification)."""
    text_a: str | None = None
    """Column of the first text of a pair."""
    text_b: str | None = None
    """Column of the second text of a pair."""
    context: str | None = None
    """Column of a multiple-choice question's context."""
    question: str | None = None
    """Column of a multiple-choice question."""
    choices: str | None = None
    """Column of the list of choices, or several columns of one choice each: `ending0,ending1`."""


@dataclass(frozen=True)
class Columns(TextColumns):
    """Which column of the data holds what; `None` finds it by its usual names. Names match in any case."""

    label: str | None = None
    """Column of the label."""
    weight: str | None = None
    """Column of the example's weight in the loss (never found by name; None: every example weighs 1)."""

    @classmethod
    def of(cls, columns: TextColumns | None) -> Self:
        """Return these columns with the others by their usual names."""
        return cls(**asdict(columns or cls()))


@dataclass(frozen=True)
class DataConfig:
    """What part of the data is used, and how it is split where it does not come split."""

    train_fraction: float = 1.0
    """Use only a random stratified part of the training split."""
    valid_fraction: float | None = None
    """Share of the training examples drawn (stratified) for validation where the data brings none (None: 0.1)."""
    test_fraction: float | None = None
    """Share drawn for the test where the data is a single file (None: 0.1)."""
    split_seed: int | None = None
    """Seed of these draws and of --max-examples (None: --seed), so that runs with other seeds have the same splits."""
    max_examples: int | None = None
    """Most examples of each split that are used (a seeded, stratified sample), for a quick try."""
    max_length: int | None = None
    """Most tokens a sequence, special tokens included (None: the model's context)."""
    truncation: Truncation = "longest"
    """How a sequence of two parts that is too long is truncated.
    `longest`: its longest text loses tokens first; `half`: each part keeps half the length minus 2 (OpenAI)."""
    split_strategy: SplitStrategy = "stratified"
    """How validation examples are drawn where the data has no validation split.
    `stratified`: by label, with `--seed`; `openai`: as OpenAI drew them for ROCStories, with a seed of its own."""

    def __post_init__(self) -> None:
        require_one_of(Truncation, "truncation", self.truncation)
        require_one_of(SplitStrategy, "split_strategy", self.split_strategy)
        require(0 < self.train_fraction <= 1, "train_fraction", self.train_fraction, "a number in (0, 1]")
        for name in ("valid_fraction", "test_fraction"):
            value = getattr(self, name)
            require(value is None or 0 < value < 1, name, value, "a number in (0, 1)")
        seed = self.split_seed
        require(seed is None or 0 <= seed < 2**32, "split_seed", seed, "0 to 4,294,967,295")
        require(self.max_examples is None or self.max_examples >= 2, "max_examples", self.max_examples, "2 or more")
        require(self.max_length is None or self.max_length >= 8, "max_length", self.max_length, "8 or more")
