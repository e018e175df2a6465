"""Runs of several processes: start them by a backend's launcher, compare their results with those of one process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt1.checkpoint import event_log
from gpt1.checkpoint.model_dir import load_model
from gpt1.checkpoint.run_dir import RunDirectory
from support.comparisons import determined

PATIENCE = 180
"""Timeout in seconds of a command that takes a few seconds, on a busy machine."""
SAME = 1e-5
"""Relative to the largest: float32 sums in another order."""
AFTER_STEPS = 1e-4
"""Relative to the largest: such differences after a dozen updates."""

ENGINES = {"torch": "TorchEngine", "mindspore": "MindSporeEngine"}

ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),  # msrun runs "python" only
    "GLOG_v": "3",  # MindSpore's errors without its warnings
    "MS_RETRY_INTERVAL_LOWER": "1",  # interval in seconds of attempts to connect to the scheduler
    "MS_RETRY_INTERVAL_UPPER": "1",
    "MS_NODE_TIMEOUT": "10",  # timeout in seconds of the scheduler for a process
}


@dataclass
class Done:
    """Outcome of a command."""

    returncode: int
    said: str
    """Output of all of its processes on stdout and stderr."""


def call(words: list[str]) -> Done:
    """Run `python` with `words`."""
    done = subprocess.run(
        [sys.executable, *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return Done(done.returncode, done.stdout + done.stderr)


def call_two(backend: str, words: list[str], logs: Path) -> Done:
    """Start two processes of `python` with `words` by the backend's launcher; those of msrun write to `logs`."""
    if backend == "torch":
        return call(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = call([
        "-m", "mindspore.parallel.cluster.run", "--worker_num", "2", "--local_worker_num", "2", "--join", "True",
        "--master_port", str(port), "--log_dir", str(logs), "python", *words,
    ])  # fmt: skip
    return Done(done.returncode, "".join(path.read_text() for path in sorted(logs.glob("worker_*.log"))))


def dies_at_step(step: int, backend: str, folder: Path) -> Path:
    """Write a script that runs gpt1 with its arguments; the process of rank 1 is killed at a step."""
    script = folder / "die.py"
    script.write_text(
        "import os, signal, sys\n"
        "from gpt1 import cli\n"
        "from gpt1.backends.dist import process_rank\n"
        f"from gpt1.backends.{backend}.engine import {ENGINES[backend]} as Engine\n"
        "train_step = Engine.train_step\n"
        "def die(self, batches, *, lr, step):\n"
        f"    if step == {step} and process_rank().rank == 1:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return train_step(self, batches, lr=lr, step=step)\n"
        "Engine.train_step = die\n"
        "sys.exit(cli.main(sys.argv[1:]))\n",
        encoding="utf-8",
    )
    return script


def events(run: RunDirectory, kind: str) -> list[dict[str, Any]]:
    """Return the events of a kind in a run's log."""
    return [event for event in event_log.read(run.log.path) if event["event"] == kind]


def assert_same_run(found: RunDirectory, expected: RunDirectory) -> None:
    """Check that two runs have the same losses and the same best model."""
    for kind in ("train", "evaluate", "score"):
        ours, theirs = (  # a resumed run has logged some steps twice
            {(event.get("step"), event.get("split")): event["loss"] for event in events(run, kind)}
            for run in (found, expected)
        )
        assert ours == pytest.approx(theirs, rel=SAME)
    params, others = (determined(load_model(run.model).params) for run in (found, expected))
    for name, value in params.items():
        assert np.abs(value - others[name]).max() <= AFTER_STEPS * np.abs(others[name]).max(), name
