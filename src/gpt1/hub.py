"""Names -> files: a local path, a name of the data-set catalogue, or a repository of the Hugging Face hub.

huggingface_hub (1.23 or later) does the HTTP and the cache. This module decides which files are needed, compares
their digests, and turns every failure into one line that says what to do. A path never needs the network, and a
complete snapshot in the cache is used without it. `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME` and `HF_HUB_OFFLINE` are
read at each call.

Digests: huggingface_hub (2.4) compares the size of a plain download, not its content. So each resolve hashes what it
hands out (0.4 s for the 479 MB of `openai-gpt`) against the hub's listing or, offline, against the name of the cached
blob, which is the digest (where the file system has no symbolic links, nothing is known offline).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gpt1.catalogue import BUNDLED, BUNDLED_MODELS, CATALOGUE, CONVERTED, DatasetRow, bundled_model
from gpt1.config import TaskName
from gpt1.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

TIMEOUT_S = 5.0
"""Seconds the hub may take to accept a connection, and to answer, before it counts as out of reach."""

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
    repos = [_Repo(row.repo, "dataset", each) for each in revisions]

    def select(names: Iterable[str]) -> list[str]:
        return [file for files in _split_files(row, names).values() for file in files]

    try:
        snapshot = _fetch(repos, select)
    except _Unreachable as error:
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
    repo = _Repo(repo_id, "model", revision or "main")
    needed = sorted(MODEL_FILES | TOKENIZER_FILES)

    def select(names: Iterable[str]) -> list[str]:
        found = set(names)
        return [file for file in needed if file in found] if found >= MODEL_FILES else []

    try:
        snapshot = _fetch([repo], select)
    except _Unreachable as error:
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


# ---- the hub and its cache ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Repo:
    id: str
    type: Literal["model", "dataset"]
    revision: str

    def where(self) -> dict[str, Any]:
        """The arguments that huggingface_hub's downloads and look-ups in the cache share."""
        return {"repo_id": self.id, "repo_type": self.type, "revision": self.revision, "cache_dir": _cache_dir()}


@dataclass(frozen=True)
class _Snapshot:
    folder: Path
    """The cache's folder of one commit, which it is named by."""
    files: list[str]


class _Unreachable(Exception):
    """The hub gave no answer; the message is a clause that says why."""


Select = Callable[[Iterable[str]], list[str]]
"""The files that are needed, of all that a repository has; none where it lacks something."""


def _fetch(repos: list[_Repo], select: Select) -> _Snapshot | None:
    """The files of the first repository that has them: from the hub or, where it is out of reach, from the cache.

    None: the hub answered, and no repository has them. Raises `_Unreachable` where the cache lacks them too.
    """
    try:
        return next(filter(None, (_from_hub(repo, select) for repo in repos)), None)
    except _Unreachable:
        if cached := next(filter(None, (_from_cache(repo, select) for repo in repos)), None):
            return cached
        raise


def _from_hub(repo: _Repo, select: Select) -> _Snapshot | None:
    from huggingface_hub import hf_hub_download, snapshot_download

    commit, digests = _listing(repo)
    files = select(digests)
    if not files:
        return None
    online: dict[str, Any] = repo.where() | {"endpoint": endpoint(), "etag_timeout": TIMEOUT_S}
    with _answers(repo):
        folder = Path(snapshot_download(**online, allow_patterns=files))
    for file in files:
        digest = digests[file] if folder.name == commit else None
        if not _intact(folder / file, digest):
            with _answers(repo):  # once more: the line may have garbled it
                hf_hub_download(**online | {"revision": folder.name}, filename=file, force_download=True)
            _require_intact(repo, folder / file, digest)
    return _Snapshot(folder, files)


def _listing(repo: _Repo) -> tuple[str | None, Mapping[str, str | None]]:
    """The commit of a revision, and each file's digest: sha256 of an LFS file, git's sha1 of any other."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise _Unreachable("HF_HUB_OFFLINE is set")
    hub = HfApi(endpoint=endpoint())
    describe = hub.dataset_info if repo.type == "dataset" else hub.model_info
    try:
        with _answers(repo):
            info = describe(repo.id, revision=repo.revision, timeout=TIMEOUT_S, files_metadata=True)
    except UserError as error:
        if repo.revision == CONVERTED and isinstance(error.__cause__, RevisionNotFoundError):
            return None, {}
        raise
    return info.sha, {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in info.siblings or ()}


def _from_cache(repo: _Repo, select: Select) -> _Snapshot | None:
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(**repo.where(), local_files_only=True, allow_patterns=[]))
    except LocalEntryNotFoundError:
        return None
    try:  # all that the repository has, lest a half-finished download pass for the whole
        names = [file.path for file in get_cached_repo_tree(**repo.where())]
    except CachedRepoTreeNotFoundError:
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    files = select(names)
    if not files or not all((folder / file).is_file() for file in files):
        return None
    for file in files:
        _require_intact(repo, folder / file, None)
    return _Snapshot(folder, files)


@contextmanager
def _answers(repo: _Repo) -> Iterator[None]:
    """Turns what huggingface_hub raises into `UserError` (the hub refused) or `_Unreachable` (it did not answer)."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except HFValidationError as error:
        raise UserError(f"{repo.id}: the hub has no such names ({error})") from error
    except HfHubHTTPError as error:
        raise _refusal(repo, error) from error
    except Exception as error:  # its HTTP library's own, which changes with the version; OSError for a cut download
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        raise _Unreachable(f"{endpoint()} cannot be reached ({reason})") from error


def _refusal(repo: _Repo, error: HfHubHTTPError) -> UserError | _Unreachable:
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    status = error.response.status_code
    page = f"{endpoint()}/{'datasets/' if repo.type == 'dataset' else ''}{repo.id}"
    if status == 429 or status >= 500:
        return _Unreachable(f"{endpoint()} answers {status} at present")
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"--revision {repo.revision}: no branch, tag or full commit of {page}")
    if isinstance(error, GatedRepoError):
        return UserError(f"{page} is gated ({status}): ask for access on that page, then `hf auth login`")
    if status in (401, 404):
        return UserError(
            f"there is no public {repo.type} {page} ({status}), nor a local path {repo.id}: check the spelling, or "
            "`hf auth login` first where it is private"
        )
    return UserError(f"{page}: the hub answers {status}; `hf auth login` with a token that may read it")


def _require_intact(repo: _Repo, path: Path, digest: str | None) -> None:
    if not _intact(path, digest):
        raise UserError(
            f"{path}: the content does not fit its checksum, so the download is damaged; delete it with "
            f"`hf cache rm {repo.type}/{repo.id} --yes` and run your command again"
        )


def _intact(path: Path, digest: str | None) -> bool:
    """Whether a file has its digest (None: the name of the cached blob that it links to, where it is a link)."""
    digest = digest or (os.path.basename(os.readlink(path)) if path.is_symlink() else "")
    if len(digest) == 64:
        hasher = hashlib.sha256()
    elif len(digest) == 40:  # git's name of a blob
        hasher = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hasher).hexdigest() == digest


def endpoint() -> str:
    """Return the hub's address."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _cache_dir() -> str:
    from huggingface_hub import constants

    home = os.environ.get("HF_HOME")
    folder = os.environ.get("HF_HUB_CACHE") or (os.path.join(home, "hub") if home else constants.HF_HUB_CACHE)
    return os.path.expanduser(folder)
