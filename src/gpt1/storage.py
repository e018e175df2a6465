"""Files that are whole or not there: safetensors, JSON, and directories that take each other's place in one step."""

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

import numpy as np
from numpy.typing import NDArray

from gpt1.config import Stored
from gpt1.errors import UserError
from gpt1.runlog import to_json

NUMBERS = re.compile(r"\[\n[-+.\de\s,]+\]")
"""A list of numbers in indented JSON; no string has a line break there. It is written on one line."""

Tensors = dict[str, NDArray[np.float32]]

CODES: dict[Stored, str] = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""What a dtype is called in a safetensors file."""


class CorruptFile(UserError):
    """A file does not hold what its checksum says."""


def write_tensors(path: Path, tensors: Mapping[str, NDArray[np.float32]], dtype: Stored = "float32") -> None:
    """Write float32 arrays as safetensors, rounded to the nearest of `dtype`, marked as `transformers` wants it.

    Ties go to the even one. The bytes are those of safetensors' own `save_file`, which takes NumPy's dtypes and so no
    bfloat16; its call for raw bytes takes other arguments from one release to the next, while the format is fixed.

    Raises:
        UserError: a finite value is beyond the range of `dtype`. OSError: among others ENOSPC, where the disk is full;
            its text then says how much is needed.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(tensors):
        start, end = end, end + tensors[name].size * (4 if dtype == "float32" else 2)
        shape = list(tensors[name].shape)
        header[name] = {"dtype": CODES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that the values are aligned
    with full_disk_explained(path, end), path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(tensors):
            file.write(rounded(path, name, tensors[name], dtype).tobytes())


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


def rounded(path: Path, name: str, value: NDArray[np.float32], dtype: Stored) -> NDArray[Any]:
    """Return the values of tensor `name` as they stand in the file `path`: bfloat16 as uint16, all little-endian.

    Raises:
        UserError: a finite value is beyond the range of `dtype`.
    """
    match dtype:
        case "float32":
            return value.astype("<f4", copy=False)
        case "float16":
            with np.errstate(over="ignore"):  # named below
                found = value.astype("<f2")
        case "bfloat16":  # the upper half of a float32
            bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
            nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
            quiet = bits >> 16 | 0x40  # what is left of a NaN is one, and no infinity
            found = np.where(np.isnan(value), quiet, nearest).astype("<u2").reshape(value.shape)
    beyond = np.isfinite(value) & ~np.isfinite(widened(found.tobytes(), dtype).reshape(value.shape))
    if beyond.any():
        raise UserError(f"{path}: tensor {name} holds {value[beyond][0]:g}, which is beyond the range of {dtype}")
    return found


def read_tensors(path: Path) -> Tensors:
    """Read a safetensors file as float32 arrays; float16 and bfloat16 are widened (exactly)."""
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise CorruptFile(f"{path}: not a whole safetensors file ({error})") from None
    dtypes = {code: dtype for dtype, code in CODES.items()}
    for name, entry in entries:
        if entry["dtype"] not in dtypes:
            raise UserError(f"{path}: tensor {name} has dtype {entry['dtype']}; F32, F16 or BF16 expected")
    return {name: widened(entry["data"], dtypes[entry["dtype"]]).reshape(entry["shape"]) for name, entry in entries}


def widened(data: bytes, dtype: Stored) -> NDArray[np.float32]:
    """Return the numbers that `rounded` gave the bytes of, flat."""
    match dtype:
        case "float32":
            return np.frombuffer(data, "<f4").astype(np.float32)
        case "float16":
            return np.frombuffer(data, "<f2").astype(np.float32)
        case "bfloat16":  # the upper half of a float32
            return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


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
def alone(lock: Path, name: str) -> Iterator[None]:
    """Keep other processes, and other callers here, out of `name` meanwhile; however a process ends, it is free again.

    `lock` is a file that is there meanwhile. Where the file system knows no locks, nobody is kept out.

    Raises:
        UserError: another one is in there.
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
        lambda found: " ".join(found[0].split()).replace("[ ", "[").replace(" ]", "]"), to_json(value, indent=2)
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
