"""Atomic writes of files and directories, checksums, and JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gpt1.errors import UserError
from gpt1.system.serialization import to_json

NUMBERS = re.compile(r"\[\n[-+.\de\s,]+\]")
"""A list of numbers in indented JSON; no string has a line break there. It is written on one line."""


class CorruptFile(UserError):
    """A file does not hold what its checksum says."""


@contextmanager
def full_disk_explained(path: Path, size: int) -> Iterator[None]:
    """Say, where the disk is too full for a file of `size` bytes, how much is needed; nothing is left of it."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        path.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free
        why = f"{error.strerror} ({size / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB free)"
        raise OSError(errno.ENOSPC, why, str(path)) from None


def sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises UserError where the file is missing or holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptFile(f"{path}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise CorruptFile(f"{path}: a JSON object expected, {type(value).__name__} found")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    _replace(path, lambda partial: dump_json(partial, value))


@contextmanager
def exclusive_lock(lock: Path, name: str) -> Iterator[None]:
    """Hold an exclusive lock on `name` for the body; it is released however the process ends.

    `lock` is a file that exists meanwhile. On a file system without locks nothing is locked.

    Raises:
        UserError: another process, or another caller in this one, holds the lock.
    """
    from filelock import FileLock, Timeout

    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{name}: another process is writing there; wait until it ends, or choose another name"
        ) from None
    except NotImplementedError:
        pass
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            lock.unlink()
        held.release()


def require_page(path: Path, flag: str) -> None:
    """Make sure that a page can be written to `path`, before the work that it is for; `flag` named it.

    Raises:
        UserError: it is a directory, lies in none, or is named like no page.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(f"{flag} {path}: expected a file in a directory that exists, such as page.html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{flag} {path}: expected the name of a page, such as {path}.html")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    _replace(path, lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    write(partial)
    sync(partial)
    partial.replace(path)


def dump_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file in a directory that `replace_directory` fills."""
    text = NUMBERS.sub(
        lambda match: " ".join(match[0].split()).replace("[ ", "[").replace(" ]", "]"), to_json(value, indent=2)
    )
    path.write_text(text + "\n", encoding="utf-8")


def replace_directory(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new directory and put it in the place of `target`; a crash leaves the old or the new one."""
    partial, old = (target.with_name(f".{target.name}.{state}") for state in ("partial", "old"))
    recover_directory(target)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    for path in (*partial.iterdir(), partial):
        sync(path)
    if target.exists():
        target.replace(old)
    partial.replace(target)
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover_directory(target: Path) -> None:
    """Undo a replacement that a crash stopped between its two renames."""
    old = target.with_name(f".{target.name}.old")
    if old.exists():
        if target.exists():
            shutil.rmtree(old)
        else:
            old.replace(target)


def sync(path: Path) -> None:
    """Wait until a file, or a directory's entries, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows has no directory handles to flush
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
