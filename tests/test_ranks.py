"""Several processes train what one does: losses, gradients, whole runs, and what happens when one of them ends.

Run: pytest tests/test_ranks.py
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt1 import cli, ranks, runlog
from gpt1.checkpoint import load_model
from gpt1.config import LoopConfig
from gpt1.data.windows import TrainingWindows, ValidationWindows
from gpt1.errors import UserError
from gpt1.run import RunDirectory

pytest.importorskip("torch", reason="several processes train with PyTorch's torchrun")

PATIENCE = 180
"""Seconds after which a command of a few seconds hangs, however busy the machine is."""
SAME = 1e-5
"""Relative to the largest: float32 sums in another order."""
AFTER_STEPS = 1e-4
"""Relative to the largest: such sums, grown over twelve updates."""

FLAGS = [
    "--size", "tiny", "--vocab-size", "90", "--context", "16", "--max-steps", "12", "--warmup", "3", "--lr", "0.003",
    "--batch-size", "4", "--micro-batch-size", "2", "--embd-pdrop", "0.1", "--attn-pdrop", "0", "--resid-pdrop", "0",
    "--eval-every", "6", "--save-every", "2", "--log-every", "2", "--valid-fraction", "0.1", "--dtype", "float32",
    "--device", "cpu",
]  # fmt: skip


def torchrun(*words: object) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *map(str, words),
    ]  # fmt: skip


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def call(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(0)
    words = ["the", "fox", "ran", "over", "a", "hill", "and", "hen", "sat", "still", "by", "its", "warm", "red", "nest"]
    books = ("\n".join(" ".join(draw.choices(words, k=9)) + "." for _ in range(150)) for _ in range(3))
    path = tmp_path_factory.mktemp("text") / "books.txt"
    path.write_text("\n<|endofbook|>\n".join(books), encoding="utf-8")
    return path


# ---- one step


def assert_close(found: Any, expected: Any) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert np.abs(found - expected).max() <= SAME * max(1e-3, np.abs(expected).max())


def test_losses_and_gradients_of_unequal_lengths_are_those_of_one_process(tmp_path: Path) -> None:
    """Each rank has half of a step, or one has all of it; the dropout is that of the micro-batch, wherever it goes."""
    script = Path(__file__).with_name("rank.py")
    for command in ([sys.executable, str(script), str(tmp_path / "one")], torchrun(script, tmp_path / "two")):
        done = call(command)
        assert done.returncode == 0, done.stderr
    one, first, second = (json.loads((tmp_path / name).read_text()) for name in ("one.0", "two.0", "two.1"))
    assert first == second  # the same bits on each rank, or the ranks would drift apart
    assert one.keys() == first.keys()
    for case, expected in one.items():
        assert first[case]["losses"].keys() == expected["losses"].keys()
        for part in ("losses", "grads", "losses of one micro-batch"):
            for name, value in expected[part].items():
                assert_close(first[case][part][name], value)
        assert_close(
            first[case]["largest gradient of one micro-batch"], expected["largest gradient of one micro-batch"]
        )


# ---- what each rank reads


class Counting:
    def tokens(self, start: int, stop: int) -> np.ndarray[Any, np.dtype[np.int32]]:
        return np.arange(start, stop, dtype=np.int32)


@pytest.mark.parametrize("n_ranks", [2, 3, 8])
@pytest.mark.parametrize("micro", [None, 1, 2])
def test_ranks_read_the_windows_of_one_process_each_once(n_ranks: int, micro: int | None) -> None:
    config = LoopConfig(batch_size=6, micro_batch_size=micro)
    alone = TrainingWindows(Counting(), 300, 8, config)
    shared = [TrainingWindows(Counting(), 300, 8, config, rank, n_ranks) for rank in range(n_ranks)]
    for step in range(alone.steps_per_epoch):  # the last one has fewer windows than ranks
        expected = [row.tolist() for batch in alone.micro_batches(step) for row in batch.tokens]
        found = [row.tolist() for each in shared for batch in each.micro_batches(step) for row in batch.tokens]
        assert sorted(found) == sorted(expected)
    if micro != 2:
        sizes = [sum(len(batch.tokens) for batch in each.micro_batches(0)) for each in shared]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("most", [None, 5])
def test_ranks_validate_the_windows_of_one_process_each_once(most: int | None) -> None:
    def rows(rank: int, n_ranks: int) -> list[list[int]]:
        windows = ValidationWindows(Counting(), 3, 90, 8, 0, rank, n_ranks)
        return [[int(first)] for batch in windows.batches(16, most) for first in batch.tokens[:, 0]]

    assert sorted(rows(0, 3) + rows(1, 3) + rows(2, 3)) == sorted(rows(0, 1))


# ---- whole runs


def events(run: RunDirectory, kind: str) -> list[dict[str, Any]]:
    return [event for event in runlog.read(run.log.path) if event["event"] == kind]


def assert_same_run(found: RunDirectory, expected: RunDirectory) -> None:
    for kind in ("train", "evaluate", "score"):
        ours, theirs = events(found, kind), events(expected, kind)
        assert [event["step"] for event in ours] == [event["step"] for event in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one["loss"] == pytest.approx(other["loss"], rel=SAME)
    params, others = load_model(found.model).params, load_model(expected.model).params
    for name, value in params.items():
        assert np.abs(value - others[name]).max() <= AFTER_STEPS * np.abs(others[name]).max()


@pytest.fixture(scope="module")
def alone(text: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    out = tmp_path_factory.mktemp("alone") / "run"
    assert cli.main(["pretrain", "--corpus", str(text), "--out", str(out), *FLAGS]) == 0
    return RunDirectory(out)


def test_run_of_two_processes_is_the_run_of_one(text: Path, alone: RunDirectory, tmp_path: Path) -> None:
    done = call(torchrun("-m", "gpt1", "pretrain", "--corpus", text, "--out", tmp_path / "run", "--json", *FLAGS))
    assert done.returncode == 0, done.stderr
    run = RunDirectory(tmp_path / "run")
    assert_same_run(run, alone)
    assert len(events(run, "start")) == 1  # rank 0 alone writes
    assert len(events(run, "sample")) == len(events(run, "evaluate"))
    assert done.stderr.count("Best model") == 1
    assert json.loads(done.stdout)["training"]["tokens"] == 12 * 4 * 16  # and prints
    assert len(run.checkpoints.paths()) == 2


def test_run_that_lost_a_process_says_so_and_goes_on_in_one(text: Path, alone: RunDirectory, tmp_path: Path) -> None:
    """The one that is killed is not the one that writes; the other neither hangs nor loses the last checkpoint."""
    run = RunDirectory(tmp_path / "run")
    words = ["pretrain", "--corpus", str(text), "--out", str(run.path), *FLAGS]
    script = tmp_path / "die.py"
    script.write_text(
        "import os, signal, sys\n"
        "from gpt1 import cli\n"
        "from gpt1.backends.torch.engine import TorchEngine\n"
        "train_step = TorchEngine.train_step\n"
        "def die(self, batches, *, lr, step):\n"
        "    if step == 7 and os.environ['RANK'] == '1':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return train_step(self, batches, lr=lr, step=step)\n"
        "TorchEngine.train_step = die\n"
        "sys.exit(cli.main(sys.argv[1:]))\n",
        encoding="utf-8",
    )
    started = time.monotonic()
    done = call(torchrun(script, *words))
    assert time.monotonic() - started < PATIENCE
    assert done.returncode != 0
    assert "gpt1: another process of this run has ended, or cannot be reached; the same command goes on" in done.stderr
    assert run.checkpoints.paths()[0].name == "step-6"
    assert not run.finished
    assert cli.main(words) == 0
    assert [event["step"] for event in events(run, "resume")] == [6]
    assert_same_run(run, alone)


# ---- what torchrun says


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert ranks.place() == ranks.Place(0, 1, 0)


@pytest.mark.parametrize("said", ["RANK=2 WORLD_SIZE=2 LOCAL_RANK=0", "RANK=0 WORLD_SIZE= LOCAL_RANK=0", "RANK=a"])
def test_contradictions_in_the_environment_are_named(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")
    for word in said.split():
        monkeypatch.setenv(*word.split("="))
    with pytest.raises(UserError, match=r"RANK=.* in the environment: not what torchrun sets"):
        ranks.place()


def test_commands_of_one_process_refuse_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["doctor"]) == 2
    complaint = capsys.readouterr().err
    assert complaint == "gpt1 (rank 1): torchrun started 2 processes; gpt1 doctor runs in one, without torchrun\n"
