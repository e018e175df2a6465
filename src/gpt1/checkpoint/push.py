"""Upload of a model to the Hugging Face hub: the files of a model directory in one commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt1 import console
from gpt1.checkpoint.catalog import BUNDLED_MODELS
from gpt1.checkpoint.hub_download import endpoint
from gpt1.checkpoint.model_dir import CARD, model_files
from gpt1.checkpoint.run_dir import RunDirectory, require_single
from gpt1.errors import UserError

REPORT = "report.html"


def push(
    path: Path, repo: str, *, private: bool = False, revision: str | None = None, license: str | None = None,
    language: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Upload the best model of a run, or a model directory, to the hub.

    Only files written by gpt1 and the run's `report.html` are uploaded.

    Args:
        path: A run or a model directory.
        repo: OWNER/NAME; created if it does not exist.
        private: Whether to create a private repository.
        revision: Branch to upload to; created if it does not exist.
        license, language: Added to the metadata of the uploaded model card.

    Returns:
        {"url", "commit", "files"}

    Raises:
        UserError: the model is missing or damaged, there is no token, or the hub is unreachable or refuses the upload.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    _require_name(repo)
    files = _files(path)
    contents: dict[str, str | Path | bytes] = {file.name: file for file in files}
    contents[CARD] = _card(next(file for file in files if file.name == CARD), license, language)
    token = _token()
    hub = HfApi(endpoint=endpoint(), token=token)
    with _answers(repo):
        url = hub.create_repo(repo, private=private, exist_ok=True)
        if private and not hub.model_info(url.repo_id).private:
            raise UserError(
                f"--private: {url} already exists and is public; make it private on its page, or remove the flag"
            )
        if revision:
            hub.create_branch(url.repo_id, branch=revision, exist_ok=True)
        console.say(f"Uploading {len(contents)} files to {url} …")
        done = hub.create_commit(
            url.repo_id,
            [CommitOperationAdd(name, content) for name, content in contents.items()],
            commit_message="Upload with gpt1",
            revision=revision,
        )
    console.say(f"Published: {done.commit_url}")
    return {"url": str(url), "commit": done.oid, "files": sorted(contents)}


def _require_name(repo: str) -> None:
    owner, slash, name = repo.partition("/")
    if not (owner and slash and name) or "/" in name:
        raise UserError(f"{repo}: expected OWNER/NAME, where OWNER is your user or organization name on the hub")


def _files(path: Path) -> list[Path]:
    """Return the verified files to upload; print a notice about other files."""
    if not path.is_dir():
        named = " (bundled with gpt1)" if str(path) in BUNDLED_MODELS else ""
        raise UserError(
            f"{path}{named}: not a run or model directory; gpt1 convert {path} DIR creates one from any model"
        )
    run = RunDirectory(path)
    of_run = run.model.is_dir() or run.log.path.exists()
    directory = run.model if of_run else path
    if not of_run:
        require_single(path)
    if not directory.is_dir():
        raise UserError(f"{path}: this run has no model yet; rerun the same command to resume it")
    files = model_files(directory)
    if others := sorted({path.name for path in directory.iterdir()} - {file.name for file in files}):
        console.say(f"Not uploaded, because gpt1 did not write them: {', '.join(others)}")
    if of_run and not run.finished:
        console.say(f"{path} is not finished: the model card has no results.")
    report = path / REPORT
    return [*files, *([report] if report.is_file() else ())]


def _card(path: Path, license: str | None, language: str | None) -> bytes:
    """Return the model card with license and language added to its metadata."""
    from huggingface_hub import RepoCard

    text = path.read_text(encoding="utf-8")
    if license is None and language is None:
        return text.encode()
    card = RepoCard(text, ignore_metadata_errors=False)
    for name, value in (("license", license), ("language", language)):
        if value is not None:
            setattr(card.data, name, value)
    return str(card).encode()


def _token() -> str:
    from huggingface_hub import get_token

    token = get_token()
    if not token:
        raise UserError(
            "no token for the Hugging Face hub: create one with write access (https://huggingface.co/settings/tokens), "
            "then run `hf auth login` or set HF_TOKEN"
        )
    return token


@contextmanager
def _answers(repo: str) -> Iterator[None]:
    """Convert exceptions of huggingface_hub to one-line errors with advice."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    again = "nothing was published; rerun the same command"
    try:
        yield
    except UserError:
        raise
    except HFValidationError as error:
        raise UserError(f"{repo}: expected OWNER/NAME ({error})") from error
    except OfflineModeIsEnabled as error:
        raise UserError("HF_HUB_OFFLINE is set, but uploading needs the network; unset it") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise UserError(f"{endpoint()} rejected the token (401): run `hf auth login` with a valid one") from error
        if status == 403:
            raise UserError(
                f"the token cannot write to {repo} (403): run `hf auth login` with one that can, or use another name"
            ) from error
        message = f": {error.server_message}" if error.server_message else ""
        raise UserError(f"{endpoint()} responded with status {status}{message}; {again}") from error
    except Exception as error:  # of its HTTP library, which depends on the version
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        raise UserError(f"{endpoint()} cannot be reached ({reason}); {again}") from error
