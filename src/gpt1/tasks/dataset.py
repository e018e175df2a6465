"""The data of a task: splits, labels and warnings for fine-tuning, and labelled rows for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gpt1 import console
from gpt1.checkpoint import hub
from gpt1.config import DETECTED, Columns, FinetuneConfig, TableFormat
from gpt1.data.dataset import (
    Dataset,
    find_splits,
    load_dataset,
    read_examples,
    repeated_texts,
    shared_texts,
    stratified_split,
)
from gpt1.data.example import Example
from gpt1.data.input_kinds import InputKind
from gpt1.errors import UserError
from gpt1.tasks import REGRESSION, SINGLE_LABEL, Labels, Task, default_task, find_task


@dataclass(frozen=True)
class TaskData:
    """Data of a fine-tuning run: examples by split, their task and labels, and notes about how they were loaded."""

    splits: dict[str, list[Example]]
    task: Task
    labels: Labels
    notes: tuple[str, ...]
    unused: tuple[Example, ...] = ()
    """Training rows that --train-fraction leaves aside; their labels are not used."""


def load_data(config: FinetuneConfig, files: hub.DatasetFiles | None = None) -> TaskData:
    """Load the data of a fine-tuning run; split off missing splits and infer the task and labels.

    `load_data(recipe("quickstart", data="reviews")).splits["train"][0].parts` are the texts of the first example.

    Args:
        config: Settings; `config.data` names the data set.
        files: Files of the data set, if it has been resolved before.

    Raises:
        UserError: the data does not exist, or a row is invalid.
    """
    source = files or hub.resolve_dataset(config.data)
    if isinstance(source, Path):
        paths: Path | Mapping[str, Sequence[Path]] = source
        columns, task_name, label_names, drop = config.columns, config.task, None, None
    else:
        paths = source.splits
        columns = hub_columns(source, config.columns)
        task_name, label_names, drop = config.task or source.task, source.label_names, source.drop_label
    task = find_task(task_name) if task_name else None
    kind = task.input_kind if task else None
    split = config.split
    seed = config.drawn_by
    dataset = load_dataset(
        paths, columns, kind, table=config.table, train_fraction=split.train_fraction,
        valid_fraction=split.valid_fraction, test_fraction=split.test_fraction, split_strategy=split.split_strategy,
        seed=seed,
    )  # fmt: skip
    splits, notes = _without(dataset, drop)
    unused = list(dataset.unused)
    if split.max_examples:
        unused = limited(unused, split.max_examples, seed)
        splits = {name: limited(examples, split.max_examples, seed) for name, examples in splits.items()}
        notes.append(f"--max-examples: at most {split.max_examples:,} examples of each split.")
    task = task or infer_task(dataset.kind, splits["train"])
    labels = task.labels(splits["train"], label_names or dataset.label_names)
    return TaskData(splits, task, labels, (*dataset.notes, *notes, *_warnings(splits)), tuple(unused))


def hub_columns(files: hub.DatasetFiles, columns: Columns) -> Columns:
    """Return the columns of a hub data set: those set by flags, else those of the catalogue."""
    known = {name: column for name, column in files.columns.items() if getattr(columns, name) is None}
    return replace(columns, **known)


def infer_task(kind: InputKind, train: Sequence[Example]) -> Task:
    """Infer the task from input kind and labels: similarity for pairs with fractional labels, else entailment."""
    fractions = any(isinstance(e.label, float) and not e.label.is_integer() for e in train)
    task = default_task(kind, REGRESSION if fractions else SINGLE_LABEL)
    assert task is not None  # each built-in kind has one
    return task


def limited(examples: list[Example], max_examples: int, seed: int) -> list[Example]:
    """Return at most `max_examples` examples, drawn at random and stratified by label."""
    if len(examples) <= max_examples:
        return examples
    return stratified_split(examples, max_examples / len(examples), seed)[1][:max_examples]


def _without(dataset: Dataset, label: int | None) -> tuple[dict[str, list[Example]], list[str]]:
    if label is None:
        return dict(dataset.splits), []
    kept = {name: [e for e in examples if e.label != label] for name, examples in dataset.splits.items()}
    dropped = sum(map(len, dataset.splits.values())) - sum(map(len, kept.values()))
    return kept, [f"{dropped:,} examples without an agreed label were skipped."] if dropped else []


def _warnings(splits: Mapping[str, list[Example]]) -> list[str]:
    warnings = []
    for name, examples in splits.items():
        if repeated := repeated_texts(examples):
            warnings.append(f"{name}: {repeated:,} examples are duplicates of earlier examples of the same split.")
        if name != "train" and (shared := shared_texts(splits["train"], examples)):
            warnings.append(f"{name}: {shared:,} of {len(examples):,} examples also occur in the training split.")
    return warnings


# ---- data for evaluation


@dataclass(frozen=True)
class Rows:
    """Splits of a data set that are read on demand."""

    data: str
    readers: Mapping[str, Callable[[], list[Example]]]
    """Function that reads each split."""
    label_names: tuple[str, ...] | None = None
    """Names of the labels 0, 1, … from the catalogue, if known."""

    def read(self, split: str) -> list[Example]:
        """Return the examples of a split.

        Raises:
            UserError: the split does not exist, or a row is invalid.
        """
        if split not in self.readers:
            raise UserError(f"--split {split}: no such split in {self.data}; expected one of {', '.join(self.readers)}")
        return self.readers[split]()


def load_evaluation_data(
    trained_on: FinetuneConfig | None, data: str, split: str, columns: Columns, kind: InputKind | None,
    table: TableFormat = DETECTED,
) -> Rows:  # fmt: skip
    """Return the data set `data` for evaluation.

    If `data` is the file that the run was trained on, it is split as in that run. All rows of any other file form one
    split called `split`.

    Args:
        trained_on: Settings of the run to evaluate; None for a model without a run.
        data: A path or the name of a data set.
        split: Name of the split to evaluate.
        columns: Column names.
        kind: Input kind of the examples; None = inferred from the columns.
        table: Format of the files; what it leaves open is detected.

    Raises:
        UserError: the data does not exist.
    """
    if not data:
        raise UserError(
            "--data is missing: a folder, a table (.csv .json .jsonl .parquet .xlsx …) or a catalogue name such as imdb"
        )
    source = hub.resolve_dataset(data)
    if isinstance(source, hub.DatasetFiles):
        columns, drop = hub_columns(source, columns), source.drop_label
        readers = {
            name: partial(_read_without, drop, partial(read_examples, files, columns, kind, table=table))
            for name, files in source.splits.items()
        }
        return Rows(data, readers, source.label_names)
    splits = find_splits(source)
    if splits != {"train": [source]}:
        readers = {name: partial(read_examples, files, columns, kind, table=table) for name, files in splits.items()}
        return Rows(data, readers)
    if trained_on is None or Path(trained_on.data).resolve() != source.resolve():
        console.say(f"{source.name}: all rows are used.")
        return Rows(data, {split: partial(read_examples, source, columns, kind, table=table)})
    if columns not in (Columns(), trained_on.columns):
        raise UserError(f"{source.name}: the run was trained on this file with other columns; remove the column flags")
    if table not in (DETECTED, trained_on.table):
        raise UserError(f"{source.name}: the run was trained on this file read in another format; remove these flags")
    console.say(f"{source.name}: the run was trained on this file; using the {split} split of that run.")
    return Rows(data, {name: partial(list, rows) for name, rows in load_data(trained_on).splits.items()})


def _read_without(label: int | None, read: Callable[[], list[Example]]) -> list[Example]:
    return [row for row in read() if label is None or row.label != label]
