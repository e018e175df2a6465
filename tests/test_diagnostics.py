"""Diagnostics compared with scikit-learn and scipy. Run: pytest tests/test_diagnostics.py"""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from sklearn import metrics as theirs
from sklearn.calibration import calibration_curve

from gpt1.evaluation import diagnostics
from gpt1.tasks.metrics import METRICS, PairMetric, confusion_matrix

EXACT = 1e-12
"""Tolerance of float64."""
DRAWN = 2e-2
"""Maximum distance of a thinned curve from the complete one: one or two pixels of a figure."""
ONE_IN_TWENTY = (0.01, 0.11)
"""Fraction of 200 draws whose 95 % interval misses the value: 0.05 ± three standard errors."""
RNG = np.random.default_rng


def scored(n: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return scores with ties, and labels that are positive with a probability rising with the score."""
    score = RNG(seed).random(n).round(2)
    return score, RNG(seed + 1).random(n) < score


def accuracy() -> PairMetric:
    metric = METRICS["accuracy"]
    assert isinstance(metric, PairMetric)
    return metric


def test_areas_and_points_of_both_curves_are_scikit_learns() -> None:
    score, positive = scored()
    found = diagnostics.ranking(score, positive)
    assert found["roc"]["auc"] == pytest.approx(theirs.roc_auc_score(positive, score), abs=EXACT)
    average = theirs.average_precision_score(positive, score)
    assert found["precision_recall"]["average_precision"] == pytest.approx(average, abs=EXACT)
    fallout, recall, _ = theirs.roc_curve(positive, score, drop_intermediate=False)
    assert found["roc"]["points"] == np.stack([fallout, recall], 1).round(5).tolist()
    precision, recall, _ = theirs.precision_recall_curve(positive, score)
    assert found["precision_recall"]["points"] == np.stack([recall, precision], 1)[::-1].round(5).tolist()


def test_long_curves_are_thinned_and_keep_their_shape_and_area() -> None:
    score = RNG(0).random(20_000)
    positive = RNG(1).random(20_000) < score
    found = diagnostics.ranking(score, positive)
    assert found["roc"]["auc"] == pytest.approx(theirs.roc_auc_score(positive, score), abs=EXACT)
    x, y = np.array(found["roc"]["points"]).T
    assert len(x) <= diagnostics.CURVE_POINTS and (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    fallout, recall, _ = theirs.roc_curve(positive, score)
    assert np.abs(np.interp(fallout, x, y) - recall).max() < DRAWN
    assert len(found["precision_recall"]["points"]) <= diagnostics.CURVE_POINTS


@pytest.mark.parametrize("positive", [np.zeros(3, bool), np.ones(3, bool)])
def test_one_label_alone_has_no_curve(positive: np.ndarray) -> None:
    assert diagnostics.ranking(np.arange(3.0), positive) == {}


def test_calibration_bins_are_scikit_learns_and_the_error_their_mean_gap() -> None:
    confidence, right = RNG(0).random(400) / 2 + 0.5, RNG(1).random(400) < 0.7
    found = diagnostics.calibration(confidence, right)
    accuracy, mean = calibration_curve(right, confidence, n_bins=diagnostics.CALIBRATION_BINS)
    assert [each["accuracy"] for each in found["bins"]] == pytest.approx(accuracy, abs=EXACT)
    assert [each["confidence"] for each in found["bins"]] == pytest.approx(mean, abs=EXACT)
    assert [each["from"] for each in found["bins"]] == [0.5, 0.6, 0.7, 0.8, 0.9]
    sizes = np.array([each["examples"] for each in found["bins"]])
    assert found["error"] == pytest.approx(np.average(np.abs(accuracy - mean), weights=sizes), abs=EXACT)


def test_a_model_that_is_always_sure_and_right_is_calibrated() -> None:
    assert diagnostics.calibration(np.ones(5), np.ones(5, bool))["error"] == 0.0
    assert diagnostics.calibration(np.ones(5), np.zeros(5, bool))["error"] == 1.0


def test_each_label_has_scikit_learns_precision_recall_and_f1() -> None:
    labels, found = RNG(0).integers(0, 4, 200), RNG(1).integers(0, 3, 200)  # label 3 is never predicted
    names = ["a", "b", "c", "d"]
    rows = diagnostics.per_label(confusion_matrix(labels, found, 4), names)
    expected = theirs.precision_recall_fscore_support(labels, found, labels=range(4), zero_division=0)
    for column, name in zip(expected, ("precision", "recall", "f1", "support"), strict=True):
        assert [row[name] for row in rows] == pytest.approx(column, abs=EXACT)
    assert [row["label"] for row in rows] == names


def test_bins_of_length_hold_every_example_once_and_like_lengths_together() -> None:
    lengths, right = RNG(0).integers(5, 60, 300), RNG(1).random(300) < 0.8
    bins = diagnostics.by_length(lengths, right, "accuracy")
    assert len(bins) == diagnostics.LENGTH_BINS and sum(each["examples"] for each in bins) == 300
    assert all(a["to"] < b["from"] for a, b in pairwise(bins))
    for each in bins:
        inside = (each["from"] <= lengths) & (lengths <= each["to"])
        assert each["accuracy"] == pytest.approx(right[inside].mean(), abs=EXACT)
        assert 0 <= each["interval"][0] <= each["accuracy"] <= each["interval"][1] <= 1
    assert len(diagnostics.by_length(np.full(9, 7), np.ones(9, bool), "accuracy")) == 1


def test_the_interval_of_a_share_is_wilsons() -> None:
    """Compared with scipy.stats."""
    from scipy.stats import binomtest

    (found,) = diagnostics.by_length(np.full(20, 7), np.arange(20) < 17, "accuracy")
    expected = binomtest(17, 20).proportion_ci(method="wilson")
    assert found["interval"] == pytest.approx([expected.low, expected.high], abs=EXACT)


@pytest.mark.parametrize(
    "values", [np.array([0, 255, 3]), np.array([0, 256, 999]), np.array([0.5, -2.25]), np.array([], np.int64)]
)
def test_what_is_packed_is_unpacked(values: np.ndarray) -> None:
    packed = json.loads(json.dumps(diagnostics.pack(values)))
    assert diagnostics.unpack(packed).tolist() == values.tolist()


def test_answers_of_many_examples_take_little_room() -> None:
    labels = RNG(0).integers(0, 2, 25_000)
    assert len(json.dumps(diagnostics.pack(labels))) < 6_000


@pytest.mark.parametrize("packed", [{"dtype": "|O", "zlib": ""}, {"dtype": "|u1", "zlib": "AAAA"}])
def test_what_was_not_packed_here_is_refused(packed: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"dtype|decompressing"):
        diagnostics.unpack(packed)


def test_a_paired_interval_is_narrower_than_that_of_independent_draws() -> None:
    """Both models fail on the same hard examples, so only a paired test finds the small difference significant."""
    labels = np.zeros(1000, np.int64)
    b = (np.arange(1000) < 400).astype(np.int64)
    a = (np.arange(1000) < 380).astype(np.int64)  # right where b is right, and on 20 more
    difference, low, high = diagnostics.paired_difference(accuracy(), labels, a, b)
    assert difference == pytest.approx(0.02, abs=EXACT)
    assert 0.0 < low < 0.02 < high < 0.03
    difference, low, high = diagnostics.paired_difference(accuracy(), labels, np.roll(a, 500), b)
    assert low < 0.0 < high


def test_two_models_that_are_equally_good_differ_about_once_in_twenty() -> None:
    missed = 0
    for seed in range(200):
        generator = RNG(seed)
        labels = generator.integers(0, 2, 300)
        a, b = (np.where(generator.random(300) < 0.7, labels, 1 - labels) for _ in range(2))
        _, low, high = diagnostics.paired_difference(accuracy(), labels, a, b, resamples=300, seed=seed)
        missed += not low <= 0.0 <= high
    assert ONE_IN_TWENTY[0] <= missed / 200 <= ONE_IN_TWENTY[1]


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_paired_difference(name: str) -> None:
    metric = METRICS[name]
    assert isinstance(metric, PairMetric)
    labels = RNG(0).integers(0, 2, 50).astype(float)
    a, b = RNG(1).integers(0, 2, 50).astype(float), labels
    difference, low, high = diagnostics.paired_difference(metric, labels, a, b, resamples=100)
    assert difference == metric(labels, a) - metric(labels, b)
    assert low <= difference <= high
    assert diagnostics.paired_difference(metric, labels, a, a, resamples=20) == (0.0, 0.0, 0.0)
