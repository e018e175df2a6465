"""What a finished run leaves behind, to be compared bit for bit with that of another."""

from __future__ import annotations

from typing import Any

from gpt1 import runlog
from gpt1.run import RunDirectory
from gpt1.storage import read_json

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
            for event in runlog.read(run.log.path)
            if event["event"] in ("train", "evaluate")
        },
    }


def assert_same_outcome(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for part, value in expected.items():
        assert found[part] == value, part
