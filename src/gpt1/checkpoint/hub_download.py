"""Download of files from the Hugging Face hub, or from its cache, with verification of their checksums.

huggingface_hub (1.23 or later) provides HTTP and the cache; `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME` and
`HF_HUB_OFFLINE` are read at each call. It (2.4) verifies the size of a plain download but not its content. Therefore
all files are hashed here (0.4 s for the 479 MB of `openai-gpt`) and compared with the hub's listing or, offline, with
the name of the cached blob, which is its checksum (unknown on file systems without symbolic links).
"""

from __future__ import annotations

import hashlib
import os
import sys
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
"""Timeout in seconds of connecting to the hub, and of its response."""


@dataclass(frozen=True)
class Repo:
    """A repository of the hub at a revision."""

    id: str
    type: Literal["model", "dataset"]
    revision: str

    def where(self) -> dict[str, Any]:
        """Return the common arguments of huggingface_hub's downloads and cache lookups."""
        return {"repo_id": self.id, "repo_type": self.type, "revision": self.revision, "cache_dir": _cache_dir()}


@dataclass(frozen=True)
class Snapshot:
    """Local files of one commit."""

    folder: Path
    """Folder in the cache, named by the commit."""
    files: list[str]


class Unreachable(Exception):
    """The hub is unreachable; the message is a clause with the reason."""


Select = Callable[[Iterable[str]], list[str]]
"""Selects the required files from all files of a repository; empty if one is missing."""


def fetch(repos: list[Repo], select: Select) -> Snapshot | None:
    """Return the files of the first repository that has them, from the hub or, if it is unreachable, from the cache.

    None is returned if the hub is reachable and no repository has the files.

    Raises:
        Unreachable: the hub is unreachable and the files are not in the cache.
        UserError: the hub denies access, the repository does not exist, or a checksum is wrong.
    """
    try:
        with _bars_on_terminals_only():
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
            with _answers(repo):  # retry once in case of a transmission error
                hf_hub_download(**online | {"revision": folder.name}, filename=file, force_download=True)
            _require_intact(repo, folder / file, digest)
    return Snapshot(folder, files)


def _listing(repo: Repo) -> tuple[str | None, Mapping[str, str | None]]:
    """Return the commit of a revision, and the checksum of each file: SHA-256 of LFS files, git's SHA-1 of others."""
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
    try:  # all files of the repository, to detect an incomplete download
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
def _bars_on_terminals_only() -> Iterator[None]:
    """Disable huggingface_hub's progress bars inside the block unless stderr is a terminal."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    disable = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if disable:
        disable_progress_bars()
    try:
        yield
    finally:
        if disable:
            enable_progress_bars()


@contextmanager
def _answers(repo: Repo) -> Iterator[None]:
    """Convert exceptions of huggingface_hub to `UserError` (request refused) or `Unreachable`."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except HFValidationError as error:
        raise UserError(f"{repo.id}: not a valid repository name ({error})") from error
    except HfHubHTTPError as error:
        raise _refusal(repo, error) from error
    except Exception as error:  # of its HTTP library, which depends on the version; OSError for a truncated download
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        raise Unreachable(f"{endpoint()} cannot be reached ({reason})") from error


def _refusal(repo: Repo, error: HfHubHTTPError) -> UserError | Unreachable:
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    status = error.response.status_code
    page = f"{endpoint()}/{'datasets/' if repo.type == 'dataset' else ''}{repo.id}"
    if status == 429 or status >= 500:
        return Unreachable(f"{endpoint()} currently responds with status {status}")
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"{repo.revision} is not a branch, tag or full commit of {page}")
    if isinstance(error, GatedRepoError):
        return UserError(f"{page} is gated ({status}): request access on that page, then run `hf auth login`")
    if status in (401, 404):
        return UserError(
            f"there is no public {repo.type} {page} ({status}), and no local path of this name: check the spelling, or "
            "run `hf auth login` first if it is private"
        )
    return UserError(
        f"{page}: the hub responds with status {status}; run `hf auth login` with a token that has read access"
    )


def _require_intact(repo: Repo, path: Path, digest: str | None) -> None:
    if not _intact(path, digest):
        raise UserError(
            f"{path}: checksum mismatch, the download is damaged; delete it with "
            f"`hf cache rm {repo.type}/{repo.id} --yes` and rerun your command"
        )


def _intact(path: Path, digest: str | None) -> bool:
    """Return whether a file has the given checksum (None = the name of the cached blob to which it links)."""
    digest = digest or (os.path.basename(os.readlink(path)) if path.is_symlink() else "")
    if len(digest) == 64:
        hasher = hashlib.sha256()
    elif len(digest) == 40:  # SHA-1 of a git blob
        hasher = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hasher).hexdigest() == digest


def endpoint() -> str:
    """Return the URL of the hub."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _cache_dir() -> str:
    from huggingface_hub import constants

    home = os.environ.get("HF_HOME")
    folder = os.environ.get("HF_HUB_CACHE") or (os.path.join(home, "hub") if home else constants.HF_HUB_CACHE)
    return os.path.expanduser(folder)
