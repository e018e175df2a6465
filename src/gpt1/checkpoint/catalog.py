"""What gpt1 knows by name: the data and the model that come with it, and data sets of the hub, with their meaning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpt1.config import TaskName

CONVERTED = "refs/convert/parquet"
"""The branch with the hub's own parquet copy of a data set that comes in another format."""


@dataclass(frozen=True)
class DatasetRow:
    """A data set on the hub: where it is, and what its columns mean."""

    repo: str
    config: str | None
    """The configuration (a folder of the repository), None where there is only one."""
    task: TaskName | None
    """None: seen from the columns."""
    splits: dict[str, str]
    """gpt1's split name -> the hub's, without those that have no labels. Empty: whichever are found."""
    columns: dict[str, str]
    """Field of `config.Columns` -> column of the files; columns that form one list are joined by commas."""
    label_names: tuple[str, ...] | None = None
    """Names of the labels 0, 1, …; where the files hold names (RACE: letters), these, in order. None: as it stands."""
    drop_label: int | None = None
    """Rows with this label have no agreed answer and are to be dropped."""
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
                       note="-1 in any split: the annotators did not agree"),
    "mrpc": DatasetRow("nyu-mll/glue", "mrpc", "similarity", _ALL, _PAIR, ("not_equivalent", "equivalent"),
                       note="the one set of GLUE whose test split has its labels on the hub"),
    "stsb": DatasetRow("nyu-mll/glue", "stsb", "similarity", _TRAIN_VALID, _PAIR,
                       note="the label is a similarity from 0 to 5; " + _NO_TEST),
    "race": DatasetRow("ehovy/race", "all", "multiple-choice", _ALL, _RACE, _ABCD),
    "race-middle": DatasetRow("ehovy/race", "middle", "multiple-choice", _ALL, _RACE, _ABCD),
    "race-high": DatasetRow("ehovy/race", "high", "multiple-choice", _ALL, _RACE, _ABCD),
    "copa": DatasetRow("aps/super_glue", "copa", "multiple-choice", _TRAIN_VALID, _COPA,
                       note="400 and 100 of COPA's development questions; " + _NO_TEST),
    "balanced-copa": DatasetRow("pkavumba/balanced-copa", None, "multiple-choice", _TRAIN_TEST, _COPA,
                                revision=CONVERTED,
                                note="COPA's 500 development questions, each mirrored too, and its 500 test questions"),
}
# fmt: on
"""Data sets by name. Repositories, splits, columns and label names were checked in stored copies of the hub's pages
(file lists, cards, commits, users' code), not on the hub itself. Two things are less certain: that `copa` has parquet
on `main` (else its converted branch, which was seen, is used), and that `balanced-copa` counts its choices from 0,
as its users' code has it (the example on its card counts from 1)."""


ASSETS = Path(__file__).parents[1] / "assets"

BUNDLED = {"reviews": ASSETS / "reviews"}
"""Data sets that come with the package: no network, no third-party text."""

BUNDLED_MODELS = {"mini": ASSETS / "mini"}
"""Models that come with the package. `loading.resolve_model` reads this table: an existing path of the name wins."""

MODEL_NAMES = {"openai-gpt": "openai-community/openai-gpt"}
"""Short names of models on the hub."""
