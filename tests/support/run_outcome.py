"""What a finished run leaves behind, to be compared bit for bit with that of another."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import pytest

from gpt1 import cli
from gpt1.checkpoint import event_log
from gpt1.checkpoint.run_dir import RunDirectory
from gpt1.system.files import read_json

PATIENCE = 120
"""Seconds after which a command of a few seconds hangs, however busy the machine is."""

CLOCK = {"time", "seconds", "tokens_per_second"}
"""What a log line says about the machine, not about the training."""


def outcome(run: RunDirectory) -> dict[str, Any]:
    """All that a finished run leaves behind, but for what the clock says."""
    newest = run.checkpoints.paths()[0]
    progress = read_json(newest / "progress.json")
    return {
        "step": newest.name,
        "weights and moments": (newest / "state.safetensors").read_bytes(),
        "progress": {name: value for name, value in progress.items() if name not in CLOCK},
        "model": {path.name: path.read_bytes() for path in run.model.iterdir()},
        "metrics": run.metrics_path.read_text(),
        "log": {
            (event["event"], event["step"]): {name: value for name, value in event.items() if name not in CLOCK}
            for event in event_log.read(run.log.path)
            if event["event"] in ("train", "evaluate")
        },
    }


def assert_same_outcome(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for part, value in expected.items():
        assert found[part] == value, part


class RunCommand:
    """A command that trains into a run directory of its own, in this process or in another that may be killed."""

    argv: list[str]
    run: RunDirectory

    def here(self, *more: str) -> Any:
        with redirect_stdout(StringIO()) as printed:
            assert cli.main([*self.argv, *more]) == 0
        return json.loads(printed.getvalue())

    def process(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "gpt1", *self.argv], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def wait_for_step(self, process: subprocess.Popen[str], step: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            events = event_log.read(self.run.log.path) if self.run.log.path.exists() else []
            if any(event.get("step", 0) >= step for event in events):
                return
            time.sleep(0.002)
        process.kill()
        pytest.fail(f"did not reach step {step}: {process.communicate()[1]}")

    def resumed(self) -> list[int]:
        """The steps after which it went on."""
        return [event["step"] for event in event_log.read(self.run.log.path) if event["event"] == "resume"]
