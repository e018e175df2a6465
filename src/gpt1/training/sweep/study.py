"""Optuna study of a sweep: a journal file in the sweep's directory, shared by all processes and machines.

Each process updates a heartbeat file every few seconds. If a process is lost, its trial is marked as failed and queued
again with the same values and the same run directory, so that it resumes from its checkpoint.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gpt1 import console
from gpt1.errors import UserError
from gpt1.system.extras import install_command
from gpt1.tasks.metrics import SMALLER_IS_BETTER

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

HEARTBEAT_INTERVAL = 5.0
"""Seconds between two heartbeats."""
HEARTBEAT_TIMEOUT = 60.0
"""Seconds without a heartbeat after which a process on another machine counts as lost."""
NOT_COUNTED = "extra"
"""User attribute of an Optuna trial without a run of its own: one that was queued again, or one too many."""
RANDOM_TRIALS = 5
"""Random trials before the sampler (TPE) and the pruner use the results of other trials."""


def require_optuna() -> None:
    """Raise UserError if Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError(f"gpt1 sweep: Optuna is not installed; run: {install_command('sweep')}")


class Study:
    """The trials of a sweep: at most `trials` over all processes."""

    def __init__(self, out: Path, metric: str, trials: int, seed: int, prune: bool):
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.out, self.trials, self.seed = out, trials, seed
        self.maximise = metric not in SMALLER_IS_BETTER
        journal = out / "study.journal"
        # Optuna's default lock is a link, which some Windows file systems do not support.
        lock = JournalFileOpenLock(str(journal)) if os.name == "nt" else None
        self.optuna = optuna.create_study(
            study_name="sweep",
            storage=JournalStorage(JournalFileBackend(str(journal), lock)),
            load_if_exists=True,
            direction="maximize" if self.maximise else "minimize",
            pruner=optuna.pruners.MedianPruner(RANDOM_TRIALS) if prune else optuna.pruners.NopPruner(),
        )
        self._heartbeats = out / ".alive"
        self._heartbeats.mkdir(exist_ok=True)
        self._mine: set[int] = set()

    # ---- trials

    def counted(self) -> list[FrozenTrial]:
        """Return the counted trials by number: running, complete, pruned, or failed with an error of their own."""
        trials = self.optuna.get_trials(deepcopy=False)
        counted = [t for t in trials if t.state.name in ("RUNNING", "COMPLETE", "PRUNED") or "error" in t.user_attrs]
        return sorted(counted, key=lambda trial: trial.number)[: self.trials]

    def ask(self) -> Trial | None:
        """Return the next trial for this process; None if there are enough. Trials of lost processes come first."""
        import optuna

        for lost in [trial for trial in self.counted() if self._is_lost(trial)]:
            console.say(f"{directory(lost)}  was interrupted; resuming from its checkpoint")
            self.requeue(lost)
        if len(self.counted()) == self.trials:
            return None
        trial = self.optuna.ask()
        if trial.number not in [other.number for other in self.counted()]:  # another process took the last one
            trial.set_user_attr(NOT_COUNTED, True)
            self.optuna.tell(trial, state=optuna.trial.TrialState.FAIL)
            return None
        if "directory" not in trial.user_attrs:
            previous = [other for other in self.optuna.get_trials(deepcopy=False) if other.number < trial.number]
            number = sum(NOT_COUNTED not in other.user_attrs for other in previous)
            trial.set_user_attr("directory", f"trial-{number}")
        # Seeded per trial: a resumed sweep samples no value twice, and a single process is reproducible.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # for constant_liar in Optuna 4
            self.optuna.sampler = optuna.samplers.TPESampler(
                n_startup_trials=RANDOM_TRIALS, constant_liar=True, seed=(self.seed * 1_000_003 + trial.number) % 2**32
            )
        self._mine.add(trial.number)
        return trial

    def end(self, trial: Trial, state: str, value: float | None = None) -> None:
        """Record the final state (COMPLETE, PRUNED or FAIL) and value of a trial."""
        from optuna.trial import TrialState

        self.optuna.tell(trial, value, TrialState[state])

    def requeue(self, trial: Trial | FrozenTrial) -> None:
        """Queue an interrupted trial again, unless another process has just done so."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            self.optuna.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, UpdateFinishedTrialError):
            return
        self.optuna.enqueue_trial(trial.params, {"directory": directory(trial), NOT_COUNTED: True})
        self._heartbeat_file(trial.number).unlink(missing_ok=True)

    def running_elsewhere(self) -> list[str]:
        """Return the directory names of trials that other processes are running."""
        return [directory(trial) for trial in self.counted() if trial.state.name == "RUNNING"]

    def best(self) -> FrozenTrial | None:
        """Return the best complete trial; the first of equal ones."""
        return self.best_of([trial for trial in self.counted() if trial.state.name == "COMPLETE"])

    def best_of(self, complete: list[FrozenTrial]) -> FrozenTrial | None:
        """Return the best of some complete trials; None if there are none."""
        sign = -1 if self.maximise else 1
        return min(complete, key=lambda trial: (sign * trial.value, trial.number), default=None)

    def is_mine_to_finish(self) -> bool:
        """Return whether this process completes the sweep: no trial is running, and it ran the last one or none."""
        if self.running_elsewhere():
            return False
        last = max(self.counted(), key=lambda trial: trial.datetime_complete or datetime.min, default=None)
        return not self._mine or last is None or last.number in self._mine

    # ---- heartbeats

    @contextmanager
    def heartbeat(self, trial: Trial) -> Iterator[None]:
        """Update the heartbeat file of a trial inside the context."""
        path, ended = self._heartbeat_file(trial.number), threading.Event()
        path.write_text(f"{socket.gethostname()} {os.getpid()}\n", encoding="utf-8")

        def beat() -> None:
            while not ended.wait(HEARTBEAT_INTERVAL):
                with suppress(OSError):
                    path.touch()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            path.unlink(missing_ok=True)

    def _heartbeat_file(self, number: int) -> Path:
        return self._heartbeats / str(number)

    def _is_lost(self, trial: FrozenTrial) -> bool:
        if trial.state.name != "RUNNING":
            return False
        try:
            host, pid = self._heartbeat_file(trial.number).read_text(encoding="utf-8").split()
            age = self._now() - self._heartbeat_file(trial.number).stat().st_mtime
        except (FileNotFoundError, ValueError):  # not written yet, or killed while writing it
            started = trial.datetime_start or datetime.now()
            return (datetime.now() - started).total_seconds() > HEARTBEAT_TIMEOUT
        return age > HEARTBEAT_TIMEOUT or (host == socket.gethostname() and not _process_exists(int(pid)))

    def _now(self) -> float:
        """Return the file system's time: the clocks of several machines may differ."""
        clock = self._heartbeats / f"clock-{socket.gethostname()}-{os.getpid()}"
        clock.touch()
        now = clock.stat().st_mtime
        clock.unlink()
        return now


def directory(trial: Trial | FrozenTrial) -> str:
    """Return the name of a trial's run directory; a trial that was queued again keeps it."""
    return str(trial.user_attrs.get("directory", f"trial-{trial.number}"))


def _process_exists(pid: int) -> bool:
    if os.name == "nt":  # os.kill would end the process; rely on HEARTBEAT_TIMEOUT instead
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
