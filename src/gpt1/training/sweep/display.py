"""How a sweep is shown: a table, Optuna's plots."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt1 import console
from gpt1.evaluation.report.search import outcome, ranked, short
from gpt1.training.sweep.study import Study


def settings_line(settings: Mapping[str, Any]) -> str:
    """Return settings in words: lr 0.000121  epochs 3."""
    return "  ".join(f"{name} {short(value)}" for name, value in settings.items())


def show(table: Mapping[str, Any], best: str) -> None:
    """Print the trials, the best first, then those that were pruned or failed."""
    names, rows = ranked(table)
    header = ["", table["metric"], *names, "epochs run", "s", ""]
    console.say()
    console.table(header, [_cells(row, names, best) for row in rows], text=(0, len(header) - 1))
    console.say("Values of the validation split.\n")


def _cells(row: Mapping[str, Any], names: list[str], best: str) -> list[str]:
    seconds = "–" if row["seconds"] is None else f"{row['seconds']:.0f}"
    note = "best" if row["run"] == best else "" if row["state"] == "complete" else row["error"] or row["state"]
    return [*outcome(row, names), f"{row['epochs_seen']:g}", seconds, note]


def plot(study: Study, out: Path, metric: str) -> list[Path]:
    """Draw Optuna's plots into `out` as SVG and return their paths; a plot that has too few trials is left out."""
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as plots

    drawn = []
    with warnings.catch_warnings(), plt.rc_context({"svg.hashsalt": "gpt1"}):
        warnings.simplefilter("ignore")  # Optuna calls these functions experimental
        for name, plot in (
            ("sweep-history.svg", plots.plot_optimization_history),
            ("sweep-importances.svg", plots.plot_param_importances),
        ):
            try:
                figure = plot(study.optuna, target_name=f"validation {metric}").figure
            except (RuntimeError, ValueError) as error:  # fewer than two trials, or all of one value
                console.say(f"{name}: not drawn ({str(error).partition(chr(10))[0]})")
                continue
            figure.savefig(out / name, bbox_inches="tight", metadata={"Date": None})
            plt.close(figure)
            drawn.append(out / name)
    return drawn
