"""Results of a finished run, for bit-exact comparison of two runs."""

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
"""Timeout in seconds of a command that usually takes a few seconds."""

CLOCK = {"time", "seconds", "tokens_per_second"}
"""Fields of a log line that depend on the machine, not on the training."""


def outcome(run: RunDirectory) -> dict[str, Any]:
    """Return all results of a finished run, without times."""
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
    """A training command with its run directory, for this process or for a process that may be killed."""

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
        """Return the steps at which the run was resumed."""
        return [event["step"] for event in event_log.read(self.run.log.path) if event["event"] == "resume"]
