"""How good is it: scores with intervals, the confusion matrix, the most confident mistakes, the baselines beside."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1 import console
from gpt1.config import Head
from gpt1.data.batching import Encoded
from gpt1.data.dataset import Example
from gpt1.evaluation import diagnostics
from gpt1.evaluation.baselines import fit_baselines
from gpt1.inference.batched import scores
from gpt1.tasks import Labels
from gpt1.tasks.metrics import (
    METRICS,
    Metric,
    bootstrap_interval,
    compute,
    confusion_matrix,
    predictions,
    probabilities,
    task_metrics,
)

MISTAKES = 20
"""How many of the most confident mistakes are kept."""

LARGEST_CONFUSION = 50
"""Most labels for which the confusion matrix is stored."""


def examine(
    logits: NDArray[np.float32], encoded: Encoded, examples: Sequence[Example], head: Head, labels: Labels,
    extra: Mapping[str, Metric], *, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Return one split's entry of `metrics.json` from (B, C) logits.

    {metric: value, "loss", "examples", "interval": {metric: [low, high]} (95 % bootstrap), "confusion_matrix" (rows are
    the truth), "mistakes": the most confident ones first}, and what a report draws (`diagnostics`): "per_label",
    "calibration", "roc" and "precision_recall" of label id 1 of two, "by_length", "answers": the truth and the
    predictions, packed, with the digest of the rows that they belong to.
    """
    names = task_metrics(head.task, head.n_labels, head.regression)
    found = predictions(logits, head.regression)
    truth = encoded.labels
    assert truth is not None
    result: dict[str, Any] = {
        **scores(logits, encoded, head, names, dict(extra)),
        "examples": len(encoded),
        "truncated": encoded.truncated,
        "interval": _intervals(names, extra, truth, found, seed),
        "mistakes": _mistakes(logits, found, truth, examples, head, labels),
    }
    if labels.names and len(labels.names) <= LARGEST_CONFUSION:
        result["labels"] = list(labels.names)
        result["confusion_matrix"] = confusion_matrix(truth, found, len(labels.names)).tolist()
    return result | _diagnosed(logits, found, truth, encoded.lengths, examples, labels)


def _diagnosed(
    logits: NDArray[np.float32], found: NDArray[Any], truth: NDArray[Any], lengths: NDArray[np.int64],
    examples: Sequence[Example], labels: Labels,
) -> dict[str, Any]:  # fmt: skip
    result: dict[str, Any] = {}
    if labels.regression:
        errors = np.abs(found - truth)
        result["by_length"] = diagnostics.by_length(lengths, errors, "mae")
    else:
        likely, right = probabilities(logits), found == truth
        if labels.names:
            confusion = confusion_matrix(truth, found, len(labels.names))
            result["per_label"] = diagnostics.per_label(confusion, labels.names)
        result["calibration"] = diagnostics.calibration(likely.max(1), right)
        if len(labels.names) == 2:
            result |= diagnostics.ranking(likely[:, 1], truth == 1)
        result["by_length"] = diagnostics.by_length(lengths, right, "accuracy")
    answers = {"truth": diagnostics.pack(truth), "predicted": diagnostics.pack(found)}
    return result | {"answers": {"rows_sha256": _digest(examples), **answers}}


def _digest(examples: Sequence[Example]) -> str:
    """Return a digest of the texts and labels in their order, whatever vocabulary reads them."""
    digest = hashlib.sha256()
    for example in examples:
        told = repr((example.parts, example.choices, example.label))
        digest.update(told.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _intervals(
    names: Sequence[str], extra: Mapping[str, Metric], truth: NDArray[Any], found: NDArray[Any], seed: int
) -> dict[str, list[float]]:
    every = {name: METRICS[name] for name in names} | dict(extra)
    return {name: list(bootstrap_interval(metric, truth, found, seed=seed)) for name, metric in every.items()}


def _mistakes(
    logits: NDArray[np.float32], found: NDArray[Any], truth: NDArray[Any], examples: Sequence[Example], head: Head,
    labels: Labels,
) -> list[dict[str, Any]]:  # fmt: skip
    if head.regression:
        error = np.abs(found - truth)
        worst = np.argsort(-error, kind="stable")[:MISTAKES]
        return [_told(examples[i], float(truth[i]), float(found[i])) for i in worst]
    confidence = probabilities(logits).max(1)
    wrong = np.flatnonzero(found != truth)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    name = (lambda i: labels.names[i]) if labels.names else int
    return [
        _told(examples[i], name(int(truth[i])), name(int(found[i]))) | {"confidence": float(confidence[i])}
        for i in worst
    ]


def _told(example: Example, truth: object, found: object) -> dict[str, Any]:
    told: dict[str, Any] = {"origin": example.origin, "texts": list(example.parts), "label": truth, "predicted": found}
    return told | ({"choices": list(example.choices)} if example.choices else {})


def baselines(
    kind: str, train: Sequence[Example], train_labels: NDArray[Any], test: Sequence[Example], encoded: Encoded,
    head: Head, extra: Mapping[str, Metric], seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Fit the plain baselines on `train` and return {name: {metric: value, "interval": …, "seconds", "predicted"}}."""
    names = task_metrics(head.task, head.n_labels, head.regression)
    truth = encoded.labels
    assert truth is not None
    results = {}
    for fitted in fit_baselines(kind, train, train_labels, test, regression=head.regression, seed=seed):
        results[fitted.name] = _scored(names, extra, truth, fitted.predictions, seed) | {
            "seconds": round(fitted.seconds, 2),
            "predicted": diagnostics.pack(fitted.predictions),
        }
    return results


def majority(encoded: Encoded, head: Head, extra: Mapping[str, Metric], seed: int = 0) -> dict[str, Any]:
    """Return {"majority class": {metric: value, "interval": …}}: the best that one answer for all examples reaches.

    The most frequent label is that of the scored examples themselves: what is never trained has no training split.
    """
    truth = encoded.labels
    assert truth is not None
    found = np.full(len(truth), np.bincount(truth).argmax())
    names = task_metrics(head.task, head.n_labels, head.regression)
    return {"majority class": _scored(names, extra, truth, found, seed)}


def _scored(
    names: Sequence[str], extra: Mapping[str, Metric], truth: NDArray[Any], found: NDArray[Any], seed: int
) -> dict[str, Any]:
    return compute(names, truth, found, extra) | {"interval": _intervals(names, extra, truth, found, seed)}


def show_scores(results: Mapping[str, Any], name: str = "GPT-1") -> None:
    """Print the model, under `name`, beside other models and the baselines, each metric with its 95 % interval."""
    split = results["baseline_split"]
    scored = results[split]
    metrics = list(scored["interval"])
    every = {name: scored} | results.get("compare", {}) | results["baseline"]
    rows = [[row, *(_with_interval(found, metric) for metric in metrics)] for row, found in every.items()]
    console.say(f"\n{split}, {scored['examples']:,} examples (95 % bootstrap interval)")
    console.table(["", *metrics], rows)
    console.say()


def _with_interval(scored: Mapping[str, Any], metric: str) -> str:
    low, high = scored["interval"][metric]
    return f"{scored[metric]:.3f} [{low:.3f}, {high:.3f}]"
