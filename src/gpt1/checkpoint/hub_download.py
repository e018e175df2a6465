"""Files of a repository of the Hugging Face hub, from the hub or from its cache, each as its digest says.

huggingface_hub (1.23 or later) does the HTTP and the cache; `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME` and
`HF_HUB_OFFLINE` are read at each call. It (2.4) compares the size of a plain download, not its content. So each fetch
hashes what it hands out (0.4 s for the 479 MB of `openai-gpt`) against the hub's listing or, offline, against the name
of the cached blob, which is the digest (where the file system has no symbolic links, nothing is known offline).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gpt1.checkpoint.catalog import CONVERTED
from gpt1.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

TIMEOUT_S = 5.0
"""Seconds the hub may take to accept a connection, and to answer, before it counts as out of reach."""


@dataclass(frozen=True)
class Repo:
    id: str
    type: Literal["model", "dataset"]
    revision: str

    def where(self) -> dict[str, Any]:
        """The arguments that huggingface_hub's downloads and look-ups in the cache share."""
        return {"repo_id": self.id, "repo_type": self.type, "revision": self.revision, "cache_dir": _cache_dir()}


@dataclass(frozen=True)
class Snapshot:
    folder: Path
    """The cache's folder of one commit, which it is named by."""
    files: list[str]


class Unreachable(Exception):
    """The hub gave no answer; the message is a clause that says why."""


Select = Callable[[Iterable[str]], list[str]]
"""The files that are needed, of all that a repository has; none where it lacks something."""


def fetch(repos: list[Repo], select: Select) -> Snapshot | None:
    """The files of the first repository that has them: from the hub or, where it is out of reach, from the cache.

    None: the hub answered, and no repository has them. Raises `Unreachable` where the cache lacks them too.
    """
    try:
        return next(filter(None, (_from_hub(repo, select) for repo in repos)), None)
    except Unreachable:
        if cached := next(filter(None, (_from_cache(repo, select) for repo in repos)), None):
            return cached
        raise


def _from_hub(repo: Repo, select: Select) -> Snapshot | None:
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
    return Snapshot(folder, files)


def _listing(repo: Repo) -> tuple[str | None, Mapping[str, str | None]]:
    """The commit of a revision, and each file's digest: sha256 of an LFS file, git's sha1 of any other."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise Unreachable("HF_HUB_OFFLINE is set")
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


def _from_cache(repo: Repo, select: Select) -> Snapshot | None:
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
    return Snapshot(folder, files)


@contextmanager
def _answers(repo: Repo) -> Iterator[None]:
    """Turns what huggingface_hub raises into `UserError` (the hub refused) or `Unreachable` (it did not answer)."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except HFValidationError as error:
        raise UserError(f"{repo.id}: the hub has no such names ({error})") from error
    except HfHubHTTPError as error:
        raise _refusal(repo, error) from error
    except Exception as error:  # its HTTP library's own, which changes with the version; OSError for a cut download
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        raise Unreachable(f"{endpoint()} cannot be reached ({reason})") from error


def _refusal(repo: Repo, error: HfHubHTTPError) -> UserError | Unreachable:
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    status = error.response.status_code
    page = f"{endpoint()}/{'datasets/' if repo.type == 'dataset' else ''}{repo.id}"
    if status == 429 or status >= 500:
        return Unreachable(f"{endpoint()} answers {status} at present")
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"{repo.revision} is no branch, tag or full commit of {page}")
    if isinstance(error, GatedRepoError):
        return UserError(f"{page} is gated ({status}): ask for access on that page, then `hf auth login`")
    if status in (401, 404):
        return UserError(
            f"there is no public {repo.type} {page} ({status}), nor a local path of this name: check the spelling, or "
            "`hf auth login` first where it is private"
        )
    return UserError(f"{page}: the hub answers {status}; `hf auth login` with a token that may read it")


def _require_intact(repo: Repo, path: Path, digest: str | None) -> None:
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
