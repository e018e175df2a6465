"""MindSpore's `.ckpt`: a protobuf message of named tensors, read and written with MindSpore's own schema.

`mindspore.load_checkpoint` compares no lengths: a damaged file may end the process or give other numbers. Here every
tensor is held to its shape, and a checksum that stands in the file is compared.
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
"""What a dtype is called in the file."""

CHECKSUM = b"crc_num"
"""What stands between the message and its CRC-32, ten bytes with the largest first, where there is one."""


# ---- writing


def write(path: Path, tensors: Mapping[str, NDArray[np.float32]], dtype: Stored = "float32") -> None:
    """Write float32 arrays as `mindspore.save_checkpoint` does, sorted by name, rounded to the nearest of `dtype`.

    Raises:
        UserError: a finite value is beyond the range of `dtype`. OSError: among others ENOSPC, where the disk is full;
            its text then says how much is needed.
    """
    size = sum(value.size for value in tensors.values()) * (4 if dtype == "float32" else 2)
    with full_disk_explained(path, size), path.open("wb") as file:
        for name in sorted(tensors):
            message = Checkpoint()
            value = message.value.add(tag=name)
            value.tensor.dims.extend(tensors[name].shape)
            value.tensor.tensor_type = TYPES[dtype]
            value.tensor.tensor_content = rounded(path, name, tensors[name], dtype).tobytes()
            file.write(message.SerializeToString())  # messages that follow each other are one


# ---- reading


def read(path: Path) -> Tensors:
    """Read a `.ckpt` as float32 arrays; float16 and bfloat16 are widened (exactly).

    Raises:
        UserError: the file is missing, or holds something that is no tensor of these dtypes, or two of a name.
        CorruptFile: it is no `.ckpt`, or cut off, encrypted or damaged.
    """
    tensors: Tensors = {}
    for name, parts in _tensors(path):
        if name in tensors:
            raise UserError(f"{path}: two tensors are named {name}")
        tensors[name] = _joined(path, name, parts)
    if not tensors:
        raise CorruptFile(f"{path}: no tensor in it; the file is empty or cut off")
    return tensors


def _tensors(path: Path) -> Iterator[tuple[str, list[Any]]]:
    """Yield each name with its `TensorProto`s: several where a tensor is so large that MindSpore cut it."""
    try:
        message = Checkpoint.FromString(_without_checksum(path))
        foreign = _unknown(message)
        groups = [(name, list(values)) for name, values in groupby(message.value, key=lambda value: value.tag)]
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, str(error) or type(error).__name__) from None
    if foreign or not all(isinstance(name, str) for name, _ in groups):  # bytes, where they are no UTF-8
        raise _damaged(path, "a field or a name that MindSpore's schema has not")
    if not message.IsInitialized():
        raise _damaged(path, "a tensor without a name, a dtype or its content")
    for name, values in groups:
        if not all(value.HasField("tensor") for value in values):
            raise UserError(f"{path}: {name} is no tensor, and a GPT-1 has nothing else")
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
        raise CorruptFile(f"{path}: its content does not fit the checksum at its end; the file is damaged")
    return body


def _unknown(message: Any) -> bool:
    """Say whether there is a field in the file that the schema does not know: then it is not one of MindSpore's."""
    tensors = [value.tensor for value in message.value]
    return any(len(UnknownFieldSet(part)) for part in (message, *message.value, *tensors))


def _damaged(path: Path, reason: str) -> CorruptFile:
    return CorruptFile(f"{path}: not a whole .ckpt file of MindSpore, or an encrypted one ({reason})")


def _joined(path: Path, name: str, parts: list[Any]) -> NDArray[np.float32]:
    """Return the array whose parts these are, of exactly the size that its shape asks for."""
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
