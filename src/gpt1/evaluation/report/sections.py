"""Sections of a run's report as HTML."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from gpt1 import console
from gpt1.data.example import Example
from gpt1.data.paper_kinds import kind_of
from gpt1.evaluation.report import html, plots
from gpt1.evaluation.report.command import command_line, without_point
from gpt1.evaluation.report.record import Record
from gpt1.inference import highlight
from gpt1.tasks.problem_types import problem_type_of

MOST_LABELS = 50
"""Maximum rows of the table of labels; of more labels, those with the lowest F1 are shown."""
MOST_SAMPLES = 10
"""Maximum number of samples shown, spread evenly over the run."""

WEIGHTS = "Colours show gradient × input, a first-order estimate of each word's contribution to {}."
"""Explanation of the colours; the placeholder is `ProblemType.margin`."""


def unfinished(record: Record) -> str:
    """Return the notice that a run is not finished, with its last logged step."""
    last = max((event for event in record.events if "step" in event), key=lambda event: event["step"], default=None)
    epoch = f" (epoch {last['epoch']:.2f})" if last and "epoch" in last else ""
    progress = f"last logged step {last['step']:,}{epoch}" if last else "no step logged yet"
    return (
        f'<p class="notice" role="note"><strong>This run is not finished:</strong> {escape(progress)}. '
        "There are no final scores yet. Run the same command again to resume it.</p>"
    )


def damaged(record: Record) -> str:
    """Return the notice about incomplete lines of the log, "" if there are none."""
    return html.paragraph(record.damage, "notice") if record.damage else ""


def training(record: Record) -> str:
    """Return the section with the training curves."""
    if not record.train and not record.valid:
        return html.section("training", "Training", html.paragraph("Nothing logged yet."))
    return html.section("training", "Training", html.figures(plots.training(record)))


# ---- predictions


def answers(record: Record) -> str:
    """Return the error analysis: confusion matrix, scores per label, calibration, ROC, accuracy by length."""
    scored = record.scored
    return html.section(
        "answers",
        "Error analysis",
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
    """Return the confusion matrix, each row coloured by fractions of its sum."""
    if "confusion_matrix" not in scored:
        return ""
    names, rows = scored["labels"], []
    for name, counts in zip(names, scored["confusion_matrix"], strict=True):
        cells = "".join(
            f'<td style="--s:{count / max(1, sum(counts)):.2f}"{" class=right" if names[column] == name else ""}'
            f' title="actual {escape(name)}, predicted {escape(names[column])}">{count:,}</td>'
            for column, count in enumerate(counts)
        )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}<td class="sum">{sum(counts):,}</td></tr>')
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    return (
        '<div class="wide"><table class="confusion"><caption>Confusion matrix. Correct predictions are framed; '
        "a stronger colour is a larger fraction of the row.</caption>"
        f'<thead><tr><td>Actual ↓ Predicted →</td>{head}<th scope="col">examples</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _labels(scored: Mapping[str, Any]) -> str:
    rows = scored.get("per_label", [])
    shown = sorted(rows, key=lambda row: row["f1"])[:MOST_LABELS] if len(rows) > MOST_LABELS else rows
    which = f" Shown: the {MOST_LABELS} of {len(rows):,} labels with the lowest F1." if len(rows) > MOST_LABELS else ""
    return html.table(
        ["label", "precision", "recall", "F1", "examples"],
        [
            [row["label"], *(f"{row[name]:.3f}" for name in ("precision", "recall", "f1")), f"{row['support']:,}"]
            for row in shown
        ],
        caption="Precision: correct fraction of the predictions of a label. "
        f"Recall: fraction of a label's examples that were predicted correctly.{which}",
    )


def mistakes(record: Record) -> str:
    """Return the most confident mistakes, with each word coloured by its contribution to the prediction."""
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
    confidence = f" <small>confidence {entry['confidence']:.1%}</small>" if "confidence" in entry else ""
    return (
        f"<article>\n<h3>predicted <b>{escape(predicted)}</b>, actual <b>{escape(truth)}</b>{confidence} "
        f'<small class="origin">{escape(str(entry["origin"]))}</small></h3>\n'
        f"{highlight.highlighted({'texts': list(_texts(entry))})}\n</article>"
    )


def _value(label: object) -> str:
    return f"{label:.3f}" if isinstance(label, float) else str(label)


def _texts(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the texts of a mistake in the form of an explanation; without stored weights, `words` is empty."""
    texts = [*entry["texts"], *entry.get("choices", ())]
    words: Mapping[str, Sequence[Mapping[str, Any]]] = entry.get("words", {})
    example = Example(tuple(entry["texts"]), tuple(entry.get("choices", ())))
    names = list(words) or kind_of(example).names_of(example).texts
    for name, text in zip(names, texts, strict=True):
        yield {"name": name, "text": text, "words": [{"occlusion": None, **word} for word in words.get(name, ())]}


# ---- samples


def samples(record: Record) -> str:
    """Return the texts that a language model generated during training."""
    samples = record.samples
    if not samples:
        return ""
    indices = sorted({round(i * (len(samples) - 1) / max(1, MOST_SAMPLES - 1)) for i in range(MOST_SAMPLES)})
    rows = "".join(
        f'<tr><th scope="row">{event["step"]:,}</th>'
        f"<td><b>{escape(event['prompt'])}</b> {escape(event['text'].strip())}</td></tr>"
        for event in (samples[index] for index in indices if index < len(samples))
    )
    caption = f"{len(indices)} of {len(samples)} samples, all with the same prompt (bold) and seed."
    return html.section(
        "samples",
        "Samples",
        f'<div class="wide"><table class="samples"><caption>{escape(caption)}</caption>'
        '<thead><tr><th scope="col">step</th>'
        f'<th scope="col">text</th></tr></thead><tbody>{rows}</tbody></table></div>',
    )


# ---- run


def run(record: Record) -> str:
    """Return the run details: command, data, device, machine, times, versions, all settings."""
    config, start = record.config, record.start
    rows: list[tuple[str, object]] = [
        ("recipe", config.get("recipe") or "none (defaults)"),
        ("data", config.get("data") or ", ".join(config.get("corpus", ()))),
        ("initial weights", config.get("model") or f"random ({config.get('size') or 'gpt1'})"),
        ("adaptation", _adaptation(record.results.get("adaptation"))),
        ("seed", config.get("loop", {}).get("seed", 0)),
        ("parameters", f"{start['parameters']:,}" if "parameters" in start else ""),
        ("device", ", ".join(str(start[name]) for name in ("device", "dtype") if name in start)),
        ("machine", _machine(record.settings.get("machine", {}))),
        ("started", _time(record.events[0]) if record.events else ""),
        ("last log entry", _time(record.events[-1]) if record.events else ""),
        ("training time", _duration(record.train[-1]["seconds"]) if record.train else ""),
        ("versions", ", ".join(f"{name} {version}" for name, version in record.settings.get("versions", {}).items())),
    ]
    settings = json.dumps(config, indent=2, ensure_ascii=False)
    digests = record.settings.get("facts", {}).get("data_sha256", {})
    return html.section(
        "run",
        "Run details",
        f"<pre><code>{escape(command_line(record))}</code></pre>",
        html.table([], [row for row in rows if row[1] != ""], "facts"),
        html.details("All settings", f"<pre>{escape(settings)}</pre>"),
        html.details("SHA-256 of the data", html.table([], digests.items(), "facts")) if digests else "",
    )


def _adaptation(adapted: Mapping[str, Any] | None) -> str:
    """Return the language-model training before the fine-tuning as text; "" if there was none."""
    if adapted is None:
        return ""
    bits = adapted["bits_per_byte"]
    return (
        f"{console.counted(without_point(adapted['epochs']), 'epoch')} on {console.counted(adapted['texts'], 'text')} "
        f"({_duration(adapted['seconds'])}); {bits['before']:.3f} bits per byte before, {bits['after']:.3f} after, on "
        f"{console.counted(adapted['held_out'], 'held-out text')}"
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
