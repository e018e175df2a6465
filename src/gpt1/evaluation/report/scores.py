"""Scores in a report: summary, comparison with the baselines, significance of differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpt1.evaluation.diagnostics import Difference, paired_difference, significance
from gpt1.evaluation.report import html, plots
from gpt1.evaluation.report.curves import METRIC_LABELS
from gpt1.evaluation.report.record import Record

Answers = Mapping[str, Any]
"""{"truth", "predicted"}, packed"""

CORRELATIONS = ("pearson", "spearman")
PAIRED = (
    "Differences on the same rows with 95 % intervals by the paired bootstrap (1,000 resamples). If the interval "
    "contains 0, the difference is not statistically significant: another sample of examples could reverse the order."
)


def with_interval(value: float | None, interval: Sequence[float | None]) -> str:
    """Return "0.650 [0.560, 0.740]", with a dash for None."""
    return f"{number(value)} [{', '.join(map(number, interval))}]"


def with_intervals(scored: Mapping[str, Any]) -> dict[str, str]:
    """Return {metric: "0.650 [0.560, 0.740]"} for the metrics of a model or baseline."""
    return {metric: with_interval(scored.get(metric), interval) for metric, interval in scored["interval"].items()}


def number(value: float | None, form: str = ".3f") -> str:
    """Return a formatted number with a typographic minus sign, a dash for None."""
    return "–" if value is None else format(value, form).replace("-", "−")


def signed(difference: Difference) -> str:
    """Return "−0.100 [−0.220, +0.030]"."""
    value, low, high = (number(each, "+.3f") for each in difference)
    return f"{value} [{low}, {high}]"


def differences(record: Record, other: Mapping[str, Any]) -> dict[str, Difference]:
    """Return {metric: paired difference} between the run and `other`, packed predictions of the same rows."""
    answers = record.scored["answers"]
    truth, mine, others = (record.unpacked(each) for each in (answers["truth"], answers["predicted"], other))
    seed = int(record.config.get("loop", {}).get("seed", 0))
    constant = others.min() == others.max()  # its correlations are undefined
    return {
        name: paired_difference(metric, truth, mine, others, seed=seed)
        for name, metric in record.comparable.items()
        if not (constant and name in CORRELATIONS)
    }


def of_baselines(record: Record) -> dict[str, dict[str, Difference]]:
    """Return {baseline: {metric: model minus baseline}} for the baselines with stored predictions."""
    if "answers" not in record.scored:
        return {}
    baselines = record.results.get("baseline", {})
    return {name: differences(record, each["predicted"]) for name, each in baselines.items() if "predicted" in each}


def verdict(record: Record) -> str:
    """Return the notice that a model is no better than its baselines, "" if there is none (`evaluation.verdict`)."""
    text = record.results.get("verdict")
    return html.paragraph(text, "notice") if text else ""


def headline(record: Record, paired: Mapping[str, Mapping[str, Difference]]) -> str:
    """Return the result in one or two sentences."""
    scored, split = record.scored, of_split(record)
    if record.command == "pretrain":
        training = record.results["training"]
        return (
            f"After {training['tokens']:,} training tokens, the {split} perplexity is {scored['perplexity']:.2f} per "
            f"token ({scored['bits_per_byte']:.3f} bits per byte)."
        )
    metric = record.metrics[0]
    low, high = scored["interval"][metric]
    text = (
        f"The model reaches {named(metric)} {number(scored[metric])} on {scored['examples']:,} {split} examples "
        f"(95 % interval {number(low)} to {number(high)})."
    )
    for name, each in paired.items():
        value = record.results["baseline"][name][metric]
        if metric in each:
            baseline = f"{name[0].upper()}{name[1:]} reaches {number(value)}"
            text += f" {baseline} on the same rows: {in_words(metric, each[metric])}"
            break
    return text


def named(metric: str) -> str:
    """Return the display name of a metric without its range or unit."""
    return METRIC_LABELS.get(metric, metric).partition(" (")[0]


def of_split(record: Record) -> str:
    """Return the display name of the split that a run was scored on."""
    return "validation" if record.split == "valid" else record.split


def in_words(metric: str, difference: Difference, who: str = "the model") -> str:
    """Return a paired difference as the end of a sentence about `who`."""
    match significance(metric, difference):
        case "not significant":
            return f"the difference of {number(difference[0], '+.3f')} is not statistically significant."
        case word:
            return f"{who} is {word} by {number(abs(difference[0]))}, which is statistically significant."


def tiles(record: Record) -> str:
    """Return the main scores as large figures."""
    scored = record.scored
    if record.command == "pretrain":
        training = record.results["training"]
        return html.tiles(
            [
                ("perplexity", f"{scored['perplexity']:.2f}", "per token; lower is better"),
                ("bits per byte", f"{scored['bits_per_byte']:.3f}", "comparable across vocabularies"),
                ("loss", f"{scored['loss']:.3f}", "nats per token"),
                ("training tokens", f"{training['tokens']:,}", f"in {training['steps']:,} steps"),
            ]
        )
    of_label = {"f1": f" ({scored['labels'][1]})"} if len(scored.get("labels", ())) == 2 else {}
    shown = [
        (named(name) + of_label.get(name, ""), number(scored[name]), "{} to {}".format(*map(number, interval)))
        for name, interval in scored["interval"].items()
    ]
    return html.tiles([*shown, (f"{record.split} examples", f"{scored['examples']:,}", "scored after training")])


def baselines(record: Record, paired: Mapping[str, Mapping[str, Difference]]) -> str:
    """Return the section that compares the model with the baselines on the same rows."""
    baselines = record.results.get("baseline", {})
    if not baselines:
        return ""
    metrics = record.metrics
    rows = {"GPT-1": record.scored} | baselines
    shown = [[name, *(with_intervals(each)[metric] for metric in metrics)] for name, each in rows.items()]
    main = {name: (each[metrics[0]], each["interval"][metrics[0]]) for name, each in rows.items()}
    drawable = all(value is not None and None not in interval for value, interval in main.values())
    return html.section(
        "baselines",
        "Comparison with baselines",
        html.paragraph(
            f"Simple methods that train in seconds, scored on the same {record.split} rows. A model that does not beat "
            "them is not worth its cost on this data."
        ),
        plots.intervals(main, metrics[0]) if drawable else "",
        html.table(["", *map(named, metrics)], shown, caption="Score [95 % bootstrap interval]"),
        differences_table("GPT-1 minus baseline", paired),
    )


def differences_table(header: str, paired: Mapping[str, Mapping[str, Difference]]) -> str:
    """Return the table of paired differences, with the significance of the first metric's."""
    metrics: list[str] = max(map(list, paired.values()), key=len, default=[])
    if not metrics:
        return ""
    rows = []
    for name, each in paired.items():
        first = next(iter(each))
        result = significance(first, each[first]) + (f" ({named(first)})" if first != metrics[0] else "")
        rows.append([name, *(signed(each[metric]) if metric in each else "–" for metric in metrics), result])
    head = [header, *map(named, metrics), f"result ({named(metrics[0])})"]
    return html.table(head, rows, caption="Difference [95 % interval]") + html.paragraph(PAIRED, "hint")
