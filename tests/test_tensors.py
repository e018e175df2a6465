"""Safetensors files: every dtype and shape, rounding, damage.

Run: pytest tests/test_tensors.py
"""

from __future__ import annotations

import errno
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt1.config import Stored
from gpt1.errors import UserError
from gpt1.system.files import CorruptFile
from gpt1.system.tensors import read_tensors, write_tensors
from support.saved_models import (
    assert_same_params,
    bfloat16,
)

ODD_SHAPES = {"z": (2, 3), "a": (5,), "ä": (), "empty": (0, 3)}
LARGEST_BFLOAT16 = float(np.array(0x7F7F0000, np.uint32).view(np.float32))


def write_raw(path: Path, dtype: str, values: NDArray[Any], shape: list[int] | None = None) -> None:
    """Write a safetensors file by its specification: length of the header, header, bytes."""
    data = values.tobytes()
    entry = {"dtype": dtype, "shape": shape or list(values.shape), "data_offsets": [0, len(data)]}
    header = json.dumps({"x": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def test_every_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    patterns = np.arange(2**16, dtype=np.uint16)
    write_raw(tmp_path / "x", "BF16", patterns.reshape(256, 256))
    found = read_tensors(tmp_path / "x")["x"]
    assert found.dtype == np.float32
    assert found.shape == (256, 256)
    sign, exponent, fraction = (patterns.astype(np.float64) // 2**15, (patterns >> 7) & 0xFF, (patterns & 0x7F) / 2**7)
    finite = exponent < 0xFF
    value = np.where(exponent, 2.0 ** (exponent - 127.0) * (1 + fraction), 2.0**-126 * fraction) * (1 - 2 * sign)
    assert np.array_equal(found.ravel()[finite], value[finite].astype(np.float32))
    assert np.array_equal(np.isnan(found.ravel()), ~finite & (fraction > 0))


def test_every_float16_is_widened_exactly(tmp_path: Path) -> None:
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    write_raw(tmp_path / "x", "F16", values)
    found = read_tensors(tmp_path / "x")["x"]
    assert found.dtype == np.float32
    assert np.array_equal(found, values.astype(np.float64), equal_nan=True)


@pytest.mark.parametrize(
    "value", [np.array(2.5, np.float32), np.zeros((0, 3), np.float32), np.full((2, 1, 2), -0.0, np.float32)]
)
def test_tensors_of_any_shape_come_back(tmp_path: Path, value: NDArray[np.float32]) -> None:
    write_tensors(tmp_path / "x", {"a": value})
    assert_same_params(read_tensors(tmp_path / "x"), {"a": value})


def test_tensor_in_another_memory_order_comes_back(tmp_path: Path) -> None:
    value = np.arange(12, dtype=np.float32).reshape(3, 4).T
    write_tensors(tmp_path / "x", {"a": value})
    assert np.array_equal(read_tensors(tmp_path / "x")["a"], value)


@pytest.mark.parametrize(("dtype", "numpys"), [("float32", np.float32), ("float16", np.float16)])
def test_file_is_byte_for_byte_that_of_the_library(tmp_path: Path, dtype: Stored, numpys: type) -> None:
    """For bfloat16, which NumPy lacks, tests/test_transformers.py compares with the library's PyTorch functions."""
    from safetensors.numpy import save

    rng = np.random.default_rng(0)
    tensors = {name: np.asarray(rng.standard_normal(shape), np.float32).T for name, shape in ODD_SHAPES.items()}
    write_tensors(tmp_path / "x", tensors, dtype)
    assert (tmp_path / "x").read_bytes() == save(
        {name: value.astype(numpys, order="C") for name, value in tensors.items()}, {"format": "pt"}
    )


def test_bfloat16_is_the_nearest_and_a_tie_goes_to_the_even_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 2**32, 20_000, np.uint32)
    ties = (rng.integers(0, 2**16, 5_000, np.uint32) << 16) + 0x8000
    beside = np.concatenate([ties - 1, ties + 1])
    values = np.concatenate([anything, ties, beside]).view(np.float32)
    values = values[np.abs(values) < LARGEST_BFLOAT16]
    write_tensors(tmp_path / "x", {"x": values}, "bfloat16")
    assert read_tensors(tmp_path / "x")["x"].tolist() == [bfloat16(float(value)) for value in values]


def test_float16_is_the_nearest(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal(1_000, np.float32)
    write_tensors(tmp_path / "x", {"x": values}, "float16")
    found = read_tensors(tmp_path / "x")["x"]
    assert np.array_equal(found, values.astype(np.float16).astype(np.float32))
    assert not np.array_equal(found, values)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_was_written_narrow_is_written_again_bit_for_bit(tmp_path: Path, dtype: Stored) -> None:
    """Every bit pattern, including zeros, subnormals and infinities; a NaN remains a NaN."""
    patterns = np.arange(2**16, dtype=np.uint16)
    write_raw(tmp_path / "given", {"bfloat16": "BF16", "float16": "F16"}[dtype], patterns)
    given = read_tensors(tmp_path / "given")["x"]
    write_tensors(tmp_path / "again", {"x": given}, dtype)
    written = np.frombuffer((tmp_path / "again").read_bytes()[-2 * len(patterns) :], np.uint16)
    assert np.array_equal(written[~np.isnan(given)], patterns[~np.isnan(given)])
    assert np.array_equal(np.isnan(read_tensors(tmp_path / "again")["x"]), np.isnan(given))


@pytest.mark.parametrize("bits", [0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF])
def test_nan_does_not_round_to_infinity_or_zero(tmp_path: Path, bits: int) -> None:
    write_tensors(tmp_path / "x", {"x": np.array([bits], np.uint32).view(np.float32)}, "bfloat16")
    assert np.isnan(read_tensors(tmp_path / "x")["x"]).all()


@pytest.mark.parametrize(("dtype", "most", "beyond"), [("float16", 65_519, 65_520), ("bfloat16", 3.389e38, 3.4e38)])
def test_value_beyond_the_range_is_named_and_never_becomes_infinity(
    tmp_path: Path, dtype: Stored, most: float, beyond: float
) -> None:
    write_tensors(tmp_path / "x", {"w": np.array([most, np.inf], np.float32)}, dtype)
    assert np.isfinite(read_tensors(tmp_path / "x")["w"]).tolist() == [True, False]
    with pytest.raises(
        UserError, match=rf"tensor w contains -{beyond:g}.*out of the range of {dtype}".replace("+", r"\+")
    ):
        write_tensors(tmp_path / "y", {"w": np.array([0, -beyond], np.float32)}, dtype)


def test_other_dtype_is_named(tmp_path: Path) -> None:
    write_raw(tmp_path / "x", "I64", np.zeros(2, np.int64))
    with pytest.raises(UserError, match="tensor x has dtype I64; F32, F16 or BF16 expected"):
        read_tensors(tmp_path / "x")


@pytest.mark.parametrize("cut", [0, 4, 20, -1])
def test_cut_off_safetensors_file_is_found_without_a_checksum(tmp_path: Path, cut: int) -> None:
    write_raw(tmp_path / "x", "F32", np.zeros(4, np.float32))
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:cut])
    with pytest.raises(CorruptFile, match="not a safetensors file, or truncated"):
        read_tensors(tmp_path / "x")


def test_full_disk_is_named_with_what_is_needed_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "x").write_bytes(b"half")
    monkeypatch.setattr(Path, "open", lambda *args, **kwargs: Full())
    with pytest.raises(OSError, match=r"No space left on device \(4\.0 MB required, [\d.,]+ MB free\)") as found:
        write_tensors(tmp_path / "x", {"w": np.zeros(1_000_000, np.float32)})
    assert found.value.errno == errno.ENOSPC
    assert found.value.filename == str(tmp_path / "x")
    assert not (tmp_path / "x").exists()
