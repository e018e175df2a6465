"""Atomic replacement of directories and JSON files, with a crash at any point.

Run: pytest tests/test_files.py
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt1.errors import UserError
from gpt1.system.files import CorruptFile, read_json, recover_directory, replace_directory, unused, write_json
from support.crashes import PowerCut, cut_power_at


def fill(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "a").write_text(text)
        (folder / "b").write_text(text)

    return write


def texts(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.iterdir()]


@pytest.mark.parametrize("call", [1, 2])
def test_crash_at_a_rename_leaves_the_old_directory_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """The first rename moves the old directory away, the second moves the new one to its place."""
    target = tmp_path / "model"
    replace_directory(target, fill("old"))
    with monkeypatch.context() as patch:
        cut_power_at(patch, call)
        with pytest.raises(PowerCut):
            replace_directory(target, fill("new"))
    recover_directory(target)
    assert texts(target) == ["old", "old"]
    replace_directory(target, fill("newer"))
    assert texts(target) == ["newer", "newer"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_replacing_recovers_by_itself_before_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a second crash, during the new attempt, would lose the only complete directory."""
    target = tmp_path / "model"
    replace_directory(target, fill("old"))
    with monkeypatch.context() as patch:
        cut_power_at(patch, 2)
        with pytest.raises(PowerCut):
            replace_directory(target, fill("new"))

    def write(folder: Path) -> None:
        assert texts(target) == ["old", "old"]

    replace_directory(target, write)


def test_crash_after_the_new_directory_is_in_place_keeps_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    replace_directory(target, fill("old"))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        replace_directory(target, fill("new"))
    recover_directory(target)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert texts(target) == ["new", "new"]


def test_error_while_writing_leaves_the_old_directory_and_the_next_writing_is_clean(tmp_path: Path) -> None:
    target = tmp_path / "model"
    replace_directory(target, fill("old"))

    def write(folder: Path) -> None:
        (folder / "half").write_text("")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        replace_directory(target, write)
    assert texts(target) == ["old", "old"]
    replace_directory(target, fill("new"))
    assert texts(target) == ["new", "new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_json_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "x.json", {"a": "Ähre"})
    with monkeypatch.context() as patch:
        cut_power_at(patch, 1)
        with pytest.raises(PowerCut):
            write_json(tmp_path / "x.json", {"a": "new"})
    assert read_json(tmp_path / "x.json") == {"a": "Ähre"}


def test_an_unused_name_is_numbered_from_2(tmp_path: Path) -> None:
    for name in ("run.v1", "run.v1-2", "run.v1-3"):
        assert unused(tmp_path / "run.v1") == tmp_path / name
        (tmp_path / name).mkdir()


@pytest.fixture(params=[b"", b"{", b"[1]", b"null", b"\xff\xfe{}"])
def no_object(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "x.json").write_bytes(request.param)
    return tmp_path / "x.json"


def test_what_is_no_json_object_is_named(no_object: Path) -> None:
    with pytest.raises(CorruptFile, match=r"x\.json: (not JSON|a JSON object expected)"):
        read_json(no_object)


def test_missing_json_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.json: missing"):
        read_json(tmp_path / "x.json")
