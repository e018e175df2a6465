"""Comparison of several runs: scores, paired differences, curves, differing settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt1.evaluation.diagnostics import Difference
from gpt1.evaluation.report import html, plots, scores
from gpt1.evaluation.report.command import without_point
from gpt1.evaluation.report.curves import METRIC_LABELS
from gpt1.evaluation.report.record import Record

Paired = Mapping[str, Mapping[str, Difference]]
"""{run: {metric: run minus the first one}}"""
MAX_SUMMARISED = 3
"""Maximum number of runs in the summary at the top."""
SPLIT_SETTINGS = ("data", "max-examples", "valid-fraction", "test-fraction", "split-strategy", "split-seed", "seed")
"""Settings that determine the rows of a split."""
IGNORED_SETTINGS = ("baseline",)
"""Settings that change neither the model nor its scores."""
NO_PAIRED_TEST = (
    "There is no paired test for language models. Bits per byte on the same text can be compared across vocabularies, "
    "perplexity only within one. Runs with other seeds show the random variation."
)


def of_runs(records: Sequence[Record]) -> str:
    """Return the HTML page that compares each run with the first one."""
    names = _names(records)
    paired, reasons = _paired(records, names)
    parts = [
        _unfinished(records, names),
        _summary(records, names, paired),
        _scores(records, names),
        _differences(records, names, paired, reasons),
        _curves(records, names),
        _settings(records, names),
    ]
    return html.page("Comparison", " · ".join(names), parts)


def _names(records: Sequence[Record]) -> list[str]:
    """Return the names of the runs, or their paths if two names are equal."""
    names = [record.name for record in records]
    if len(set(names)) < len(names):
        names = [str(record.path) for record in records]
    return [name if names.count(name) == 1 else f"{name} ({index + 1})" for index, name in enumerate(names)]


def _unfinished(records: Sequence[Record], names: Sequence[str]) -> str:
    missing = [name for record, name in zip(records, names, strict=True) if not record.finished]
    if not missing:
        return ""
    text = f"Not finished, no final scores: {', '.join(missing)}. Only the values in their logs are shown."
    return html.paragraph(text, "notice")


def _scores(records: Sequence[Record], names: Sequence[str]) -> str:
    rows = [(record, name, _figures(record)) for record, name in zip(records, names, strict=True) if record.finished]
    if not rows:
        return ""
    metrics = list(dict.fromkeys(metric for *_, figures in rows for metric in figures))
    language = [record.command == "pretrain" for record, *_ in rows]
    rows += _baselines([(record, name) for record, name, _ in rows])
    shown = [
        [name, *_rows_of(record), *(figures.get(metric, "–") for metric in metrics)] for record, name, figures in rows
    ]
    note = "" if any(language) else "Score [95 % bootstrap interval]"
    unit = "tokens" if all(language) else "examples"
    head = ["", "split", unit, *map(scores.named, metrics)]
    return html.section("scores", "Scores", html.table(head, shown, caption=note))


def _rows_of(record: Record) -> tuple[str, str]:
    """Return the split that a run was scored on and its number of examples (tokens for a language model)."""
    return record.split, f"{record.scored.get('examples', record.scored.get('tokens', 0)):,}"


def _baselines(rows: Sequence[tuple[Record, str]]) -> Iterator[tuple[Record, str, dict[str, str]]]:
    """Yield (a run that has it, name, {metric: figure}) of each baseline, once for the same test rows."""
    seen: set[tuple[str, object]] = set()
    for record, run in rows:
        test_rows = record.scored.get("answers", {}).get("rows_sha256", run)
        for name, baseline in record.results.get("baseline", {}).items():
            if (name, test_rows) not in seen:
                seen.add((name, test_rows))
                row_name = name if len({each for _, each in seen}) == 1 else f"{name} (rows of {run})"
                yield record, row_name, scores.with_intervals(baseline)


def _figures(record: Record) -> dict[str, str]:
    scored = record.scored
    if record.command == "pretrain":
        return {name: f"{scored[name]:.4g}" for name in ("bits_per_byte", "perplexity")}
    return scores.with_intervals(scored)


def _paired(records: Sequence[Record], names: Sequence[str]) -> tuple[Paired, list[str]]:
    """Return the paired differences from the first run, and the reasons for runs without them."""
    first, *others = [(record, name) for record, name in zip(records, names, strict=True)]
    paired: dict[str, Mapping[str, Difference]] = {}
    reasons = []
    for record, name in others:
        if reason := _not_comparable(first[0], record, (first[1], name)):
            reasons.append(f"{name} cannot be compared with {first[1]}: {reason}.")
        elif "answers" in record.scored:
            paired[name] = scores.differences(record, first[0].scored["answers"]["predicted"])
    return paired, reasons


def _summary(records: Sequence[Record], names: Sequence[str], paired: Paired) -> str:
    """Return a summary of the paired differences; "" if no run was scored on the same rows as the first."""
    first = records[0]
    reached = {name: record.scored for record, name in zip(records, names, strict=True)}
    metric = first.metrics[0] if first.metrics else ""
    sentences = [
        f"{name} reaches {scores.number(reached[name][metric])}: {scores.in_words(metric, each[metric], name)}"
        for name, each in list(paired.items())[:MAX_SUMMARISED]
        if metric in each
    ]
    if not sentences:
        return ""
    beginning = (
        f"On the same {first.scored['examples']:,} {scores.of_split(first)} examples, {names[0]} reaches "
        f"{scores.named(metric)} {scores.number(first.scored[metric])}."
    )
    return html.paragraph(" ".join([beginning, *sentences]), "lead")


def _differences(records: Sequence[Record], names: Sequence[str], paired: Paired, reasons: Sequence[str]) -> str:
    language = records[0].command == "pretrain" and len(reasons) < len(records) - 1
    return html.section(
        "differences",
        "Paired differences",
        scores.differences_table(f"run minus {names[0]}", paired),
        html.items(reasons),
        html.paragraph(NO_PAIRED_TEST, "hint") if language else "",
    )


def _not_comparable(first: Record, other: Record, names: tuple[str, str]) -> str:
    """Return the reason why the scores of two runs cannot be compared; "" if they can."""
    if first.command != other.command:
        return f"{names[1]} is a {other.command} run, {names[0]} a {first.command} run"
    for record, name in zip((first, other), names, strict=True):
        if not record.finished:
            return f"{name} is not finished"
    if first.command == "pretrain":
        return "" if _validation_text(first) == _validation_text(other) else "they were validated on different texts"
    answers = [record.scored.get("answers") for record in (first, other)]
    if None in answers:
        return "the predictions of one of them were not stored (run of an older version)"
    rows = [each["rows_sha256"] for each in answers if each]
    return "" if rows[0] == rows[1] else f"their {first.split} rows differ{_split_differences(first, other)}"


def _split_differences(first: Record, other: Record) -> str:
    """Return the differing settings that determine the rows, in parentheses; "" if there are none."""
    of_first, of_other = (dict(_leaves(record.config)) for record in (first, other))
    differ = [name for name in SPLIT_SETTINGS if of_first.get(name) != of_other.get(name)]
    differences = ", ".join(f"--{name} {of_other.get(name)} instead of {of_first.get(name)}" for name in differ)
    advice = "; use the same --split-seed for runs with different seeds" if "seed" in differ else ""
    return f" ({differences}{advice})" if differences else ""


def _validation_text(record: Record) -> tuple[object, ...]:
    """Return what identifies the validation text of a pretraining run: file names and bytes, not tokens."""
    files = record.config.get("valid") or record.config.get("corpus") or ()
    return [Path(path).name for path in files], record.scored.get("bytes")


def _curves(records: Sequence[Record], names: Sequence[str]) -> str:
    metrics = {str(event.get("metric", "loss")) for record in records for event in record.valid}
    keys = ["loss", *(["bits_per_byte"] if any(record.command == "pretrain" for record in records) else [])]
    keys += [name for name in METRIC_LABELS if name in metrics]
    parts = [plots.side_by_side(records, names, key, f"Validation {scores.named(key)}") for key in keys]
    return html.section("training", "Training", html.figures(parts)) if metrics else ""


def _settings(records: Sequence[Record], names: Sequence[str]) -> str:
    flat = [dict(_leaves({"command": record.command, **record.config})) for record in records]
    shared = [key for key in flat[0] if all(key in each for each in flat) and key not in IGNORED_SETTINGS]
    rows = [[key, *(each[key] for each in flat)] for key in shared if len({each[key] for each in flat}) > 1]
    same = html.paragraph("All settings are identical.")
    return html.section("settings", "Differing settings", html.table(["setting", *names], rows) or same)


def _leaves(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name, value as text) of all settings, including nested ones."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            shown = value if isinstance(value, str) else json.dumps(without_point(value), ensure_ascii=False)
            yield name.replace("_", "-"), "none" if value is None else shown
