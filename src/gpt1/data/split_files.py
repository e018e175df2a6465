"""Files of the train, valid and test splits in a folder."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from gpt1.data.readers.files import FORMATS, file_type
from gpt1.errors import UserError

SPLITS: tuple[str, ...] = ("train", "valid", "test")

_SPLIT_OF = {"train": "train", "valid": "valid", "validation": "valid", "dev": "valid", "val": "valid", "test": "test"}
_SPLIT_NAME = re.compile(
    rf"(?P<name>{'|'.join(_SPLIT_OF)})"
    r"(?:[-_](?P<shard>\d+)(?:[-_]of[-_](?P<shards>\d+))?|(?P<rest>[-_. ].+))?",
    re.IGNORECASE,
)
_LISTED_FILES = 8  # in a message


def find_splits(path: Path) -> dict[str, list[Path]]:
    """Return the files of each split in a folder, shards in order.

    The stem of a file names its split: train, valid (or dev, val, validation) or test, optionally with a shard number
    (`train-000`, `test-00000-of-00002`). For a split without such files, a single file whose stem starts with its name
    (`train-part`) is used.

    Raises:
        UserError: the folder does not exist or has no such file, a split has several formats or names, or a shard is
            missing.
    """
    return scan_folder(path)[0]


def scan_folder(folder: Path, required: str | None = None) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the files of each split as `find_splits` does, and notes about unused files."""
    if not folder.is_dir():
        raise UserError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    named: dict[str, dict[Path, re.Match[str]]] = defaultdict(dict)  # train.csv, train-000.csv
    similar: dict[str, list[Path]] = defaultdict(list)  # train-part.csv
    others: list[Path] = []
    for file in sorted(folder.iterdir()):
        kind = file_type(file)
        match = _SPLIT_NAME.fullmatch(kind.stem if kind else file.name)
        if file.name.startswith(".") or not file.is_file() or not (kind or match):
            continue
        if kind is None or match is None:
            others.append(file)
        elif match["rest"]:
            similar[_SPLIT_OF[match["name"].lower()]].append(file)
        else:
            named[_SPLIT_OF[match["name"].lower()]][file] = match

    notes = []
    splits = {split: _in_order(folder, split, named[split]) for split in SPLITS if split in named}
    for split, files in similar.items():
        if split not in splits and len(files) == 1:
            splits[split] = files
            notes.append(f"{split}: using {files[0].name}, the only file with a matching name.")
        else:
            others += files
    if not splits or (required and required not in splits):
        present = [*chain.from_iterable(splits.values()), *others]
        raise _nothing_found(folder, required or "train, valid or test", present)
    if others:
        rule = "a split is a file named train, valid (dev, val, validation) or test, or shards of it (train-000)"
        notes.append(f"Not used: {_listed(others)}; {rule}.")
    return splits, notes


def _in_order(folder: Path, split: str, named: dict[Path, re.Match[str]]) -> list[Path]:
    """Return the only file of a split, or its shards by number."""
    # Shards of one split differ only in their number, not in the name (dev, valid), format or compression.
    shapes = {(m["name"], m["shard"] is None, file.name[len(m.string) :]): file for file, m in named.items()}
    if len(shapes) > 1:
        raise UserError(f"{folder} contains {split} more than once: {_listed([*shapes.values()])}; keep one of them")
    total = max(int(m["shards"] or 0) for m in named.values())
    if total and len(named) != total:
        raise UserError(f"{folder} contains {len(named)} of {total} shards of {split}: {_listed([*named])}")
    return sorted(named, key=lambda file: int(named[file]["shard"] or 0))


def _nothing_found(folder: Path, wanted: str, files: Sequence[Path]) -> UserError:
    for file in sorted(files, key=lambda file: not file.name.startswith(wanted)):
        if kind := file_type(file):
            name = f"{wanted if wanted in SPLITS else 'train'}{file.name[len(kind.stem) :]}"
            return UserError(
                f"{folder} has no {wanted} file, only {_listed(files)}; rename the right one to {name}, or split one "
                f"into train, valid and test with --data {shlex.quote(file.as_posix())}"
            )
    present = f"only {_listed(files)}" if files else "and no other data file"
    return UserError(f"{folder} has no {wanted} file, {present}; expected {FORMATS}")


def _listed(files: Sequence[Path]) -> str:
    names = [file.name for file in files[:_LISTED_FILES]]
    return ", ".join(names) + (f" and {len(files) - len(names)} more" if len(files) > len(names) else "")
