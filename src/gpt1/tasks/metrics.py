"""Metrics, their bootstrap confidence intervals, and the confusion matrix.

Each built-in metric is a function of the distinct (label, prediction) pairs and their counts. The same function gives
the value and, for many rows of counts at once, the bootstrap distribution; it needs only NumPy. Tests compare all
metrics with scikit-learn or SciPy.

Letters: N examples, K distinct pairs, R resamples, C labels.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1.errors import UserError

Array = NDArray[Any]
Metric = Callable[[Array, Array], float]
"""(labels (N,), predictions (N,)) -> value; label ids, or floats for a regression."""

SMALLER_IS_BETTER = frozenset({"loss", "perplexity", "bits_per_byte", "mse", "mae"})
COUNTS_AT_ONCE = 4_000_000
"""Maximum entries of the (R, K) counts in memory during a bootstrap (32 MB)."""
CONSTANT_TOLERANCE = 1e-13
"""Values with a standard deviation below this fraction of their mean count as constant (as in SciPy)."""


@dataclass(frozen=True)
class PairMetric:
    """A metric defined on distinct pairs: labels (K,), predictions (K,), counts (R, K) -> values (R,)."""

    of_counts: Callable[[Array, Array, Array], Array]

    def __call__(self, labels: Array, predictions: Array) -> float:
        """Return the value for labels (N,) and predictions (N,)."""
        distinct_labels, distinct_predictions, counts = _distinct_pairs(labels, predictions)
        return float(self.of_counts(distinct_labels, distinct_predictions, counts[None, :])[0])


def _distinct_pairs(labels: Array, predictions: Array) -> tuple[Array, Array, Array]:
    """Return labels (K,), predictions (K,) and counts (K,) of the distinct pairs among N examples."""
    labels, predictions = _same_length(labels, predictions)
    pairs, counts = np.unique(np.stack([labels, predictions], axis=1).astype(np.float64), axis=0, return_counts=True)
    return pairs[:, 0], pairs[:, 1], counts


def _same_length(labels: Array, predictions: Array) -> tuple[Array, Array]:
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape or not len(labels):
        raise ValueError(f"labels {labels.shape} and predictions {predictions.shape}: expected one of each per example")
    return labels, predictions


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Return numerator / denominator, and 0 where the denominator is 0."""
    ratio = np.zeros(np.shape(numerator), dtype=np.float64)
    np.divide(numerator, denominator, out=ratio, where=denominator != 0)
    return ratio


def _mean(values: Array, counts: Array) -> Array:
    """Return the mean (R,) of values (K,) that occur `counts` (R, K) times."""
    return _ratio(counts @ values, counts.sum(axis=1))


def _accuracy(labels: Array, predictions: Array, counts: Array) -> Array:
    return _mean(labels == predictions, counts)


def _f1(labels: Array, predictions: Array, counts: Array) -> Array:
    true, predicted = labels == 1, predictions == 1
    return _ratio(2.0 * (counts @ (true & predicted)), counts @ true + counts @ predicted)


def _per_label(labels: Array, predictions: Array, counts: Array) -> tuple[Array, Array, Array]:
    """Return how often each label is correctly predicted, true, and predicted: three float arrays (R, C)."""
    ids = np.unique(np.concatenate([labels, predictions]))
    true, predicted = labels[:, None] == ids, predictions[:, None] == ids  # (K, C)
    weights = counts.astype(np.float64)
    return weights @ (true & predicted), weights @ true, weights @ predicted


def _macro_f1(labels: Array, predictions: Array, counts: Array) -> Array:
    right, true, predicted = _per_label(labels, predictions, counts)
    return _ratio(_ratio(2.0 * right, true + predicted).sum(axis=1), np.count_nonzero(true + predicted, axis=1))


def _matthews(labels: Array, predictions: Array, counts: Array) -> Array:
    """Return R_K (Gorodkin 2004); for two labels this is Matthews' correlation coefficient."""
    right, true, predicted = _per_label(labels, predictions, counts)
    n = true.sum(axis=1)
    covariance = right.sum(axis=1) * n - (true * predicted).sum(axis=1)
    return _ratio(covariance, np.sqrt((n**2 - (true**2).sum(axis=1)) * (n**2 - (predicted**2).sum(axis=1))))


def _pearson(labels: Array, predictions: Array, counts: Array) -> Array:
    """Return Pearson's correlation of values (K,), or (R, K) for each resample; 0.0, not NaN, if a side is constant."""
    n = counts.sum(axis=1, keepdims=True)
    means = [(counts * values).sum(axis=1, keepdims=True) / n for values in (labels, predictions)]
    x, y = labels - means[0], predictions - means[1]  # (R, K)
    deviations = [np.sqrt((counts * side**2).sum(axis=1)) for side in (x, y)]
    constant = [
        deviation <= CONSTANT_TOLERANCE * np.abs(mean[:, 0]) * np.sqrt(n[:, 0])
        for deviation, mean in zip(deviations, means, strict=True)
    ]
    value = _ratio((counts * x * y).sum(axis=1), deviations[0] * deviations[1])
    return np.where(constant[0] | constant[1], 0.0, np.clip(value, -1.0, 1.0))


def _ranks(values: Array, counts: Array) -> Array:
    """Return the rank (R, K) of each value within each resample; ties get their mean rank."""
    order = np.argsort(values)
    _, starts, inverse = np.unique(values[order], return_index=True, return_inverse=True)
    occurrences = np.add.reduceat(counts[:, order], starts, axis=1)  # of each distinct value
    ranks = np.empty(counts.shape, dtype=np.float64)
    ranks[:, order] = (np.cumsum(occurrences, axis=1) - (occurrences - 1) / 2.0)[:, inverse]
    return ranks


def _spearman(labels: Array, predictions: Array, counts: Array) -> Array:
    if np.isnan(labels).any() or np.isnan(predictions).any():  # NaN has no rank
        return np.full(len(counts), np.nan)
    return _pearson(_ranks(labels, counts), _ranks(predictions, counts), counts)


def _mse(labels: Array, predictions: Array, counts: Array) -> Array:
    return _mean((labels - predictions) ** 2, counts)


def _mae(labels: Array, predictions: Array, counts: Array) -> Array:
    return _mean(np.abs(labels - predictions), counts)


METRICS: dict[str, Metric] = {
    "accuracy": PairMetric(_accuracy),
    "f1": PairMetric(_f1),
    "macro_f1": PairMetric(_macro_f1),
    "matthews": PairMetric(_matthews),
    "pearson": PairMetric(_pearson),
    "spearman": PairMetric(_spearman),
    "mse": PairMetric(_mse),
    "mae": PairMetric(_mae),
}
"""Built-in metrics. `f1` is that of label id 1 (0.0 if it neither occurs nor is predicted), `macro_f1` the mean over
the labels that occur or are predicted; `matthews`, `pearson` and `spearman` are 0.0 if a side is constant."""


def better(metric: str, a: float, b: float) -> bool:
    """Return whether `a` is better than `b`. Custom metrics are larger-is-better; NaN is never better."""
    if math.isnan(a) or math.isnan(b):
        return not math.isnan(a)
    return a < b if metric in SMALLER_IS_BETTER else a > b


def probabilities(logits: Array) -> Array:
    """Return the softmax over the last axis in float64: (N, C) -> (N, C)."""
    shifted = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def compute(
    names: Sequence[str], labels: Array, predictions: Array, extra: Mapping[str, Metric] | None = None
) -> dict[str, float]:
    """Return the values of the metrics in `names`, then of the custom metrics in `extra`.

    Raises:
        UserError: a name is unknown, or a custom metric has the name of a built-in metric.
    """
    extra = extra or {}
    if taken := sorted(extra.keys() & METRICS.keys()):
        raise UserError(f"--metric {taken[0]}: this is the name of a built-in metric; rename your function")
    known = {**METRICS, **extra}
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"metric {unknown[0]!r} is unknown: expected one of {', '.join(known)}")
    return {name: float(known[name](labels, predictions)) for name in dict.fromkeys([*names, *extra])}


def bootstrap_interval(
    metric: Metric, labels: Array, predictions: Array, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval over examples (Efron 1979) as (low, high); NaN if the metric is NaN.

    Drawing N examples with replacement is equivalent to drawing the counts of their distinct pairs from a multinomial.
    A built-in metric of labels therefore takes milliseconds at any N, one of floats about a second at N = 10,000. A
    custom metric is called once per resample on N drawn examples.
    """
    generator = np.random.default_rng(seed)
    if isinstance(metric, PairMetric):
        values = _resampled(metric, labels, predictions, resamples, generator)
    else:
        labels, predictions = _same_length(labels, predictions)
        rows = (generator.integers(len(labels), size=len(labels)) for _ in range(resamples))
        values = np.array([metric(labels[row], predictions[row]) for row in rows], dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def _resampled(
    metric: PairMetric, labels: Array, predictions: Array, resamples: int, generator: np.random.Generator
) -> Array:
    labels, predictions, counts = _distinct_pairs(labels, predictions)
    n = int(counts.sum())
    rows = max(1, COUNTS_AT_ONCE // len(counts))
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    draws = (generator.multinomial(n, counts / n, size=size) for size in sizes)
    return np.concatenate([metric.of_counts(labels, predictions, draw) for draw in draws])


def confusion_matrix(labels: Array, predictions: Array, n_labels: int) -> Array:
    """Return counts (C, C) int64 of label ids: rows are true labels, columns are predictions."""
    labels, predictions = np.asarray(labels, dtype=np.int64), np.asarray(predictions, dtype=np.int64)
    for ids in (labels, predictions):
        if ids.size and not 0 <= ids.min() <= ids.max() < n_labels:
            raise ValueError(f"label ids {ids.min()} to {ids.max()}: expected 0 to {n_labels - 1}")
    return np.bincount(labels * n_labels + predictions, minlength=n_labels**2).reshape(n_labels, n_labels)


def own_metric(metric: str | Metric | None) -> dict[str, Metric]:
    """Return {name: function} of a custom metric given as a function or as "package.module:function"."""
    if metric is None:
        return {}
    if isinstance(metric, str):
        return {metric.rpartition(":")[2]: load_metric(metric)}
    return {getattr(metric, "__name__", "custom"): metric}


def load_metric(spec: str) -> Metric:
    """Import a custom metric given as "package.module:function"; modules in the current directory are found too.

    The function is called as function(labels, predictions) with two arrays of label ids or floats and must return a
    number.

    Raises:
        UserError: the function cannot be imported; when called, it raises an exception or does not return a number.
    """
    module_name, colon, name = spec.partition(":")
    if not (module_name and colon and name):
        raise UserError(f"--metric {spec}: expected package.module:function, for example sklearn.metrics:r2_score")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        function = getattr(importlib.import_module(module_name), name)
    except AttributeError:
        raise UserError(f"--metric {spec}: module {module_name} has no function {name!r}") from None
    except Exception as error:
        raise UserError(f"--metric {spec}: importing {module_name} failed: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise UserError(f"--metric {spec}: {name} is {type(function).__name__}, expected a function")

    def metric(labels: Array, predictions: Array) -> float:
        try:
            return float(function(labels, predictions))
        except Exception as error:
            raise UserError(f"--metric {spec}: {type(error).__name__}: {error}; expected a number") from error

    return metric
