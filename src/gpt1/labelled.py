"""The data of a fine-tuning: examples by split, the task they pose, what their labels mean, what to beware of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpt1 import hub
from gpt1.config import Columns, FinetuneConfig, TaskName
from gpt1.data.tables import Dataset, Example, load_dataset, repeated_texts, shared_texts, stratified_split
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
    revision = config.revision if not Path(config.data).exists() else None
    found = given or hub.resolve_dataset(config.data, revision=revision)
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
        test_fraction=split.test_fraction, draw=split.draw, seed=seed,
    )  # fmt: skip
    splits, notes = _without(dataset, drop)
    if split.limit:
        splits = {name: limited(examples, split.limit, seed) for name, examples in splits.items()}
        notes.append(f"--limit: at most {split.limit:,} examples of each split.")
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


def limited(examples: list[Example], limit: int, seed: int) -> list[Example]:
    """Return at most `limit` examples, drawn by label."""
    if len(examples) <= limit:
        return examples
    return stratified_split(examples, limit / len(examples), seed)[1][:limit]


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
