"""Settings of the data: columns, splits, truncation."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, fields
from typing import Literal, Self

from gpt1.config.checks import require, require_one_of
from gpt1.errors import UserError

Truncation = Literal["longest", "half"]
SplitStrategy = Literal["stratified", "openai"]
Quoting = Literal["minimal", "none"]
OnBadRow = Literal["error", "skip"]

SPLIT_VERSION = 2
"""Current version of the random splits (--split-version)."""


@dataclass(frozen=True)
class TextColumns:
    """Columns of the texts (default: those of the run, else found by their usual names).

    Case, blanks and underscores in names do not matter.
    """

    text: str | None = None
    """Column of the text; of several, `title,body`, a line each."""
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

    Case, blanks and underscores in names do not matter.
    """

    label: str | None = None
    """Column of the label."""
    weight: str | None = None
    """Column of the example's weight in the loss (default: every weight is 1)."""
    label_map: str | None = None
    """New names of labels, as in `0=negative,1=positive`."""
    fold_labels: bool = False
    """Merge labels that differ only in case or blanks into the most frequent spelling."""

    def __post_init__(self) -> None:
        complete = all(old and new for old, new in self._pairs()) and len(self.renames) == len(self._pairs())
        require(complete, "label_map", self.label_map, "OLD=NEW,OLD=NEW with each old label once")

    @classmethod
    def of(cls, columns: TextColumns | None) -> Self:
        """Return these text columns with the other columns found by their usual names."""
        return cls(**{each.name: getattr(columns, each.name) for each in fields(TextColumns)} if columns else {})

    @property
    def renames(self) -> dict[str, str]:
        """The new name of each label that `label_map` renames."""
        return dict(self._pairs())

    def _pairs(self) -> list[tuple[str, str]]:
        pairs = [] if self.label_map is None else [pair.partition("=") for pair in self.label_map.split(",")]
        return [(old.strip(), new.strip()) for old, _, new in pairs]


@dataclass(frozen=True)
class TableFormat:
    """Format of tables (default: detected), and what to do with their bad rows."""

    delimiter: str | None = None
    """Separator of the cells of .csv and .tsv files, one character or `tab` (default: detected)."""
    encoding: str | None = None
    """Encoding of text files, such as utf-8, cp1252 or gb18030 (default: detected)."""
    header: bool = True
    """Read the first row of .csv and .tsv files as column names. With --no-header it is data, and the columns are named
    by number: --text 2 --label 1."""
    quoting: Quoting | None = None
    """Quotes in .csv and .tsv files (default: detected). `minimal`: a cell in double quotes may contain separators and
    line breaks; `none`: quotes are ordinary characters."""
    on_bad_row: OnBadRow | None = None
    """Treatment of rows that cannot be used, for example without a text or label (default: error; predict and score: an
    empty result with the reason). `error`: list these rows and stop; `skip`: leave them out and print their number."""

    def __post_init__(self) -> None:
        if self.delimiter in ("tab", "\\t"):
            object.__setattr__(self, "delimiter", "\t")
        one = self.delimiter is None or (len(self.delimiter) == 1 and self.delimiter not in '"\r\n\0')
        require(one, "delimiter", self.delimiter, "one character or tab")
        known_encoding = self.encoding is None or _is_encoding(self.encoding)
        require(known_encoding, "encoding", self.encoding, "the name of an encoding, such as utf-8, cp1252 or gb18030")
        if self.quoting is not None:
            require_one_of(Quoting, "quoting", self.quoting)
        if self.on_bad_row is not None:
            require_one_of(OnBadRow, "on_bad_row", self.on_bad_row)


def _is_encoding(name: str) -> bool:
    try:
        return isinstance(codecs.getincrementaldecoder(name)().decode(b""), str)
    except (LookupError, TypeError, ValueError):
        return False


DETECTED = TableFormat()
"""Format of tables that is detected from their content."""


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
    group: str | None = None
    """Column of groups, such as authors or patients. Rows of one group are never drawn into different splits."""
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
    split_version: int | None = None
    """Version of the random splits (default: that of the run in --out, otherwise 2). 2: identical examples are drawn
    into the same split; 1: rows are drawn one by one, as in runs that record no version."""

    def __post_init__(self) -> None:
        require_one_of(Truncation, "truncation", self.truncation)
        require_one_of(SplitStrategy, "split_strategy", self.split_strategy)
        require(0 < self.train_fraction <= 1, "train_fraction", self.train_fraction, "a number in (0, 1]")
        for name in ("valid_fraction", "test_fraction"):
            value = getattr(self, name)
            require(value is None or 0 < value < 1, name, value, "a number in (0, 1)")
        seed = self.split_seed
        require(seed is None or 0 <= seed < 2**32, "split_seed", seed, "0 to 4,294,967,295")
        version = self.split_version
        require(version in (None, 1, SPLIT_VERSION), "split_version", version, "1 or 2")
        if self.group is not None and (self.split_strategy == "openai" or version == 1):
            other = "--split-version 1" if version == 1 else "--split-strategy openai"
            raise UserError(f"--group {self.group}: does not apply to {other}, which draws rows one by one")
        require(self.max_examples is None or self.max_examples >= 2, "max_examples", self.max_examples, "2 or more")
        require(self.max_length is None or self.max_length >= 8, "max_length", self.max_length, "8 or more")
