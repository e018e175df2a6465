"""Loading of data sets: a folder of train, valid and test files, or one file that is split.

Built on `readers` (rows of a file), `column_detection` (columns of an input kind), `examples` (validated rows),
`split_files` (files of each split) and `splits` (random splits).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt1.config import DETECTED, SPLIT_VERSION, Columns, SplitStrategy, TableFormat
from gpt1.console import counted
from gpt1.data.bad_rows import BadRows
from gpt1.data.column_detection import BY_USUAL_NAMES, Layout
from gpt1.data.example import Example
from gpt1.data.examples import NO_LABEL, Reader, read_examples, stream_examples
from gpt1.data.input_kinds import InputKind
from gpt1.data.label_column import one_label_type, relabelled
from gpt1.data.readers.saved_dataset import class_names
from gpt1.data.split_files import SPLITS, find_splits, scan
from gpt1.data.training_rows import TrainingRows, group_notes
from gpt1.errors import UserError

__all__ = [
    "TEST_FRACTION",
    "VALID_FRACTION",
    "Columns",
    "Dataset",
    "find_splits",
    "load_dataset",
    "read_examples",
    "stream_examples",
]

VALID_FRACTION = 0.1
TEST_FRACTION = 0.1
OPENAI_VALID_FRACTION = 374 / 1_871
"""Share of ROCStories' labelled rows that OpenAI used for validation."""


@dataclass(frozen=True)
class Source:
    """Files and columns that the examples of a data set were read from."""

    files: Mapping[str, Sequence[Path]]
    """Tables of each split that has its own; the other splits are drawn from train."""
    layout: Layout
    names: tuple[str, ...]
    """All columns of the first file."""
    bad: BadRows
    """Rows that were left out."""


@dataclass(frozen=True)
class Dataset:
    """Examples by split."""

    kind: InputKind
    splits: dict[str, list[Example]]
    """Non-empty lists by split name (train, valid, test); all labels are of one type."""
    notes: tuple[str, ...]
    """Messages about how splits were made and what was skipped."""
    unused: tuple[Example, ...] = ()
    """Training rows that `train_fraction` leaves aside."""
    label_names: tuple[str, ...] | None = None
    """Names of the labels 0, 1, … if the files record them (`class_names`)."""
    columns: Columns = BY_USUAL_NAMES
    """The columns that were read."""
    source: Source | None = None


def load_dataset(
    path: Path | Mapping[str, Sequence[Path]],
    columns: Columns = BY_USUAL_NAMES,
    kind: InputKind | None = None,
    *,
    table: TableFormat = DETECTED,
    train_fraction: float = 1.0,
    valid_fraction: float | None = None,
    test_fraction: float | None = None,
    split_strategy: SplitStrategy = "stratified",
    seed: int = 0,
    group: str | None = None,
    split_version: int = SPLIT_VERSION,
) -> Dataset:
    """Load a data set and split off the missing validation and test sets.

    A single file is split into train, valid and test; a folder without a validation set has part of train split off.
    Order: the test set is drawn from train, train is subsampled to `train_fraction`, the validation set is drawn from
    the remaining rows. Splits without labels are skipped.

    Args:
        path: A file or folder (see `find_splits`), or the tables of each split.
        columns: Column names in the first training file; the other files must have the same columns.
        kind: Input kind of the examples; None = inferred from the columns.
        table: Format of the files; what it leaves open is detected.
        train_fraction: Share of the training rows to use.
        valid_fraction, test_fraction: Share of the rows to split off. Default for a missing validation set:
            `VALID_FRACTION`; for a missing test set: `TEST_FRACTION` with a single file, else none.
        split_strategy: How the validation set is drawn: stratified by label, or as in OpenAI's code (`openai_split`,
            by default `OPENAI_VALID_FRACTION`). The test set and the subsample are always stratified.
        seed: Seed of the stratified splits.
        group: Column of groups; the rows of one group, and identical examples, are drawn into the same split.
        split_version: 1 = identical examples are drawn one by one.

    Raises:
        UserError: no train files, a fraction for a split that has its own file, too few rows to split, labels that
            are missing or of mixed types, or any error of `stream_examples`.
    """
    _check_fractions(train_fraction, valid_fraction, test_fraction)
    files, notes = _files_of(path)
    reader = Reader(columns, kind, table, notes.append, group=group)
    splits, more = _read_splits(files, reader)
    assert reader.layout is not None
    layout, notes = reader.layout, notes + more
    names = class_names(files["train"][0], layout.label or "")
    for split, fraction in (("valid", valid_fraction), ("test", test_fraction)):
        if split in splits and fraction is not None:
            own = files[split][0].name
            raise UserError(f"--{split}-fraction {fraction}: {own} is already the {split} split; remove the flag")

    single = path if isinstance(path, Path) and files == {"train": [path]} else None
    source = single.name if single else "train"
    if test_fraction is None:
        test_fraction = TEST_FRACTION if single else 0.0
    if valid_fraction is None:
        usual = OPENAI_VALID_FRACTION if split_strategy == "openai" else VALID_FRACTION
        valid_fraction = 0.0 if "valid" in splits else usual
    if valid_fraction + test_fraction >= 1:
        shares = f"--valid-fraction {valid_fraction} and --test-fraction {test_fraction}"
        raise UserError(f"{shares} leave no rows of {source} to train on")
    train = TrainingRows(splits["train"], source, seed, split_version, group)
    wanted = [split for split, share in (("valid", valid_fraction), ("test", test_fraction)) if share]
    train.require_enough(wanted, reader.names)
    if group is not None:
        notes += group_notes(group, splits)
    unused: list[Example] = []
    if test_fraction:
        splits["test"], note = train.draw("test", test_fraction)
        notes.append(note)
    if train_fraction < 1:
        unused, note = train.subsample(train_fraction)
        notes.append(note)
    if valid_fraction:
        splits["valid"], note = train.draw("valid", valid_fraction, split_strategy, remaining=1 - test_fraction)
        notes.append(note)
    splits["train"] = train.examples
    notes += [f"No {split} split." for split in SPLITS if split not in splits]
    present = {split: splits[split] for split in SPLITS if split in splits}
    read_from = Source(files, layout, tuple(reader.names), reader.bad)
    return Dataset(layout.kind, present, tuple(notes), tuple(unused), names, layout.columns, read_from)


def _check_fractions(train: float, valid: float | None, test: float | None) -> None:
    if not 0 < train <= 1:
        raise UserError(f"--train-fraction {train}: expected more than 0 and at most 1")
    for flag, fraction in (("--valid-fraction", valid), ("--test-fraction", test)):
        if fraction is not None and not 0 <= fraction < 1:
            raise UserError(f"{flag} {fraction}: expected at least 0 and less than 1")


def _read_splits(files: Mapping[str, Sequence[Path]], reader: Reader) -> tuple[dict[str, list[Example]], list[str]]:
    """Return the labelled splits among `files`, and notes."""
    splits = {
        split: reader.read(files[split], labelled=split == "train")
        for split in SPLITS  # train first: its columns apply to the others
        if split in files
    }
    assert reader.layout is not None
    reader.require_usable()
    notes = reader.notes
    for split, examples in list(splits.items()):
        if all(example.label in NO_LABEL for example in examples):
            if split == "train":
                raise UserError(f"{files[split][0]}: no row has a label other than -1; nothing to train on")
            del splits[split]
            notes.append(f"{split}: skipped, because none of its {counted(len(examples), 'row')} has a label.")
    columns = reader.columns
    new_names, more = relabelled(list(splits.values()), columns.renames, fold=columns.fold_labels)
    notes += more
    splits = dict(zip(splits, one_label_type(new_names), strict=True))
    for split, examples in splits.items():
        labels = {example.label for example in examples}
        if len(labels) > 2 and labels == set(range(-1, len(labels) - 1)):
            count = sum(example.label == -1 for example in examples)
            notes.append(
                f"{split}: {count:,} rows have the label -1, which is used as a class; "
                "if it means unlabelled, remove these rows."
            )
    return splits, notes


def _files_of(path: Path | Mapping[str, Sequence[Path]]) -> tuple[Mapping[str, Sequence[Path]], list[str]]:
    if isinstance(path, Path):
        return scan(path, required="train")
    if unknown := path.keys() - set(SPLITS):
        raise ValueError(f"splits {sorted(unknown)}, expected some of {SPLITS}")
    if "train" not in path:
        raise UserError(f"the data set has no train split, only {', '.join(path) or 'nothing'}")
    return path, []
