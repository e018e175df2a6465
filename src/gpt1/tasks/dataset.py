"""The data of a task: a fine-tuning's splits, labels and warnings; the labelled rows that `--data` names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gpt1 import console
from gpt1.checkpoint import hub
from gpt1.config import Columns, FinetuneConfig
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
    """The data of a run: examples by split, the task they pose and what their labels mean."""

    splits: dict[str, list[Example]]
    task: Task
    labels: Labels
    notes: tuple[str, ...]


def load_data(config: FinetuneConfig, files: hub.DatasetFiles | None = None) -> TaskData:
    """Read the data set that `config` names or `files` hold; draw missing splits; infer task and labels.

    `load_data(recipe("quickstart", data="reviews")).splits["train"][0].parts` are the texts of the first example.

    Raises:
        UserError: there is no such data, or a row of it cannot be used.
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
        paths, columns, kind, train_fraction=split.train_fraction, valid_fraction=split.valid_fraction,
        test_fraction=split.test_fraction, split_strategy=split.split_strategy, seed=seed,
    )  # fmt: skip
    splits, notes = _without(dataset, drop)
    if split.max_examples:
        splits = {name: limited(examples, split.max_examples, seed) for name, examples in splits.items()}
        notes.append(f"--max-examples: at most {split.max_examples:,} examples of each split.")
    task = task or infer_task(dataset.kind, splits["train"])
    labels = task.labels(splits["train"], label_names)
    return TaskData(splits, task, labels, (*dataset.notes, *notes, *_warnings(splits)))


def hub_columns(files: hub.DatasetFiles, columns: Columns) -> Columns:
    """Return the columns of a hub data set: those that a flag names, else those that the catalogue knows."""
    known = {name: column for name, column in files.columns.items() if getattr(columns, name) is None}
    return replace(columns, **known)


def infer_task(kind: InputKind, train: Sequence[Example]) -> Task:
    """Return the task that the columns pose: pairs with fractional numbers are similarity, other pairs entailment."""
    fractions = any(isinstance(e.label, float) and not e.label.is_integer() for e in train)
    task = default_task(kind, REGRESSION if fractions else SINGLE_LABEL)
    assert task is not None  # each built-in kind has one
    return task


def limited(examples: list[Example], max_examples: int, seed: int) -> list[Example]:
    """Return at most `max_examples` examples, drawn by label."""
    if len(examples) <= max_examples:
        return examples
    return stratified_split(examples, max_examples / len(examples), seed)[1][:max_examples]


def _without(dataset: Dataset, label: int | None) -> tuple[dict[str, list[Example]], list[str]]:
    if label is None:
        return dict(dataset.splits), []
    kept = {name: [e for e in examples if e.label != label] for name, examples in dataset.splits.items()}
    dropped = sum(map(len, dataset.splits.values())) - sum(map(len, kept.values()))
    return kept, [f"{dropped:,} examples without an agreed label were left out."] if dropped else []


def _warnings(splits: Mapping[str, list[Example]]) -> list[str]:
    warnings = []
    for name, examples in splits.items():
        if repeated := repeated_texts(examples):
            warnings.append(f"{name}: {repeated:,} examples repeat an earlier text of the same split.")
        if name != "train" and (shared := shared_texts(splits["train"], examples)):
            warnings.append(f"{name}: {shared:,} of {len(examples):,} examples also stand in the training split.")
    return warnings


# ---- rows to score


@dataclass(frozen=True)
class Rows:
    """The splits of a data set; a split is read when it is asked for."""

    data: str
    readers: Mapping[str, Callable[[], list[Example]]]
    """split -> what reads it"""
    label_names: tuple[str, ...] | None = None
    """Names of the labels 0, 1, …, where a catalogue knows them."""

    def read(self, split: str) -> list[Example]:
        """Return the examples of a split.

        Raises:
            UserError: there is no such split, or a row cannot be used.
        """
        if split not in self.readers:
            raise UserError(f"--split {split}: {self.data} has {', '.join(self.readers)}")
        return self.readers[split]()


def load_evaluation_data(
    trained_on: FinetuneConfig | None, data: str, split: str, columns: Columns, kind: InputKind | None
) -> Rows:
    """Return the rows that `--data` names, to be scored by the run with the settings `trained_on` (None: a model).

    A file that the run was trained on is split as it was then. Of any other file all rows are one split, called
    `split`. `kind` is that of the examples, None = by the columns.

    Raises:
        UserError: there is no such data.
    """
    if not data:
        raise UserError(
            "--data is missing: a folder, a file (.csv .tsv .jsonl .parquet) or a catalogue name such as imdb"
        )
    source = hub.resolve_dataset(data)
    if isinstance(source, hub.DatasetFiles):
        columns, drop = hub_columns(source, columns), source.drop_label
        readers = {
            name: partial(_read_without, drop, partial(read_examples, files, columns, kind))
            for name, files in source.splits.items()
        }
        return Rows(data, readers, source.label_names)
    if source.is_dir():
        return Rows(
            data, {name: partial(read_examples, files, columns, kind) for name, files in find_splits(source).items()}
        )
    if trained_on is None or Path(trained_on.data).resolve() != source.resolve():
        console.say(f"{source.name}: all of its rows are scored.")
        return Rows(data, {split: partial(read_examples, source, columns, kind)})
    if columns not in (Columns(), trained_on.columns):
        raise UserError(f"{source.name}: the run was trained on this file, by columns of its own; drop those flags")
    console.say(f"{source.name}: the run was trained on this file; its {split} rows are drawn as they were then.")
    return Rows(data, {name: partial(list, rows) for name, rows in load_data(trained_on).splits.items()})


def _read_without(label: int | None, read: Callable[[], list[Example]]) -> list[Example]:
    return [row for row in read() if label is None or row.label != label]
