"""Reading and writing of safetensors files in float32, bfloat16 and float16, as float32 arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1.config import Stored
from gpt1.errors import UserError
from gpt1.system.files import CorruptFile, full_disk_explained

Tensors = dict[str, NDArray[np.float32]]


CODES: dict[Stored, str] = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""Name of each dtype in a safetensors file."""


def write_tensors(path: Path, tensors: Mapping[str, NDArray[np.float32]], dtype: Stored = "float32") -> None:
    """Write float32 arrays as safetensors, rounded to `dtype` (half to even), with the metadata of `transformers`.

    The bytes equal those of safetensors' own `save_file`, which accepts NumPy's dtypes and hence no bfloat16. (Its
    function for raw bytes changes its arguments between releases; the format is fixed.)

    Raises:
        UserError: a finite value is out of the range of `dtype`.
        OSError: the file cannot be written; for a full disk (ENOSPC) the message says how much space is needed.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(tensors):
        start, end = end, end + tensors[name].size * (4 if dtype == "float32" else 2)
        shape = list(tensors[name].shape)
        header[name] = {"dtype": CODES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # aligns the values
    with full_disk_explained(path, end), path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(tensors):
            file.write(rounded(path, name, tensors[name], dtype).tobytes())


def rounded(path: Path, name: str, value: NDArray[np.float32], dtype: Stored) -> NDArray[Any]:
    """Round a tensor to `dtype`, as little-endian values for a file; bfloat16 is returned as uint16.

    `path` and `name`, of the file and the tensor, are for the error.

    Raises:
        UserError: a finite value is out of the range of `dtype`.
    """
    match dtype:
        case "float32":
            return value.astype("<f4", copy=False)
        case "float16":
            with np.errstate(over="ignore"):  # reported below
                low = value.astype("<f2")
        case "bfloat16":  # the upper half of a float32
            bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
            nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
            quiet = bits >> 16 | 0x40  # a NaN must not become an infinity
            low = np.where(np.isnan(value), quiet, nearest).astype("<u2").reshape(value.shape)
    beyond = np.isfinite(value) & ~np.isfinite(widened(low.tobytes(), dtype).reshape(value.shape))
    if beyond.any():
        raise UserError(f"{path}: tensor {name} contains {value[beyond][0]:g}, which is out of the range of {dtype}")
    return low


def read_tensors(path: Path) -> Tensors:
    """Read a safetensors file as float32 arrays; float16 and bfloat16 are converted exactly.

    Raises:
        UserError: a tensor has another dtype.
        CorruptFile: the file is truncated or not a safetensors file.
    """
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise CorruptFile(f"{path}: not a safetensors file, or truncated ({error})") from None
    dtypes = {code: dtype for dtype, code in CODES.items()}
    for name, entry in entries:
        if entry["dtype"] not in dtypes:
            raise UserError(f"{path}: tensor {name} has dtype {entry['dtype']}; F32, F16 or BF16 expected")
    return {name: widened(entry["data"], dtypes[entry["dtype"]]).reshape(entry["shape"]) for name, entry in entries}


def widened(data: bytes, dtype: Stored) -> NDArray[np.float32]:
    """Convert bytes of `dtype`, as from `rounded`, to a flat float32 array."""
    match dtype:
        case "float32":
            return np.frombuffer(data, "<f4").astype(np.float32)
        case "float16":
            return np.frombuffer(data, "<f2").astype(np.float32)
        case "bfloat16":  # the upper half of a float32
            return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
