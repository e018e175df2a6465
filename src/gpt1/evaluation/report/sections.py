"""The sections of a run's report, from its record to HTML."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from gpt1.data.example import Example
from gpt1.data.paper_kinds import kind_of
from gpt1.evaluation.report import highlight, html, plots
from gpt1.evaluation.report.command import command_line
from gpt1.evaluation.report.record import Record
from gpt1.tasks.problem_types import problem_type_of

MOST_LABELS = 50
"""Rows of the table of labels: of more, those with the lowest F1."""
MOST_SAMPLES = 10
"""Samples that are shown, spread over the run."""

WEIGHTS = "A word's colour is its gradient × input: to the first order, what it adds to {}. It is a slope at one point."
"""What the colours are, with what they add to."""


def unfinished(record: Record) -> str:
    """Return the notice that a run has not ended, and where it stands."""
    reached = max((event for event in record.events if "step" in event), key=lambda event: event["step"], default=None)
    epoch = f" (epoch {reached['epoch']:.2f})" if reached and "epoch" in reached else ""
    where = f"it stands at step {reached['step']:,}{epoch}" if reached else "no step is logged"
    return (
        '<p class="notice" role="note"><strong>This run is not finished:</strong> '
        f"{escape(where)}. What follows is what its log holds; there are no final scores. "
        "The same command goes on with it.</p>"
    )


def damaged(record: Record) -> str:
    """Return the notice that the log has lines that hold no event, "" where it has none."""
    return html.paragraph(record.damage, "notice") if record.damage else ""


def training(record: Record) -> str:
    """Return the curves."""
    if not record.train and not record.valid:
        return html.section("training", "Training", html.paragraph("Nothing has been logged yet."))
    return html.section("training", "Training", html.figures(plots.training(record)))


# ---- answers


def answers(record: Record) -> str:
    """Return where the model is right and wrong: labels, calibration, thresholds, lengths."""
    scored = record.scored
    return html.section(
        "answers",
        "Where it is right, and where not",
        f'<div class="beside">{_confusion(scored)}{_labels(scored)}</div>' if "per_label" in scored else "",
        html.figures(_drawn(record)),
    )


def _drawn(record: Record) -> Iterator[str]:
    scored = record.scored
    if scored.get("calibration"):
        yield plots.calibration(scored["calibration"])
    elif "answers" in scored:
        yield plots.scatter(record)
    if "roc" in scored:
        yield from plots.ranking(scored, scored["labels"][1])
    if scored.get("by_length"):
        yield plots.by_length(scored["by_length"])


def _confusion(scored: Mapping[str, Any]) -> str:
    """Return the confusion matrix: each row coloured by the share of its label's examples."""
    if "confusion_matrix" not in scored:
        return ""
    names, rows = scored["labels"], []
    for name, counts in zip(names, scored["confusion_matrix"], strict=True):
        cells = "".join(
            f'<td style="--s:{count / max(1, sum(counts)):.2f}"{" class=right" if names[column] == name else ""}'
            f' title="{escape(name)} taken for {escape(names[column])}">{count:,}</td>'
            for column, count in enumerate(counts)
        )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}<td class="sum">{sum(counts):,}</td></tr>')
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    return (
        '<div class="wide"><table class="confusion"><caption>Rows: the true label. Columns: '
        "what the model said. Right answers are framed; a stronger colour is a larger share of the row.</caption>"
        f'<thead><tr><td>true ↓ said →</td>{head}<th scope="col">examples</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _labels(scored: Mapping[str, Any]) -> str:
    rows = scored.get("per_label", [])
    shown = sorted(rows, key=lambda row: row["f1"])[:MOST_LABELS] if len(rows) > MOST_LABELS else rows
    which = f" The {MOST_LABELS} of {len(rows):,} labels with the lowest F1." if len(rows) > MOST_LABELS else ""
    return html.table(
        ["label", "precision", "recall", "F1", "examples"],
        [
            [row["label"], *(f"{row[name]:.3f}" for name in ("precision", "recall", "f1")), f"{row['support']:,}"]
            for row in shown
        ],
        caption="Precision: of what was given this label, the share that is right. "
        f"Recall: of what has it, the share that was found.{which}",
    )


def mistakes(record: Record) -> str:
    """Return the most confident mistakes, each word coloured by what it did to the answer."""
    mistakes = record.scored.get("mistakes", [])
    if not mistakes:
        return ""
    problem_type = problem_type_of(record.scored)
    raised, lowered = problem_type.effects
    legend = "" if not any("words" in entry for entry in mistakes) else (
        f'<p class="legend"><mark class="for" style="--s:.7">{raised}</mark> '
        f'<mark class="against" style="--s:.7">{lowered}</mark></p>'
    )  # fmt: skip
    hint = html.paragraph(WEIGHTS.format(problem_type.margin), "hint") if legend else ""
    return html.section("mistakes", problem_type.worst_title, legend, hint, "\n".join(map(_mistake, mistakes)))


def _mistake(entry: Mapping[str, Any]) -> str:
    predicted, truth = _value(entry["predicted"]), _value(entry["label"])
    sure = f" <small>{entry['confidence']:.1%} sure</small>" if "confidence" in entry else ""
    return (
        f"<article>\n<h3>said <b>{escape(predicted)}</b>, true is <b>{escape(truth)}</b>{sure} "
        f'<small class="origin">{escape(str(entry["origin"]))}</small></h3>\n'
        f"{highlight.highlighted({'texts': list(_texts(entry))})}\n</article>"
    )


def _value(answer: object) -> str:
    return f"{answer:.3f}" if isinstance(answer, float) else str(answer)


def _texts(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the texts of a mistake as `highlight` takes them; a text whose words were not stored is plain."""
    texts = [*entry["texts"], *entry.get("choices", ())]
    words: Mapping[str, Sequence[Mapping[str, Any]]] = entry.get("words", {})
    example = Example(tuple(entry["texts"]), tuple(entry.get("choices", ())))
    names = list(words) or kind_of(example).names_of(example).texts
    for name, text in zip(names, texts, strict=True):
        yield {"name": name, "text": text, "words": [{"occlusion": None, **word} for word in words.get(name, ())]}


# ---- samples


def samples(record: Record) -> str:
    """Return what a language model wrote in the course of its training."""
    samples = record.samples
    if not samples:
        return ""
    indices = sorted({round(i * (len(samples) - 1) / max(1, MOST_SAMPLES - 1)) for i in range(MOST_SAMPLES)})
    rows = "".join(
        f'<tr><th scope="row">{event["step"]:,}</th>'
        f'<td class="said"><b>{escape(event["prompt"])}</b> {escape(event["text"].strip())}</td></tr>'
        for event in (samples[index] for index in indices if index < len(samples))
    )
    caption = f"{len(indices)} of {len(samples)} samples; the same prompt (bold) and the same seed each time."
    return html.section(
        "samples",
        "What it writes",
        f'<div class="wide"><table class="samples"><caption>{escape(caption)}</caption>'
        '<thead><tr><th scope="col">step</th>'
        f'<th scope="col">text</th></tr></thead><tbody>{rows}</tbody></table></div>',
    )


# ---- data, run


def data(record: Record) -> str:
    """Return how many examples there were, and what to beware of."""
    start, warnings = record.start, record.warnings
    if not start:
        return ""
    if record.command == "pretrain":
        tokens = start.get("tokens", {})
        counts = html.table(
            ["", "tokens"], [[split, f"{count:,}"] for split, count in tokens.items()],
            caption=f"{start.get('documents', 0):,} documents, {start.get('bytes', 0) / 1e6:,.2f} MB of training text",
        )  # fmt: skip
        return html.section("data", "The data", counts)
    cut, labels = start.get("truncated", {}), start.get("labels", {})
    counts = html.table(
        ["split", "examples", "cut to fit"],
        [[split, f"{count:,}", f"{cut.get(split, 0):,}"] for split, count in start.get("examples", {}).items()],
    )
    names = list(dict.fromkeys(name for each in labels.values() for name in each))
    by_label = html.table(
        ["label", *labels], [[name, *(f"{each.get(name, 0):,}" for each in labels.values())] for name in names]
    )
    if len(names) > MOST_LABELS:
        by_label = html.details(f"{len(names):,} labels", by_label)
    balanced = ", the labels are balanced" if labels.get("train") else ""
    beware = html.items(warnings) or html.paragraph(f"Nothing to warn of: no text is repeated, none was cut{balanced}.")
    return html.section("data", "The data", beware, counts, by_label)


def run(record: Record) -> str:
    """Return what was run: command, versions, machine, time, every setting."""
    config, start = record.config, record.start
    rows: list[tuple[str, object]] = [
        ("recipe", config.get("recipe") or "none: the defaults"),
        ("data", config.get("data") or ", ".join(config.get("corpus", ()))),
        ("started from", config.get("model") or f"random weights ({config.get('size') or 'gpt1'})"),
        ("seed", config.get("loop", {}).get("seed", 0)),
        ("parameters", f"{start['parameters']:,}" if "parameters" in start else ""),
        ("computed on", ", ".join(str(start[name]) for name in ("device", "dtype") if name in start)),
        ("machine", _machine(record.settings.get("machine", {}))),
        ("started", _time(record.events[0]) if record.events else ""),
        ("last entry of the log", _time(record.events[-1]) if record.events else ""),
        ("time in training", _duration(record.train[-1]["seconds"]) if record.train else ""),
        ("versions", ", ".join(f"{name} {version}" for name, version in record.settings.get("versions", {}).items())),
    ]
    settings = json.dumps(config, indent=2, ensure_ascii=False)
    digests = record.settings.get("facts", {}).get("data_sha256", {})
    return html.section(
        "run",
        "What was run",
        f"<pre><code>{escape(command_line(record))}</code></pre>",
        html.table([], [row for row in rows if row[1] != ""], "facts"),
        html.details("Every setting", f"<pre>{escape(settings)}</pre>"),
        html.details("Digests of the data", html.table([], digests.items(), "facts")) if digests else "",
    )


def _machine(machine: Mapping[str, Any]) -> str:
    return ", ".join(str(machine[name]) for name in ("system", "processor", "cores") if machine.get(name))


def _time(event: Mapping[str, Any]) -> str:
    moment = event.get("time")
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC" if isinstance(moment, int | float) else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
