"""Training curves: what is drawn, and identical bytes for the same log.

Run: pytest tests/test_report_curves.py
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from gpt1.evaluation.report import draw_curves

pytestmark = pytest.mark.figures

Event = dict[str, Any]


def train(step: int, loss: float = 0.5) -> Event:
    return {"event": "train", "step": step, "epoch": step / 10, "loss": loss, "lr": 1e-4 / step, "grad_norm": 1.5,
            "tokens_per_second": 900.0, "seconds": 0.1 * step}  # fmt: skip


def evaluate(step: int, loss: float, metric: str = "accuracy", split: str = "valid", **values: float) -> Event:
    return {"event": "evaluate", "split": split, "step": step, "loss": loss, "metric": metric, **values}


def run(steps: int = 40) -> list[Event]:
    generator = np.random.default_rng(0)
    events = [train(step, 0.7 - step / 100 + 0.1 * generator.random()) for step in range(1, steps + 1)]
    return [*events, evaluate(20, 0.4, accuracy=0.8), evaluate(40, 0.5, accuracy=0.75)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Saved figures, captured instead of written."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: figures.append(self))
    return figures


def bytes_of(log: Path | list[Event], folder: Path) -> bytes:
    out = folder / "curves.svg"
    draw_curves(log, out)
    return out.read_bytes()


def test_the_same_log_gives_the_same_bytes_without_a_date(tmp_path: Path) -> None:
    first = bytes_of(run(), tmp_path)
    assert first == bytes_of(run(), tmp_path)
    assert b"<svg" in first
    assert b"dc:date" not in first
    assert first != bytes_of(run(39), tmp_path)


def test_a_log_file_and_its_events_draw_the_same(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in run()), encoding="utf-8")
    assert bytes_of(path, tmp_path) == bytes_of(run(), tmp_path)


def test_the_training_curve_leaves_the_auxiliary_loss_out(tmp_path: Path) -> None:
    """The validation loss in the same panel is the task loss alone."""
    with_auxiliary = [event | ({"loss": 9.0, "task_loss": event["loss"]} if "lr" in event else {}) for event in run()]
    assert bytes_of(with_auxiliary, tmp_path) == bytes_of(run(), tmp_path)


def test_a_resumed_run_s_later_lines_win_and_other_events_are_ignored(tmp_path: Path) -> None:
    stale = [train(3, 99.0), evaluate(20, 99.0, accuracy=0.1)]
    other = [{"event": "start", "version": "1"}, evaluate(40, 9.0, split="test", accuracy=1.0), {"note": "no event"}]
    assert bytes_of([*other, *stale, *run(), *other], tmp_path) == bytes_of(run(), tmp_path)


def test_the_model_that_is_kept_is_ringed_in_both_panels(drawn: list[Figure], tmp_path: Path) -> None:
    draw_curves(run(), tmp_path / "curves.svg")
    losses, metric, rate, norm = drawn[0].axes
    assert [text.get_text() for axes in (losses, metric) for text in axes.texts] == ["best model 0.4", "best model 0.8"]
    assert metric.get_ylabel() == "accuracy (0 to 1)"
    assert losses.get_ylabel() == "loss (nats)"
    assert [axes.get_title(loc="left") for axes in (rate, norm)] == ["Learning rate", "Gradient norm (L2)"]
    assert norm.get_xlabel() == "optimizer step"


def test_a_smaller_error_is_better_and_the_first_of_equals_is_kept(drawn: list[Figure], tmp_path: Path) -> None:
    errors = {10: 0.9, 20: 0.5, 30: 0.5}
    events = [evaluate(step, step / 100, metric="mse", mse=error) for step, error in errors.items()]
    draw_curves([train(1), *events], tmp_path / "curves.svg")
    losses, metric = drawn[0].axes[:2]
    assert [text.get_text() for axes in (losses, metric) for text in axes.texts] == ["best model 0.2", "best model 0.5"]
    assert losses.get_ylabel() == "loss (label units²)"


def test_a_run_that_keeps_the_lowest_loss_shows_another_metric_beside_it(drawn: list[Figure], tmp_path: Path) -> None:
    events = [evaluate(10, 0.3, metric="loss", accuracy=0.7), evaluate(20, 0.6, metric="loss", accuracy=0.9)]
    draw_curves(events, tmp_path / "curves.svg")
    losses, metric = drawn[0].axes[:2]
    assert [text.get_text() for axes in (losses, metric) for text in axes.texts] == ["best model 0.3", "best model 0.7"]
    assert metric.get_ylabel() == "accuracy (0 to 1)"


@pytest.mark.parametrize(("validation", "offset"), [(0.6, 9), (0.4, -16)], ids=["above", "below"])
def test_label_of_the_best_model_avoids_the_training_curve(
    validation: float, offset: int, drawn: list[Figure], tmp_path: Path
) -> None:
    losses = [train(step, 2.0 if step < 50 else 0.5) for step in range(1, 101)]
    draw_curves([*losses, evaluate(50, 1.0, accuracy=0.5), evaluate(100, validation, accuracy=0.8)], tmp_path / "c.svg")
    [label] = [text for text in drawn[0].axes[0].texts if text.get_text().startswith("best model")]
    assert label.xyann == (0, offset)  # type: ignore[attr-defined]


def test_many_noisy_losses_are_smoothed_and_few_are_not(drawn: list[Figure], tmp_path: Path) -> None:
    events = [train(step, 1.0 if step % 2 else 3.0) for step in range(1, 101)]
    draw_curves(events, tmp_path / "curves.svg")
    draw_curves(events[:3], tmp_path / "curves.svg")
    raw, smooth = (np.asarray(line.get_ydata()) for line in drawn[0].axes[0].lines)
    assert raw.tolist() == [1.0, 3.0] * 50
    assert np.abs(smooth[5:-5] - 2.0).max() < 0.05  # the edges see half a window
    assert [np.asarray(line.get_ydata()).tolist() for line in drawn[1].axes[0].lines] == [[1.0, 3.0, 1.0]]


def test_values_that_are_not_finite_are_left_out(drawn: list[Figure], tmp_path: Path) -> None:
    draw_curves([train(1, math.nan), train(2, 0.5), train(3, math.inf)], tmp_path / "curves.svg")
    assert [np.asarray(line.get_ydata()).tolist() for line in drawn[0].axes[0].lines] == [[0.5]]


@pytest.mark.parametrize(
    "events",
    [[], [train(1)], [evaluate(1, 0.5, accuracy=0.5)], [train(1, math.nan), train(2, math.inf)], run(3)],
    ids=["nothing", "one step", "one evaluation", "no finite loss", "three steps"],
)
def test_short_and_broken_runs_are_drawn_too(events: list[Event], tmp_path: Path) -> None:
    assert b"nan" not in bytes_of(events, tmp_path).lower()


def test_drawing_leaves_matplotlib_as_it_was(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    pyplot_was_loaded = "matplotlib.pyplot" in sys.modules
    draw_curves(run(), tmp_path / "curves.png")
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot_was_loaded
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
