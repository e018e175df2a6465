"""Metrics against scikit-learn and SciPy, the bootstrap against drawing examples. Run: pytest tests/test_metrics.py"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt1.config import Head
from gpt1.errors import UserError
from gpt1.tasks import REGRESSION, SINGLE_LABEL, metrics, metrics_of

SAME = 1e-12
"""Two computations of the same float64 value differ by rounding only."""
SAMPLING_NOISE = 0.01
"""Two bootstraps of 1000 resamples with different draws: their quantiles differ by a tenth of the interval's width."""


def oracle(name: str, labels: np.ndarray, predictions: np.ndarray) -> float:
    import scipy.stats
    import sklearn.metrics as sk

    functions = {
        "accuracy": sk.accuracy_score,
        "f1": lambda y, p: sk.f1_score(y, p, labels=[1], average="macro", zero_division=0),
        "macro_f1": lambda y, p: sk.f1_score(y, p, average="macro", zero_division=0),
        "matthews": sk.matthews_corrcoef,
        "pearson": lambda y, p: scipy.stats.pearsonr(y, p).statistic,
        "spearman": lambda y, p: scipy.stats.spearmanr(y, p).statistic,
        "mse": sk.mean_squared_error,
        "mae": sk.mean_absolute_error,
    }
    return float(functions[name](labels, predictions))


DISCRETE = ("accuracy", "f1", "macro_f1", "matthews")
CONTINUOUS = ("pearson", "spearman", "mse", "mae")
pairs_of_ids = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(deadline=None)  # the first call imports scikit-learn
@given(pairs=pairs_of_ids)
def test_metrics_of_labels_equal_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = np.array(pairs).T
    for name in DISCRETE:
        assert metrics.METRICS[name](labels, predictions) == pytest.approx(
            oracle(name, labels, predictions), abs=SAME
        ), name


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("decimals", [0, 8])  # with 0 most values are tied
def test_metrics_of_floats_equal_scipy_and_scikit_learn(name: str, decimals: int) -> None:
    generator = np.random.default_rng(0)
    labels = np.round(generator.normal(size=200), decimals)
    predictions = np.round(labels + generator.normal(size=200), decimals)
    expected = oracle(name, labels, predictions)
    assert metrics.METRICS[name](labels, predictions) == pytest.approx(expected, abs=SAME)


@pytest.mark.parametrize("name", ["pearson", "spearman", "matthews"])
def test_a_correlation_with_a_constant_is_zero(name: str) -> None:
    labels = np.array([0, 1, 1, 0, 1])
    constant = np.full(5, 0 if name == "matthews" else 0.1)
    assert metrics.METRICS[name](labels, constant) == 0.0
    assert metrics.METRICS[name](constant, labels) == 0.0
    assert metrics.bootstrap_interval(metrics.METRICS[name], labels, constant) == (0.0, 0.0)


def test_a_constant_whose_mean_is_rounded_is_still_constant() -> None:
    assert sum([0.1] * 3) / 3 != 0.1
    assert metrics.METRICS["pearson"](np.array([1.0, 2.0, 4.0]), np.full(3, 0.1)) == 0.0


def test_predictions_that_are_nan_give_nan_and_not_an_error() -> None:
    labels, predictions = np.array([1.0, 2.0, 3.0]), np.array([1.0, math.nan, 3.0])
    for name in CONTINUOUS:
        assert math.isnan(metrics.METRICS[name](labels, predictions)), name
    low, high = metrics.bootstrap_interval(lambda y, p: math.nan, labels, predictions, resamples=10)
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("name", [*DISCRETE, *CONTINUOUS])
def test_a_metric_of_counts_is_the_metric_of_the_drawn_examples(name: str) -> None:
    """This makes the multinomial draw an exact bootstrap over examples."""
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 3, size=12).astype(float)
    predictions = generator.integers(0, 3, size=12).astype(float)
    counts = generator.multinomial(12, np.full(12, 1 / 12), size=20)
    metric = metrics.METRICS[name]
    assert isinstance(metric, metrics.PairMetric)
    values = metric.of_counts(labels, predictions, counts)
    for value, count in zip(values, counts, strict=True):
        drawn = np.repeat(labels, count), np.repeat(predictions, count)
        assert value == pytest.approx(metric(*drawn), abs=SAME)


@pytest.mark.parametrize("name", [*DISCRETE, *CONTINUOUS])
def test_the_interval_is_that_of_drawing_examples_one_by_one(name: str) -> None:
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 2, size=400)
    predictions = np.where(generator.random(400) < 0.8, labels, 1 - labels)
    metric = metrics.METRICS[name]
    interval = metrics.bootstrap_interval(metric, labels, predictions)
    slow = metrics.bootstrap_interval(lambda y, p: metric(y, p), labels, predictions, seed=1)
    assert interval == pytest.approx(slow, abs=SAMPLING_NOISE)
    assert interval[0] < metric(labels, predictions) < interval[1]


def test_the_interval_of_an_accuracy_is_the_binomial_one_and_takes_less_than_a_second_on_imdb_s_test_set() -> None:
    labels = np.zeros(25_000, dtype=int)
    predictions = np.zeros(25_000, dtype=int)
    predictions[:2_500] = 1
    start = time.process_time()
    low, high = metrics.bootstrap_interval(metrics.METRICS["accuracy"], labels, predictions)
    assert time.process_time() - start < 1.0
    half = 1.96 * math.sqrt(0.9 * 0.1 / 25_000)
    assert (low, high) == pytest.approx((0.9 - half, 0.9 + half), abs=half / 10)  # quantiles of 1000 draws


def test_the_interval_depends_on_the_seed_and_the_level_only(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    labels = generator.normal(size=60)
    predictions = labels + generator.normal(size=60)
    metric = metrics.METRICS["pearson"]
    interval = metrics.bootstrap_interval(metric, labels, predictions)
    assert metrics.bootstrap_interval(metric, labels, predictions, seed=5) != interval
    narrow = metrics.bootstrap_interval(metric, labels, predictions, level=0.5)
    assert interval[0] < narrow[0] < narrow[1] < interval[1]
    monkeypatch.setattr(metrics, "COUNTS_AT_ONCE", 7 * 60)  # 1000 resamples in chunks of 7
    assert metrics.bootstrap_interval(metric, labels, predictions) == interval


@pytest.mark.parametrize("predictions", [[], [0], [[0, 1]]])
def test_labels_and_predictions_of_different_shapes_are_refused(predictions: list[object]) -> None:
    for metric in (metrics.METRICS["accuracy"], metrics.METRICS["mse"]):
        with pytest.raises(ValueError, match="expected one of each per example"):
            metric(np.array([0, 1][: 2 if predictions else 0]), np.array(predictions))
    with pytest.raises(ValueError, match="expected one of each per example"):
        metrics.bootstrap_interval(lambda y, p: 0.0, np.array([]), np.array([]))


def test_each_task_reports_its_metrics_and_the_first_one_leads() -> None:
    assert metrics_of(Head("classification", 2)) == ("accuracy", "f1", "matthews")
    assert metrics_of(Head("entailment", 3)) == ("accuracy", "macro_f1", "matthews")
    assert metrics_of(Head("similarity", 2)) == ("accuracy", "f1")
    assert metrics_of(Head("similarity", 1, regression=True)) == ("pearson", "spearman", "mse")
    assert metrics_of(Head("classification", 1, regression=True)) == ("pearson", "spearman", "mse")
    assert metrics_of(Head("multiple-choice", 1)) == ("accuracy",)


def test_better_knows_the_direction_of_a_metric_and_never_prefers_nan() -> None:
    assert metrics.better("accuracy", 0.9, 0.8)
    assert not metrics.better("accuracy", 0.8, 0.9)
    for name in ("loss", "perplexity", "mse", "mae"):
        assert metrics.better(name, 0.8, 0.9)
        assert not metrics.better(name, 0.9, 0.8)
    for name in ("accuracy", "loss"):
        assert not metrics.better(name, 0.5, 0.5)
        assert not metrics.better(name, math.nan, 0.5)
        assert not metrics.better(name, math.nan, math.nan)
        assert metrics.better(name, 0.5, math.nan)


def test_predictions_are_the_largest_logit_or_the_only_column() -> None:
    ids = SINGLE_LABEL.predictions(np.array([[0.1, 0.9, 0.0], [3.0, -1.0, 2.0]], dtype=np.float32))
    assert ids.tolist() == [1, 0]
    assert ids.dtype == np.int64
    values = REGRESSION.predictions(np.array([[0.25], [4.0]], dtype=np.float32))
    assert values.tolist() == [0.25, 4.0]
    assert values.dtype == np.float64
    with pytest.raises(ValueError, match="one column"):
        REGRESSION.predictions(np.zeros((3, 2)))


def test_probabilities_survive_huge_logits_in_half_precision() -> None:
    logits = np.array([[60000.0, 0.0], [-60000.0, -60000.0], [0.0, 1.0]], dtype=np.float16)
    expected = [[1.0, 0.0], [0.5, 0.5], [1 / (1 + math.e), math.e / (1 + math.e)]]
    np.testing.assert_allclose(metrics.probabilities(logits), expected, atol=SAME)
    assert metrics.probabilities(logits).dtype == np.float64


def test_confusion_matrix_has_the_truth_in_its_rows() -> None:
    matrix = metrics.confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 2, 1, 2]), 4)
    assert matrix.tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert metrics.confusion_matrix(np.array([]), np.array([]), 2).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="expected 0 to 1"):
        metrics.confusion_matrix(np.array([0]), np.array([2]), 2)


def test_compute_gives_the_named_metrics_in_order_and_the_person_s_own() -> None:
    labels, predictions = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    values = metrics.compute(("f1", "accuracy"), labels, predictions, {"wrong": lambda y, p: int((y != p).sum())})
    assert list(values.items()) == [("f1", pytest.approx(2 / 3)), ("accuracy", 0.75), ("wrong", 1.0)]
    with pytest.raises(UserError, match=r"'bleu' is unknown.*accuracy, f1"):
        metrics.compute(("bleu",), labels, predictions)
    with pytest.raises(UserError, match="--metric accuracy: this is the name of a built-in"):
        metrics.compute((), labels, predictions, {"accuracy": lambda y, p: 0.0})


def test_a_person_s_metric_is_found_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_measures.py").write_text("def share(y, p): return (y == p).mean()\nname = 'x'\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    assert metrics.load_metric("own_measures:share")(np.array([0, 1]), np.array([0, 0])) == 0.5
    with pytest.raises(UserError, match="--metric own_measures:name: name is str, expected a function"):
        metrics.load_metric("own_measures:name")
    with pytest.raises(UserError, match="own_measures has no function 'other'"):
        metrics.load_metric("own_measures:other")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("accuracy", "expected package.module:function"),
        ("numpy:", "expected package.module:function"),
        ("no_such_module:f", "importing no_such_module failed: ModuleNotFoundError"),
    ],
)
def test_a_metric_that_cannot_be_loaded_is_the_user_s_error(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        metrics.load_metric(spec)


def test_a_person_s_metric_that_fails_names_the_flag() -> None:
    with pytest.raises(UserError, match=r"--metric numpy:stack: TypeError.*expected a number"):
        metrics.load_metric("numpy:stack")(np.array([0, 1]), np.array([0, 0]))


def test_importing_metrics_loads_only_numpy() -> None:
    code = "import sys, gpt1.tasks.metrics; print({'sklearn', 'scipy', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
