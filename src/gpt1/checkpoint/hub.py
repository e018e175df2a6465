"""Resolution of data set names and Hugging Face repositories to local files (for model names see `loading`).

This module selects the files and reports failures in one line with advice; `hub_download` downloads them. Paths never
need the network, and neither does a complete snapshot in the cache. `NAME@REVISION` pins a repository to a commit, tag
or branch; repository names cannot contain `@`.
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
"""Required files of a model repository. Besides these only `TOKENIZER_FILES` are read, never a pickle."""
TOKENIZER_FILES = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "gpt1.json"}
VOCABULARIES = ({"tokenizer.json"}, {"vocab.json", "merges.txt"})
"""Sets of files of which a repository must have one to provide a vocabulary."""


def split_revision(name: str, shown: str | None = None) -> tuple[str, str | None]:
    """Split `NAME@REVISION`; the revision is None if there is no `@`.

    `shown` is the name with its flag, for the error.

    Raises:
        UserError: the revision after the `@` is empty.
    """
    name, at, revision = name.partition("@")
    if at and not revision:
        raise UserError(f"{shown or name + at}: expected a commit, tag or branch after the @")
    return name, revision or None


# ---- data sets ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DatasetFiles:
    """Local parquet files of a data set on the hub, with the details of its `DatasetRow`."""

    splits: dict[str, list[Path]]
    task: TaskName | None
    columns: dict[str, str]
    label_names: tuple[str, ...] | None
    origin: str
    """`repo[:config]@commit`, recorded in the run."""
    drop_label: int | None = None


_HUB_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(:(?P<config>[\w./-]+))?", re.ASCII)
_DATA_FILE = re.compile(r".+\.(csv|tsv|txt|json|jsonl|parquet|feather|arrow|xlsx|xls|gz|bz2|xz|zst|zip)")
_SPLIT_FILE = re.compile(  # the layouts on the hub: CONFIG/train-00000-of-00001.parquet and CONFIG/train/0000.parquet
    r"((?P<config>.+)/)?(?P<split>train|validation|valid|val|dev|test)(/[^/]+|-\d+(-of-\d+)?(-[0-9a-f]{16})?|)\.parquet"
)
_SPLIT_NAMES = {"train": ("train",), "valid": ("validation", "valid", "val", "dev"), "test": ("test",)}


def resolve_dataset(name_or_path: str | Path) -> DatasetFiles | Path:
    """Return the files of a data set: an existing path unchanged, a bundled data set, or parquet files of the hub.

    Data sets on the hub are named as in `CATALOGUE` or as OWNER/NAME[:CONFIG], optionally with @REVISION. For
    repositories outside the catalogue, the parquet files named like splits, or in folders named like splits, are used,
    first of the `main` branch, then of the converted branch; their columns are found by common names.

    Raises:
        UserError: the path or name does not exist, there are no parquet files or several configurations, access is
            denied, the hub is unreachable and the cache has no copy, a checksum is wrong, or `storycloze` is requested,
            which is only available from its authors.
    """
    if os.path.exists(name_or_path):
        return Path(name_or_path)
    name, revision = split_revision(str(name_or_path), f"--data {name_or_path}")
    if revision is not None and (os.path.exists(name) or name in BUNDLED):
        origin = "is bundled with gpt1" if name in BUNDLED and not os.path.exists(name) else "is a local path"
        raise UserError(f"--data {name_or_path}: {name} {origin} and has no revisions; give --data {name}")
    if name in BUNDLED:
        return BUNDLED[name]
    if name == "storycloze":
        raise UserError(
            "--data storycloze: the Story Cloze Test is not on the hub; request it from its authors "
            "(https://cs.rochester.edu/nlp/rocstories/), then run `gpt1 finetune --data DIR --task multiple-choice`; "
            'DIR must contain train.jsonl and test.jsonl with lines {"context": "…", "choices": ["…", "…"], "label": 0}'
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
            f"--data {asked}: no such path, not in the cache, and {error}; with network access, run `hf download "
            f'{row.repo} --repo-type dataset --revision {repos[0].revision} --include "{pattern}" --cache-dir '
            "hf-cache`, copy hf-cache here, set HF_HUB_CACHE=hf-cache and rerun your command; or use `gpt1 finetune "
            f"--data DIR` with your own DIR/train.jsonl and DIR/valid.jsonl (fields {fields}); --data "
            f"{', '.join(BUNDLED)} needs no network"
        ) from error
    source = f"{row.repo}:{row.config}" if row.config else row.repo
    if snapshot is None:
        raise UserError(
            f"--data {asked}: {source} has no parquet files for the splits "
            f"({', '.join(row.splits.values() or _SPLIT_NAMES)}) at {' or '.join(repo.revision for repo in repos)}; "
            "pass a local file or folder instead"
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
            f"--data {name}: no such file or folder; expected a path, a data set by name "
            f"({', '.join((*BUNDLED, *CATALOGUE))}, storycloze), or one on the hub as owner/name or owner/name:config"
        )
    return DatasetRow(match["repo"], match["config"], task=None, splits={}, columns={})


def _split_files(row: DatasetRow, names: Iterable[str]) -> dict[str, list[str]]:
    """Return {split: parquet files}; empty unless all splits of the row are found."""
    configs: dict[str, dict[str, list[str]]] = {}
    for name in sorted(names):
        match = _SPLIT_FILE.fullmatch(name)
        if match and (row.config is None or f"/{row.config}/" in f"/{match['config']}/"):
            configs.setdefault(match["config"] or "", {}).setdefault(match["split"], []).append(name)
    if len(configs) > 1:
        raise UserError(
            f"--data {row.repo}: the data set has several configurations ({', '.join(filter(None, configs))}); "
            f"select one, for example {row.repo}:{max(configs)}"
        )
    files_of = next(iter(configs.values()), {})
    names_of = {ours: (theirs,) for ours, theirs in row.splits.items()} or _SPLIT_NAMES
    splits = {
        ours: files for ours, theirs in names_of.items() if (files := next(filter(None, map(files_of.get, theirs)), []))
    }
    return splits if splits.keys() >= row.splits.keys() else {}


# ---- models ---------------------------------------------------------------------------------------------------------


def fetch_model(asked: str, repo_id: str, revision: str | None, *, shown: str, weights: bool = True) -> Path:
    """Download the files of a model on the hub, unless they are cached; return the local folder.

    Args:
        asked: The name as given by the user, for errors.
        repo_id: OWNER/NAME.
        revision: Commit, tag or branch; None = `main`.
        shown: The name with its flag, for errors.
        weights: Whether to download the weights; otherwise only the tokenizer's files are downloaded.

    Raises:
        UserError: the repository or revision does not exist, access is denied, the hub is unreachable and the cache has
            no copy, there are no safetensors (or no vocabulary), or a checksum is wrong.
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
        if asked == repo_id and os.path.isdir(owner):  # probably a path, such as that of a run
            raise UserError(
                f"{shown}: not in the folder {owner}; as a model on the hub it is not in the cache, and {error}"
            ) from error
        raise UserError(
            f"{shown}: no such path, not in the cache, and {error}; with network access, run `hf download "
            f"{repo_id} {' '.join(wanted)} --revision {repo.revision} --local-dir {folder}`, copy the folder here and "
            f"pass ./{folder} instead of {asked}; {', '.join(BUNDLED_MODELS)} needs no network"
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
    """Call `fetch`; errors begin with `shown`, the flag and name given by the user."""
    try:
        return fetch(repos, select)
    except UserError as error:
        raise UserError(f"{shown}: {error}") from error


def model_repository(name: str, shown: str) -> tuple[str, str | None] | None:
    """Return the repository and revision of a model name, whether they exist or not.

    None is returned if the name is neither `openai-gpt` nor of the form OWNER/NAME. `shown` is the name with its flag.
    """
    name, revision = split_revision(name, shown)
    repo_id = MODEL_NAMES.get(name, name)
    match = _HUB_NAME.fullmatch(repo_id)
    return (repo_id, revision) if match and not match["config"] else None


def repository(name: str, kind: Literal["model", "dataset"]) -> str | None:
    """Return the hub repository of a model or data set name; None for local and bundled ones."""
    name = name if os.path.exists(name) else name.partition("@")[0]
    if os.path.exists(name) or name in BUNDLED or name in BUNDLED_MODELS:
        return None
    if kind == "model":
        return MODEL_NAMES.get(name, name)
    return CATALOGUE[name].repo if name in CATALOGUE else name.partition(":")[0]


def dataset_name(name: str) -> str:
    """Return the short name of a data set: the last part of its path or repository, and its revision."""
    if os.path.exists(name):
        return Path(name).name
    base, at, revision = name.partition("@")
    return f"{Path(base).name}{at}{revision}"
