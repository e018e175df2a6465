"""The training loop with a fake engine that counts steps: when it evaluates, saves, logs and stops.

Run: pytest tests/test_loop.py
"""

from __future__ import annotations

import errno
import math
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt1 import console
from gpt1.backends.base import Batch, StepResult
from gpt1.backends.optim import learning_rate
from gpt1.backends.parameters import Params
from gpt1.checkpoint import event_log
from gpt1.checkpoint.event_log import RunLog
from gpt1.checkpoint.train_state import Checkpoints, Progress
from gpt1.config import LoopConfig, OptimConfig
from gpt1.errors import Interrupted, UserError
from gpt1.training.loop import train
from support.checkpoints import newest
from support.crashes import interrupt

# ---- a run with a fake engine


class Counting:
    """Fake engine: its weight counts the steps, its moment sums the step numbers."""

    def __init__(self, losses: Callable[[int], dict[str, float]] = lambda step: {"loss": float(step)}):
        self.losses = losses
        self.weight = self.moment = np.zeros(1, np.float32)
        self.calls: list[tuple[int, float]] = []
        """(step, learning rate) of every update."""

    def train_step(self, batches: Sequence[Batch], *, lr: float, step: int) -> StepResult:
        self.calls.append((step, lr))
        self.weight = self.weight + 1
        self.moment = self.moment + step
        values = self.losses(step + 1)
        return StepResult(lambda: values)

    def parameters(self) -> Params:
        return {"weight": self.weight}

    def load_parameters(self, params: Mapping[str, Any]) -> None:
        self.weight = params["weight"]

    def optimizer_state(self) -> Params:
        return {"first.weight": self.moment}

    def load_optimizer_state(self, state: Mapping[str, Any], step: int) -> None:
        assert self.weight[0] == step
        self.moment = state["first.weight"]


@dataclass
class Numbered:
    """Batches of two sequences, of step + 1 tokens and of one token."""

    steps_per_epoch: int

    def micro_batches(self, step: int) -> list[Batch]:
        return [Batch(np.zeros((2, step + 1), np.int32), np.array([step, 0], np.int32))]


@dataclass
class Told:
    """A run of the counting engine with a given list of validation scores."""

    folder: Path
    steps_per_epoch: int = 5
    scores: Sequence[float] = ()
    criterion: str = "accuracy"
    keep: int = 100
    optim: OptimConfig = field(default_factory=OptimConfig)
    engine: Any = field(default_factory=Counting)
    evaluated: list[int] = field(default_factory=list)
    best: list[tuple[int, float | None]] = field(default_factory=list)
    """(step, score) of each model saved as the best."""

    def __post_init__(self) -> None:
        self.log = RunLog(self.folder / "log.jsonl")
        self.checkpoints = Checkpoints(self.folder / "checkpoints", self.keep)

    def train(self, **config: Any) -> Progress:
        def validate() -> dict[str, float]:
            place = len(self.evaluated)
            self.evaluated.append(int(self.engine.weight[0]))
            return {"loss": 0.5, self.criterion: self.scores[place] if place < len(self.scores) else 0.0}

        def save_best(progress: Progress) -> None:
            assert progress.best_step == progress.step == self.engine.weight[0]
            self.best.append((progress.best_step, progress.best))

        return train(
            self.engine, Numbered(self.steps_per_epoch), LoopConfig(**config), self.optim, validate=validate,
            criterion=self.criterion, save_best=save_best, checkpoints=self.checkpoints, log=self.log,
        )  # fmt: skip

    def saved(self) -> list[int]:
        """Return the steps of the existing checkpoints, oldest first."""
        return [int(path.name.removeprefix("step-")) for path in reversed(self.checkpoints.paths())]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [event for event in event_log.read(self.log.path) if event["event"] == name]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"epochs": 2}, [5, 10]),
        ({"epochs": 1, "eval_every": 2}, [2, 4, 5]),
        ({"epochs": 1, "eval_every": 5}, [5]),
        ({"epochs": 1.5}, [5, 8]),
        ({"epochs": 0.6}, [3]),
        ({"epochs": 2.2}, [5, 10, 11]),
        ({"epochs": 0.01}, [1]),
        ({"epochs": 3, "max_steps": 7}, [5, 7]),
        ({"epochs": 1, "max_steps": 100}, [5]),
    ],
)
def test_evaluates_after_each_epoch_every_n_steps_and_at_the_end(
    tmp_path: Path, config: dict[str, Any], expected: list[int]
) -> None:
    """An epoch has five steps."""
    run = Told(tmp_path)
    assert run.train(**config).step == expected[-1]
    assert run.evaluated == expected
    assert [step for step, _ in run.engine.calls] == list(range(expected[-1]))


def test_fraction_of_an_epoch_is_not_rounded_up_to_a_step_too_many(tmp_path: Path) -> None:
    """In floating point, 2.2 * 25 is slightly more than 55."""
    assert Told(tmp_path, steps_per_epoch=25).train(epochs=2.2).step == 55


def test_saves_after_each_epoch_every_n_steps_and_at_the_end(tmp_path: Path) -> None:
    run = Told(tmp_path)
    run.train(epochs=2.2, save_every=4)
    assert run.saved() == [4, 5, 8, 10, 11]


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    """The second checkpoint waits for the first, the end of the run for the last; each holds the state of its step."""
    run = Told(tmp_path, steps_per_epoch=20)
    begun, write = threading.Event(), run.checkpoints.save
    seen: list[tuple[int, int, int]] = []

    class Slow(Counting):
        def train_step(self, batches: Sequence[Batch], *, lr: float, step: int) -> StepResult:
            if step == 6:
                begun.set()  # two steps after the first checkpoint was started
            return super().train_step(batches, lr=lr, step=step)

    def save(tensors: Params, progress: Progress) -> Path:
        assert begun.wait(timeout=60), "no step was done while the checkpoint was written"
        seen.append((progress.step, int(tensors["weight"][0]), len(progress.unlogged)))
        return write(tensors, progress)

    run.checkpoints.save = save  # type: ignore[method-assign]
    run.engine = Slow()
    run.train(epochs=0.5, save_every=4, log_every=3)
    assert seen == [(4, 4, 1), (8, 8, 2), (10, 10, 0)]
    assert run.saved() == [4, 8, 10]


def test_checkpoint_that_cannot_be_written_stops_the_run_and_leaves_the_one_before(tmp_path: Path) -> None:
    run = Told(tmp_path, steps_per_epoch=20)
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path))
    write = run.checkpoints.save

    def save(tensors: Params, progress: Progress) -> Path:
        if progress.step > 4:
            raise full
        return write(tensors, progress)

    run.checkpoints.save = save  # type: ignore[method-assign]
    with pytest.raises(OSError, match="No space left"):
        run.train(save_every=4)
    assert run.saved() == [4]
    assert run.engine.weight[0] == 12  # noticed when the next one was started


def test_keeps_only_the_newest_checkpoints(tmp_path: Path) -> None:
    run = Told(tmp_path, keep=2)
    run.train(epochs=2.2, save_every=1)
    assert run.saved() == [10, 11]


@pytest.mark.parametrize(
    ("criterion", "scores", "expected"),
    [
        ("accuracy", [0.5, 0.7, 0.7, 0.6, 0.8], [5, 10, 25]),
        ("loss", [0.5, 0.7, 0.4, 0.4, 0.3], [5, 15, 25]),
        ("my_metric", [-3.0, -2.0, -4.0, -1.0, -1.0], [5, 10, 20]),
        ("pearson", [math.nan, -0.1, math.nan, 0.0, 0.0], [5, 10, 20]),
    ],
)
def test_keeps_the_weights_with_the_best_score(
    tmp_path: Path, criterion: str, scores: list[float], expected: list[int]
) -> None:
    """Lower is better for the loss, higher for other scores; ties keep the first; nan is the worst."""
    run = Told(tmp_path, scores=scores, criterion=criterion)
    progress = run.train(epochs=5)
    assert [step for step, _ in run.best] == expected
    assert (progress.best_step, progress.best) == run.best[-1]


def test_stops_when_patience_is_used_up(tmp_path: Path) -> None:
    run = Told(tmp_path, scores=[0.5, 0.4, 0.6, 0.6, 0.5, 0.9])
    progress = run.train(epochs=6, patience=2)
    assert (progress.step, progress.best_step) == (25, 15)
    assert run.saved()[-1] == 25


def test_run_that_used_up_its_patience_is_over_when_it_is_started_again(tmp_path: Path) -> None:
    Told(tmp_path, scores=[0.5, 0.4]).train(epochs=6, patience=1)
    again = Told(tmp_path)
    assert again.train(epochs=6, patience=1).best_step == 5
    assert not again.engine.calls
    assert not again.evaluated


@pytest.mark.parametrize("config", [{"epochs": 2}, {"epochs": 9, "max_steps": 10}])
def test_every_step_has_the_rate_of_the_schedule(tmp_path: Path, config: dict[str, Any]) -> None:
    """The schedule ends with the run, also if `max_steps` ends it; the log has the rates."""
    run = Told(tmp_path, optim=OptimConfig(lr=0.1, warmup=3))
    run.train(log_every=1, **config)
    rates = [learning_rate(step, 10, run.optim) for step in range(10)]
    assert run.engine.calls == list(enumerate(rates))
    assert [(event["step"], event["lr"]) for event in run.events("train")] == list(enumerate(rates, start=1))


def test_resumed_run_has_the_rates_of_the_uninterrupted_one(tmp_path: Path) -> None:
    run = Told(tmp_path, engine=Counting(after(7, interrupt)), optim=OptimConfig(warmup=0))
    with pytest.raises(Interrupted):
        run.train(epochs=2)
    again = Told(tmp_path, optim=run.optim)
    again.train(epochs=2)
    assert run.engine.calls + again.engine.calls == [(step, learning_rate(step, 10, run.optim)) for step in range(10)]


def test_log_line_gives_the_mean_of_all_steps_since_the_line_before(tmp_path: Path) -> None:
    """Evaluations and checkpoints in between do not change it; the last line may cover fewer steps."""
    run = Told(tmp_path)
    run.train(epochs=2.2, log_every=4, eval_every=3, save_every=2)
    assert [(event["step"], event["loss"]) for event in run.events("train")] == [(4, 2.5), (8, 6.5), (11, 10.0)]
    assert [event["epoch"] for event in run.events("train")] == [4 / 5, 8 / 5, 11 / 5]


def test_interruption_takes_nothing_out_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        Told(tmp_path, engine=Counting(after(6, interrupt))).train(epochs=2, log_every=4)
    run = Told(tmp_path)
    run.train(epochs=2, log_every=4)
    assert [(event["step"], event["loss"]) for event in run.events("train")] == [(4, 2.5), (8, 6.5), (10, 9.5)]


def test_counts_tokens_without_padding_across_an_interruption(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        Told(tmp_path, engine=Counting(after(6, interrupt))).train(epochs=2)
    assert Told(tmp_path).train(epochs=2).tokens == sum(step + 1 + 1 for step in range(10))


# ---- a loss that is not finite


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite_stops_with_the_step_and_the_last_good_checkpoint(tmp_path: Path, name: str, value: float) -> None:
    """Also with rare log lines: a step's loss is checked before its weights are scored or saved."""
    fine = {"loss": 1.0, "grad_norm": 1.0}
    run = Told(tmp_path, engine=Counting(lambda step: fine | ({name: value} if step >= 7 else {})))
    with pytest.raises(UserError, match=rf"{name} is {value} at step 7; .*{run.checkpoints.folder / 'step-5'}\b"):
        run.train(epochs=2, log_every=100, eval_every=8, save_every=9)
    assert run.evaluated == [5]
    assert [step for step, _ in run.best] == [5]
    assert run.saved() == [5]
    tensors, progress = newest(run.checkpoints)
    assert tensors["weight"][0] == progress.step == 5


def test_not_finite_before_the_first_checkpoint_says_that_there_is_none(tmp_path: Path) -> None:
    run = Told(tmp_path, engine=Counting(lambda step: {"loss": math.nan}))
    with pytest.raises(UserError, match="loss is nan at step 1; no checkpoint"):
        run.train(epochs=2, log_every=1)
    assert run.saved() == []


def interrupt_twice() -> None:
    interrupt()
    interrupt()


def after(step: int, act: Callable[[], None]) -> Callable[[int], dict[str, float]]:
    """Return the losses of a counting engine that calls `act` in the middle of step number `step`."""

    def losses(found: int) -> dict[str, float]:
        if found == step:
            act()
        return {"loss": float(found)}

    return losses


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_after_the_step_with_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    run = Told(tmp_path, engine=Counting(after(3, lambda: signal.raise_signal(number))))
    with pytest.raises(Interrupted):
        run.train(epochs=2)
    assert run.saved() == [3]
    assert signal.getsignal(number) is before


def test_second_signal_stops_at_once(tmp_path: Path) -> None:
    run = Told(tmp_path, engine=Counting(after(3, interrupt_twice)))
    with pytest.raises(KeyboardInterrupt):
        run.train(epochs=2)
    assert run.saved() == []


def test_signal_in_the_middle_of_another_message_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python raises an error for a nested write to stderr; the run must still end with a checkpoint."""

    def say(text: str = "", *, urgent: bool = False) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    run = Told(tmp_path, engine=Counting(after(3, interrupt)))
    monkeypatch.setattr(console, "say", say)
    with pytest.raises(Interrupted):
        run.train(epochs=2)
    assert run.saved() == [3]


def test_signal_during_the_last_step_is_heard_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    """Scoring the test split, after the loop, may take minutes."""
    run = Told(tmp_path, engine=Counting(after(10, interrupt)))
    with pytest.raises(Interrupted):
        run.train(epochs=2)
    assert run.evaluated == [5, 10]
    again = Told(tmp_path)
    assert again.train(epochs=2).step == 10
    assert not again.engine.calls
    assert not again.evaluated


def test_trains_outside_the_main_thread(tmp_path: Path) -> None:
    """Python allows signal handlers in the main thread alone."""
    found: list[Progress] = []
    thread = threading.Thread(target=lambda: found.append(Told(tmp_path).train(epochs=1)))
    thread.start()
    thread.join()
    assert found[0].step == 5
