"""Training curves from a run's log: `curves.svg`, and its panels as single figures of a report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpt1.checkpoint import event_log
from gpt1.checkpoint.event_log import Event
from gpt1.tasks.metrics import better
from gpt1.tasks.problem_types import problem_type_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[int, float]
"""(optimizer step, value)"""

TRAIN, VALID, MUTED = "#2f5d8a", "#c8553d", "#6b7280"
STYLE: Any = {
    "svg.hashsalt": "gpt1",  # the same log gives the same bytes
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.linewidth": 0.8,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": "#111827",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.ymargin": 0.2,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.7,
    "xtick.color": "#9ca3af",
    "ytick.color": "#9ca3af",
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.borderpad": 0.0,
    "legend.borderaxespad": 1.0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "lines.markersize": 3.5,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.10,
}
METRIC_LABELS = {
    "bits_per_byte": "bits per byte",
    "accuracy": "accuracy (0 to 1)",
    "f1": "F1 (0 to 1)",
    "macro_f1": "macro F1 (0 to 1)",
    "matthews": "Matthews correlation (-1 to 1)",
    "pearson": "Pearson correlation (-1 to 1)",
    "spearman": "Spearman correlation (-1 to 1)",
    "mse": "mean squared error (label units²)",
    "mae": "mean absolute error (label units)",
    "perplexity": "perplexity per token",
}
FEW_POINTS = 12
"""Maximum number of points of a curve that is drawn with dots and without smoothing."""
SMOOTHING_FRACTION = 0.05
"""Half the width of the smoothing window, as a fraction of the logged points."""
LABEL_WIDTH, LABEL_HEIGHT = 0.25, 0.15
"""Approximate size of the label of the best model, as fractions of the axes."""


def draw_curves(log: Path | Sequence[Event], out: Path) -> None:
    """Draw the losses, the main validation metric, the learning rate and the gradient norm over the steps of a run.

    `log` is a run's `log.jsonl` or its events; if a step is logged twice (a resumed run), the later line is used. The
    suffix of `out` selects the format (.svg, .png, .pdf). The same log gives the same SVG, byte for byte.
    """
    import matplotlib
    from matplotlib.figure import Figure

    events = event_log.read(log) if isinstance(log, Path) else log
    train = by_step(event for event in events if event.get("event") == "train")
    valid = by_step(event for event in events if event.get("event") == "evaluate" and event.get("split") == "valid")
    metric = str(valid[-1].get("metric", "loss")) if valid else "loss"
    best = best_step(valid, metric)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.0, 3.5), layout="constrained")
        panels = figure.add_gridspec(1, 3, wspace=0.06)
        halves = panels[2].subgridspec(2, 1, hspace=0.1)
        axes = [figure.add_subplot(cell) for cell in (panels[0], panels[1], halves[0], halves[1])]
        draw_losses(axes[0], train, valid, best)
        draw_metric(axes[1], valid, metric, best)
        draw_rate(axes[2], train)
        draw_norm(axes[3], train)
        share_steps(axes, train, valid)
        axes[2].tick_params(labelbottom=False)
        axes[2].set_xlabel("")
        figure.savefig(out, dpi=150, metadata={"Date": None} if out.suffix == ".svg" else None)


def by_step(events: Iterable[Event]) -> list[Event]:
    """Return the events sorted by step; if a step occurs twice, the later event is used."""
    latest = {int(event["step"]): event for event in events}
    return [latest[step] for step in sorted(latest)]


def series(events: Sequence[Event], key: str) -> list[Point]:
    """Return (step, value) of the events with a finite number under `key`."""
    points = ((int(event["step"]), event.get(key)) for event in events)
    return [(step, float(value)) for step, value in points if isinstance(value, int | float) and math.isfinite(value)]


def best_step(valid: Sequence[Event], metric: str) -> int | None:
    """Return the step of the best model, the first with the best value of `metric`; None without a value."""
    best: Point | None = None
    for step, value in series(valid, metric):
        if best is None or better(metric, value, best[1]):
            best = step, value
    return best[0] if best else None


def draw_losses(axes: Axes, train: Sequence[Event], valid: Sequence[Event], best: int | None) -> None:
    """Draw the training and validation losses, and mark the best model."""
    problem_type = problem_type_of({key for event in valid for key in event})
    axes.set(title="Loss", ylabel=f"loss ({problem_type.loss_unit})")
    # The validation loss excludes the auxiliary LM loss, so the training curve shows the task loss alone.
    draw_noisy(axes, series(train, "task_loss") or series(train, "loss"), TRAIN, "training")
    draw_line(axes, series(valid, "loss"), VALID, "validation", dots=True)
    _mark_best(axes, series(valid, "loss"), best)
    if axes.lines:
        axes.legend(loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=2, labelcolor=MUTED)


def draw_metric(axes: Axes, valid: Sequence[Event], metric: str, best: int | None) -> None:
    """Draw the main validation metric; if it is the loss, which has its own panel, the first other metric."""
    if metric == "loss":
        metric = next((name for name in METRIC_LABELS if series(valid, name)), metric)
    points = series(valid, metric) if metric != "loss" else []
    axes.set(title="Validation")
    if not points:
        axes.text(0.5, 0.5, "no validation metric yet", transform=axes.transAxes, ha="center", va="center", color=MUTED)
        axes.set(yticks=[])
        return
    axes.set(ylabel=METRIC_LABELS.get(metric, metric))
    draw_line(axes, points, VALID, dots=True)
    _mark_best(axes, points, best)


def draw_rate(axes: Axes, train: Sequence[Event]) -> None:
    """Draw the learning rate of each logged step."""
    draw_line(axes, series(train, "lr"), TRAIN)
    axes.set(title="Learning rate", ylim=(0, None))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("e-0", "e-"))


def draw_norm(axes: Axes, train: Sequence[Event]) -> None:
    """Draw the gradient norm before clipping."""
    draw_noisy(axes, series(train, "grad_norm"), TRAIN)
    axes.set(title="Gradient norm (L2)", ylim=(0, None))


def draw_line(axes: Axes, points: Sequence[Point], color: str, label: str | None = None, dots: bool = False) -> None:
    """Draw the values without smoothing, with dots if there are few."""
    if points:
        marker = "o" if dots or len(points) <= FEW_POINTS else None
        axes.plot(*zip(*points, strict=True), color=color, marker=marker, label=label, clip_on=False)


def draw_noisy(axes: Axes, points: Sequence[Point], color: str, label: str | None = None) -> None:
    """Draw the logged values in a light colour, and their smoothed curve over them."""
    if len(points) <= FEW_POINTS:
        draw_line(axes, points, color, label)
        return
    steps, values = zip(*points, strict=True)
    axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
    half = max(2, round(SMOOTHING_FRACTION * len(values)))
    window = np.hanning(2 * half + 1)[1:-1]
    smooth = np.convolve(values, window, "full") / np.convolve(np.ones(len(values)), window, "full")
    axes.plot(steps, smooth[half - 1 : half - 1 + len(values)], color=color, label=label)


def _mark_best(axes: Axes, points: Sequence[Point], best: int | None) -> None:
    """Mark the best model with a ring, and annotate its value on the side without curves."""
    from matplotlib.patheffects import withStroke

    steps = [step for step, _ in points]
    if best not in steps:
        return
    value = points[steps.index(best)][1]
    leftward = 2 * best > steps[-1]
    start, end = (best - LABEL_WIDTH * steps[-1], best) if leftward else (best, best + LABEL_WIDTH * steps[-1])
    drawn = np.concatenate([np.asarray(line.get_xydata()) for line in axes.lines])  # (points of all lines, 2)
    offsets = drawn[(drawn[:, 0] >= start) & (drawn[:, 0] <= end), 1] - value
    close = offsets[np.abs(offsets) < LABEL_HEIGHT * np.ptp(drawn[:, 1])]
    axes.plot(best, value, "o", color=VALID, markersize=8, markerfacecolor="none", clip_on=False)
    axes.annotate(
        f"best model {value:.3g}",
        (best, value),
        (0, 9 if (close > 0).sum() <= (close < 0).sum() else -16),
        textcoords="offset points",
        ha="right" if leftward else "left",
        color=VALID,
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )


def share_steps(axes: Sequence[Axes], train: Sequence[Event], valid: Sequence[Event]) -> None:
    """Set the same step axis in all panels."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    last = max((int(event["step"]) for event in (*train, *valid)), default=1)
    for each in axes:
        each.set_xlim(0, 1.04 * last)
        each.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        each.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        each.set_xlabel("optimizer step")
