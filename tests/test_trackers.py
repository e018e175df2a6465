"""Trackers follow the run's log and never stop a run. Run: pytest tests/test_trackers.py"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpt1 import cli
from gpt1.checkpoint import event_log
from gpt1.checkpoint.event_log import Event, RunLog
from gpt1.config import TrackConfig
from gpt1.errors import UserError
from gpt1.training import trackers
from gpt1.training.trackers import attach_trackers, event_metrics

pytest.importorskip("torch", reason="one backend is enough here: MindSpore compiles for each of many short runs")

TEXTS = [{"text": f"{word} {i}", "label": label} for i in range(10) for word, label in (("good", 1), ("bad", 0))]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TEXTS))
    return folder


def finetuned(data: Path, out: Path, *flags: str) -> int:
    words = ["finetune", "--data", str(data), "--out", str(out), "--model", "random:tiny", "--device", "cpu"]
    return cli.main([*words, "--epochs", "2", "--batch-size", "10", "--log-every", "1", "--no-baseline", *flags])


def train(step: int, **values: Any) -> dict[str, Any]:
    return {"step": step, "loss": 1.0 / step, **values}


# ---- TensorBoard


def shown_by_tensorboard(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    """Return {tag: [(step, wall time, value), …]} as read by TensorBoard's own loader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    loader.Reload()
    tags = loader.Tags()["scalars"]
    return {tag: [(found.step, found.wall_time, found.value) for found in loader.Scalars(tag)] for tag in tags}


def logged(events: list[Event]) -> dict[str, list[tuple[int, float, float]]]:
    """Return the same from a log; TensorBoard's values are float32."""
    found: dict[str, list[tuple[int, float, float]]] = {}
    step = 0
    for event in events:
        step = event.get("step", step)
        for tag, value in event_metrics(event).items():
            found.setdefault(tag, []).append((step, event["time"], float(np.float32(value))))
    return found


def test_tensorboards_own_loader_reads_what_the_log_holds(data: Path, tmp_path: Path) -> None:
    assert finetuned(data, tmp_path / "run", "--track", "tensorboard") == 0
    expected = logged(event_log.read(tmp_path / "run" / "log.jsonl"))
    assert {"train/loss", "train/lr", "train/grad_norm", "valid/accuracy", "score/test/accuracy"} <= expected.keys()
    assert [point[0] for point in expected["train/loss"]] == [1, 2, 3, 4]
    assert shown_by_tensorboard(tmp_path / "run/trackers/tensorboard") == expected


def test_pretraining_is_followed_too(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat sat on the mat and the dog lay by the door\n<|endofbook|>\n" * 40)
    words = ["pretrain", "--corpus", str(tmp_path / "text.txt"), "--out", str(tmp_path / "run"), "--size", "tiny"]
    flags = ["--context", "16", "--batch-size", "4", "--max-steps", "2", "--log-every", "1", "--sample-tokens", "0"]
    assert cli.main([*words, *flags, "--vocab-size", "80", "--device", "cpu", "--track", "tensorboard"]) == 0
    expected = logged(event_log.read(tmp_path / "run" / "log.jsonl"))
    assert "valid/perplexity" in expected
    assert shown_by_tensorboard(tmp_path / "run/trackers/tensorboard") == expected


def test_a_run_that_goes_on_repeats_no_step(tmp_path: Path) -> None:
    """The log repeats the steps after the last checkpoint; the tracker keeps the values sent first."""
    log = RunLog(tmp_path / "log.jsonl")
    config = TrackConfig("tensorboard")
    with attach_trackers(config, log, tmp_path, {}):
        for step in (1, 2, 3):
            log.write("train", train(step))
    with attach_trackers(config, log, tmp_path, {}):
        log.write("resume", {"step": 1})
        for step in (2, 3, 4):
            log.write("train", train(step))
    found = shown_by_tensorboard(tmp_path / "trackers/tensorboard")
    assert [step for step, *_ in found["train/loss"]] == [1, 2, 3, 4]


def test_a_tracker_that_comes_later_gets_what_was_before(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.write("train", train(1))
    with attach_trackers(TrackConfig("tensorboard"), log, tmp_path, {}):
        log.write("train", train(2))
    assert shown_by_tensorboard(tmp_path / "trackers/tensorboard") == logged(event_log.read(log.path))


def test_settings_of_tracking_may_change_when_a_run_goes_on(data: Path, tmp_path: Path) -> None:
    assert finetuned(data, tmp_path / "run") == 0
    assert finetuned(data, tmp_path / "run", "--track", "tensorboard") == 0


def test_a_finished_run_is_sent_to_a_tracker_that_comes_after_it(data: Path, tmp_path: Path) -> None:
    assert finetuned(data, tmp_path / "run") == 0
    assert finetuned(data, tmp_path / "run", "--track", "tensorboard") == 0
    expected = logged(event_log.read(tmp_path / "run/log.jsonl"))
    assert shown_by_tensorboard(tmp_path / "run/trackers/tensorboard") == expected
    assert finetuned(data, tmp_path / "run", "--track", "tensorboard") == 0
    assert shown_by_tensorboard(tmp_path / "run/trackers/tensorboard") == expected, "each figure once"


def test_where_the_figures_are_seen_is_said(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert finetuned(data, tmp_path / "run", "--track", "tensorboard") == 0
    folder = tmp_path / "run/trackers/tensorboard"
    assert f"--track tensorboard: tensorboard --logdir {folder}" in capsys.readouterr().err


# ---- a tracker that fails


class Broken:
    """A tracker that opens and fails at step 2."""

    id = "broken"
    location = "nowhere"

    def __init__(self, run: trackers.TrackedRun):
        self.written: list[int] = []

    def write(self, step: int, time: float, figures: Any) -> None:
        if step == 2:
            raise ConnectionError("no network\nand much more")
        self.written.append(step)

    def close(self) -> None:
        raise AssertionError("nothing is left to close")


def test_a_tracker_that_fails_says_so_once_and_the_run_goes_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trackers.TRACKER_CLASSES, "tensorboard", Broken)
    assert finetuned(data, tmp_path / "run", "--track", "tensorboard") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "--track" in line]
    expected = "ConnectionError no network; the run continues without it, log.jsonl has all events"
    assert lines == ["--track tensorboard: nowhere", f"--track tensorboard: {expected}"]
    assert (tmp_path / "run/metrics.json").exists()


def test_a_tracker_that_cannot_be_opened_does_not_stop_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: trackers.TrackedRun) -> Any:
        raise SystemExit("log in first")

    monkeypatch.setitem(trackers.TRACKER_CLASSES, "tensorboard", refuse)
    log = RunLog(tmp_path / "log.jsonl")
    with attach_trackers(TrackConfig("tensorboard"), log, tmp_path, {}):
        log.write("train", train(1))
        log.write("train", train(2))
    assert [event["step"] for event in event_log.read(log.path)] == [1, 2]
    assert capsys.readouterr().err.count("SystemExit log in first") == 1


def test_a_tracker_that_hangs_does_not_hold_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(run: trackers.TrackedRun) -> Any:
        time.sleep(10)

    monkeypatch.setitem(trackers.TRACKER_CLASSES, "tensorboard", hang)
    monkeypatch.setattr(trackers, "CLOSE_TIMEOUT", 0.1)
    log, started = RunLog(tmp_path / "log.jsonl"), time.perf_counter()
    with attach_trackers(TrackConfig("tensorboard"), log, tmp_path, {}):
        log.write("train", train(1))
    assert time.perf_counter() - started < 5
    assert "no answer for 0 s" in capsys.readouterr().err


def test_a_tracker_without_its_package_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert finetuned(tmp_path / "nowhere", tmp_path / "run", "--track", "wandb") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == "gpt1: --track wandb: the package is not installed; run: pip install wandb"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"track": "tensorbord"}, "--track tensorbord: expected one of tensorboard, wandb, mlflow, trackio"),
        ({"track_project": " "}, "--track-project ' ': expected a name"),
    ],
)
def test_unknown_trackers_are_refused_with_the_known_ones(settings: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        TrackConfig(**settings)


# ---- the other trackers, with fake modules


def fake_wandb(calls: list[Any]) -> ModuleType:
    """Fake of `wandb` and `trackio`: init(…) returns a run with log(metrics, step=…) and finish()."""

    def init(**words: Any) -> Any:
        calls.append(words)
        return SimpleNamespace(
            url=None,
            dir="here",
            log=lambda found, step: calls.append((step, found)),
            finish=lambda: calls.append("finish"),
        )

    return SimpleNamespace(init=init)  # type: ignore[return-value]


class FakeMlflow(ModuleType):
    def __init__(self, calls: list[Any]):
        super().__init__("mlflow")
        entities = ModuleType("mlflow.entities")
        entities.Metric = lambda *words: words  # type: ignore[attr-defined]
        entities.Param = lambda *words: words  # type: ignore[attr-defined]
        self.entities = entities
        self.MlflowClient = lambda: SimpleNamespace(
            tracking_uri="http://mlflow",
            get_experiment_by_name=lambda name: None,
            create_experiment=lambda name: calls.append(name) or "7",
            create_run=lambda number, run_name: (
                calls.append((number, run_name)) or SimpleNamespace(info=SimpleNamespace(run_id="given"))
            ),
            update_run=lambda run, status: calls.append((run, status)),
            log_batch=lambda run, **words: calls.append((run, words)),
            set_terminated=lambda run: calls.append((run, "ended")),
        )


def followed_twice(tmp_path: Path, name: str) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    for step in (1, 2):
        with attach_trackers(TrackConfig(name, "mine"), log, tmp_path, {"lr": 0.5, "track": name}):
            log.write("train", {"step": step, "loss": 0.25, "unknown": None})


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    def install(name: str, module: Any) -> None:
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr("importlib.util.find_spec", lambda found: found)

    return install


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_wandb_and_trackio_get_figures_by_step_and_know_a_run_again(
    tmp_path: Path, name: str, installed: Callable[[str, Any], None]
) -> None:
    calls: list[Any] = []
    installed(name, fake_wandb(calls))
    followed_twice(tmp_path, name)
    first, one, done, second, two, _ = calls
    assert (one, two, done) == ((1, {"train/loss": 0.25}), (2, {"train/loss": 0.25}), "finish")
    assert first == second
    assert (first["project"], first["config"], first["resume"]) == ("mine", {"lr": 0.5}, "allow")


def test_mlflow_makes_one_run_and_goes_on_with_it(tmp_path: Path, installed: Callable[[str, Any], None]) -> None:
    calls: list[Any] = []
    fake = FakeMlflow(calls)
    installed("mlflow", fake)
    installed("mlflow.entities", fake.entities)
    followed_twice(tmp_path, "mlflow")
    assert calls[:3] == ["mine", ("7", tmp_path.as_posix()), ("given", {"params": [("lr", "0.5")]})]
    (run, sent), ended, again = calls[3:6]
    assert (run, [metric[:2] + metric[3:] for metric in sent["metrics"]]) == ("given", [("train/loss", 0.25, 1)])
    assert (ended, again) == (("given", "ended"), ("given", "RUNNING"))
    assert len(calls) == 8
