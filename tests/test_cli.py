"""The command line itself: help, version, doctor, closed pipes and full disks.

Run: pytest tests/test_cli.py
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt1 import api
from gpt1.cli import main
from gpt1.data.dataset import Columns
from support.command_line import assert_refused, done, gpt1

pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("in_world")


def test_doctor_reports_packages_and_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt1.backends.torch.device.matmul_speed", lambda device, dtype: 12.0)
    outcome = done("doctor", "--json")
    assert {"python", "platform", "packages", "backends"} == set(outcome.json)
    assert outcome.json["packages"]["torch"]
    [device, *_] = outcome.json["backends"]["torch"]["devices"]
    assert device["gflops"] == {"float32": 12, "bfloat16": 12}
    assert "GFLOP/s" in outcome.err
    assert "; not found: CUDA" in outcome.err
    [first, *_] = instructions = outcome.json["backends"]["torch"]["cpu_instructions"]
    assert first
    assert f"CPU instructions: {', '.join(instructions)}\n" in outcome.err
    outcome = done("doctor")
    assert "GFLOP/s" in outcome.out
    assert outcome.err == ""


@pytest.mark.parametrize("words", [[], ["--help"], ["tokenizer"], ["predict", "--help"]])
def test_help_is_for_stdout(words: list[str]) -> None:
    outcome = done(*words)
    assert "usage: gpt1" in outcome.out
    assert outcome.err == ""


def test_the_version_is_the_packages() -> None:
    assert re.fullmatch(r"gpt1 \d+\.\d+\.\d+\n", done("--version").out)


def test_flags_of_the_hub_data_sets_columns_win_over_the_catalogues(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from gpt1.checkpoint import hub
    from gpt1.tasks.dataset import hub_columns

    found = hub.DatasetFiles(
        {"test": [Path("other-names.csv").resolve()]},
        "classification",
        {"text": "body", "label": "label"},
        None,
        "here",
    )
    assert hub_columns(found, Columns(label="verdict")) == Columns(text="body", label="verdict")
    monkeypatch.setattr(hub, "resolve_dataset", lambda name: found)
    flags = ["--data", "catalogued", "--no-baseline", "--json"]
    assert done("evaluate", "run", *flags, "--label", "verdict").json["test"]["examples"] == 40
    assert_refused(gpt1("evaluate", "run", *flags), "label", notices=True)


def test_output_that_nobody_reads_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `gpt1 predict RUN --input FILE | head`."""

    def gone(*args: object, **kwargs: object) -> Iterator[dict[str, Any]]:
        raise BrokenPipeError
        yield

    monkeypatch.setattr(api, "predict_file", gone)
    monkeypatch.setattr("os.dup2", lambda *args: None)
    with Path("new.csv").open() as stdout, contextlib.redirect_stdout(stdout):
        assert main(["predict", "run", "--input", "new.csv"]) == 0


@pytest.mark.parametrize("filename", ["runs/x/state.safetensors", None])
def test_full_disk_is_one_line_that_says_how_to_resume(
    filename: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", *([filename] if filename else []))

    monkeypatch.setattr(api, "doctor", full)
    assert main(["doctor"]) == 2
    named = f"{filename}: " if filename else ""
    done = "completed files were kept: free some space, run the same command again"
    expected = f"gpt1: {named}No space left on device; {done}\n"
    assert capsys.readouterr().err == expected
