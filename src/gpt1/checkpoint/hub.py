"""Names -> files: a local path, a name of the data-set catalogue, or a repository of the Hugging Face hub.

This module decides which files are needed, and turns every failure into one line that says what to do; `hub_cache` has
the files. A path never needs the network, and a complete snapshot in the cache is used without it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpt1.checkpoint.catalog import BUNDLED, BUNDLED_MODELS, CATALOGUE, CONVERTED, DatasetRow, bundled_model
from gpt1.checkpoint.hub_download import Repo, Unreachable, fetch
from gpt1.config import TaskName
from gpt1.errors import UserError

MODEL_NAMES = {"openai-gpt": "openai-community/openai-gpt"}
MODEL_FILES = {"config.json", "model.safetensors"}
"""What a model's repository must have. Of the rest only `TOKENIZER_FILES` are read: never a pickle."""
TOKENIZER_FILES = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "gpt1.json"}


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


def resolve_dataset(name_or_path: str, *, revision: str | None = None) -> DatasetFiles | Path:
    """A path that exists (returned as it is), a name of `BUNDLED` or `CATALOGUE`, or `owner/name[:config]` on the hub.

    Of a repository outside the catalogue, the parquet files are taken whose name or folder is a split's, else those
    of its converted branch; their columns are found by their usual names. `revision`: commit, tag or branch.

    Raises `UserError`: no such path or name, no parquet files, several configurations, refused, out of reach and not
    in the cache, a digest that does not fit, or `storycloze`, which its authors hand out themselves.
    """
    if os.path.exists(name_or_path):
        _refuse_revision(revision, f"--data {name_or_path}")
        return Path(name_or_path)
    if name_or_path in BUNDLED:
        _refuse_revision(revision, f"--data {name_or_path}")
        return BUNDLED[name_or_path]
    if name_or_path == "storycloze":
        raise UserError(
            "--data storycloze: the Story Cloze Test is not on the hub; ask its authors for it "
            "(https://cs.rochester.edu/nlp/rocstories/), then `gpt1 finetune --data DIR --task multiple-choice`, where "
            'DIR holds train.jsonl and test.jsonl with lines {"context": "…", "choices": ["…", "…"], "label": 0}'
        )
    return _hub_dataset(name_or_path, CATALOGUE.get(name_or_path) or _uncatalogued(name_or_path), revision)


def _hub_dataset(name: str, row: DatasetRow, revision: str | None) -> DatasetFiles:
    revisions = (revision,) if revision else dict.fromkeys((row.revision, CONVERTED))
    repos = [Repo(row.repo, "dataset", each) for each in revisions]

    def select(names: Iterable[str]) -> list[str]:
        return [file for files in _split_files(row, names).values() for file in files]

    try:
        snapshot = fetch(repos, select)
    except Unreachable as error:
        pattern = f"{row.config}/*.parquet" if row.config else "*.parquet"
        fields = ", ".join(row.columns) or "text, label"
        raise UserError(
            f"--data {name}: no such path, not in the cache, and {error}; where there is a network, run `hf download "
            f'{row.repo} --repo-type dataset --revision {repos[0].revision} --include "{pattern}" --cache-dir '
            "hf-cache`, copy hf-cache here, set HF_HUB_CACHE=hf-cache and run your command again; or `gpt1 finetune "
            f"--data DIR` with your own DIR/train.jsonl and DIR/valid.jsonl (fields {fields})"
        ) from error
    source = f"{row.repo}:{row.config}" if row.config else row.repo
    if snapshot is None:
        raise UserError(
            f"--data {name}: {source} has no parquet files of its splits "
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
    found = next(iter(configs.values()), {})
    names_of = {ours: (theirs,) for ours, theirs in row.splits.items()} or _SPLIT_NAMES
    splits = {
        ours: files for ours, theirs in names_of.items() if (files := next(filter(None, map(found.get, theirs)), []))
    }
    return splits if splits.keys() >= row.splits.keys() else {}


# ---- models ---------------------------------------------------------------------------------------------------------


def resolve_model(name: str, *, revision: str | None = None, asked_by: str = "--model") -> Path:
    """The directory of a model: one that exists, `mini`, `openai-gpt`, or `owner/name` on the hub (the files needed).

    `random:SIZE` is the caller's. `asked_by`: the flag or command that stands before the name, for
    the errors. Raises `UserError` as `resolve_dataset` does, and for a repository without safetensors.
    """
    if (found := bundled_model(name)).is_dir():
        _refuse_revision(revision, f"{asked_by} {name}")
        return found
    repo_id = MODEL_NAMES.get(name, name)
    match = _HUB_NAME.fullmatch(repo_id)
    if os.path.exists(name) or match is None or match["config"]:
        random = ("random:SIZE",) if asked_by == "--model" else ()
        lack = "that is a file" if os.path.exists(name) else "there is no such directory"
        raise UserError(
            f"{asked_by} {name}: {lack}; expected a model directory, a folder of OpenAI's release, "
            f"{', '.join((*BUNDLED_MODELS, *random, *MODEL_NAMES))}, or a model of the hub as owner/name"
        )
    repo = Repo(repo_id, "model", revision or "main")
    needed = sorted(MODEL_FILES | TOKENIZER_FILES)

    def select(names: Iterable[str]) -> list[str]:
        found = set(names)
        return [file for file in needed if file in found] if found >= MODEL_FILES else []

    try:
        snapshot = fetch([repo], select)
    except Unreachable as error:
        folder = repo_id.split("/")[1]
        raise UserError(
            f"{asked_by} {name}: no such path, not in the cache, and {error}; where there is a network, run `hf "
            f"download {repo_id} {' '.join(needed)} --revision {repo.revision} --local-dir {folder}`, copy the folder "
            f"here and pass `{asked_by} {folder}`"
        ) from error
    if snapshot is None:
        raise UserError(
            f"{asked_by} {name}: {repo_id} at {repo.revision} lacks {' or '.join(sorted(MODEL_FILES))}; gpt1 reads "
            "safetensors only (a pickle such as pytorch_model.bin can run code)"
        )
    return snapshot.folder


def repository(name: str, kind: Literal["model", "dataset"]) -> str | None:
    """Return the hub's repository that a model's or data set's name stands for; None for what is here."""
    if os.path.exists(name) or name in BUNDLED or name in BUNDLED_MODELS:
        return None
    if kind == "model":
        return MODEL_NAMES.get(name, name)
    return CATALOGUE[name].repo if name in CATALOGUE else name.partition(":")[0]


def _refuse_revision(revision: str | None, flag: str) -> None:
    if revision is not None:
        raise UserError(f"--revision {revision}: {flag} is a local path, which has no revisions")
