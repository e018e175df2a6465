"""A closed terminal (SIGHUP): the run saves a checkpoint, as after SIGTERM. Run: pytest tests/test_hangup.py"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt1 import console
from gpt1.checkpoint import event_log
from gpt1.cli import main
from gpt1.errors import Interrupted
from gpt1.training.signals import graceful_stop, stop_at_once

if not hasattr(signal, "SIGHUP"):
    pytest.skip("Windows has no SIGHUP", allow_module_level=True)

PATIENCE = 120
"""Timeout in seconds of a command that takes a few seconds."""
ROWS = "text,label\n" + "".join(f"a {word} story {i},{word}\n" for i in range(20) for word in ("warm", "dull"))


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    """Handle SIGHUP as in a terminal, also if the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_sighup_asks_the_run_to_stop_and_a_second_one_does_not_interrupt_it() -> None:
    """The system and the shell each send one; the second may arrive before the checkpoint is written."""
    before = signal.getsignal(signal.SIGHUP)
    with graceful_stop() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert stop.is_set()
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_is_advised_after_ctrl_c_only(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    with graceful_stop():
        signal.raise_signal(number)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("Stopping after this step")
    assert ("press Ctrl-C again" in line) == (number == signal.SIGINT)


def test_under_nohup_the_run_goes_on() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with graceful_stop() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert not stop.is_set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_after_the_last_checkpoint_stops_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted):
        signalled_twice(number)
    assert signal.getsignal(number) is before


@stop_at_once()
def signalled_twice(number: signal.Signals) -> None:
    try:
        signal.raise_signal(number)
    finally:
        signal.raise_signal(number)


def test_a_run_that_is_stopped_while_it_is_scored_says_that_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    Path("reviews.csv").write_text(ROWS)
    command = [
        "finetune", "--data", "reviews.csv", "--out", "run", "--model", "random:tiny", "--backend", "torch",
        "--no-baseline", "--max-steps", "2",
    ]  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr("gpt1.training.finetune._final_scores", lambda *rest: signal.raise_signal(signal.SIGTERM))
        assert main(command) == 130
    assert capsys.readouterr().err.endswith("gpt1: stopped; run the same command again to resume\n")
    assert main(command) == 0
    assert Path("run", "metrics.json").exists()


def test_a_line_for_a_closed_terminal_is_discarded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Closed:
        """Fake stderr of a closed terminal."""

        encoding = "utf-8"

        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "Input/output error")

        def flush(self) -> None:
            pass

        def fileno(self) -> int:
            return file.fileno()

    with (tmp_path / "stream").open("wb") as file:
        monkeypatch.setattr(sys, "stderr", Closed())
        console.say("Stopping after this step.")
        os.write(file.fileno(), b"goes to the null device from now on")
    assert (tmp_path / "stream").read_bytes() == b""


def test_a_run_whose_terminal_closes_is_resumed_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    Path("reviews.csv").write_text(ROWS)
    command = [
        "finetune", "--data", "reviews.csv", "--out", "run", "--model", "random:tiny", "--dtype", "float32",
        "--backend", "torch", "--batch-size", "8", "--no-baseline", "--epochs", "4", "--log-every", "1",
    ]  # fmt: skip
    program = (
        "import os, sys; os.open(os.ttyname(0), os.O_RDWR)\n"  # which makes it the controlling terminal
        "from gpt1.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    terminal, other_end = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program, *command],
        stdin=other_end, stdout=other_end, stderr=other_end, start_new_session=True,
    )  # fmt: skip
    os.close(other_end)
    wait_for_a_step(terminal, process)
    os.close(terminal)
    assert process.wait(PATIENCE) == 130
    assert not Path("run", "metrics.json").exists()
    step = max(event.get("step", 0) for event in event_log.read(Path("run", "log.jsonl")))
    assert main(command) == 0
    assert f"Resuming after step {step:,}." in capsys.readouterr().err
    assert Path("run", "metrics.json").exists()


def wait_for_a_step(terminal: int, process: subprocess.Popen[bytes]) -> None:
    """Read the output of the process, so that it never blocks, until its log has a step."""
    log, deadline = Path("run", "log.jsonl"), time.monotonic() + PATIENCE
    printed = b""
    os.set_blocking(terminal, False)
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(BlockingIOError):
            printed += os.read(terminal, 65536)
        if log.exists() and any(event["event"] == "train" for event in event_log.read(log)):
            return
        time.sleep(0.01)
    process.kill()
    pytest.fail(f"no step was logged: {printed.decode()}")
