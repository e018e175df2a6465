"""Catalogue of bundled data sets and models, and of data sets on the hub with their columns and labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpt1.config import TaskName

CONVERTED = "refs/convert/parquet"
"""Branch with the hub's own parquet copy of a data set in another format."""


@dataclass(frozen=True)
class DatasetRow:
    """A data set on the hub, with its columns and labels."""

    repo: str
    config: str | None
    """Configuration (a folder of the repository); None if there is only one."""
    task: TaskName | None
    """Task; None = inferred from the columns."""
    splits: dict[str, str]
    """Split names of gpt1 -> those of the hub, without unlabelled splits. Empty = all splits that are found."""
    columns: dict[str, str]
    """Fields of `config.Columns` -> columns of the files; several columns of choices are joined by commas."""
    label_names: tuple[str, ...] | None = None
    """Names of the labels 0, 1, …, or the labels of the files in order (RACE: letters). None = labels of the files."""
    drop_label: int | None = None
    """Label of rows without an agreed answer, which are skipped."""
    revision: str = "main"
    note: str = ""


_TRAIN_VALID = {"train": "train", "valid": "validation"}
_TRAIN_TEST = {"train": "train", "test": "test"}
_ALL = {"train": "train", "valid": "validation", "test": "test"}
_TEXT = {"text": "text", "label": "label"}
_SENTENCE = {"text": "sentence", "label": "label"}
_PAIR = {"text_a": "sentence1", "text_b": "sentence2", "label": "label"}
_NLI = {"text_a": "premise", "text_b": "hypothesis", "label": "label"}
_RACE = {"context": "article", "question": "question", "choices": "options", "label": "answer"}
_COPA = {"context": "premise", "question": "question", "choices": "choice1,choice2", "label": "label"}
_ABCD = ("A", "B", "C", "D")
_NO_TEST = "the labels of the test split are not public (-1 on the hub)"

# fmt: off
CATALOGUE: dict[str, DatasetRow] = {
    "imdb": DatasetRow("stanfordnlp/imdb", "plain_text", "classification", _TRAIN_TEST, _TEXT, ("neg", "pos"),
                       note="its third split, unsupervised, has no labels"),
    "sst2": DatasetRow("stanfordnlp/sst2", None, "classification", _TRAIN_VALID, _SENTENCE, ("negative", "positive"),
                       note=_NO_TEST),
    "cola": DatasetRow("nyu-mll/glue", "cola", "classification", _TRAIN_VALID, _SENTENCE,
                       ("unacceptable", "acceptable"), note=_NO_TEST),
    "ag_news": DatasetRow("fancyzhx/ag_news", None, "classification", _TRAIN_TEST, _TEXT,
                          ("World", "Sports", "Business", "Sci/Tech")),
    "rte": DatasetRow("nyu-mll/glue", "rte", "entailment", _TRAIN_VALID, _PAIR, ("entailment", "not_entailment"),
                      note=_NO_TEST),
    "snli": DatasetRow("stanfordnlp/snli", "plain_text", "entailment", _ALL, _NLI,
                       ("entailment", "neutral", "contradiction"), drop_label=-1,
                       note="rows with the label -1 (annotators did not agree) are skipped"),
    "mrpc": DatasetRow("nyu-mll/glue", "mrpc", "similarity", _ALL, _PAIR, ("not_equivalent", "equivalent"),
                       note="the only GLUE data set whose test labels are on the hub"),
    "stsb": DatasetRow("nyu-mll/glue", "stsb", "similarity", _TRAIN_VALID, _PAIR,
                       note="the label is a similarity from 0 to 5; " + _NO_TEST),
    "race": DatasetRow("ehovy/race", "all", "multiple-choice", _ALL, _RACE, _ABCD),
    "race-middle": DatasetRow("ehovy/race", "middle", "multiple-choice", _ALL, _RACE, _ABCD),
    "race-high": DatasetRow("ehovy/race", "high", "multiple-choice", _ALL, _RACE, _ABCD),
    "copa": DatasetRow("aps/super_glue", "copa", "multiple-choice", _TRAIN_VALID, _COPA,
                       note="400 and 100 of COPA's development questions; " + _NO_TEST),
    "balanced-copa": DatasetRow("pkavumba/balanced-copa", None, "multiple-choice", _TRAIN_TEST, _COPA,
                                revision=CONVERTED,
                                note="COPA's 500 development questions, also mirrored, and its 500 test questions"),
}
# fmt: on
"""Data sets by name. Repositories, splits, columns and label names were verified in copies of the hub's pages (file
lists, cards, commits, code of users), not on the hub itself. Two points are less certain: whether `copa` has parquet
files on `main` (otherwise its converted branch, which exists, is used), and whether `balanced-copa` numbers its choices
from 0, as in code of its users (the example on its card numbers them from 1)."""


ASSETS = Path(__file__).parents[1] / "assets"

BUNDLED = {"reviews": ASSETS / "reviews"}
"""Bundled data sets; they need no network and contain no third-party text."""

BUNDLED_MODELS = {"mini": ASSETS / "mini"}
"""Bundled models, for `loading.resolve_model`; an existing path of the same name takes precedence."""

MODEL_NAMES = {"openai-gpt": "openai-community/openai-gpt"}
"""Short names of models on the hub."""
