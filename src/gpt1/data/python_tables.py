"""Tables in memory (DataFrames, data sets of the package datasets, lists), written to files that `readers` reads.

pandas, polars and datasets are recognized by the names of their types, so that none of them is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from itertools import chain
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gpt1.data.example import shown
from gpt1.data.header import join_words
from gpt1.data.in_memory import examples_of
from gpt1.data.input_kinds import InputKind
from gpt1.data.paper_kinds import INPUT_KINDS
from gpt1.data.readers.files import SPLIT_OF
from gpt1.errors import UserError
from gpt1.system.serialization import plain, to_json

EXPECTED = (
    "expected a path, a pandas or polars DataFrame, a datasets.Dataset, a list of dicts, lists of texts and labels, or "
    "a dict of them with the keys train, valid and test"
)

_ROWS = 1 << 14  # converted at a time
_NOT_READ = {
    "IterableDataset": "load it without streaming=True",
    "LazyFrame": "call its method collect()",
    "Table": "convert it with polars.from_arrow(table)",
}  # by name of the type


def is_path(data: Any) -> bool:
    """Return whether `data` is a path or the name of a data set, not data in memory."""
    return isinstance(data, str | PathLike)


@contextmanager
def as_path(data: Any, labels: Any, kinds: Sequence[InputKind] = INPUT_KINDS) -> Iterator[str]:
    """Yield the path of data: `data` itself, or that of a temporary file with data in memory (see `write_data`)."""
    if is_path(data):
        if labels is not None:
            raise UserError(f"labels: not used with {str(data)!r}, whose table has a column of labels")
        yield str(data)
        return
    with TemporaryDirectory(prefix="gpt1-") as folder:
        yield str(write_data(data, labels, Path(folder), kinds))


def write_data(data: Any, labels: Any, folder: Path, kinds: Sequence[InputKind] = INPUT_KINDS) -> Path:
    """Write data in memory to `folder` and return its path: data.jsonl, data.parquet, or data/ with a file per split.

    Args:
        data: pandas or polars DataFrame, `datasets.Dataset`, list of dicts, list of examples as in `examples_of`, or a
            dict of splits, each one of these or a tuple (examples, labels).
        labels: Labels of a list of examples; None for the others, in which they are a column.
        folder: An existing folder.
        kinds: Input kinds of a list of examples.

    Raises:
        UserError: `data` is of another type or empty, or the labels are missing or of another number.
    """
    if not isinstance(data, Mapping):
        return _write_table(data, labels, folder / "data", "data", kinds)
    if labels is not None:
        raise UserError('labels: not used with a dict of splits; give {"train": (texts, labels), …}')
    if not any(SPLIT_OF.get(str(name).lower()) == "train" for name in data):
        found = join_words(map(repr, data)) if data else "no keys"
        raise UserError(f"data is a dict with {found}, without 'train'; {EXPECTED}")
    splits = folder / "data"
    splits.mkdir()
    for name, table in data.items():
        if not re.fullmatch(r"[\w.-]+", str(name)):
            raise UserError(f"data: {name!r} is not the name of a split, such as train, valid or test")
        _write_table(table, None, splits / str(name), f"data[{name!r}]", kinds)
    return splits


def _write_table(table: Any, labels: Any, stem: Path, name: str, kinds: Sequence[InputKind]) -> Path:
    """Write one table, called `name` in messages, to `stem`.jsonl or `stem`.parquet."""
    if isinstance(table, tuple) and len(table) == 2 and labels is None and not isinstance(table[0], str):
        table, labels = table
    if labels is None and _is(table, "datasets", "Dataset"):
        path = stem.with_name(f"{stem.name}.parquet")  # keeps the names of the labels
        table.to_parquet(path)
        return path
    rows = iter(_rows(table, name) if labels is None else _labelled(table, labels, name, kinds))
    first = next(rows, None)
    if first is None:
        raise UserError(f"{name} has no rows")
    path = stem.with_name(f"{stem.name}.jsonl")
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(_line(row, f"{name} row {number}") for number, row in enumerate(chain([first], rows), 1))
    return path


def _rows(table: Any, name: str) -> Iterable[Mapping[str, Any]]:
    """Return the rows of a table whose labels are one of its columns."""
    if _is(table, "pandas", "DataFrame"):
        return _pandas_rows(table, name)
    if _is(table, "polars", "DataFrame"):
        return table.iter_rows(named=True)  # type: ignore[no-any-return]
    if isinstance(table, list | tuple) and table and all(isinstance(row, Mapping) for row in table):
        return table
    kind = type(table).__name__
    if kind not in _NOT_READ and hasattr(table, "__len__") and not isinstance(table, Mapping | Set | bytes):
        raise UserError(f"{name} is a {kind} without labels: expected texts and labels, or a table with a label column")
    advice = f"; {_NOT_READ[kind]}" if kind in _NOT_READ else ""
    raise UserError(f"{name} is {shown(table, 'None')}: {EXPECTED}{advice}")


def _pandas_rows(frame: Any, name: str) -> Iterator[dict[str, Any]]:
    names = [str(column) for column in frame.columns]
    if twice := [column for column in names if names.count(column) > 1]:
        raise UserError(f"{name} has two columns called {twice[0]!r}; rename one of them")
    for start in range(0, len(frame), _ROWS):
        part = frame.iloc[start : start + _ROWS]
        cells = part.astype(object).where(part.notna(), None)
        yield from (dict(zip(names, row, strict=True)) for row in cells.itertuples(index=False, name=None))


def _labelled(values: Any, labels: Any, name: str, kinds: Sequence[InputKind]) -> Iterator[dict[str, Any]]:
    """Yield {field: text, …, "label": label} of each example."""
    kind, examples = examples_of(values, name, kinds)
    if isinstance(labels, str | bytes) or not hasattr(labels, "__iter__"):
        raise UserError(f"labels is {shown(labels)}: expected a list with a label for each of {len(examples):,} rows")
    listed = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if len(listed) != len(examples):
        raise UserError(f"{name} and labels are of unequal lengths: {len(examples):,} rows, {len(listed):,} labels")
    *_, last = kind.column_fields
    for example, label in zip(examples, listed, strict=True):
        texts = dict(zip(kind.column_fields, example.parts, strict=False))
        choices = {last: list(example.choices)} if example.choices else {}
        yield {**texts, **choices, kind.label_columns[0]: label}


def _line(row: Mapping[str, Any], where: str) -> str:
    """Return a row as a line of JSON; half a character (a lone surrogate), which has no UTF-8, is escaped."""

    def converted(value: Any) -> Any:
        if isinstance(value, bytes):
            raise UserError(f"{where} holds bytes ({shown(value)}); decode them, or leave the column out")
        return plain(value.tolist()) if hasattr(value, "tolist") else str(value)

    text = to_json(row, default=converted)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = to_json(row, default=converted, ascii_only=True)
    return f"{text}\n"


def _is(value: Any, package: str, name: str) -> bool:
    """Return whether `value` is an instance of a class of a package, without importing the package."""
    return any(kind.__module__.partition(".")[0] == package and kind.__name__ == name for kind in type(value).__mro__)
