"""Checkpoints of a run: exact round trips, newest first, damaged ones skipped.

Run: pytest tests/test_train_state.py
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gpt1.backends.parameters import Params
from gpt1.checkpoint.train_state import Checkpoints, Progress
from gpt1.errors import UserError
from support.checkpoints import newest
from support.crashes import PowerCut, cut_power_at
from support.saved_models import (
    assert_same_params,
    flip,
)


def state(step: int) -> Params:
    return {"w": np.full((2, 2), step, np.float32), "first.w": np.full((2, 2), -step, np.float32)}


def save(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        checkpoints.save(state(step), Progress(step=step))


def test_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    progress = Progress(12, 10, 0.1 + 0.2, 5, 1, 3.25, 12_345, [{"loss": 1 / 3, "grad_norm": 1e-30}])
    Checkpoints(tmp_path).save(state(12), progress)
    tensors, found = newest(Checkpoints(tmp_path))
    assert_same_params(tensors, state(12))
    assert found == progress


def test_first_run_finds_no_checkpoint(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none").load_newest(pytest.fail) is None


def test_newest_is_the_one_with_the_largest_number(tmp_path: Path) -> None:
    """The newest by step, not by name or modification time; directories with other names are ignored."""
    checkpoints = Checkpoints(tmp_path, keep=9)
    save(checkpoints, 10, 9, 100, 99)
    (tmp_path / "step-200-copy").mkdir()
    assert [path.name for path in checkpoints.paths()] == ["step-100", "step-99", "step-10", "step-9"]
    assert newest(checkpoints)[1].step == 100


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path, keep=3), 8, 9, 10, 11, 12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-11", "step-12"]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty_object(path: Path) -> None:
    path.write_text("{}")


def list_of_nothing(path: Path) -> None:
    path.write_text("[]")


def garbage(path: Path) -> None:
    path.write_bytes(b"\x80\xff{]")


damages = pytest.mark.parametrize(
    ("file", "damage"),
    [
        *((file, damage) for file in ("state.safetensors", "progress.json") for damage in (flip, cut, Path.unlink)),
        *(("manifest.json", damage) for damage in (cut, Path.unlink, garbage, empty_object, list_of_nothing)),
        ("progress.json", garbage),
        ("", shutil.rmtree),
    ],
)


def hurt(checkpoint: Path, file: str, damage: Callable[[Path], object]) -> None:
    damage(checkpoint / file)
    checkpoint.mkdir(exist_ok=True)


@damages
def test_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, file: str, damage: Callable[[Path], object]
) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 5, 10)
    hurt(tmp_path / "step-10", file, damage)
    said: list[str] = []
    tensors, progress = newest(checkpoints, said.append)
    assert progress.step == 5
    assert_same_params(tensors, state(5))
    assert len(said) == 1
    assert "step-10" in said[0]


@damages
def test_when_all_checkpoints_are_damaged_nothing_is_made_up(
    tmp_path: Path, file: str, damage: Callable[[Path], object]
) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 5, 10)
    for path in checkpoints.paths():
        hurt(path, file, damage)
    said: list[str] = []
    with pytest.raises(UserError, match="all 2 checkpoints are damaged"):
        checkpoints.load_newest(said.append)
    assert len(said) == 2


def test_damaged_checkpoint_is_replaced_when_its_step_comes_again(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 5, 10)
    cut(tmp_path / "step-10" / "state.safetensors")
    save(checkpoints, 10)
    assert newest(checkpoints)[1].step == 10


def test_what_a_crash_left_of_another_checkpoint_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path)
    with monkeypatch.context() as patch:
        cut_power_at(patch, 1)
        with pytest.raises(PowerCut):
            save(checkpoints, 7)
    assert checkpoints.load_newest(pytest.fail) is None
    save(checkpoints, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["step-8"]
