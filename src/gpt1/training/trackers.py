"""Experiment trackers that follow a run's log: TensorBoard, Weights & Biases, MLflow, trackio.

Each tracker receives the events of the run's log in a thread of its own, so that training never waits for it. What has
been sent is recorded in OUT/trackers/NAME.json: a resumed run sends no step twice, and a tracker added later receives
the earlier events from the log. If a tracker fails, a notice is printed once and the run continues without it.
"""

from __future__ import annotations

import importlib.util
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from gpt1 import console
from gpt1.checkpoint import event_log
from gpt1.checkpoint.event_log import Event, RunLog
from gpt1.config import TrackConfig
from gpt1.errors import UserError
from gpt1.system.files import read_json, write_json

CLOSE_TIMEOUT = 30.0
"""Timeout in seconds for sending the remaining events at the end of a run."""


@dataclass(frozen=True)
class TrackedRun:
    """Description of a run for a tracker."""

    project: str
    name: str
    id: str
    """The tracker's identifier of the run, kept when the run is resumed."""
    resumed: bool
    folder: Path
    """Directory for the tracker's files."""
    settings: dict[str, Any]
    """{"optim.lr": 6.25e-05, …}"""


class Tracker(Protocol):
    """A tracker with an open run."""

    id: str
    location: str
    """Where to view the run: an address, or a command that shows it."""

    def write(self, step: int, time: float, numbers: Mapping[str, float]) -> None:
        """Send {"train/loss": 0.69, …} of optimizer step `step`; `time` is in seconds since 1970."""

    def close(self) -> None:
        """Send buffered values and mark the run as ended."""


class TensorBoard:
    """TensorBoard event files in OUT/trackers/tensorboard: float32 scalars, one file per start of the run."""

    def __init__(self, run: TrackedRun):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.id = run.id
        self.location = f"tensorboard --logdir {run.folder / 'tensorboard'}"
        self._file = EventFileWriter(str(run.folder / "tensorboard"))

    def write(self, step: int, time: float, numbers: Mapping[str, float]) -> None:
        """Append the values to the event file and flush it."""
        from tensorboard.compat.proto.event_pb2 import Event as Record
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        self._file.add_event(Record(wall_time=time, step=step, summary=Summary(value=values)))
        self._file.flush()

    def close(self) -> None:
        """Close the event file."""
        self._file.close()


class WeightsAndBiases:
    """Weights & Biases: requires `wandb login` or WANDB_API_KEY, or WANDB_MODE=offline (files in OUT/trackers)."""

    def __init__(self, run: TrackedRun):
        import wandb

        self.id = run.id
        self._run = wandb.init(
            project=run.project, name=run.name, id=run.id, resume="allow", dir=str(run.folder), config=run.settings
        )
        self.location = str(self._run.url or self._run.dir)

    def write(self, step: int, time: float, numbers: Mapping[str, float]) -> None:
        """Log the values at `step`; wandb records its own time."""
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        """Upload what is buffered and finish the run."""
        self._run.finish()


class MLflow:
    """MLflow at MLFLOW_TRACKING_URI, by default MLflow's own."""

    def __init__(self, run: TrackedRun):
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._client, self._metric = MlflowClient(), Metric
        self.location = f"experiment {run.project} of {self._client.tracking_uri}"
        if run.resumed:
            self.id = run.id
            self._client.update_run(self.id, status="RUNNING")
            return
        experiment = self._client.get_experiment_by_name(run.project)
        number = experiment.experiment_id if experiment else self._client.create_experiment(run.project)
        self.id = self._client.create_run(number, run_name=run.name).info.run_id
        self._client.log_batch(self.id, params=[Param(name, str(value)) for name, value in run.settings.items()])

    def write(self, step: int, time: float, numbers: Mapping[str, float]) -> None:
        """Log the values as one batch of metrics."""
        metrics = [self._metric(name, value, round(time * 1000), step) for name, value in numbers.items()]
        self._client.log_batch(self.id, metrics=metrics)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self.id)


class Trackio:
    """trackio, a local tracker with wandb's interface.

    It identifies a run by its name. It prints on stdout, which is reserved for --json, so its output goes to stderr.
    """

    def __init__(self, run: TrackedRun):
        import trackio

        self.id = run.id
        self.location = f"trackio show --project {run.project}"
        with redirect_stdout(sys.stderr):
            self._run = trackio.init(
                project=run.project, name=f"{run.name} {run.id}", resume="allow", config=run.settings, embed=False
            )

    def write(self, step: int, time: float, numbers: Mapping[str, float]) -> None:
        """Log the values at `step`; trackio records its own time."""
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        """Finish the run."""
        with redirect_stdout(sys.stderr):
            self._run.finish()


TRACKER_CLASSES: dict[str, Callable[[TrackedRun], Tracker]] = {
    "tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow, "trackio": Trackio,
}  # fmt: skip
"""By the name in `--track`, which is also the package name."""


def require_trackers(config: TrackConfig) -> None:
    """Check that the package of each tracker is installed.

    Raises:
        UserError: one is not.
    """
    for name in config.names:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"--track {name}: the package is not installed; run: pip install {name}")


@contextmanager
def attach_trackers(config: TrackConfig, log: RunLog, out: Path, settings: Any) -> Iterator[None]:
    """Send the events of `log` to the trackers of `config` inside the context.

    `settings` is the run's configuration dataclass, sent as the run's parameters.

    Raises:
        UserError: the package of a tracker is not installed.
    """
    require_trackers(config)
    followers = [_Follower(name, log, out, config.track_project, _flat(settings)) for name in config.names]
    log.followers.extend(followers)
    try:
        yield
        for follower in followers:
            follower.catch_up()
    finally:
        for follower in followers:
            log.followers.remove(follower)
            follower.close()


def event_metrics(event: Event) -> dict[str, float]:
    """Return the numbers of an event by their names in trackers: train/loss, valid/accuracy, score/test/f1."""
    match event["event"]:
        case "train":
            prefix = "train"
        case "evaluate":
            prefix = str(event["split"])
        case "score":
            prefix = f"score/{event['split']}"
        case _:
            return {}
    return {
        f"{prefix}/{name}": float(value)
        for name, value in event.items()
        if name not in ("step", "time") and isinstance(value, int | float) and not isinstance(value, bool)
    }


class _Follower:
    """Sends the events of a log to a tracker, in a thread that starts with the first event."""

    def __init__(self, name: str, log: RunLog, out: Path, project: str, settings: dict[str, Any]):
        self.name, self.log, self.folder = name, log, out / "trackers"
        self._state_path = self.folder / f"{name}.json"
        self._run_info: dict[str, Any] = {"project": project, "name": out.as_posix(), "settings": settings}
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def __call__(self, event: Event) -> None:
        if self._thread is None:
            self.catch_up()
        else:
            self._events.put(event)

    def catch_up(self) -> None:
        """Start the thread, if it is not running, with all events in the log: also for a run finished earlier."""
        if self._thread is None and not self.log.read_only and self.log.path.exists():
            for event in event_log.read(self.log.path):
                self._events.put(event)
            self._thread = threading.Thread(target=self._send_events, name=f"tracker {self.name}", daemon=True)
            self._thread.start()

    def close(self) -> None:
        if self._thread is None:
            return
        self._events.put(None)
        self._thread.join(CLOSE_TIMEOUT)
        if self._thread.is_alive():
            self._report_failure(f"no answer for {CLOSE_TIMEOUT:.0f} s")

    def _send_events(self) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
            state = read_json(self._state_path) if self._state_path.exists() else {}
            name = state.get("id") or secrets.token_hex(8)
            tracker = TRACKER_CLASSES[self.name](
                TrackedRun(id=name, resumed=bool(state), folder=self.folder, **self._run_info)
            )
            console.say(f"--track {self.name}: {tracker.location}")
            sent: dict[str, int] = state.get("sent", {})
            step = 0
            while (event := self._events.get()) is not None:
                step = int(event.get("step", step))
                kind = f"{event['event']} {event.get('split', '')}".strip()
                values = event_metrics(event)
                if values and step > sent.get(kind, -1):
                    tracker.write(step, event["time"], values)
                    sent[kind] = step
                    write_json(self._state_path, {"id": tracker.id, "sent": sent})
            tracker.close()
        except (Exception, SystemExit) as error:
            self._report_failure(f"{type(error).__name__} {error}".strip().partition("\n")[0])

    def _report_failure(self, reason: str) -> None:
        console.say(f"--track {self.name}: {reason}; the run continues without it, log.jsonl has all events")


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Return a nested dataclass as one level of JSON values, with names such as "optim.lr"."""
    flat: dict[str, Any] = {}
    for name, value in (asdict(settings) if is_dataclass(settings) else settings).items():  # type: ignore[arg-type]
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is not None and name not in ("track", "track_project"):
            flat[prefix + name] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
