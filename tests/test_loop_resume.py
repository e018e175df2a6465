"""A small GPT-1 trained on each backend, interrupted in every way, resumed bit for bit.

Run: pytest tests/test_loop_resume.py
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from gpt1 import backends
from gpt1.backends.base import Batch, Engine, StepResult
from gpt1.backends.parameters import initialise
from gpt1.checkpoint import event_log
from gpt1.checkpoint.event_log import RunLog
from gpt1.checkpoint.train_state import Checkpoints, Progress
from gpt1.config import DType, Head, LoopConfig, LossConfig, ModelConfig, OptimConfig
from gpt1.data.batching import Collator, EncodedExamples, TrainingBatches
from gpt1.errors import Interrupted, UserError
from gpt1.inference.batched import scores, task_logits
from gpt1.system.files import write_json
from gpt1.system.tensors import read_tensors, write_tensors
from gpt1.training.loop import train
from support.checkpoints import newest
from support.crashes import PowerCut, interrupt
from support.engines import hardware

CLOCK = {"time", "seconds", "tokens_per_second"}
"""Fields of a log line that depend on the clock."""


HEAD = Head("classification", 3)
MODEL = ModelConfig(n_layer=2, n_head=2, n_embd=16, n_ctx=32, vocab_size=40, head=HEAD)
LOOP = LoopConfig(epochs=2.5, batch_size=6, micro_batch_size=4, eval_every=3, save_every=2, log_every=4, seed=1)
"""Four steps per epoch, ten in total; two micro-batches of unequal size per step."""
OPTIM = OptimConfig(lr=0.01, warmup=2)
STEPS = 10


def encoded(size: int, seed: int) -> EncodedExamples:
    """Random sequences of unequal lengths with weights and labels: the parity of the first token, and some 2s."""
    draw = np.random.default_rng(seed)
    sequences = [draw.integers(0, 40, length).astype(np.int32) for length in draw.integers(4, 31, size)]
    labels = np.array([int(sequence[1]) % 2 for sequence in sequences], np.int64)
    labels[::5] = 2
    return EncodedExamples(sequences, labels=labels, weights=draw.uniform(0.5, 2.0, size).astype(np.float32))


class Recorded(TrainingBatches):
    """Records the tokens returned for each step."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.given: dict[int, list[list[list[int]]]] = {}

    def micro_batches(self, step: int) -> list[Batch]:
        batches = super().micro_batches(step)
        self.given[step] = [batch.tokens.tolist() for batch in batches]
        return batches


class Training:
    """A run of a small GPT-1, set up as by `gpt1 finetune`."""

    def __init__(self, folder: Path, backend: str, dtype: DType):
        self.folder = folder
        try:
            self.engine: Engine = backends.get(
                MODEL, initialise(MODEL, seed=0), optim=OPTIM, loss=LossConfig(0.5), seed=1,
                hardware=hardware(backend, dtype, device="cpu"),
            )  # fmt: skip
        except UserError as error:
            pytest.skip(str(error))
        self.collator = Collator(pad=0, n_ctx=MODEL.n_ctx)
        self.source = Recorded(encoded(23, seed=0), LOOP, Collator(0, MODEL.n_ctx, lm_targets=True))
        self.valid = encoded(17, seed=1)
        self.checkpoints = Checkpoints(folder / "checkpoints")
        self.log = RunLog(folder / "log.jsonl")

    def during_step(self, number: int, act: Callable[[], None]) -> None:
        """Call `act` in the middle of the given step, counted from 1."""
        train_step = self.engine.train_step

        def acting(batches: Sequence[Batch], *, lr: float, step: int) -> StepResult:
            if step + 1 == number:
                act()
            return train_step(batches, lr=lr, step=step)

        self.engine.train_step = acting  # type: ignore[method-assign]

    def validate(self) -> dict[str, float]:
        return scores(task_logits(self.engine, self.valid, self.collator), self.valid, HEAD, ("accuracy", "f1"), {})

    def save_best(self, progress: Progress) -> None:
        write_tensors(self.folder / "best.safetensors", self.engine.parameters())
        write_json(self.folder / "best.json", {"step": progress.best_step, "value": progress.best})

    def start(self) -> None:
        train(
            self.engine, self.source, LOOP, OPTIM, validate=self.validate, criterion="loss", save_best=self.save_best,
            checkpoints=self.checkpoints, log=self.log,
        )  # fmt: skip

    def outcome(self) -> dict[str, Any]:
        """Return all files of a finished run except times; arrays as bytes."""
        tensors, progress = newest(self.checkpoints)
        best = read_tensors(self.folder / "best.safetensors")
        lines = {
            (event["event"], event["step"]): {name: value for name, value in event.items() if name not in CLOCK}
            for event in event_log.read(self.log.path)
            if event["event"] in ("train", "evaluate")
        }
        return {
            "weights and moments": {name: value.tobytes() for name, value in tensors.items()},
            "weights of the engine": {name: value.tobytes() for name, value in self.engine.parameters().items()},
            "best weights": {name: value.tobytes() for name, value in best.items()},
            "best": (self.folder / "best.json").read_text(),
            "progress": {name: value for name, value in asdict(progress).items() if name not in CLOCK},
            "log": lines,
        }


@dataclass
class Uninterrupted:
    outcome: dict[str, Any]
    batches: dict[int, list[list[list[int]]]]
    renames: int


@cache
def uninterrupted(backend: str, dtype: DType) -> Uninterrupted:
    renames = count()
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", before(os.replace, lambda: next(renames)))
        run = Training(Path(folder), backend, dtype)
        run.start()
        return Uninterrupted(run.outcome(), run.source.given, next(renames))


def before(function: Callable[..., Any], act: Callable[[], object]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        act()
        return function(*args, **kwargs)

    return wrapper


def power_cut(call: int) -> Callable[[], None]:
    """Return a function that simulates a crash at the given call, counted from 1."""
    calls = count(1)

    def act() -> None:
        if next(calls) == call:
            raise PowerCut

    return act


def assert_goes_on_as_uninterrupted(folder: Path, backend: str, dtype: DType) -> None:
    """Resume the run in `folder` with a new engine and compare it with the uninterrupted run."""
    expected = uninterrupted(backend, dtype)
    run = Training(folder, backend, dtype)
    run.start()
    assert run.source.given == {step: expected.batches[step] for step in run.source.given}
    found = run.outcome()
    for part, value in expected.outcome.items():
        assert found[part] == value, part


both_dtypes = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


@both_dtypes
def test_run_depends_on_its_seed_alone(tmp_path: Path, backend: str, dtype: DType) -> None:
    """Precondition of the other tests. Covers dropout, accumulation and the log."""
    expected = uninterrupted(backend, dtype)
    assert len(expected.batches) == STEPS
    assert {len(parts) for parts in expected.batches.values()} == {2}
    assert [step for event, step in expected.outcome["log"] if event == "train"] == [4, 8, 10]
    assert [step for event, step in expected.outcome["log"] if event == "evaluate"] == [3, 4, 6, 8, 9, 10]
    assert_goes_on_as_uninterrupted(tmp_path, backend, dtype)


@both_dtypes
@pytest.mark.parametrize("steps", [[1], [5], [3, 9], [10]])
def test_interrupted_run_goes_on_bit_for_bit(tmp_path: Path, backend: str, dtype: DType, steps: list[int]) -> None:
    for step in steps:
        run = Training(tmp_path, backend, dtype)
        run.during_step(step, interrupt)
        with pytest.raises(Interrupted):
            run.start()
        assert run.checkpoints.paths()[0].name == f"step-{step}"
    assert_goes_on_as_uninterrupted(tmp_path, backend, dtype)


@both_dtypes
@pytest.mark.parametrize("call", [1, 2, 5, 6])
def test_run_that_died_between_a_step_and_its_evaluation_goes_on_bit_for_bit(
    tmp_path: Path, backend: str, dtype: DType, call: int
) -> None:
    run = Training(tmp_path, backend, dtype)
    run.validate = before(run.validate, power_cut(call))  # type: ignore[method-assign]
    with pytest.raises(PowerCut):
        run.start()
    assert_goes_on_as_uninterrupted(tmp_path, backend, dtype)


@pytest.mark.parametrize("step", [1, 4, 10])
def test_run_that_died_in_a_step_goes_on_bit_for_bit(tmp_path: Path, backend: str, step: int) -> None:
    run = Training(tmp_path, backend, "float32")
    run.during_step(step, power_cut(1))
    with pytest.raises(PowerCut):
        run.start()
    assert_goes_on_as_uninterrupted(tmp_path, backend, "float32")


def test_run_that_died_at_any_rename_goes_on_bit_for_bit(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renames are the moments when files on disk change: checkpoints and the best model."""
    renames = uninterrupted(backend, "float32").renames
    assert renames > LOOP.epochs * 2
    stride = 3 if backend == "mindspore" else 1  # which compiles anew for each; the disk is the same
    for call in range(1, renames + 1, stride):
        run = Training(tmp_path / str(call), backend, "float32")
        run.folder.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", before(os.replace, power_cut(call)))
            with pytest.raises(PowerCut):
                run.start()
        assert_goes_on_as_uninterrupted(run.folder, backend, "float32")


def test_run_whose_newest_checkpoint_is_damaged_goes_on_bit_for_bit(tmp_path: Path, backend: str) -> None:
    run = Training(tmp_path, backend, "float32")
    run.during_step(8, power_cut(1))
    with pytest.raises(PowerCut):
        run.start()
    newest, older = run.checkpoints.paths()
    assert (newest.name, older.name) == ("step-6", "step-4")
    (newest / "state.safetensors").write_bytes(b"")
    assert_goes_on_as_uninterrupted(tmp_path, backend, "float32")
