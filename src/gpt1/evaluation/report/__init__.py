"""What a run directory shows a person: `report.html`, a comparison of several runs, `curves.svg`.

Everything is drawn from files of the run (config.json, log.jsonl, metrics.json, model/gpt1.json); no model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gpt1 import console
from gpt1.errors import UserError
from gpt1.evaluation.report import comparison, html, scores, search, sections
from gpt1.evaluation.report.curves import draw_curves
from gpt1.evaluation.report.record import Record
from gpt1.system.files import require_page, write_text

__all__ = ["draw_curves", "write"]

NAME = "report.html"
COMPARISON = "comparison.html"


def write(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report of a run, or the comparison of several, and return where it lies.

    Without `out` that is `report.html` in the run directory; of several runs `comparison.html` in the working one.

    Raises:
        UserError: one of them is no run, or `out` cannot be written.
    """
    if not runs:
        raise UserError("nothing to report: name a run directory, as in gpt1 report runs/demo")
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
    """Raises UserError where a file stands at `path` that is no report."""
    if path.exists() and html.TITLE_ENDS not in path.read_text(encoding="utf-8", errors="replace"):
        raise UserError(f"{path}: is there and no page of gpt1 report; name another file with --out FILE.html")


def of_run(record: Record) -> str:
    """Return the page of one run."""
    what = record.config.get("data") or ", ".join(Path(path).name for path in record.config.get("corpus", ()))
    task = record.model.get("model", {}).get("head") or {}
    kind = "Pretraining" if record.command == "pretrain" else f"Fine-tuning: {task.get('task', 'labelled texts')}"
    parts = [_summary(record)] if record.finished else [sections.unfinished(record)]
    parts.append(sections.damaged(record))
    if record.finished and record.command == "finetune":
        paired = scores.of_baselines(record)
        parts += [scores.baselines(record, paired), sections.answers(record), sections.mistakes(record)]
    parts += [
        search.section(record),
        sections.training(record),
        sections.samples(record),
        sections.data(record),
        sections.run(record),
    ]
    return html.page(record.name, f"{kind} on {what}", parts)


def _summary(record: Record) -> str:
    paired = scores.of_baselines(record) if record.command == "finetune" else {}
    return html.paragraph(scores.headline(record, paired), "lead") + scores.tiles(record)
