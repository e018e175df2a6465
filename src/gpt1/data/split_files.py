"""Files of the train, valid and test splits in a folder."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from gpt1.data.readers.class_folders import UNLABELLED, class_folders, folders_of_texts, text_files
from gpt1.data.readers.delimited import is_tab_separated
from gpt1.data.readers.fasttext import has_labels
from gpt1.data.readers.files import FORMATS, SPLIT_OF, file_type
from gpt1.data.readers.saved_dataset import saved_splits
from gpt1.data.readers.table import folder_format, require_table
from gpt1.errors import UserError

SPLITS: tuple[str, ...] = ("train", "valid", "test")

_SPLIT_NAME = re.compile(
    rf"(?P<name>{'|'.join(SPLIT_OF)})"
    r"(?:[-_](?P<shard>\d+)(?:[-_]of[-_](?P<shards>\d+))?|(?P<rest>[-_. ].+))?",
    re.IGNORECASE,
)
_LISTED_FILES = 8  # in a message


def find_splits(path: Path) -> dict[str, list[Path]]:
    """Return the tables of each split of a file or folder, shards in order.

    A table, that is a file, a folder with a folder of text files for each label, or a saved data set, is the split
    train. In any other folder, the stem of a file names its split: train, valid (or dev, val, validation) or test,
    optionally with a shard number (`train-000`, `test-00000-of-00002`). For a split without such files, a single file
    whose stem starts with its name (`train-part`) is used. Without such files, subfolders with the names of splits are
    used, which are tables or hold tables, and last the only subfolder that has splits (`plain_text/` of a data set).

    Raises:
        UserError: the path does not exist or has no such file, a split has several formats or names, or a shard is
            missing.
    """
    return scan(path)[0]


def scan(path: Path, required: str | None = None) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the tables of each split as `find_splits` does, and notes about unused files."""
    if not path.is_dir():
        require_table(path)
        return {"train": [path]}, []
    if kind := folder_format(path):
        return {"train": [path]}, _notes_of_classes(path) if kind == "classes" else []
    files = _split_files(path)
    if not files.splits and (folders := _split_folders(path)):
        return _complete(folders, path, required)
    if not files.splits and (inner := _inner_folder(path)):
        splits, notes = scan(inner, required)
        return splits, [f"{path.name}: using the folder {inner.name}.", *notes]
    return _complete(files, path, required)


@dataclass
class _Found:
    """Tables by split, files that are not used, and notes."""

    splits: dict[str, list[Path]]
    unused: list[Path]
    notes: list[str]


def _complete(found: _Found, folder: Path, required: str | None) -> tuple[dict[str, list[Path]], list[str]]:
    if not found.splits or (required and required not in found.splits):
        present = [*chain.from_iterable(found.splits.values()), *found.unused]
        raise _nothing_found(folder, required or "train, valid or test", present)
    notes = found.notes
    if found.unused:
        rule = "a split is a file named train, valid (dev, val, validation) or test, or shards of it (train-000)"
        notes = [*notes, f"Not used: {_listed(found.unused)}; {rule}."]
        if any(file.name.lower().startswith(UNLABELLED) for file in found.unused):
            notes.append("Texts without labels can be used with --adapt 1 --unlabelled FILE.")
    return {split: found.splits[split] for split in SPLITS if split in found.splits}, notes


def _split_files(folder: Path) -> _Found:
    """Find the files named like splits."""
    named: dict[str, dict[Path, re.Match[str]]] = defaultdict(dict)  # train.csv, train-000.csv
    similar: dict[str, list[Path]] = defaultdict(list)  # train-part.csv
    others: list[Path] = []
    for file in _visible(folder):
        if not file.is_file():
            continue
        kind = file_type(file) if _is_table(file) else None
        match = _SPLIT_NAME.fullmatch(kind.stem if kind else file.name)
        if kind is None or match is None:
            others += [file] if kind or match else []
        elif match["rest"]:
            similar[SPLIT_OF[match["name"].lower()]].append(file)
        else:
            named[SPLIT_OF[match["name"].lower()]][file] = match
    found = _Found({split: _in_order(folder, split, named[split]) for split in named}, others, [])
    for split, files in similar.items():
        if split not in found.splits and len(files) == 1:
            found.splits[split] = files
            found.notes.append(f"{split}: using {files[0].name}, the only file with a matching name.")
        else:
            found.unused += files
    return found


def _split_folders(folder: Path) -> _Found | None:
    """Find the subfolders named like splits: train/, test/ of aclImdb, of a saved `DatasetDict` or of shards."""
    found = _Found({}, [], [])
    saved = saved_splits(folder)
    for inner in _visible(folder):
        split = SPLIT_OF.get(inner.name.lower()) if inner.is_dir() else None
        tables = _tables_in(inner) if split else []
        if split and tables:
            if split in found.splits:
                both = _listed([found.splits[split][0].parent / found.splits[split][0].name, inner])
                raise UserError(f"{folder} contains {split} more than once: {both}; keep one of them")
            found.splits[split] = tables
            found.notes += _notes_of_classes(inner) if tables == [inner] and not saved else []
        elif (inner.is_file() and inner.name != "dataset_dict.json") or inner.name in saved:
            found.unused.append(inner)
    return found if found.splits else None


def _tables_in(folder: Path) -> list[Path]:
    """Return a folder if it is a table, else the tables in it, of one format."""
    if folder_format(folder):
        return [folder]
    tables = [file for file in _visible(folder) if file.is_file() and _is_table(file)]
    if len({file.name.partition(".")[2] for file in tables}) > 1:
        raise UserError(f"{folder} contains tables of several formats: {_listed(tables)}; keep one of them")
    return tables


def _inner_folder(folder: Path) -> Path | None:
    """Return the only subfolder that has splits or is a table.

    Raises:
        UserError: there are several.
    """
    inner = [each for each in _visible(folder) if each.is_dir() and (folder_format(each) or _has_splits(each))]
    if len(inner) > 1:
        raise UserError(
            f"{folder} contains several data sets: {_listed(inner)}; select one, for example --data "
            f"{shlex.quote(inner[0].as_posix())}"
        )
    return inner[0] if inner else None


def _has_splits(folder: Path) -> bool:
    return bool(_split_files(folder).splits or _split_folders(folder))


def _visible(folder: Path) -> list[Path]:
    return sorted((each for each in folder.iterdir() if not each.name.startswith(".")), key=lambda each: each.name)


def _is_table(file: Path) -> bool:
    """Return whether a file is a table by its name; a text file only if its lines have labels or cells."""
    kind = file_type(file)
    return kind is not None and (kind.format != "txt" or has_labels(file) or is_tab_separated(file))


def _notes_of_classes(folder: Path) -> list[str]:
    """Return notes on what is not used of a folder with a folder for each label."""
    used = class_folders(folder)
    notes = []
    for each in folders_of_texts(folder):
        if each not in used:
            notes.append(
                f"{folder.name}/{each.name}: {len(text_files(each)):,} texts without labels are not used; to use them, "
                f"add --adapt 1 --unlabelled {shlex.quote(each.as_posix())}"
            )
    if others := [each for each in _visible(folder) if each.is_file()]:
        notes.append(f"Not used in {folder.name}: {_listed(others)}; each folder of text files is a label.")
    for each in used:
        if extra := [file for file in _visible(each) if file not in set(text_files(each))]:
            notes.append(f"Not used in {folder.name}/{each.name}: {_listed(extra)}; a text is a .txt file.")
    return notes


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
