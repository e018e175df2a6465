"""Scoring: metrics with confidence intervals, confusion matrix, worst errors, baselines."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1 import console
from gpt1.config import Head
from gpt1.data.batching import EncodedExamples
from gpt1.data.example import Example
from gpt1.evaluation import diagnostics
from gpt1.evaluation.baselines import fit_baselines
from gpt1.inference.batched import scores
from gpt1.tasks import Labels, Task, metrics_of
from gpt1.tasks.label_notes import imbalance_note
from gpt1.tasks.metrics import (
    METRICS,
    Metric,
    bootstrap_interval,
    compute,
    confusion_matrix,
    probabilities,
)
from gpt1.tasks.problem_types import PROBLEM_TYPES, SingleLabel

MISTAKES = 20
"""Number of the most confident mistakes that are stored."""

LARGEST_CONFUSION = 50
"""Maximum number of labels for which the confusion matrix is stored."""


def score_split(
    logits: NDArray[np.float32], encoded: EncodedExamples, examples: Sequence[Example], head: Head, labels: Labels,
    extra: Mapping[str, Metric], *, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Return the entry of `metrics.json` of one split from (B, C) logits.

    Keys: each metric, "loss", "examples", "truncated", "interval": {metric: [low, high]} (95 % bootstrap), "mistakes"
    (the most confident first), "by_length", "answers" (labels and predictions, packed, with a digest of the rows). A
    classification also has "confusion_matrix" (rows are the actual labels), "per_label" and "calibration"; with two
    labels, "roc" and "precision_recall" of label id 1. See `diagnostics`.
    """
    names = metrics_of(head)
    problem_type = labels.problem_type
    predicted = problem_type.predictions(logits)
    truth = encoded.labels
    assert truth is not None
    result: dict[str, Any] = {
        **scores(logits, encoded, head, names, dict(extra)),
        "examples": len(encoded),
        "truncated": encoded.truncated,
        "interval": _intervals(names, extra, truth, predicted, seed),
        "mistakes": _mistakes(logits, predicted, truth, examples, labels),
    }
    if isinstance(problem_type, SingleLabel):
        result |= _class_diagnostics(logits, predicted, truth, labels.names)
    result["by_length"] = diagnostics.by_length(encoded.lengths, *problem_type.errors(predicted, truth))
    answers = {"truth": diagnostics.pack(truth), "predicted": diagnostics.pack(predicted)}
    return result | {"answers": {"rows_sha256": _digest(examples), **answers}}


def _class_diagnostics(
    logits: NDArray[np.float32], predicted: NDArray[Any], truth: NDArray[Any], names: Sequence[str]
) -> dict[str, Any]:
    """Return the entries of `score_split` that only a classification has."""
    likely = probabilities(logits)
    result: dict[str, Any] = {}
    if names:
        confusion = confusion_matrix(truth, predicted, len(names))
        if len(names) <= LARGEST_CONFUSION:
            result |= {"labels": list(names), "confusion_matrix": confusion.tolist()}
        result["per_label"] = diagnostics.per_label(confusion, names)
    result["calibration"] = diagnostics.calibration(likely.max(1), predicted == truth)
    if len(names) == 2:
        result |= diagnostics.ranking(likely[:, 1], truth == 1)
    return result


def _digest(examples: Sequence[Example]) -> str:
    """Return a SHA-256 of the texts and labels in order; it does not depend on the tokenizer."""
    digest = hashlib.sha256()
    for example in examples:
        row = repr((example.parts, example.choices, example.label))
        digest.update(row.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _intervals(
    names: Sequence[str], extra: Mapping[str, Metric], truth: NDArray[Any], predicted: NDArray[Any], seed: int
) -> dict[str, list[float]]:
    metrics = {name: METRICS[name] for name in names} | dict(extra)
    return {name: list(bootstrap_interval(metric, truth, predicted, seed=seed)) for name, metric in metrics.items()}


def _mistakes(
    logits: NDArray[np.float32], predicted: NDArray[Any], truth: NDArray[Any], examples: Sequence[Example],
    labels: Labels,
) -> list[dict[str, Any]]:  # fmt: skip
    problem_type = labels.problem_type
    mistakes = []
    for index, confidence in problem_type.worst(logits, predicted, truth)[:MISTAKES]:
        example = examples[index]
        mistake = {
            "origin": example.origin,
            "texts": list(example.parts),
            "label": problem_type.answer(truth[index], labels.names),
            "predicted": problem_type.answer(predicted[index], labels.names),
        }
        choices = {"choices": list(example.choices)} if example.choices else {}
        mistakes.append(mistake | choices | confidence)
    return mistakes


def baselines(
    task: Task, train: Sequence[Example], train_labels: NDArray[Any], test: Sequence[Example], encoded: EncodedExamples,
    head: Head, extra: Mapping[str, Metric], seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Fit the baselines on `train` and return {name: {metric: value, "interval": …, "seconds", "predicted"}}."""
    names = task.metrics(head)
    truth = encoded.labels
    assert truth is not None
    results = {}
    problem_type = PROBLEM_TYPES[head.problem_type]
    for fitted in fit_baselines(task.baseline, train, train_labels, test, problem_type, seed=seed):
        results[fitted.name] = _scored(names, extra, truth, fitted.predictions, seed) | {
            "seconds": round(fitted.seconds, 2),
            "predicted": diagnostics.pack(fitted.predictions),
        }
    return results


def majority(encoded: EncodedExamples, head: Head, extra: Mapping[str, Metric], seed: int = 0) -> dict[str, Any]:
    """Return {"majority class": {metric: value, "interval": …, "predicted"}}, the scores of a constant prediction.

    The majority class is that of the scored examples, because a zero-shot model has no training split.
    """
    truth = encoded.labels
    assert truth is not None
    name, answer = PROBLEM_TYPES[head.problem_type].constant(truth, np.ones(len(truth)))
    predicted = np.full(len(truth), answer)
    scored = _scored(metrics_of(head), extra, truth, predicted, seed)
    return {name: scored | {"predicted": diagnostics.pack(predicted)}}


def _scored(
    names: Sequence[str], extra: Mapping[str, Metric], truth: NDArray[Any], predicted: NDArray[Any], seed: int
) -> dict[str, Any]:
    return compute(names, truth, predicted, extra) | {"interval": _intervals(names, extra, truth, predicted, seed)}


def show_scores(results: Mapping[str, Any], name: str = "GPT-1") -> None:
    """Print a table of the model (as `name`), compared models and baselines, then the verdict on the model.

    The table has each metric with its 95 % interval. If labels are imbalanced or never predicted, a second one has the
    scores per label and their macro average.
    """
    title, header, rows = score_table(results, name)
    console.say(f"\n{title}")
    console.table(header, rows)
    per_label = results[results["baseline_split"]].get("per_label", [])
    if imbalance_note({row["label"]: row["support"] for row in per_label}) or any(
        row["support"] and not row["recall"] for row in per_label
    ):
        _show_per_label(per_label, f"{name} per label" if name != "GPT-1" else "per label")
    show_verdict(results.get("verdict"))


def score_table(results: Mapping[str, Any], name: str = "GPT-1") -> tuple[str, list[str], list[list[str]]]:
    """Return the table that `show_scores` prints first: its title, its header, and a row for each model."""
    split = results["baseline_split"]
    scored = results[split]
    metrics = list(scored["interval"])
    models = {name: scored} | results.get("compare", {}) | results["baseline"]
    rows = [[row, *(_with_interval(scores, metric) for metric in metrics)] for row, scores in models.items()]
    return f"{split}, {scored['examples']:,} examples (95 % bootstrap interval)", ["", *metrics], rows


def _show_per_label(per_label: Sequence[Mapping[str, Any]], title: str) -> None:
    names = ("precision", "recall", "f1")
    mean = {each: float(np.mean([row[each] for row in per_label])) for each in names}
    total = sum(row["support"] for row in per_label)
    rows = [*per_label[:LARGEST_CONFUSION], mean | {"label": "macro average", "support": total}]
    console.say("")
    console.table(
        [title, *names, "examples"],
        [[row["label"], *(f"{row[each]:.3f}" for each in names), f"{row['support']:,}"] for row in rows],
    )


def show_verdict(text: str | None) -> None:
    """Print the verdict below a table of scores (`evaluation.verdict`)."""
    console.say(f"\n{text}\n" if text else "")


def _with_interval(scored: Mapping[str, Any], metric: str) -> str:
    low, high = scored["interval"][metric]
    return f"{scored[metric]:.3f} [{low:.3f}, {high:.3f}]"
