"""Hyperparameter search for fine-tuning (`gpt1 sweep`).

Each trial is an ordinary run in OUT/trial-N that is not scored on the test split; its checkpoints are removed once
another trial is better. The best trial is completed, and scored on the test split, in OUT/best. Several processes, also
on several machines, can run the same command at once and share the study; the last to end completes the best run.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gpt1 import backends, console
from gpt1.checkpoint import event_log
from gpt1.checkpoint.event_log import Event
from gpt1.checkpoint.run_dir import ADAPTED, RunDirectory, notices
from gpt1.config import DeviceConfig, FinetuneConfig, SweepConfig, TrackConfig
from gpt1.errors import Interrupted, UserError
from gpt1.evaluation import report
from gpt1.evaluation.report.command import command_line
from gpt1.evaluation.report.record import Record
from gpt1.system.files import replace_directory, write_json
from gpt1.tasks.dataset import TaskData, load_data
from gpt1.tasks.metrics import own_metric
from gpt1.training.defaults import with_split_version
from gpt1.training.finetune import finetune, require_settings
from gpt1.training.setup import selection_metric, starting_model
from gpt1.training.sweep import display
from gpt1.training.sweep.space import Dimension, parse, require_disjoint, with_values
from gpt1.training.sweep.study import Study, directory, require_optuna

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial


@dataclass(frozen=True)
class SweepIdentity:
    """Settings that must be equal for a sweep to be resumed."""

    finetune: FinetuneConfig
    search: str

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build the settings from the `config` of a config.json."""
        return cls(FinetuneConfig.from_dict(values["finetune"]), values["search"])


def sweep(config: FinetuneConfig, how: SweepConfig) -> dict[str, Any]:
    """Search for the settings with the best validation metric, or resume the sweep in `config.out`.

    Returns the content of OUT/sweep.json: {"metric", "maximise", "search", "trials": [{"run", "state", "value",
    "settings", "error"}], "best": {"run", "value", "settings", "path", "test": {metric: value, …}}}; "best" is None
    while other processes still run trials.

    Raises:
        UserError: the settings, the data or the search space are invalid, all trials failed, or `config.out` holds
            another sweep.
        Interrupted: stopped by the user; the same call resumes the current trial from its checkpoint.
    """
    require_optuna()
    require_settings(config)
    started = time.monotonic()
    # with fixed splits, so that no trial trains on the test rows of another
    base = with_split_version(config, config.out).with_fixed_splits()
    dimensions = parse(how.search, base)
    require_disjoint(base, dimensions)
    backends.check(config.hardware)
    data = load_data(base)
    head = starting_model(base, data).config.head
    assert head is not None
    metric = selection_metric(base, head, own_metric(config.metric))
    _open_directory(config, base, how, data)
    study = Study(config.out, metric, how.trials, base.loop.seed, how.prune)
    names = ", ".join(dimension.name for dimension in dimensions)
    console.say(f"Searching {names} by validation {metric}: {how.trials} trials in {config.out}")
    if base.adaptation.adapt:
        console.say(f"Adapting {base.model} first, once for all trials; progress: {notices(base.out / 'trial-0')}")
    while how.timeout is None or time.monotonic() - started < how.timeout:
        trial = study.ask()
        if trial is None:
            break
        _run_trial(trial, study, base, dimensions)
    return _finish_sweep(study, base, how, metric)


def _open_directory(config: FinetuneConfig, base: FinetuneConfig, how: SweepConfig, data: TaskData) -> None:
    """Create the sweep's directory, or check that it holds this sweep."""
    digest = hashlib.sha256()
    for name, examples in data.splits.items():
        for example in examples:
            digest.update(repr((name, example.parts, example.choices, example.label)).encode())
    identity = SweepIdentity(replace(base, out=Path(), hardware=DeviceConfig(), tracking=TrackConfig()), how.search)
    run = RunDirectory(config.out)
    was_there = run.started
    try:
        run.open("sweep", identity, {"data_sha256": digest.hexdigest()})
    except UserError:
        if was_there or not run.started:
            raise
        run.open("sweep", identity, {"data_sha256": digest.hexdigest()})  # another process has just opened it


# ---- one trial


def _run_trial(trial: Trial, study: Study, base: FinetuneConfig, dimensions: tuple[Dimension, ...]) -> None:
    """Run a trial, or resume an interrupted one, and report its outcome to the study."""
    from optuna import TrialPruned

    started = time.perf_counter()
    out = base.out / directory(trial)
    with study.heartbeat(trial):
        settings = {dimension.name: dimension.suggest(trial) for dimension in dimensions}
        config = replace(with_values(base, settings), out=out)
        try:
            with console.notices_to(notices(out)):
                results = finetune(
                    config, on_event=_TrialReporter(trial, config), score=False, adapted=base.out / ADAPTED
                )
            study.end(trial, "COMPLETE", results["best"])
            ended = f"{results['best']:.4f} at step {results['best_step']:,}"
        except TrialPruned:
            study.end(trial, "PRUNED")
            ended = "pruned"
        except UserError as error:
            _require_new(study, str(error))
            trial.set_user_attr("error", str(error))
            study.end(trial, "FAIL")
            ended = f"failed: {error}"
        except (Interrupted, KeyboardInterrupt):
            study.requeue(trial)
            raise
        except BaseException as error:
            trial.set_user_attr("error", f"{type(error).__name__} {error}")
            study.end(trial, "FAIL")
            raise
    console.say(f"{out.name}  {display.settings_line(settings)}  {ended}  ({time.perf_counter() - started:.0f} s)")
    _remove_checkpoints(study)


class _TrialReporter:
    """Callback that reports each evaluation to the trial and prunes a trial worse than others at the same epoch."""

    def __init__(self, trial: Trial, config: FinetuneConfig):
        self.trial, self.steps = trial, math.inf
        self.reported: set[int] = set()
        log = RunDirectory(config.out).log.path
        for event in event_log.read(log) if log.exists() else ():  # before the interruption
            self._report(event)

    def __call__(self, event: Event) -> None:
        from optuna import TrialPruned

        if self._report(event) and event["step"] < self.steps and self.trial.should_prune():
            raise TrialPruned

    def _report(self, event: Event) -> bool:
        """Report an evaluation by hundredths of an epoch, which are comparable across batch sizes."""
        if event["event"] == "start":
            self.steps = event.get("steps", math.inf)
        if event["event"] != "evaluate" or (value := event.get(event["metric"])) is None:
            return False
        at = round(100 * event["epoch"])
        if at in self.reported:
            return False
        self.reported.add(at)
        self.trial.report(value, at)
        return True


def _require_new(study: Study, error: str) -> None:
    """Raise UserError if no trial has succeeded and an earlier one failed with the same error.

    The cause is then not the searched values.
    """
    trials = study.counted()
    if not study.best() and any(trial.user_attrs.get("error") == error for trial in trials):
        raise UserError(error)


def _remove_checkpoints(study: Study) -> None:
    """Remove the checkpoints of all ended trials except the best, which is still to be completed.

    Several processes may do this at once: a trial that is not the best never becomes the best again.
    """
    ended = [trial for trial in study.counted() if trial.state.name in ("COMPLETE", "PRUNED", "FAIL")]
    complete = [trial for trial in ended if trial.state.name == "COMPLETE"]
    best = study.best_of(complete)
    for trial in ended:
        if trial is not best:
            shutil.rmtree(RunDirectory(study.out / directory(trial)).checkpoints.folder, ignore_errors=True)


# ---- the best one


def _finish_sweep(study: Study, base: FinetuneConfig, how: SweepConfig, metric: str) -> dict[str, Any]:
    best, running = study.best(), study.running_elsewhere()
    table: dict[str, Any] = {
        "metric": metric, "maximise": study.maximise, "search": how.search,
        "trials": [_row(trial) for trial in study.counted()], "best": None,
    }  # fmt: skip
    if running:
        console.say(
            f"{', '.join(running)}: still running in other processes; the last one to end completes the best run."
        )
    if running or not study.is_mine_to_finish():
        return table
    if best is None:
        errors = [row["error"] for row in table["trials"] if row["error"]]
        raise UserError(f"no trial completed{f' ({errors[-1]})' if errors else ''}; the runs are in {base.out}")
    display.show(table, directory(best))
    results = _score_best(best, base)
    split = results["baseline_split"]
    scored = {name: value for name, value in results[split].items() if isinstance(value, int | float)}
    table["best"] = _row(best) | {"path": str(base.out / "best"), split: scored}
    write_json(base.out / "sweep.json", table)
    plots = display.plot(study, base.out, metric)
    report.write([base.out / "best"])  # again, now with the results of the search
    console.say(
        f"Best run: {base.out / 'best'}   table: {base.out / 'sweep.json'}   plots: {', '.join(map(str, plots))}"
    )
    again = command_line(Record.read(base.out / "best"), base.out.with_name(f"{base.out.name}-seeds"))
    console.say(f"Next, other seeds: {again} --seeds 5")
    return table


def _score_best(best: FrozenTrial, base: FinetuneConfig) -> dict[str, Any]:
    """Score the best trial's model in OUT/best, a copy of the trial's run that is completed like any run."""
    trial = RunDirectory(base.out / directory(best))
    config = replace(with_values(base, best.params), out=base.out / "best")
    run = RunDirectory(config.out)
    if not (run.started and _same(run, config)):

        def copy(folder: Path) -> None:
            shutil.copytree(trial.path, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("trackers"))

        replace_directory(run.path, copy)
    results = finetune(config, adapted=base.out / ADAPTED)
    for done in (trial, run):
        shutil.rmtree(done.checkpoints.folder, ignore_errors=True)
    return results


def _same(run: RunDirectory, config: FinetuneConfig) -> bool:
    try:
        run.require_same("finetune", config)
    except UserError:
        return False
    return True


def _row(trial: FrozenTrial) -> dict[str, Any]:
    state = trial.state.name.lower()
    ended, started = trial.datetime_complete, trial.datetime_start
    return {
        "run": directory(trial), "state": "failed" if state == "fail" else state,
        "value": trial.value if state == "complete" else None,
        "settings": dict(trial.params), "epochs_seen": max(trial.intermediate_values, default=0) / 100,
        "seconds": round((ended - started).total_seconds(), 1) if ended and started else None,
        "error": trial.user_attrs.get("error"),
    }  # fmt: skip
