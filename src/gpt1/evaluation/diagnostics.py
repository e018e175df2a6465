"""Diagnostics of predictions for the report: scores per label, calibration, ROC, accuracy by length, paired tests.

They are small enough to be stored in `metrics.json`. Dimensions: N examples, C labels.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1.tasks.metrics import COUNTS_AT_ONCE, METRICS, SMALLER_IS_BETTER, PairMetric

Array = NDArray[Any]
Difference = tuple[float, float, float]
"""(difference, low, high) of `paired_difference`."""

CALIBRATION_BINS = 10
"""Number of confidence bins of equal width."""
CURVE_POINTS = 200
"""Maximum number of stored points of a ROC or precision-recall curve; the areas are computed from all points."""
LENGTH_BINS = 5
"""Number of length bins with about the same number of examples."""
NORMAL_95 = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


def per_label(confusion: Array, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return {"label", "precision", "recall", "f1", "support"} of each label; undefined ratios are 0.

    `confusion` is (C, C) counts; rows are the actual labels.
    """
    right, true, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    rows = zip(names, right.tolist(), true.tolist(), predicted.tolist(), strict=True)
    return [
        {
            "label": name,
            "precision": hit / n_predicted if n_predicted else 0.0,
            "recall": hit / n_true if n_true else 0.0,
            "f1": 2 * hit / (n_true + n_predicted) if n_true + n_predicted else 0.0,
            "support": n_true,
        }
        for name, hit, n_true, n_predicted in rows
    ]


def calibration(confidence: Array, right: Array) -> dict[str, Any]:
    """Return {"error", "bins": [{"from", "to", "examples", "confidence", "accuracy"}]}, without empty bins.

    `confidence` (N,) is the probability of the predicted label, `right` (N,) whether the prediction is correct. "error"
    is the expected calibration error (Guo et al. 2017, eq. 3): the mean over examples of |accuracy - confidence| of
    their bin.
    """
    edges = np.linspace(0.0, 1.0, CALIBRATION_BINS + 1)
    of_bin = np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, CALIBRATION_BINS - 1)
    bins = []
    for number in np.unique(of_bin):
        inside = of_bin == number
        bins.append(
            {
                "from": float(edges[number].round(6)),
                "to": float(edges[number + 1].round(6)),
                "examples": int(inside.sum()),
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(right[inside].mean()),
            }
        )
    gaps = [each["examples"] * abs(each["accuracy"] - each["confidence"]) for each in bins]
    return {"error": float(sum(gaps) / len(confidence)), "bins": bins}


def ranking(score: Array, positive: Array) -> dict[str, Any]:
    """Return {"roc": {"auc", "points"}, "precision_recall": {"average_precision", "points"}} of scores (N,).

    `positive` (N,) marks the examples of the positive class, which has high scores. Points are [false positive rate,
    true positive rate] and [recall, precision], for at most `CURVE_POINTS` distinct thresholds. The average precision
    is the sum over thresholds of (R_n - R_{n-1}) P_n. The result is empty if all examples or none are positive.
    """
    n_true = int(positive.sum())
    if n_true in (0, len(positive)):
        return {}
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # last example of each distinct score
    hits = np.cumsum(positive[order])[last]
    false = last + 1 - hits
    recall, fallout = np.append(0, hits) / n_true, np.append(0, false) / (len(positive) - n_true)
    precision = np.append(1.0, hits / (last + 1))
    auc = float((np.diff(fallout) * (recall[1:] + recall[:-1]) / 2).sum())
    average = float((np.diff(recall) * precision[1:]).sum())
    return {
        "roc": {"auc": auc, "points": _thinned(fallout, recall)},
        "precision_recall": {"average_precision": average, "points": _thinned(recall, precision)},
    }


def _thinned(x: Array, y: Array) -> list[list[float]]:
    """Return at most `CURVE_POINTS` points [x, y], spaced evenly along the curve."""
    if len(x) > CURVE_POINTS:
        length = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
        indices = np.searchsorted(length, np.linspace(0.0, length[-1], CURVE_POINTS)).clip(max=len(x) - 1)
        kept = np.unique(np.append(0, np.append(indices, len(x) - 1)))[-CURVE_POINTS:]
        x, y = x[kept], y[kept]
    return [[round(float(a), 5), round(float(b), 5)] for a, b in zip(x, y, strict=True)]


def by_length(lengths: Array, values: Array, name: str) -> list[dict[str, Any]]:
    """Return {"from", "to", "examples", name: mean, "interval": [low, high]} of each bin of lengths (N,) in tokens.

    `values` (N,) are booleans (whether each prediction is correct) or the absolute errors of a regression. The 95 %
    interval is Wilson's for a proportion (Wilson 1927) and the normal approximation for a mean.
    """
    cuts = np.unique(np.quantile(lengths, np.linspace(0, 1, LENGTH_BINS + 1)[1:-1], method="higher"))
    of_bin = np.digitize(lengths, cuts)
    bins = []
    for number in np.unique(of_bin):
        inside = of_bin == number
        some = values[inside].astype(np.float64)
        low, high = _wilson(some) if values.dtype == bool else _normal(some)
        bins.append(
            {
                "from": int(lengths[inside].min()),
                "to": int(lengths[inside].max()),
                "examples": len(some),
                name: float(some.mean()),
                "interval": [low, high],
            }
        )
    return bins


def _wilson(right: Array) -> tuple[float, float]:
    n, p, z = len(right), float(right.mean()), NORMAL_95
    middle, half = p + z * z / (2 * n), z * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def _normal(values: Array) -> tuple[float, float]:
    half = NORMAL_95 * float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return float(values.mean()) - half, float(values.mean()) + half


# ---- two models on the same rows


def pack(values: Array) -> dict[str, Any]:
    """Return label ids or values (N,) as compact JSON: {"dtype", "zlib": base64 of the compressed bytes}."""
    if values.dtype.kind == "f":
        values = values.astype("<f4")
    else:
        values = values.astype(np.uint8 if len(values) == 0 or values.max() < 256 else "<u2")
    return {"dtype": values.dtype.str, "zlib": base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()}


def unpack(packed: Mapping[str, Any]) -> Array:
    """Return the int64 label ids or float64 values (N,) stored by `pack`.

    Raises:
        ValueError: `packed` has an unknown dtype or damaged data.
    """
    if packed["dtype"] not in ("|u1", "<u2", "<f4"):
        raise ValueError(f"dtype {packed['dtype']}: expected |u1, <u2 or <f4")
    try:
        values = np.frombuffer(zlib.decompress(base64.b64decode(packed["zlib"])), packed["dtype"])
    except zlib.error as error:
        raise ValueError(str(error)) from None
    return values.astype(np.float64 if values.dtype.kind == "f" else np.int64)


def comparable(metrics: Iterable[str]) -> dict[str, PairMetric]:
    """Return the metrics that can be recomputed from labels and predictions: all but custom ones."""
    known = {name: METRICS.get(name) for name in metrics}
    return {name: metric for name, metric in known.items() if isinstance(metric, PairMetric)}


def paired_difference(
    metric: PairMetric, labels: Array, a: Array, b: Array, *, resamples: int = 1000, seed: int = 0
) -> Difference:
    """Return metric(a) - metric(b) and its 95 % percentile interval by the paired bootstrap: (difference, low, high).

    `labels`, `a` and `b` are (N,). Each resample draws examples with the predictions of both models, so the difficulty
    of an example, common to both, cancels (Efron & Tibshirani 1993, ch. 8; Koehn 2004). The difference is significant
    if the interval does not contain 0.
    """
    triples = np.stack([labels, a, b], axis=1).astype(np.float64)
    (truth, first, second), counts = (array.T for array in np.unique(triples, axis=0, return_counts=True))
    generator = np.random.default_rng(seed)
    at_once = max(1, COUNTS_AT_ONCE // len(counts))
    differences = []
    for start in range(0, resamples, at_once):
        draws = generator.multinomial(len(labels), counts / len(labels), size=min(at_once, resamples - start))
        differences.append(metric.of_counts(truth, first, draws) - metric.of_counts(truth, second, draws))
    low, high = np.quantile(np.concatenate(differences), [0.025, 0.975])
    return metric(labels, a) - metric(labels, b), float(low), float(high)


def significance(metric: str, difference: Difference) -> str:
    """Return better | worse | not significant, by whether the interval of a paired difference contains 0."""
    _, low, high = difference
    if low <= 0.0 <= high:
        return "not significant"
    return "better" if (low > 0.0) != (metric in SMALLER_IS_BETTER) else "worse"
