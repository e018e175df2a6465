"""Names of data sets, and repositories of the Hugging Face hub, to local files. Models by name: `loading`.

This module selects the files and turns every failure into one line that says what to do; `hub_download` fetches them.
A path never needs the network, and a complete snapshot in the cache is used without it. `NAME@REVISION` pins a
repository to a commit, tag or branch; repositories have no `@` in their names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpt1.checkpoint.catalog import BUNDLED, BUNDLED_MODELS, CATALOGUE, CONVERTED, MODEL_NAMES, DatasetRow
from gpt1.checkpoint.hub_download import Repo, Select, Snapshot, Unreachable, fetch
from gpt1.config import TaskName
from gpt1.errors import UserError

MODEL_FILES = {"config.json", "model.safetensors"}
"""What a model's repository must have. Of the rest only `TOKENIZER_FILES` are read: never a pickle."""
TOKENIZER_FILES = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "gpt1.json"}
VOCABULARIES = ({"tokenizer.json"}, {"vocab.json", "merges.txt"})
"""Files that a repository must have, one set or the other, to hold a vocabulary."""


def split_revision(name: str, shown: str | None = None) -> tuple[str, str | None]:
    """Return `NAME@REVISION` as its two parts; the revision is None where there is no `@`.

    `shown` is the name with its flag, for the error.

    Raises:
        UserError: nothing follows the `@`.
    """
    name, at, revision = name.partition("@")
    if at and not revision:
        raise UserError(f"{shown or name + at}: expected a commit, tag or branch after the @")
    return name, revision or None


# ---- data sets ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DatasetFiles:
    """The local parquet files of a data set on the hub, and what is known about them (see `DatasetRow`)."""

    splits: dict[str, list[Path]]
    task: TaskName | None
    columns: dict[str, str]
    label_names: tuple[str, ...] | None
    origin: str
    """`repo[:config]@commit`, for the run's record."""
    drop_label: int | None = None


_HUB_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(:(?P<config>[\w./-]+))?", re.ASCII)
_DATA_FILE = re.compile(r".+\.(csv|tsv|txt|json|jsonl|parquet|gz|xz|zst)")
_SPLIT_FILE = re.compile(  # both layouts of the hub: CONFIG/train-00000-of-00001.parquet and CONFIG/train/0000.parquet
    r"((?P<config>.+)/)?(?P<split>train|validation|valid|val|dev|test)(/[^/]+|-\d+(-of-\d+)?(-[0-9a-f]{16})?|)\.parquet"
)
_SPLIT_NAMES = {"train": ("train",), "valid": ("validation", "valid", "val", "dev"), "test": ("test",)}


def resolve_dataset(name_or_path: str | Path) -> DatasetFiles | Path:
    """Return the files of a data set: an existing path as it is, `reviews`, or parquet files of the hub.

    Data sets of the hub are named as in `CATALOGUE` or as OWNER/NAME[:CONFIG], each with or without @REVISION. Of a
    repository outside the catalogue, the parquet files are taken whose name or folder is a split's, else those of its
    converted branch; their columns are found by their usual names.

    Raises:
        UserError: there is no such path or name, no parquet file, several configurations, no access, no network and no
            copy in the cache, a wrong digest, or `storycloze` is asked for, which its authors hand out themselves.
    """
    if os.path.exists(name_or_path):
        return Path(name_or_path)
    name, revision = split_revision(str(name_or_path), f"--data {name_or_path}")
    if revision is not None and (os.path.exists(name) or name in BUNDLED):
        origin = "comes with gpt1" if name in BUNDLED and not os.path.exists(name) else "is a local path"
        raise UserError(f"--data {name_or_path}: {name} {origin} and has no revisions; give --data {name}")
    if name in BUNDLED:
        return BUNDLED[name]
    if name == "storycloze":
        raise UserError(
            "--data storycloze: the Story Cloze Test is not on the hub; ask its authors for it "
            "(https://cs.rochester.edu/nlp/rocstories/), then `gpt1 finetune --data DIR --task multiple-choice`, where "
            'DIR holds train.jsonl and test.jsonl with lines {"context": "…", "choices": ["…", "…"], "label": 0}'
        )
    return _hub_dataset(str(name_or_path), CATALOGUE.get(name) or _uncatalogued(name), revision)


def _hub_dataset(asked: str, row: DatasetRow, revision: str | None) -> DatasetFiles:
    revisions = (revision,) if revision else dict.fromkeys((row.revision, CONVERTED))
    repos = [Repo(row.repo, "dataset", each) for each in revisions]

    def select(names: Iterable[str]) -> list[str]:
        return [file for files in _split_files(row, names).values() for file in files]

    try:
        snapshot = _fetched(f"--data {asked}", repos, select)
    except Unreachable as error:
        pattern = f"{row.config}/*.parquet" if row.config else "*.parquet"
        fields = ", ".join(row.columns) or "text, label"
        raise UserError(
            f"--data {asked}: no such path, not in the cache, and {error}; where there is a network, run `hf download "
            f'{row.repo} --repo-type dataset --revision {repos[0].revision} --include "{pattern}" --cache-dir '
            "hf-cache`, copy hf-cache here, set HF_HUB_CACHE=hf-cache and run your command again; or `gpt1 finetune "
            f"--data DIR` with your own DIR/train.jsonl and DIR/valid.jsonl (fields {fields}); --data "
            f"{', '.join(BUNDLED)} needs no network"
        ) from error
    source = f"{row.repo}:{row.config}" if row.config else row.repo
    if snapshot is None:
        raise UserError(
            f"--data {asked}: {source} has no parquet files of its splits "
            f"({', '.join(row.splits.values() or _SPLIT_NAMES)}) at {' or '.join(repo.revision for repo in repos)}; "
            "pass a local file or folder"
        )
    splits = _split_files(row, snapshot.files)
    files = {split: [snapshot.folder / file for file in splits[split]] for split in splits}
    return DatasetFiles(
        files, row.task, row.columns, row.label_names, f"{source}@{snapshot.folder.name}", row.drop_label
    )


def _uncatalogued(name: str) -> DatasetRow:
    match = _HUB_NAME.fullmatch(name)
    if match is None or _DATA_FILE.fullmatch(name):
        raise UserError(
            f"--data {name}: there is no such file or folder; expected a path, a data set that gpt1 knows "
            f"({', '.join((*BUNDLED, *CATALOGUE))}, storycloze), or one of the hub as owner/name or owner/name:config"
        )
    return DatasetRow(match["repo"], match["config"], task=None, splits={}, columns={})


def _split_files(row: DatasetRow, names: Iterable[str]) -> dict[str, list[str]]:
    """gpt1's split name -> its parquet files; empty unless every split that the row names is there."""
    configs: dict[str, dict[str, list[str]]] = {}
    for name in sorted(names):
        match = _SPLIT_FILE.fullmatch(name)
        if match and (row.config is None or f"/{row.config}/" in f"/{match['config']}/"):
            configs.setdefault(match["config"] or "", {}).setdefault(match["split"], []).append(name)
    if len(configs) > 1:
        raise UserError(
            f"--data {row.repo}: the data set has several configurations ({', '.join(filter(None, configs))}); "
            f"name one, such as {row.repo}:{max(configs)}"
        )
    files_of = next(iter(configs.values()), {})
    names_of = {ours: (theirs,) for ours, theirs in row.splits.items()} or _SPLIT_NAMES
    splits = {
        ours: files for ours, theirs in names_of.items() if (files := next(filter(None, map(files_of.get, theirs)), []))
    }
    return splits if splits.keys() >= row.splits.keys() else {}


# ---- models ---------------------------------------------------------------------------------------------------------


def fetch_model(asked: str, repo_id: str, revision: str | None, *, shown: str, weights: bool = True) -> Path:
    """Return the local folder of a model on the hub, with the files that gpt1 reads; without `weights` the tokenizer's.

    `asked` is the name as it was given, and `shown` the same with its flag, for errors.

    Raises:
        UserError: there is no such repository or revision, no access, no network and no copy in the cache, no
            safetensors (or no vocabulary), or a digest is wrong.
    """
    repo = Repo(repo_id, "model", revision or "main")
    wanted = sorted(MODEL_FILES | TOKENIZER_FILES if weights else TOKENIZER_FILES)

    def select(names: Iterable[str]) -> list[str]:
        present = set(names)
        complete = present >= MODEL_FILES if weights else any(present >= files for files in VOCABULARIES)
        return [file for file in wanted if file in present] if complete else []

    try:
        snapshot = _fetched(shown, [repo], select)
    except Unreachable as error:
        owner, folder = repo_id.split("/")
        if asked == repo_id and os.path.isdir(owner):  # a path was meant, such as that of a run
            raise UserError(
                f"{shown}: the folder {owner} has no {folder}; as a model of the hub it is not in the cache, and "
                f"{error}"
            ) from error
        raise UserError(
            f"{shown}: no such path, not in the cache, and {error}; where there is a network, run `hf download "
            f"{repo_id} {' '.join(wanted)} --revision {repo.revision} --local-dir {folder}`, copy the folder here and "
            f"give ./{folder} in the place of {asked}; {', '.join(BUNDLED_MODELS)} needs no network"
        ) from error
    if snapshot is not None:
        return snapshot.folder
    if not weights:
        raise UserError(
            f"{shown}: {repo_id} at {repo.revision} has no vocabulary; expected tokenizer.json, or vocab.json and "
            "merges.txt"
        )
    raise UserError(
        f"{shown}: {repo_id} at {repo.revision} lacks {' or '.join(sorted(MODEL_FILES))}; gpt1 reads "
        "safetensors only (a pickle such as pytorch_model.bin can run code)"
    )


def _fetched(shown: str, repos: list[Repo], select: Select) -> Snapshot | None:
    """Return what `fetch` does; an error begins with the flag and the name that were given."""
    try:
        return fetch(repos, select)
    except UserError as error:
        raise UserError(f"{shown}: {error}") from error


def model_repository(name: str, shown: str) -> tuple[str, str | None] | None:
    """Return the repository and the revision that a model's name stands for, whether they exist or not.

    None where the name has not the form of one: neither `openai-gpt` nor OWNER/NAME. `shown` is the name with its flag.
    """
    name, revision = split_revision(name, shown)
    repo_id = MODEL_NAMES.get(name, name)
    match = _HUB_NAME.fullmatch(repo_id)
    return (repo_id, revision) if match and not match["config"] else None


def repository(name: str, kind: Literal["model", "dataset"]) -> str | None:
    """Return the hub's repository that a model's or data set's name stands for; None for local and bundled ones."""
    name = name if os.path.exists(name) else name.partition("@")[0]
    if os.path.exists(name) or name in BUNDLED or name in BUNDLED_MODELS:
        return None
    if kind == "model":
        return MODEL_NAMES.get(name, name)
    return CATALOGUE[name].repo if name in CATALOGUE else name.partition(":")[0]


def dataset_name(name: str) -> str:
    """Return the short name of a data set, for records: the last part of its path or repository, and its revision."""
    if os.path.exists(name):
        return Path(name).name
    base, at, revision = name.partition("@")
    return f"{Path(base).name}{at}{revision}"
