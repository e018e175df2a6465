"""Folders written by `datasets.save_to_disk`, read without that package; label names of `ClassLabel` columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpt1.data.nested import value_at
from gpt1.data.readers.columnar import arrow_rows
from gpt1.data.readers.rows import ParsedRows
from gpt1.errors import UserError
from gpt1.system.files import read_json

_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"


def is_saved_dataset(folder: Path) -> bool:
    """Return whether `Dataset.save_to_disk` wrote this folder."""
    return (folder / _STATE).is_file() and (folder / _INFO).is_file()


def saved_splits(folder: Path) -> list[str]:
    """Return the folders of the splits of a `DatasetDict`, in its order; empty for other folders."""
    if not (folder / _SPLITS).is_file():
        return []
    return [str(name) for name in read_json(folder / _SPLITS).get("splits", [])]


def saved_rows(folder: Path) -> ParsedRows:
    """Yield (None, cells) of each row, in the order of the data set and in constant memory.

    Raises:
        UserError: a file is missing or damaged.
    """
    state = read_json(folder / _STATE)
    if state.get("_indices_data_files"):
        raise UserError(f"{folder}: saved with an index of rows by an old version of datasets; save it again")
    for each in state.get("_data_files", []):
        file = folder / str(each["filename"])
        if not file.is_file():
            raise UserError(f"{folder} lacks {file.name}, which its {_STATE} lists; copy the whole folder")
        yield from arrow_rows(file)


def class_names(path: Path, column: str) -> tuple[str, ...] | None:
    """Return the names of the labels 0, 1, … of a column of type `ClassLabel`; None if they are not recorded.

    They are in dataset_info.json of a saved data set, and in the metadata of a Parquet file written by `datasets`.
    """
    if path.is_dir():
        features = read_json(path / _INFO).get("features") if is_saved_dataset(path) else None
    else:
        features = _parquet_features(path) if path.suffix.lower() == ".parquet" else None
    try:
        kind = value_at(features or {}, column)
    except KeyError:
        return None
    if not isinstance(kind, dict) or kind.get("_type") != "ClassLabel":
        return None
    return tuple(map(str, kind.get("names") or ())) or None


def _parquet_features(path: Path) -> Any:
    import polars

    try:
        metadata = polars.read_parquet_metadata(path)
        return json.loads(metadata["huggingface"])["info"]["features"]
    except (AttributeError, KeyError, TypeError, ValueError, OSError, polars.exceptions.PolarsError):
        return None
