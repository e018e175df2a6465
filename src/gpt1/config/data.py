"""Settings of the data: columns, splits, truncation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, Self

from gpt1.config.checks import require, require_one_of

Truncation = Literal["longest", "half"]
SplitStrategy = Literal["stratified", "openai"]


@dataclass(frozen=True)
class TextColumns:
    """Columns of the texts (default: found by their usual names).

    Names match in any case.
    """

    text: str | None = None
    """Column of the text, for classification."""
    text_a: str | None = None
    """Column of the first text of a pair, for entailment and similarity."""
    text_b: str | None = None
    """Column of the second text of a pair."""
    context: str | None = None
    """Column of the context, for multiple choice."""
    question: str | None = None
    """Column of the question, for multiple choice."""
    choices: str | None = None
    """Column with the list of choices, or several columns with one choice each: `ending0,ending1`."""


@dataclass(frozen=True)
class Columns(TextColumns):
    """Columns of the data (default: found by their usual names).

    Names match in any case.
    """

    label: str | None = None
    """Column of the label."""
    weight: str | None = None
    """Column of the example's weight in the loss (default: every weight is 1)."""

    @classmethod
    def of(cls, columns: TextColumns | None) -> Self:
        """Return these text columns with the other columns found by their usual names."""
        return cls(**asdict(columns or cls()))


@dataclass(frozen=True)
class DataConfig:
    """Splits, sampling and truncation of the data."""

    train_fraction: float = 1.0
    """Share of the training split to use, drawn at random and stratified by label."""
    valid_fraction: float | None = None
    """Share of the rows used for validation if the data has no validation split (default: 0.1). For a single file, a
    share of all its rows; otherwise, of the training split."""
    test_fraction: float | None = None
    """Share of the rows used as the test split if the data has none (default: 0.1 for a single file, otherwise 0)."""
    split_seed: int | None = None
    """Seed of the random splits and of --max-examples (default: --seed). Set it to keep them while --seed varies."""
    max_examples: int | None = None
    """Maximum number of examples per split, drawn at random and stratified, for a quick trial (default: all)."""
    max_length: int | None = None
    """Maximum sequence length in tokens, special tokens included (default: the model's context)."""
    truncation: Truncation = "longest"
    """Truncation of sequences with two texts. `longest`: the longer text loses tokens first; `half`: each text keeps
    half the maximum length minus 2 (OpenAI's code)."""
    allow_unknown: bool = False
    """Train although the vocabulary does not know half or more of the training texts (their bytes become <unk>)."""
    split_strategy: SplitStrategy = "stratified"
    """Selection of validation examples if the data has no validation split. `stratified`: by label, with the split
    seed; `openai`: as OpenAI's code splits ROCStories, with a seed of its own."""

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
