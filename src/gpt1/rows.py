"""The labelled rows that `--data` names: those of a run's own file, of a file, of a folder, of a hub data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gpt1 import console, hub
from gpt1.config import Columns, FinetuneConfig
from gpt1.data.tables import Example, find_splits, read_examples
from gpt1.errors import UserError
from gpt1.labelled import hub_columns, load_data


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


def named_rows(
    trained_on: FinetuneConfig | None, data: str, split: str, columns: Columns, kind: str | None, revision: str | None
) -> Rows:
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
    found = hub.resolve_dataset(data, revision=revision)
    if isinstance(found, hub.DatasetFiles):
        columns, drop = hub_columns(found, columns), found.drop_label
        readers = {
            name: partial(_without, drop, partial(read_examples, files, columns, kind))
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


def _without(label: int | None, read: Callable[[], list[Example]]) -> list[Example]:
    return [row for row in read() if label is None or row.label != label]
