"""Atomic writes of files and directories, unused names, checksums, and JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from gpt1.errors import UserError
from gpt1.system.serialization import to_json

NUMBERS = re.compile(r"\[\n[-+.\de\s,]+\]")
"""Lists of numbers in indented JSON, which are written on one line. (Strings in JSON contain no line breaks.)"""


class CorruptFile(UserError):
    """Damaged file: invalid format, or a content that does not match its checksum."""


@contextmanager
def full_disk_explained(path: Path, size: int) -> Iterator[None]:
    """Add the required and the free space to an error that the disk is full, and remove the incomplete file.

    `size` is the size of the file in bytes.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        path.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free
        why = f"{error.strerror} ({size / 1e6:,.1f} MB required, {free / 1e6:,.1f} MB free)"
        raise OSError(errno.ENOSPC, why, str(path)) from None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else (path,)) if file.is_file())


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that contains a JSON object.

    Raises:
        UserError: the file is missing.
        CorruptFile: it is not JSON, or not an object.
    """
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
    """Write a JSON file atomically."""
    replace_file(path, lambda partial: dump_json(partial, value))


@contextmanager
def exclusive_lock(lock: Path, name: str, *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock in the body; the operating system releases it if the process is killed.

    `lock` is the lock file, which is removed afterwards; `name` is what it protects, for the error. On a file system
    that does not support locks there is no lock. With `wait`, another holder of the lock is waited for.

    Raises:
        UserError: another process, or another caller in this one, holds the lock.
    """
    from filelock import FileLock, Timeout

    held = FileLock(lock)
    try:
        held.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise UserError(
            f"{name}: another process is writing to it; wait until it exits, or choose another name"
        ) from None
    except NotImplementedError:
        pass
    try:
        yield
    finally:
        if not wait:  # those who wait have opened the file
            with suppress(OSError):  # Windows cannot remove an open file
                lock.unlink()
        held.release()


def unused(path: Path) -> Path:
    """Return `path` or, if it exists, the first of PATH-2, PATH-3, … that does not."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return next(each for each in chain([path], numbered) if not each.exists())


def require_page(path: Path, flag: str) -> None:
    """Check, before a long computation, that `path`, the value of `flag`, is valid for an HTML page.

    Raises:
        UserError: it is a directory, its directory does not exist, or its suffix is not that of a page.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(f"{flag} {path}: expected a file in a directory that exists, such as page.html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{flag} {path}: expected the name of a page, such as {path}.html")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: `write` receives a temporary path, which is flushed to the disk and renamed."""
    partial = path.with_name(f".{path.name}.partial")
    write(partial)
    sync(partial)
    partial.replace(path)


def dump_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, not atomically: for a new directory in `replace_directory`."""
    text = NUMBERS.sub(
        lambda match: " ".join(match[0].split()).replace("[ ", "[").replace(" ]", "]"), to_json(value, indent=2)
    )
    path.write_text(text + "\n", encoding="utf-8")


def replace_directory(target: Path, write: Callable[[Path], None]) -> None:
    """Replace the directory `target` atomically by a new one that `write` fills.

    After a crash, `recover_directory` restores the old or the new one.
    """
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
    """Undo a replacement that was interrupted between its two renames."""
    old = target.with_name(f".{target.name}.old")
    if old.exists():
        if target.exists():
            shutil.rmtree(old)
        else:
            old.replace(target)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a directory, to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot flush directories
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
