"""MindSpore's `.ckpt` files: a protobuf message of named tensors, read and written with MindSpore's own schema.

`mindspore.load_checkpoint` does not validate lengths: a damaged file may crash the process or yield wrong values.
Here the size of every tensor is validated against its shape, and the checksum, if the file has one, is verified.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from mindspore.train.checkpoint_pb2 import Checkpoint
from numpy.typing import NDArray

from gpt1.config import Stored
from gpt1.errors import UserError
from gpt1.system.files import CorruptFile, full_disk_explained
from gpt1.system.tensors import Tensors, rounded, widened

TYPES: dict[Stored, str] = {"float32": "Float32", "bfloat16": "BFloat16", "float16": "Float16"}
"""Name of each dtype in the file."""

CHECKSUM = b"crc_num"
"""Marker between the message and its CRC-32 (ten bytes, big-endian) in files that have one."""


# ---- writing


def write(path: Path, tensors: Mapping[str, NDArray[np.float32]], dtype: Stored = "float32") -> None:
    """Write float32 arrays as `mindspore.save_checkpoint` does, sorted by name, rounded to `dtype`.

    Raises:
        UserError: a finite value is out of the range of `dtype`.
        OSError: the file cannot be written; for a full disk (ENOSPC) the message says how much space is needed.
    """
    size = sum(value.size for value in tensors.values()) * (4 if dtype == "float32" else 2)
    with full_disk_explained(path, size), path.open("wb") as file:
        for name in sorted(tensors):
            message = Checkpoint()
            value = message.value.add(tag=name)
            value.tensor.dims.extend(tensors[name].shape)
            value.tensor.tensor_type = TYPES[dtype]
            value.tensor.tensor_content = rounded(path, name, tensors[name], dtype).tobytes()
            file.write(message.SerializeToString())  # concatenated messages are parsed as one


# ---- reading


def read(path: Path) -> Tensors:
    """Read a `.ckpt` as float32 arrays; float16 and bfloat16 are converted exactly.

    Raises:
        UserError: the file is missing, or has an entry that is not a tensor of these dtypes, or a duplicate name.
        CorruptFile: the file is not a `.ckpt`, or is truncated, encrypted or damaged.
    """
    tensors: Tensors = {}
    for name, parts in _tensors(path):
        if name in tensors:
            raise UserError(f"{path}: two tensors are named {name}")
        tensors[name] = _joined(path, name, parts)
    if not tensors:
        raise CorruptFile(f"{path}: contains no tensor; the file is empty or truncated")
    return tensors


def _tensors(path: Path) -> Iterator[tuple[str, list[Any]]]:
    """Yield each name with its `TensorProto`s; MindSpore splits a large tensor into several."""
    try:
        message = Checkpoint.FromString(_without_checksum(path))
        foreign = _unknown(message)
        groups = [(name, list(values)) for name, values in groupby(message.value, key=lambda value: value.tag)]
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, str(error) or type(error).__name__) from None
    if foreign or not all(isinstance(name, str) for name, _ in groups):  # bytes, if not UTF-8
        raise _damaged(path, "a field or a name that is not in MindSpore's schema")
    if not message.IsInitialized():
        raise _damaged(path, "a tensor without a name, a dtype or its content")
    for name, values in groups:
        if not all(value.HasField("tensor") for value in values):
            raise UserError(f"{path}: {name} is not a tensor; expected tensors only")
        yield name, [value.tensor for value in values]


def _without_checksum(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    body, mark, checksum = content[:-17], content[-17:-10], content[-10:]
    if mark != CHECKSUM:
        return content
    if binascii.crc32(body) != int.from_bytes(checksum, "big"):
        raise CorruptFile(f"{path}: the content does not match the checksum at the end; the file is damaged")
    return body


def _unknown(message: Any) -> bool:
    """Return whether the message has a field that is not in the schema, so that MindSpore did not write it."""
    tensors = [value.tensor for value in message.value]
    return any(len(UnknownFieldSet(part)) for part in (message, *message.value, *tensors))


def _damaged(path: Path, reason: str) -> CorruptFile:
    return CorruptFile(f"{path}: not a MindSpore .ckpt file, or truncated, damaged or encrypted ({reason})")


def _joined(path: Path, name: str, parts: list[Any]) -> NDArray[np.float32]:
    """Concatenate the parts of a tensor; raise if its size is not that of its shape."""
    first = parts[0]
    shape, kind = tuple(first.dims), first.tensor_type
    if any((tuple(part.dims), part.tensor_type) != (shape, kind) for part in parts):
        raise UserError(f"{path}: two tensors are named {name}, of different shapes or dtypes")
    dtype = next((dtype for dtype, code in TYPES.items() if code == kind), None)
    if dtype is None:
        raise UserError(f"{path}: tensor {name} has dtype {kind!r}; {', '.join(TYPES.values())} expected")
    content = b"".join(part.tensor_content for part in parts)
    expected = math.prod(shape) * (4 if dtype == "float32" else 2)
    if min(shape, default=1) < 0 or len(content) != expected:
        raise CorruptFile(
            f"{path}: tensor {name} of shape {shape} in {kind} has {len(content):,} bytes, {expected:,} expected; the "
            "file is damaged"
        )
    return widened(content, dtype).reshape(shape)
