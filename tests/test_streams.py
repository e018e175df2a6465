"""Output on any stream: other encodings than UTF-8, closed and narrow terminals. Run: pytest tests/test_streams.py"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt1.cli import main, streams
from gpt1.cli.output import bars, print_json

PREDICTION = {"tokens": [{"token": "é</w>", "probability": 0.5}, {"token": "th", "probability": 0.25}]}
SECONDS = 20
"""Help takes less than one; a layout that loops takes minutes."""


class Console:
    """Bytes that a command prints to a terminal of some encoding."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, encoding: str):
        self.data = io.BytesIO()
        self.stream = io.TextIOWrapper(self.data, encoding=encoding)
        monkeypatch.setattr(sys, "stdout", self.stream)
        streams.prepare_streams()

    def text(self) -> str:
        self.stream.flush()
        return self.data.getvalue().decode(self.stream.encoding)


def test_bars_and_tokens_are_ascii_where_stdout_is(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(monkeypatch, "ascii")
    print(bars(PREDICTION))
    first, second = console.text().splitlines()
    assert first.split() == ["\\xe9", "50.00%", "#" * 40]
    assert second.split() == ["th...", "25.00%", "#" * 20]


def test_what_an_encoding_has_is_printed_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(monkeypatch, "latin-1")
    print("é █ 中")
    assert console.text() == "é # \\u4e2d\n"


def test_utf8_is_left_alone_but_for_lone_surrogates(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(monkeypatch, "UTF-8")
    print("é █ 中 \udc80")
    assert console.text() == "é █ 中 \\udc80\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_json_is_valid_in_every_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    value = {"text": "é – █ 中 𝛼"}
    console = Console(monkeypatch, encoding)
    print_json(value)
    assert json.loads(console.text()) == value


def test_a_command_prints_ascii_to_an_ascii_terminal() -> None:
    """Whole process: Python itself sets the encoding of the streams."""
    variables = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "gpt1", "finetune", "--data", "caf\u00e9.csv", "--out", "run"]
    done = subprocess.run(command, env=variables, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.decode("ascii").startswith("gpt1: ")
    assert b"caf\\xe9.csv" in done.stderr


def test_closed_streams_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `>&- 2>&-`: Python has None for them."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["finetune", "--help"]) == 0
    assert main(["finetun"]) == 2


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    """As `gpt1 … | head`: also where all output fits into the buffer and is written at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "gpt1", "--version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("columns", [1, 5, 39])
def test_help_in_a_narrow_terminal_is_laid_out_for_forty_columns(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["tokenizer", "--help"]) == 0
    expected = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", str(columns))
    started = time.monotonic()
    assert main(["tokenizer", "--help"]) == 0
    assert capsys.readouterr().out == expected
    assert os.environ["COLUMNS"] == str(columns), "what the command's environment held is put back"
    assert time.monotonic() - started < SECONDS
