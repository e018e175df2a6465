"""The data of a task: a fine-tuning's splits, labels and warnings; the labelled rows that `--data` names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gpt1 import console
from gpt1.checkpoint import hub
from gpt1.config import Columns, FinetuneConfig, TaskName
from gpt1.data.dataset import (
    Dataset,
    Example,
    find_splits,
    load_dataset,
    read_examples,
    repeated_texts,
    shared_texts,
    stratified_split,
)
from gpt1.errors import UserError
from gpt1.tasks import Labels, Task, find_task


@dataclass(frozen=True)
class LabelledData:
    """The data of a run: examples by split, the task they pose and what their labels mean."""

    splits: dict[str, list[Example]]
    task: Task
    labels: Labels
    notes: tuple[str, ...]


def load_data(config: FinetuneConfig, given: hub.DatasetFiles | None = None) -> LabelledData:
    """Read the data set that `config` names or `given` files hold; draw missing splits; find out task and labels.

    `load_data(recipe("quickstart", data="reviews")).splits["train"][0].parts` are the texts of the first example.

    Raises:
        UserError: there is no such data, or a row of it cannot be used.
    """
    found = given or hub.resolve_dataset(config.data)
    if isinstance(found, Path):
        files: Path | Mapping[str, Sequence[Path]] = found
        columns, task_name, label_names, drop = config.columns, config.task, None, None
    else:
        files = found.splits
        columns = hub_columns(found, config.columns)
        task_name, label_names, drop = config.task or found.task, found.label_names, found.drop_label
    kind = find_task(task_name).kind if task_name else None
    split = config.split
    seed = config.drawn_by
    dataset = load_dataset(
        files, columns, kind, train_fraction=split.train_fraction, valid_fraction=split.valid_fraction,
        test_fraction=split.test_fraction, split_strategy=split.split_strategy, seed=seed,
    )  # fmt: skip
    splits, notes = _without(dataset, drop)
    if split.max_examples:
        splits = {name: limited(examples, split.max_examples, seed) for name, examples in splits.items()}
        notes.append(f"--max-examples: at most {split.max_examples:,} examples of each split.")
    if task_name is None:
        task_name = guess_task(dataset.kind, splits["train"])
    labels = Labels.of(task_name, splits["train"], label_names)
    return LabelledData(splits, find_task(task_name), labels, (*dataset.notes, *notes, *_warnings(splits)))


def hub_columns(found: hub.DatasetFiles, given: Columns) -> Columns:
    """Return the columns of a hub data set: those that a flag names, else those that the catalogue knows."""
    return replace(given, **{name: column for name, column in found.columns.items() if getattr(given, name) is None})


def guess_task(kind: str, train: Sequence[Example]) -> TaskName:
    """Return the task that the columns pose: pairs with fractional numbers are similarity, other pairs entailment."""
    if kind == "choices":
        return "multiple-choice"
    if kind == "pair":
        graded = any(isinstance(e.label, float) and not e.label.is_integer() for e in train)
        return "similarity" if graded else "entailment"
    return "classification"


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


def named_rows(trained_on: FinetuneConfig | None, data: str, split: str, columns: Columns, kind: str | None) -> Rows:
    """Return the rows that `--data` names, to be scored by the run with the settings `trained_on` (None: a model).

    A file that the run was trained on is split as it was then. Of any other file all rows are one split, called
    `split`. `kind` is single | pair | choices, None = by the columns.

    Raises:
        UserError: there is no such data.
    """
    if not data:
        raise UserError(
            "--data is missing: a folder, a file (.csv .tsv .jsonl .parquet) or a catalogue name such as imdb"
        )
    found = hub.resolve_dataset(data)
    if isinstance(found, hub.DatasetFiles):
        columns, drop = hub_columns(found, columns), found.drop_label
        readers = {
            name: partial(_read_without, drop, partial(read_examples, files, columns, kind))
            for name, files in found.splits.items()
        }
        return Rows(data, readers, found.label_names)
    if found.is_dir():
        return Rows(
            data, {name: partial(read_examples, files, columns, kind) for name, files in find_splits(found).items()}
        )
    if trained_on is None or Path(trained_on.data).resolve() != found.resolve():
        console.say(f"{found.name}: all of its rows are scored.")
        return Rows(data, {split: partial(read_examples, found, columns, kind)})
    if columns not in (Columns(), trained_on.columns):
        raise UserError(f"{found.name}: the run was trained on this file, by columns of its own; drop those flags")
    console.say(f"{found.name}: the run was trained on this file; its {split} rows are drawn as they were then.")
    return Rows(data, {name: partial(list, rows) for name, rows in load_data(trained_on).splits.items()})


def _read_without(label: int | None, read: Callable[[], list[Example]]) -> list[Example]:
    return [row for row in read() if label is None or row.label != label]
