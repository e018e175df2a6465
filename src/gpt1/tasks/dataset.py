"""The data of a task: splits, labels and warnings for fine-tuning, and labelled rows for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gpt1 import console
from gpt1.checkpoint import hub
from gpt1.config import DETECTED, SPLIT_VERSION, Columns, FinetuneConfig, TableFormat
from gpt1.data.column_detection import BY_USUAL_NAMES
from gpt1.data.dataset import (
    Dataset,
    Source,
    find_splits,
    load_dataset,
)
from gpt1.data.duplicates import Duplicates, find_duplicates
from gpt1.data.example import Example
from gpt1.data.examples import Reader
from gpt1.data.input_kinds import InputKind
from gpt1.data.label_column import folded_into, label_name, one_label_type, renamed
from gpt1.data.readers.saved_dataset import class_names
from gpt1.data.splits import stratified_split
from gpt1.errors import UserError
from gpt1.tasks import PAIR, REGRESSION, SINGLE_LABEL, Labels, Task, default_task, find_task
from gpt1.tasks.label_ids import require_known
from gpt1.tasks.label_notes import label_notes
from gpt1.tasks.labels import has_fractions, named


@dataclass(frozen=True)
class TaskData:
    """Data of a fine-tuning run: examples by split, their task and labels, and notes about how they were loaded."""

    splits: dict[str, list[Example]]
    task: Task
    labels: Labels
    notes: tuple[str, ...]
    duplicates: Duplicates
    """Examples that occur more than once."""
    unused: tuple[Example, ...] = ()
    """Training rows that --train-fraction leaves aside; their labels are not used."""
    columns: Columns = BY_USUAL_NAMES
    """The columns that were read."""
    source: Source | None = None
    """Files and columns that were read; None for data from Python."""


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
    regression = task_name == REGRESSION.name
    task = find_task(task_name) if task_name and not regression else None
    kind = task.input_kind if task else None
    split = config.split
    seed, version = config.drawn_by, split.split_version or SPLIT_VERSION
    dataset = load_dataset(
        paths, columns, kind, table=config.table, train_fraction=split.train_fraction,
        valid_fraction=split.valid_fraction, test_fraction=split.test_fraction, split_strategy=split.split_strategy,
        seed=seed, group=split.group, split_version=version,
    )  # fmt: skip
    splits, notes = _without(dataset, drop)
    unused = list(dataset.unused)
    if split.max_examples:
        unused = limited(unused, split.max_examples, seed, version)
        splits = {name: limited(examples, split.max_examples, seed, version) for name, examples in splits.items()}
        notes.append(f"--max-examples: at most {split.max_examples:,} examples of each split.")
    task = task or infer_task(dataset.kind, splits["train"], regression=regression)
    known = label_names or dataset.label_names
    labels = Labels(regression=True) if regression else task.labels(splits["train"], known)
    duplicates = find_duplicates(splits)
    notes += [*duplicates.notes(), *label_notes(splits, labels)]
    every_note = (*dataset.notes, *notes)
    return TaskData(splits, task, labels, every_note, duplicates, tuple(unused), dataset.columns, dataset.source)


def hub_columns(files: hub.DatasetFiles, columns: Columns) -> Columns:
    """Return the columns of a hub data set: those set by flags, else those of the catalogue."""
    known = {name: column for name, column in files.columns.items() if getattr(columns, name) is None}
    return replace(columns, **known)  # type: ignore[arg-type]  # names of columns


def infer_task(kind: InputKind, train: Sequence[Example], *, regression: bool = False) -> Task:
    """Infer the task from input kind and labels: similarity for pairs with fractional labels, else entailment.

    Raises:
        UserError: a `regression` is requested for data with choices.
    """
    numeric = regression or (kind == PAIR and has_fractions(train))
    task = default_task(kind, REGRESSION if numeric else SINGLE_LABEL)
    if task is None:
        raise UserError(f"--task regression: the data holds {kind.plural}, whose labels are choices")
    return task


def limited(examples: list[Example], max_examples: int, seed: int, version: int = SPLIT_VERSION) -> list[Example]:
    """Return at most `max_examples` examples, drawn at random and stratified by label."""
    if len(examples) <= max_examples:
        return examples
    return stratified_split(examples, max_examples / len(examples), seed, version=version)[1][:max_examples]


def _without(dataset: Dataset, label: int | None) -> tuple[dict[str, list[Example]], list[str]]:
    if label is None:
        return dict(dataset.splits), []
    kept = {name: [e for e in examples if e.label != label] for name, examples in dataset.splits.items()}
    dropped = sum(map(len, dataset.splits.values())) - sum(map(len, kept.values()))
    return kept, [f"{dropped:,} examples without an agreed label were skipped."] if dropped else []


# ---- data for evaluation


@dataclass(frozen=True)
class Rows:
    """Splits of a data set that are read on demand."""

    data: str
    readers: Mapping[str, Callable[[], list[Example]]]
    """Function that reads each split."""
    label_names: tuple[str, ...] | None = None
    """Names of the labels 0, 1, … from the catalogue, if known."""
    of_run: TaskData | None = None
    """Data of the run, if these are its splits."""

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
    table: TableFormat = DETECTED, remembered: Columns = BY_USUAL_NAMES, known: Sequence[str] = (),
    recorded: Mapping[str, Sequence[bytes]] | None = None,
) -> Rows:  # fmt: skip
    """Return the data set `data` for evaluation.

    If `data` is the file that the run was trained on, it is split as in that run. All rows of any other file, or of
    this file if it has changed since, form one split called `split`.

    Args:
        trained_on: Settings of the run to evaluate; None for a model without a run.
        data: A path or the name of a data set.
        split: Name of the split to evaluate.
        columns: Column names.
        kind: Input kind of the examples; None = inferred from the columns.
        table: Format of the files; what it leaves open is detected.
        remembered: Columns that the run was trained on.
        known: Labels of the model, by which labels are looked up as they are spelled in the file; without them, all
            labels are converted to one type.
        recorded: Keys of the rows of the run (`RunDirectory.load_rows`); None = not recorded.

    Raises:
        UserError: the data does not exist.
    """
    if not data:
        raise UserError(
            "--data is missing: a folder, a table (.csv .json .jsonl .parquet .xlsx …) or a catalogue name such as imdb"
        )

    given, columns = columns, _as_trained(columns, trained_on)

    def reader(
        files: Path | Sequence[Path], columns: Columns = columns, names: Sequence[str] | None = None,
        drop: int | None = None,
    ) -> Callable[[], list[Example]]:  # fmt: skip
        read = Reader(columns, kind, table, remembered=remembered)
        return partial(_read_labelled, files, read, known, names, drop, must_rename=given.label_map is not None)

    source = hub.resolve_dataset(data)
    if isinstance(source, hub.DatasetFiles):
        columns = hub_columns(source, columns)
        readers = {
            name: reader(files, columns, source.label_names, source.drop_label) for name, files in source.splits.items()
        }
        return Rows(data, readers, source.label_names)
    splits = find_splits(source)
    if splits != {"train": [source]}:
        return Rows(data, {name: reader(files) for name, files in splits.items()})
    if trained_on is None or Path(trained_on.data).resolve() != source.resolve():
        console.say(f"{source.name}: all rows are used.")
        return Rows(data, {split: reader(source)})
    if given not in (Columns(), trained_on.columns):
        raise UserError(f"{source.name}: the run was trained on this file with other columns; remove the column flags")
    if replace(table, on_bad_row=None) not in (DETECTED, replace(trained_on.table, on_bad_row=None)):
        raise UserError(f"{source.name}: the run was trained on this file read in another format; remove these flags")
    drawn = _drawn_as_in(trained_on, recorded)
    if drawn is None:
        console.say(f"{source.name}: has changed since the run was trained on it; all rows are used.")
        return Rows(data, {split: reader(source)})
    origin = "of that run" if recorded else "drawn as in that run, which does not record its rows"
    console.say(f"{source.name}: the run was trained on this file; using the {split} split {origin}.")
    return Rows(data, {name: partial(list, rows) for name, rows in drawn.splits.items()}, of_run=drawn)


def _drawn_as_in(run: FinetuneConfig, recorded: Mapping[str, Sequence[bytes]] | None) -> TaskData | None:
    """Return the data of a run, split as in the run; None if they are not the rows that the run has `recorded`."""
    try:
        drawn = load_data(run)
    except UserError:
        if recorded is None:
            raise
        return None
    return drawn if recorded in (None, drawn.duplicates.keys) else None


def _as_trained(columns: Columns, trained_on: FinetuneConfig | None) -> Columns:
    """Return the columns with the --label-map and --fold-labels of the run, unless they are given."""
    if trained_on is None:
        return columns
    given = trained_on.columns
    if columns.label_map is None and given.label_map is not None:
        console.say(f"Labels are renamed as in training: --label-map {given.label_map}.")
    return replace(
        columns, label_map=columns.label_map or given.label_map, fold_labels=columns.fold_labels or given.fold_labels
    )


def _read_labelled(
    files: Path | Sequence[Path], reader: Reader, known: Sequence[str], names: Sequence[str] | None, drop: int | None,
    *, must_rename: bool,
) -> list[Example]:  # fmt: skip
    """Return the rows with the model's labels where they are `known`, without those with the label `drop`.

    `names` are those of the integer labels. With `must_rename`, --label-map must rename some; that of the run need not.
    """
    columns = reader.columns
    paths = [files] if isinstance(files, Path) else files
    read = [row for row in reader.read(paths, labelled=True) if drop is None or label_name(row.label) != str(drop)]
    reader.require_usable()
    assert reader.layout is not None
    names = names or class_names(paths[0], reader.layout.label or "")
    [examples], notes = renamed([read], columns.renames, fold=columns.fold_labels, required=must_rename)
    for note in (*reader.layout.notes(columns), *reader.bad.notes(), *notes):
        console.say(note)
    if not known:
        return one_label_type([examples])[0]
    if names and not {label_name(each.label) for each in examples} <= {*known}:
        examples = named(examples, names)
    examples = folded_into(examples, known) if columns.fold_labels else examples
    require_known(examples, known, in_file=read)
    return examples
