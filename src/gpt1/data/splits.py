"""Where train, valid and test come from: the files of a folder, or a seeded draw."""

from __future__ import annotations

import random
import re
import shlex
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from gpt1.data.example import Example
from gpt1.data.readers import FORMATS, file_type
from gpt1.errors import UserError

SPLITS: tuple[str, ...] = ("train", "valid", "test")

_SPLIT_OF = {"train": "train", "valid": "valid", "validation": "valid", "dev": "valid", "val": "valid", "test": "test"}
_SPLIT_NAME = re.compile(
    rf"(?P<name>{'|'.join(_SPLIT_OF)})"
    r"(?:[-_](?P<shard>\d+)(?:[-_]of[-_](?P<shards>\d+))?|(?P<rest>[-_. ].+))?",
    re.IGNORECASE,
)
_LISTED_FILES = 8  # in a message


# ---------------------------------------------------------------------------------------------------------------------
# Files


def find_splits(path: Path) -> dict[str, list[Path]]:
    """The files of a folder's train, valid and test splits (those that there are), shards in order.

    A file belongs to a split by its stem: train, valid (or dev, val, validation), test, or a shard of it (`train-000`,
    `test-00000-of-00002`); where a split has neither, a single file that only starts so (`train-part`) is taken.

    Raises:
        UserError: no such folder, no such file in it, a split in two formats or under two names, a missing shard.
    """
    return scan_folder(path)[0]


def scan_folder(folder: Path, required: str | None = None) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of each split, as `find_splits`, and notes on what was not used."""
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
            notes.append(f"{split}: {files[0].name} is taken, the only file with such a name.")
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
    """The one file of a split, or its shards by number."""
    # Files of one split differ in nothing but the number: not in its name (dev, valid), the format, the compression.
    shapes = {(m["name"], m["shard"] is None, file.name[len(m.string) :]): file for file, m in named.items()}
    if len(shapes) > 1:
        raise UserError(f"{folder} holds {split} more than once: {_listed([*shapes.values()])}; keep one of them")
    total = max(int(m["shards"] or 0) for m in named.values())
    if total and len(named) != total:
        raise UserError(f"{folder} holds {len(named)} of {total} shards of {split}: {_listed([*named])}")
    return sorted(named, key=lambda file: int(named[file]["shard"] or 0))


def _nothing_found(folder: Path, wanted: str, files: Sequence[Path]) -> UserError:
    for file in sorted(files, key=lambda file: not file.name.startswith(wanted)):
        if kind := file_type(file):
            name = f"{wanted if wanted in SPLITS else 'train'}{file.name[len(kind.stem) :]}"
            return UserError(
                f"{folder} has no {wanted} file, but {_listed(files)}; name the right one {name}, or have one split "
                f"into train, valid and test: --data {shlex.quote(file.as_posix())}"
            )
    present = f"only {_listed(files)}" if files else "nothing of the kind"
    return UserError(f"{folder} has no {wanted} file, {present}; expected {FORMATS}")


def _listed(files: Sequence[Path]) -> str:
    names = [file.name for file in files[:_LISTED_FILES]]
    return ", ".join(names) + (f" and {len(files) - len(names)} more" if len(files) > len(names) else "")


# ---------------------------------------------------------------------------------------------------------------------
# Draws

OPENAI_SEED = 3535999445
"""The seed of OpenAI's split of ROCStories."""


def stratified_split(examples: list[Example], fraction: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Draw `fraction` of the examples: (the rest, the drawn), both in the order of the file.

    Of each label the fraction is drawn to within one row, and one row at least stays in the rest. Without strata
    (`strata`) the draw is plain. The same on every machine: only `random.random`, which Python keeps stable, is used.
    """
    groups = strata(examples)
    quotas = [fraction * len(group) for group in groups]
    counts = [int(quota) for quota in quotas]
    spare = round(fraction * len(examples)) - sum(counts)
    growing = [i for i, group in enumerate(groups) if counts[i] + 1 < len(group)]
    for i in sorted(growing, key=lambda i: counts[i] - quotas[i])[:spare]:
        counts[i] += 1
    # The size is part of the seed, so that a second draw from the rest of a first one does not repeat its ranks.
    rng = random.Random(f"{seed} of {len(examples)}")
    rank = [rng.random() for _ in examples]
    drawn: set[int] = set()
    for group, count in zip(groups, counts, strict=True):
        drawn.update(sorted(group, key=rank.__getitem__)[:count])
    return (
        [example for row, example in enumerate(examples) if row not in drawn],
        [example for row, example in enumerate(examples) if row in drawn],
    )


def openai_split(examples: list[Example], fraction: float) -> tuple[list[Example], list[Example]]:
    """Draw `fraction` of the examples as OpenAI drew ROCStories' validation set: (the rest, the drawn).

    That is scikit-learn's `train_test_split` with their seed, not by label (openai/finetune-transformer-lm
    `datasets.py`): of 1,871 rows and 374 / 1,871 the same rows, in the order in which it returns them.
    """
    from sklearn.model_selection import train_test_split

    count = min(round(fraction * len(examples)), len(examples) - 1)
    if count < 1:
        return examples, []
    rest, drawn = train_test_split(examples, test_size=count, random_state=OPENAI_SEED)
    return rest, drawn


def strata(examples: list[Example]) -> list[list[int]]:
    """Row numbers by label; all in one where labels are floats, or where most rows have a label of their own."""
    rows: dict[object, list[int]] = defaultdict(list)
    for row, example in enumerate(examples):
        rows[example.label].append(row)
    if len(rows) > len(examples) / 2 or any(isinstance(label, float) for label in rows):
        return [list(range(len(examples)))]
    return list(rows.values())
