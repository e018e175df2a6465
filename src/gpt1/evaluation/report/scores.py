"""How good a run is, in a report: the model beside the baselines, and whether a difference is more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpt1.evaluation.diagnostics import paired_difference
from gpt1.evaluation.report import html, plots
from gpt1.evaluation.report.curves import METRIC_LABELS
from gpt1.evaluation.report.record import Record
from gpt1.tasks.metrics import SMALLER_IS_BETTER

Difference = tuple[float, float, float]
"""(difference, low, high) of `diagnostics.paired_difference`."""
Answers = Mapping[str, Any]
"""{"truth", "predicted"}, packed."""

CORRELATIONS = ("pearson", "spearman")
PAIRED = (
    "The difference is that on the same rows, with its 95 % interval by the paired bootstrap (1,000 resamples). "
    "Where 0 lies inside the interval, another draw of test examples might well turn the order round."
)


def with_interval(value: float | None, interval: Sequence[float | None]) -> str:
    """Return "0.650 [0.560, 0.740]"; a dash for what is no number."""
    return f"{number(value)} [{', '.join(map(number, interval))}]"


def with_intervals(scored: Mapping[str, Any]) -> dict[str, str]:
    """Return {metric: "0.650 [0.560, 0.740]"} of the figures of a model or a baseline that have an interval."""
    return {metric: with_interval(scored.get(metric), interval) for metric, interval in scored["interval"].items()}


def number(value: float | None, form: str = ".3f") -> str:
    """Return a figure for readers: with a minus sign that is as wide as a plus, a dash for what is no number."""
    return "–" if value is None else format(value, form).replace("-", "−")


def signed(difference: Difference) -> str:
    """Return "−0.100 [−0.220, +0.030]"."""
    value, low, high = (number(each, "+.3f") for each in difference)
    return f"{value} [{low}, {high}]"


def verdict(metric: str, difference: Difference) -> str:
    """Return what an interval of a difference says: better | worse | within noise."""
    _, low, high = difference
    if low <= 0.0 <= high:
        return "within noise"
    return "better" if (low > 0.0) != (metric in SMALLER_IS_BETTER) else "worse"


def differences(record: Record, other: Mapping[str, Any]) -> dict[str, Difference]:
    """Return by how much the run's model differs from `other`, packed predictions of the same rows, in each metric."""
    answers = record.scored["answers"]
    truth, mine, its = (record.unpacked(each) for each in (answers["truth"], answers["predicted"], other))
    seed = int(record.config.get("loop", {}).get("seed", 0))
    constant = its.min() == its.max()  # which correlates with nothing
    return {
        name: paired_difference(metric, truth, mine, its, seed=seed)
        for name, metric in record.comparable.items()
        if not (constant and name in CORRELATIONS)
    }


def of_baselines(record: Record) -> dict[str, dict[str, Difference]]:
    """Return {baseline: {metric: model minus baseline}} of those whose predictions were stored."""
    if "answers" not in record.scored:
        return {}
    baselines = record.results.get("baseline", {})
    return {name: differences(record, each["predicted"]) for name, each in baselines.items() if "predicted" in each}


def headline(record: Record, paired: Mapping[str, Mapping[str, Difference]]) -> str:
    """Return the result in a sentence or two."""
    scored, split = record.scored, of_split(record)
    if record.command == "pretrain":
        training = record.results["training"]
        return (
            f"After {training['tokens']:,} tokens the language model reads the {split} text with a perplexity of "
            f"{scored['perplexity']:.2f} per token, {scored['bits_per_byte']:.3f} bits per byte."
        )
    metric = record.metrics[0]
    low, high = scored["interval"][metric]
    text = (
        f"On {scored['examples']:,} {split} examples the model reaches {named(metric)} {number(scored[metric])} "
        f"(95 % interval {number(low)} to {number(high)})."
    )
    for name, each in paired.items():
        value = record.results["baseline"][name][metric]
        if metric in each:
            its = f"{name[0].upper()}{name[1:]} reaches {number(value)}"
            text += f" {its} on the same rows: {in_words(metric, each[metric])}"
            break
    return text


def named(metric: str) -> str:
    """Return the name of a metric in a sentence."""
    return METRIC_LABELS.get(metric, metric).partition(" (")[0]


def of_split(record: Record) -> str:
    """Return the name in a sentence of the split that a run was scored on."""
    return "validation" if record.split == "valid" else record.split


def in_words(metric: str, difference: Difference, who: str = "the model") -> str:
    """Return what a paired difference says of `who`."""
    match verdict(metric, difference):
        case "within noise":
            apart = "more examples would be needed to tell them apart"
            return f"the difference of {number(difference[0], '+.3f')} is within noise; {apart}."
        case word:
            return f"{who} is {word} by {number(abs(difference[0]))}, which is more than noise."


def tiles(record: Record) -> str:
    """Return the main figures."""
    scored = record.scored
    if record.command == "pretrain":
        training = record.results["training"]
        return html.tiles(
            [
                ("perplexity", f"{scored['perplexity']:.2f}", "per token; lower is better"),
                ("bits per byte", f"{scored['bits_per_byte']:.3f}", "comparable between vocabularies"),
                ("loss", f"{scored['loss']:.3f}", "nats a token"),
                ("trained on", f"{training['tokens']:,}", f"tokens in {training['steps']:,} steps"),
            ]
        )
    of_label = {"f1": f"of {scored['labels'][1]}: "} if len(scored.get("labels", ())) == 2 else {}
    shown = [
        (named(name), number(scored[name]), of_label.get(name, "") + "{} to {}".format(*map(number, interval)))
        for name, interval in scored["interval"].items()
    ]
    return html.tiles([*shown, (f"{record.split} examples", f"{scored['examples']:,}", "scored once, at the end")])


def baselines(record: Record, paired: Mapping[str, Mapping[str, Difference]]) -> str:
    """Return the section with the model and the baselines on the same rows."""
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
        "Beside plain methods",
        html.paragraph(
            f"The same {record.split} rows, labelled by methods that train in seconds. A model that does not beat them "
            "is not worth its cost here."
        ),
        plots.intervals(main, metrics[0]) if drawable else "",
        html.table(["", *map(named, metrics)], shown, caption="Score [95 % bootstrap interval]"),
        differences_table("GPT-1 minus", paired),
    )


def differences_table(what: str, paired: Mapping[str, Mapping[str, Difference]]) -> str:
    """Return the paired differences, with what the first metric's says."""
    metrics: list[str] = max(map(list, paired.values()), key=len, default=[])
    if not metrics:
        return ""
    rows = []
    for name, each in paired.items():
        first = next(iter(each))
        result = f"{verdict(first, each[first])} by {named(first)}"
        rows.append([name, *(signed(each[metric]) if metric in each else "–" for metric in metrics), result])
    head = [what, *map(named, metrics), "more than noise?"]
    return html.table(head, rows, caption="Difference [95 % interval]") + html.paragraph(PAIRED, "hint")
