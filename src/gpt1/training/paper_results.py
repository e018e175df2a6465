"""Fine-tuning results of the paper (Radford et al. 2018, tables 2 to 4) and the data files that reproduce them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gpt1.checkpoint.hub import DatasetFiles
from gpt1.config import TaskName
from gpt1.data.dataset import TEST_FRACTION, VALID_FRACTION, find_splits
from gpt1.data.readers.files import file_type


@dataclass(frozen=True)
class Result:
    """One row of the results table."""

    title: str
    paper: float
    """In percent, on the test split."""
    files: str = ""
    """Stems of the files to score ("A|B": either); "": the run's test split, or valid if it has no test split."""


@dataclass(frozen=True)
class Experiment:
    """One fine-tuned model of the paper: its data set and the table rows that it fills."""

    name: str
    """Folder name of the data set."""
    task: TaskName
    metric: str
    results: tuple[Result, ...]
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Split -> patterns of file stems ("A|B": either), all of which must match; otherwise a folder with a plain train
    file is read as by `--data`."""
    split_settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `DataConfig` for creating splits that the data set does not have."""
    split_valid_file: bool = False
    """Create all splits from the valid file if there is no train file."""
    note: str = ""
    """Difference from the paper if splits are created."""


EXPERIMENTS = (
    Experiment(
        "mnli", "entailment", "accuracy",
        (Result("MNLI-m", 82.1), Result("MNLI-mm", 81.4, "dev_mismatched|validation_mismatched")),
        files={"train": ("train",), "valid": ("dev_matched|validation_matched",)},
    ),
    Experiment(
        "snli", "entailment", "accuracy", (Result("SNLI", 89.9),),
        split_settings={"valid_fraction": VALID_FRACTION, "test_fraction": TEST_FRACTION}, split_valid_file=True,
        note="train, valid and test are random splits of dev, new for each seed",
    ),
    Experiment("scitail", "entailment", "accuracy", (Result("SciTail", 88.3),)),
    Experiment("qnli", "entailment", "accuracy", (Result("QNLI", 88.1),)),
    Experiment("rte", "entailment", "accuracy", (Result("RTE", 56.0),)),
    Experiment(
        "storycloze", "multiple-choice", "accuracy", (Result("Story Cloze", 86.5),),
        files={"train": ("val",), "test": ("test",)},
        split_settings={"split_strategy": "openai"},
        note="valid: 374 rows of val, split as in OpenAI's code; the paper's median of 10 runs is 85.8",
    ),
    Experiment(
        "race", "multiple-choice", "accuracy",
        (Result("RACE-m", 62.9, "test-middle"), Result("RACE-h", 57.4, "test-high"), Result("RACE", 59.0)),
        files={"train": ("train-middle*", "train-high*"), "valid": ("dev-middle", "dev-high"),
               "test": ("test-middle", "test-high")},
    ),
    Experiment("cola", "classification", "matthews", (Result("CoLA", 45.4),)),
    Experiment("sst2", "classification", "accuracy", (Result("SST-2", 91.3),)),
    Experiment("mrpc", "similarity", "f1", (Result("MRPC", 82.3),)),
    Experiment("stsb", "similarity", "pearson", (Result("STS-B", 82.0),)),
    Experiment("qqp", "similarity", "f1", (Result("QQP", 70.3),)),
)  # fmt: skip
"""In the order of the paper's tables."""


class MissingDataError(Exception):
    """Data files of an experiment are missing; the message names them."""


@dataclass(frozen=True)
class Located:
    """Data files of an experiment found on disk."""

    files: DatasetFiles
    split_settings: Mapping[str, Any]
    """Fields of `DataConfig`."""
    result_files: Mapping[str, list[Path]]
    """Title of a result with `files` -> the matching paths; empty if none exist."""
    note: str


def locate(experiment: Experiment, root: Path) -> Located:
    """Find the files of an experiment under `root`.

    Raises:
        MissingDataError: the folder or a file in it is missing.
        UserError: the files of a split are ambiguous.
    """
    folder = root / experiment.name
    if not folder.is_dir():
        raise MissingDataError(f"no folder {experiment.name}")
    stems = {path: kind.stem for path in sorted(folder.iterdir()) if (kind := file_type(path))}

    def matching(pattern: str) -> list[Path]:
        alternatives = pattern.split("|")
        return [path for path, stem in stems.items() if any(fnmatchcase(stem, each) for each in alternatives)]

    patterns = [pattern for of_split in experiment.files.values() for pattern in of_split]
    missing = [pattern for pattern in patterns if not matching(pattern)]
    if patterns and not missing:
        splits = {split: [p for each in wanted for p in matching(each)] for split, wanted in experiment.files.items()}
    elif missing and not matching("train|train[-_][0-9]*"):
        raise MissingDataError(f"no {', '.join(missing)} in {experiment.name}".replace("|", " or "))
    else:
        splits = find_splits(folder) if stems else {}
    if "train" not in splits and "valid" in splits and experiment.split_valid_file:
        splits = {"train": splits["valid"]}
    if "train" not in splits:
        raise MissingDataError(f"no train file in {experiment.name}")
    given_fractions = {f"{split}_fraction" for split in splits}
    split_settings = {}
    if "valid" not in splits:
        split_settings = {name: v for name, v in experiment.split_settings.items() if name not in given_fractions}
    note = experiment.note if split_settings else ""
    files = DatasetFiles(splits, experiment.task, {}, None, str(folder), drop_label=-1)
    result_files = {result.title: matching(result.files) for result in experiment.results if result.files}
    return Located(files, split_settings, result_files, note)
