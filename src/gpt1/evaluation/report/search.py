"""The sweep section of a report: trials, and Optuna's plots of them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from gpt1.evaluation.report import html
from gpt1.evaluation.report.record import Record
from gpt1.system.files import read_json

PLOTS = {
    "sweep-history.svg": "Value of each trial in starting order, and the best value so far.",
    "sweep-importances.svg": "Importance of each setting, estimated by Optuna.",
}


def section(record: Record) -> str:
    """Return the section for the best run of a sweep (`best/` in the sweep's directory); "" for any other run."""
    path = record.path.resolve().parent / "sweep.json"
    table = read_json(path) if record.name == "best" and path.is_file() else {}
    if not table.get("best"):
        return ""
    names, rows = ranked(table)
    text = (
        f"Best of {len(rows)} trials by {table['metric']} on the validation split; no other trial was scored on the "
        "test split."
    )
    head = ["trial", table["metric"], *names, ""]
    return html.section(
        "search", "Sweep", html.paragraph(text),
        html.table(head, [_cells(row, names, table["best"]["run"]) for row in rows]),
        html.figures(_plots(record)),
    )  # fmt: skip


def _cells(row: Mapping[str, Any], names: list[str], best: str) -> list[str]:
    return [*outcome(row, names), "best" if row["run"] == best else row["state"].replace("complete", "")]


def ranked(table: Mapping[str, Any]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the names of the searched settings, and the trials from best to worst; those without a value are last."""
    names = list(dict.fromkeys(name for row in table["trials"] for name in row["settings"]))
    sign = -1 if table["maximise"] else 1
    return names, sorted(table["trials"], key=lambda row: (row["value"] is None, sign * (row["value"] or 0.0)))


def outcome(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return a trial's run, value and settings as text, "–" for missing ones."""
    value = "–" if row["value"] is None else f"{row['value']:.4f}"
    return [row["run"], value, *(short(row["settings"].get(name, "–")) for name in names)]


def short(value: Any) -> str:
    """Return a setting as text, floats with three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _plots(record: Record) -> Iterator[str]:
    for name, caption in PLOTS.items():
        path = record.path.resolve().parent / name
        if path.is_file():
            data = base64.b64encode(path.read_bytes()).decode()
            image = f'<img alt="{escape(caption)}" src="data:image/svg+xml;base64,{data}" style="max-width:100%">'
            yield f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
