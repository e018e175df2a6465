"""Training loop shared by pretraining and fine-tuning.

Each step is a function of its number and of the state in the checkpoint. A resumed run therefore repeats the
computation of an uninterrupted one, bit for bit on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from gpt1 import console
from gpt1.backends.base import Batch, Engine, StepResult
from gpt1.backends.dist import Ranks, SingleProcess
from gpt1.backends.optim import learning_rate
from gpt1.checkpoint.event_log import RunLog
from gpt1.checkpoint.train_state import Checkpoints, Progress
from gpt1.config import LoopConfig, OptimConfig
from gpt1.errors import Interrupted, UserError
from gpt1.tasks.metrics import better
from gpt1.training.signals import graceful_stop


class Source(Protocol):
    """Source of training batches."""

    steps_per_epoch: int

    def micro_batches(self, step: int) -> list[Batch]:
        """Return the micro-batches of optimizer step `step` (0-based)."""


Validate = Callable[[], dict[str, float]]
"""Function that scores the engine's current weights on the validation split: {"loss": …, metric: …}."""


def total_steps(config: LoopConfig, steps_per_epoch: int) -> int:
    """Return the number of optimizer steps of a run."""
    steps = max(1, math.ceil(config.epochs_of(steps_per_epoch) * steps_per_epoch - 1e-9))
    return min(steps, config.max_steps) if config.max_steps else steps


def train(
    engine: Engine,
    source: Source,
    config: LoopConfig,
    optim: OptimConfig,
    *,
    validate: Validate | None,
    criterion: str,
    save_best: Callable[[Progress], None],
    checkpoints: Checkpoints,
    log: RunLog,
    ranks: Ranks | None = None,
    on_evaluate: Callable[[Progress], None] | None = None,
) -> Progress:
    """Train until the schedule ends, or until `config.patience` evaluations in a row bring no improvement.

    Training resumes from the newest checkpoint if there is one. `criterion` names the value of `validate` that selects
    the best weights; `save_best` is called when the engine holds better ones, `on_evaluate` after each evaluation.
    Without `validate` nothing is evaluated, and the final weights are the model. Every rank of a distributed run calls
    this function with the same `config`; `validate` must return the same values on all of them.

    Raises:
        Interrupted: stopped by Ctrl-C, SIGTERM or SIGHUP, after saving a checkpoint.
        UserError: the loss or the gradient norm is not finite; earlier checkpoints are kept.
        PeerLost: another rank has ended.
    """
    progress = _resume(engine, checkpoints, log)
    last = total_steps(config, source.steps_per_epoch)
    pending: list[tuple[int, StepResult]] = []
    meter = _Meter(progress, last)
    ranks = ranks or SingleProcess()
    with graceful_stop() as stop, _CheckpointWriter(checkpoints) as saver:
        try:
            while True:
                # ---- evaluate, save (first, because a resumed run may not have evaluated its last step yet)
                step = progress.step
                ended = step >= last
                due = ended or _due(step, config.eval_every, source.steps_per_epoch)
                if validate and step > progress.last_eval_step and due:
                    _read(pending, progress, saver)
                    _evaluate(validate, criterion, save_best, progress, source, log)
                    if on_evaluate:
                        on_evaluate(progress)
                    meter.restart()
                ended = ended or (config.patience is not None and progress.evals_without_improvement >= config.patience)
                (interrupted,) = ranks.total(stop.is_set())
                if step > meter.saved and (
                    ended or interrupted or _due(step, config.save_every, source.steps_per_epoch)
                ):
                    _read(pending, progress, saver)
                    meter.save(engine, saver, log)
                if interrupted or ended:
                    saver.wait()
                if interrupted:
                    raise Interrupted
                if ended:
                    return progress
                # ---- one step
                batches = source.micro_batches(step)
                rate = learning_rate(step, last, optim)
                result = engine.train_step(batches, lr=rate, step=step)
                progress.step += 1
                pending.append((progress.step, result))
                (tokens,) = ranks.total(
                    sum(int(batch.eos_positions.sum()) + len(batch.eos_positions) for batch in batches)
                )
                progress.tokens += int(tokens)
                meter.count(int(tokens))
                # ---- log
                if progress.step % config.log_every == 0 or progress.step == last:
                    _read(pending, progress, saver)
                    log.write("train", meter.report() | {"lr": rate, "epoch": progress.step / source.steps_per_epoch})
        finally:
            meter.close()


def _resume(engine: Engine, checkpoints: Checkpoints, log: RunLog) -> Progress:
    checkpoint = checkpoints.load_newest(console.say)
    if checkpoint is None:
        return Progress()
    tensors, progress = checkpoint
    engine.load_parameters(tensors)
    engine.load_optimizer_state(tensors, progress.step)
    log.write("resume", {"step": progress.step})
    console.say(f"Resuming after step {progress.step:,}.")
    return progress


def _due(step: int, every: int | None, steps_per_epoch: int) -> bool:
    return step > 0 and (step % steps_per_epoch == 0 or (every is not None and step % every == 0))


def _read(pending: list[tuple[int, StepResult]], progress: Progress, saver: _CheckpointWriter) -> None:
    """Move step results from the device to `progress`; this is the only place that waits for the device."""
    for step, result in pending:
        values = result.read()
        for name, value in values.items():
            if not math.isfinite(value):
                kept = saver.kept()
                where = f"the last good checkpoint is {kept[0]}" if kept else "no checkpoint had been written yet"
                raise UserError(f"{name} is {value} at step {step}; {where}. Try a lower --lr, or --dtype float32")
        progress.unlogged.append(values)
    pending.clear()


def _evaluate(
    validate: Validate,
    criterion: str,
    save_best: Callable[[Progress], None],
    progress: Progress,
    source: Source,
    log: RunLog,
) -> None:
    scores = validate()
    value, step = scores[criterion], progress.step
    improved = progress.best is None or better(criterion, value, progress.best)
    epoch = step / source.steps_per_epoch
    log.write("evaluate", {"split": "valid", "step": step, "epoch": epoch, "metric": criterion} | scores)
    summary = "  ".join(f"{name} {score:.4f}" for name, score in scores.items())
    console.say(f"step {step:,}  valid  {summary}{'  (best)' if improved else ''}")
    if improved:
        best = replace(progress, best=value, best_step=step)
        save_best(best)
        progress.best, progress.best_step, progress.evals_without_improvement = value, step, 0
    else:
        progress.evals_without_improvement += 1
    progress.last_eval_step = step


class _Meter:
    """Training time, token throughput and progress bar of a run."""

    def __init__(self, progress: Progress, total: int):
        self.progress, self.saved = progress, progress.step
        self.bar = console.Bar(total, "training", "step", done=progress.step)
        self.started = time.perf_counter()
        self.before = progress.seconds
        self.restart()

    def restart(self) -> None:
        """Restart the throughput interval, so that it excludes evaluation and saving."""
        self.interval_started, self.tokens = time.perf_counter(), 0

    def count(self, tokens: int) -> None:
        self.tokens += tokens
        self.bar.advance()

    def seconds(self) -> float:
        return round(self.before + time.perf_counter() - self.started, 2)

    def report(self) -> dict[str, Any]:
        """Return the means over the steps since the last report, and the throughput."""
        steps = self.progress.unlogged
        means = {name: float(np.mean([values[name] for values in steps])) for name in steps[0]}
        steps.clear()
        speed = self.tokens / (time.perf_counter() - self.interval_started)
        self.restart()
        self.bar.advance(0, loss=f"{means['loss']:.3f}", tok_s=f"{speed:,.0f}")
        return {"step": self.progress.step, **means, "tokens_per_second": round(speed, 1), "seconds": self.seconds()}

    def save(self, engine: Engine, saver: _CheckpointWriter, log: RunLog) -> None:
        self.progress.seconds = self.seconds()
        saver.save(engine, self.progress)
        self.saved = self.progress.step
        log.write("checkpoint", {"step": self.saved, "seconds": self.progress.seconds})
        self.restart()

    def close(self) -> None:
        self.bar.close()


class _CheckpointWriter:
    """Writer of checkpoints in a background thread, one at a time.

    Leaving the context waits for the last checkpoint to be complete.
    """

    def __init__(self, checkpoints: Checkpoints):
        self.checkpoints = checkpoints
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[Path] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()

    def save(self, engine: Engine, progress: Progress) -> None:
        """Copy the state and start writing it, after the previous checkpoint is complete; no-op if read-only."""
        if self.checkpoints.read_only:
            return
        self.wait()
        tensors = engine.parameters() | engine.optimizer_state()
        snapshot = replace(progress, unlogged=list(progress.unlogged))
        self._pending = self._thread.submit(self.checkpoints.save, tensors, snapshot)

    def wait(self) -> None:
        """Wait until the pending checkpoint is on disk; re-raise the error of writing it."""
        pending, self._pending = self._pending, None
        if pending:
            pending.result()

    def kept(self) -> list[Path]:
        """Return the paths of the checkpoints on disk, newest first."""
        self.wait()
        return self.checkpoints.paths()
