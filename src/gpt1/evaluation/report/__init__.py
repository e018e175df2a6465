"""Reports: `report.html` of a run, a comparison of several runs, `curves.svg`.

They are generated from files of the run (config.json, log.jsonl, metrics.json, model/gpt1.json); no model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gpt1 import console
from gpt1.errors import UserError
from gpt1.evaluation.report import comparison, data, html, scores, search, sections
from gpt1.evaluation.report.curves import draw_curves
from gpt1.evaluation.report.record import Record
from gpt1.system.files import require_page, write_text

__all__ = ["draw_curves", "write"]

NAME = "report.html"
COMPARISON = "comparison.html"


def write(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report of a run, or the comparison of several, and return its path.

    `out` defaults to `report.html` in the run directory, or to `comparison.html` in the working directory for several.

    Raises:
        UserError: a directory is not a run, or `out` cannot be written.
    """
    if not runs:
        raise UserError("no run directory given; example: gpt1 report runs/demo")
    records = [Record.read(run) for run in runs]
    single = len(records) == 1
    if out is not None:
        require_page(out, "--out")
    if out is not None or not single:
        out = out or Path(COMPARISON)
        _require_ours(out)
    for record in records:
        if record.damage:
            console.say(f"{record.path}: {record.damage}")
    out = out or runs[0] / NAME
    text = of_run(records[0]) if single else comparison.of_runs(records)
    write_text(out, text.encode("utf-8", "xmlcharrefreplace").decode())  # a lone surrogate has no UTF-8
    return out


def _require_ours(path: Path) -> None:
    """Raise UserError if `path` is an existing file that `gpt1 report` did not write."""
    if path.exists() and html.TITLE_SUFFIX not in path.read_text(encoding="utf-8", errors="replace"):
        raise UserError(f"{path}: exists and is not a gpt1 report; choose another file with --out FILE.html")


def of_run(record: Record) -> str:
    """Return the HTML report of one run."""
    name = record.config.get("data") or ", ".join(Path(path).name for path in record.config.get("corpus", ()))
    task = record.model.get("model", {}).get("head") or {}
    kind = "Pretraining" if record.command == "pretrain" else f"Fine-tuning: {task.get('task', 'labelled texts')}"
    parts = [scores.verdict(record), _summary(record)] if record.finished else [sections.unfinished(record)]
    parts.append(sections.damaged(record))
    if record.finished and record.command == "finetune":
        paired = scores.of_baselines(record)
        parts += [scores.baselines(record, paired), sections.answers(record), sections.mistakes(record)]
    parts += [
        search.section(record),
        sections.training(record),
        sections.samples(record),
        data.section(record),
        sections.run(record),
    ]
    return html.page(record.name, f"{kind} on {name}", parts)


def _summary(record: Record) -> str:
    paired = scores.of_baselines(record) if record.command == "finetune" else {}
    return html.paragraph(scores.headline(record, paired), "lead") + scores.tiles(record)
