"""Figures of a report as inline SVG, with text as text and the page's light or dark colours."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from gpt1.evaluation.report import curves
from gpt1.evaluation.report.curves import MUTED, TRAIN, VALID
from gpt1.evaluation.report.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, AXIS, GRID = "#111827", "#9ca3af", "#e5e7eb"
SERIES = (TRAIN, VALID, "#3f8f5b", "#8a5fb5", "#b08a1e", "#2f8f9d")
"""Colours of the runs in a comparison."""
COLOURS = {
    INK: "ink", MUTED: "muted", AXIS: "axis", GRID: "grid", "#ffffff": "ground", "#000000": "ink",
    **{colour: f"series-{number}" for number, colour in enumerate(SERIES)},
}  # fmt: skip
"""Colour in matplotlib -> CSS variable that replaces it."""
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
STYLE = curves.STYLE | {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlepad": 12,
    "text.color": MUTED,
    "figure.constrained_layout.w_pad": 0.06,
    "figure.constrained_layout.h_pad": 0.06,
}
SIZE = (5.2, 2.9)
"""Inches; the page scales figures to its width."""
MOST_DOTS = 1_000
"""Maximum number of dots of a regression's scatter plot."""

Draw = Callable[["Axes"], None]


def figure(name: str, caption: str, plot: Draw, size: tuple[float, float] = SIZE) -> str:
    """Return `<figure>` with the panel drawn by `plot`; `name` must be unique on the page."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=size, layout="constrained")
        plot(drawing.add_subplot())
        text = io.StringIO()
        drawing.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return f"<figure>{_inline(text.getvalue(), name, caption)}<figcaption>{escape(caption)}</figcaption></figure>"


def _inline(svg: str, name: str, caption: str) -> str:
    """Return matplotlib's SVG for embedding: without prolog, size, style and unused ids."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>|<!--.*?-->", "", svg, flags=re.DOTALL)
    head = re.compile(r"<svg[^>]*?viewBox=\"([^\"]*)\"[^>]*>")
    svg = head.sub(rf'<svg viewBox="\1" role="img" aria-label="{escape(caption)}">', svg, count=1)
    used = set(re.findall(r"#([A-Za-z]\w*)[\")]", svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", svg)
    svg = re.sub(r'(xlink:)?href="#', f'href="#{name}-', svg).replace("url(#", f"url(#{name}-")
    for colour, variable in COLOURS.items():
        svg = svg.replace(colour, f"var(--{variable})")
    svg = re.sub(r"font: ([\d.]+px|(?:\w+ )?[\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
    return re.sub(r">\s+<", "><", svg).strip()


def _shares(axes: Axes) -> None:
    """Set both axes to the range 0 to 1."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))


# ---- training


def training(record: Record) -> Iterator[str]:
    """Yield the training curves: losses, the main metric, learning rate, gradient norm, throughput."""
    train, valid = record.train, record.valid
    metric = str(valid[-1].get("metric", "loss")) if valid else "loss"
    best = curves.best_step(valid, metric)

    def drawn(plot: Draw) -> Draw:
        def both(axes: Axes) -> None:
            plot(axes)
            curves.share_steps([axes], train, valid)

        return both

    def throughput(axes: Axes) -> None:
        curves.draw_noisy(axes, curves.series(train, "tokens_per_second"), TRAIN)
        axes.set(title="Throughput", ylabel="tokens/s", ylim=(0, None))
        axes.yaxis.set_major_formatter("{x:,.0f}")

    yield figure("loss", "Training and validation loss. The ring marks the best model, which is kept.",
                 drawn(lambda axes: curves.draw_losses(axes, train, valid, best)))  # fmt: skip
    yield figure("metric", "Validation metric at each evaluation.",
                 drawn(lambda axes: curves.draw_metric(axes, valid, metric, best)))  # fmt: skip
    if not train:
        return
    yield figure("rate", "Learning rate at each logged step.", drawn(lambda axes: curves.draw_rate(axes, train)))
    yield figure("norm", "Gradient norm before clipping.", drawn(lambda axes: curves.draw_norm(axes, train)))
    caption = "Training throughput in tokens per second, without padding, evaluation and checkpoints."
    yield figure("throughput", caption, drawn(throughput))


# ---- predictions


def intervals(rows: Mapping[str, tuple[float, Sequence[float]]], metric: str) -> str:
    """Return the scores of the models with their intervals; `rows` is {model: (value, [low, high])}."""

    def plot(axes: Axes) -> None:
        for row, (value, (low, high)) in enumerate(rows.values()):
            colour = TRAIN if row == 0 else MUTED
            axes.plot([low, high], [row, row], color=colour, linewidth=2.2)
            axes.plot(value, row, "o", color=colour, markersize=6)
            axes.annotate(f"{value:.3f}", (value, row), (0, 7), textcoords="offset points", ha="center", color=colour)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.set(ylim=(len(rows) - 0.5, -0.6), xlabel=curves.METRIC_LABELS.get(metric, metric))
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")

    caption = "Score of each model with its 95 % bootstrap interval."
    return figure("intervals", caption, plot, (7.0, 0.9 + 0.5 * len(rows)))


def calibration(values: Mapping[str, Any]) -> str:
    """Return the reliability diagram: accuracy over confidence."""

    def plot(axes: Axes) -> None:
        _shares(axes)
        bins = values["bins"]
        largest = max(each["examples"] for each in bins)
        axes.plot([0, 1], [0, 1], color=AXIS, linewidth=1, linestyle="--")
        axes.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], color=TRAIN, linewidth=1.2)
        sizes = [20 + 100 * each["examples"] / largest for each in bins]
        axes.scatter([b["confidence"] for b in bins], [b["accuracy"] for b in bins], sizes, TRAIN, zorder=3)
        axes.set(title="Calibration", xlabel="confidence", ylabel="accuracy")

    caption = (
        f"Expected calibration error {values['error']:.3f}. On the dashed line, accuracy equals confidence; below it, "
        "the model is overconfident. Larger dots are bins with more examples."
    )
    return figure("calibration", caption, plot)


def ranking(scored: Mapping[str, Any], label: str) -> Iterator[str]:
    """Yield the ROC and the precision-recall curve; `label` is the positive class."""
    roc, precision = scored["roc"], scored["precision_recall"]

    def draw_roc(axes: Axes) -> None:
        _shares(axes)
        axes.plot([0, 1], [0, 1], color=AXIS, linewidth=1, linestyle="--")
        axes.plot(*zip(*roc["points"], strict=True), color=TRAIN)
        axes.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")

    def draw_precision(axes: Axes) -> None:
        _shares(axes)
        axes.plot(*zip(*precision["points"], strict=True), color=TRAIN, drawstyle="steps-pre")
        axes.set(title="Precision and recall", xlabel="recall", ylabel="precision")

    area, average = roc["auc"], precision["average_precision"]
    yield figure("roc", f"Area under the curve {area:.3f} (chance: 0.5) with {label} as the positive class.", draw_roc)
    yield figure("precision", f"Average precision {average:.3f} with {label} as the positive class.", draw_precision)


def by_length(bins: Sequence[Mapping[str, Any]]) -> str:
    """Return the accuracy (absolute error of a regression) by input length."""
    name = "accuracy" if "accuracy" in bins[0] else "mae"

    def plot(axes: Axes) -> None:
        for index, each in enumerate(bins):
            axes.plot([index, index], each["interval"], color=TRAIN, alpha=0.45, linewidth=4)
            axes.plot(index, each[name], "o", color=TRAIN, markersize=6)
        ranges = [f"{b['from']:,}–{b['to']:,}" if b["from"] < b["to"] else f"{b['from']:,}" for b in bins]
        axes.set_xticks(range(len(bins)), ranges)
        title = "Accuracy by length" if name == "accuracy" else "Error by length"
        axes.set(title=title, xlabel="tokens", ylabel=curves.METRIC_LABELS[name], xlim=(-0.5, len(bins) - 0.5))
        axes.set(ylim=(-0.02, 1.02) if name == "accuracy" else (0, None))

    counts = ", ".join(f"{each['examples']:,}" for each in bins)
    return figure("length", f"{counts} examples; bars are 95 % intervals.", plot)


def scatter(record: Record) -> str:
    """Return a scatter plot of a regression's predictions over the actual values."""
    truth, predicted = (record.unpacked(record.scored["answers"][name]) for name in ("truth", "predicted"))
    drawn = np.random.default_rng(0).permutation(len(truth))[:MOST_DOTS]

    def plot(axes: Axes) -> None:
        span = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
        axes.plot(span, span, color=AXIS, linewidth=1, linestyle="--")
        axes.plot(truth[drawn], predicted[drawn], "o", color=TRAIN, alpha=0.35, markersize=3)
        axes.set(title="Predictions", xlabel="actual value", ylabel="predicted value")

    caption = f"{len(drawn):,} examples. On the dashed line, the prediction equals the actual value."
    return figure("scatter", caption, plot)


# ---- several runs


def side_by_side(records: Sequence[Record], names: Sequence[str], key: str, title: str) -> str:
    """Return one panel with the validation curve of each run."""

    def plot(axes: Axes) -> None:
        for number, (record, name) in enumerate(zip(records, names, strict=True)):
            if series := curves.series(record.valid, key):
                colour, dashes = SERIES[number % len(SERIES)], DASHES[number % len(DASHES)]
                axes.plot(*zip(*series, strict=True), color=colour, linestyle=dashes, marker="o", label=name)
        axes.set(title=title, ylabel=curves.METRIC_LABELS.get(key, key))
        curves.share_steps([axes], [], [event for record in records for event in record.valid])
        if axes.lines:
            axes.legend(loc="best", labelcolor=MUTED)

    return figure(f"valid-{key}", f"{title} of each run.", plot)
