"""Display of a sweep: table of trials, Optuna's plots."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt1 import console
from gpt1.evaluation.report.search import outcome, ranked, short
from gpt1.training.sweep.study import Study


def settings_line(settings: Mapping[str, Any]) -> str:
    """Return settings as text: lr 0.000121  epochs 3."""
    return "  ".join(f"{name} {short(value)}" for name, value in settings.items())


def show(table: Mapping[str, Any], best: str) -> None:
    """Print the trials, best first; pruned and failed ones last."""
    names, rows = ranked(table)
    header = ["", table["metric"], *names, "epochs run", "s", ""]
    console.say()
    console.table(header, [_cells(row, names, best) for row in rows], text=(0, len(header) - 1))
    console.say("Values are on the validation split.\n")


def _cells(row: Mapping[str, Any], names: list[str], best: str) -> list[str]:
    seconds = "–" if row["seconds"] is None else f"{row['seconds']:.0f}"
    note = "best" if row["run"] == best else "" if row["state"] == "complete" else row["error"] or row["state"]
    return [*outcome(row, names), f"{row['epochs_seen']:g}", seconds, note]


def plot(study: Study, out: Path, metric: str) -> list[Path]:
    """Write Optuna's plots to `out` as SVG and return their paths; plots with too few trials are skipped."""
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as plots

    drawn = []
    with warnings.catch_warnings(), plt.rc_context({"svg.hashsalt": "gpt1"}):
        warnings.simplefilter("ignore")  # Optuna marks these functions as experimental
        for name, plot in (
            ("sweep-history.svg", plots.plot_optimization_history),
            ("sweep-importances.svg", plots.plot_param_importances),
        ):
            try:
                figure = plot(study.optuna, target_name=f"validation {metric}").figure
            except (RuntimeError, ValueError) as error:  # fewer than two trials, or all with the same value
                console.say(f"{name}: skipped ({str(error).partition(chr(10))[0]})")
                continue
            figure.savefig(out / name, bbox_inches="tight", metadata={"Date": None})
            plt.close(figure)
            drawn.append(out / name)
    return drawn
