"""Files that are whole or not there: safetensors, JSON, and directories that take each other's place in one step."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1.errors import UserError
from gpt1.runlog import to_json

Tensors = dict[str, NDArray[np.float32]]


class CorruptFile(UserError):
    """A file does not hold what its checksum says."""


def write_tensors(path: Path, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Write float32 arrays as safetensors, marked as `transformers` wants it.

    Raises:
        OSError: ENOSPC, where the disk is full; its text says how much is needed.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file({name: np.asarray(value, order="C") for name, value in tensors.items()}, path, {"format": "pt"})
    except SafetensorError as error:  # its way to pass on what the system says
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        path.unlink(missing_ok=True)
        needed, free = sum(value.nbytes for value in tensors.values()), shutil.disk_usage(path.parent).free
        why = f"{os.strerror(errno.ENOSPC)} ({needed / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB free)"
        raise OSError(errno.ENOSPC, why, str(path)) from None
    umask = os.umask(0)  # safetensors makes a file that only its owner may read, and there is no way to read the umask
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def read_tensors(path: Path) -> Tensors:
    """Read a safetensors file as float32 arrays; float16 and bfloat16 are widened (exactly)."""
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise CorruptFile(f"{path}: not a whole safetensors file ({error})") from None
    return {name: _array(path, name, entry).reshape(entry["shape"]) for name, entry in entries}


def _array(path: Path, name: str, entry: Mapping[str, Any]) -> NDArray[np.float32]:
    match entry["dtype"]:
        case "F32":
            return np.frombuffer(entry["data"], np.float32).copy()
        case "F16":
            return np.frombuffer(entry["data"], np.float16).astype(np.float32)
        case "BF16":  # the upper half of a float32
            return (np.frombuffer(entry["data"], np.uint16).astype(np.uint32) << 16).view(np.float32)
        case other:
            raise UserError(f"{path}: tensor {name} has dtype {other}; F32, F16 or BF16 expected")


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
    partial = path.with_name(f".{path.name}.partial")
    dump_json(partial, value)
    sync(partial)
    partial.replace(path)


def dump_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file in a directory that `replace_directory` fills."""
    path.write_text(to_json(value, indent=2) + "\n", encoding="utf-8")


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
