"""Verdict on a scored model: its sentences, and what it suggests. Run: pytest tests/test_verdict.py"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt1.config import FinetuneConfig
from gpt1.config.recipes import PAPER_PARAMETERS, recipe, recipe_for
from gpt1.evaluation.diagnostics import pack, paired_difference
from gpt1.evaluation.scoring import show_scores
from gpt1.evaluation.verdict import advice, finding, of_run, size_of_run
from gpt1.tasks.metrics import METRICS, PairMetric

N = 400
MINI, PAPER = 8_546_816, 116_534_784
"""Parameters of mini and of the paper's model."""
TRUTH = np.arange(N) % 2
MAJORITY = np.zeros(N, np.int64)
LINEAR = "TF-IDF + logistic regression"


def right(share: float, truth: np.ndarray = TRUTH, seed: int = 0) -> np.ndarray:
    """Return label ids of which exactly `share` are correct, at random places."""
    wrong = np.random.default_rng(seed).permutation(len(truth))[: round((1 - share) * len(truth))]
    predicted = truth.copy()
    predicted[wrong] = 1 - predicted[wrong]
    return predicted


def scored(
    mine: np.ndarray, baselines: Mapping[str, np.ndarray], truth: np.ndarray = TRUTH, metrics: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the parts of metrics.json that a verdict and the table of scores read."""
    metrics = metrics or ("accuracy", "f1", "matthews")

    def entry(predicted: np.ndarray) -> dict[str, Any]:
        values = {name: METRICS[name](truth, predicted) if name in METRICS else 0.5 for name in metrics}
        return values | {"interval": {name: [0.0, 1.0] for name in metrics}}

    answers = {"rows_sha256": "", "truth": pack(truth), "predicted": pack(mine)}
    return {
        "test": entry(mine) | {"answers": answers, "examples": len(truth)},
        "baseline": {name: entry(each) | {"predicted": pack(each)} for name, each in baselines.items()},
        "baseline_split": "test",
    }


def difference(metric: str, truth: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    compute = METRICS[metric]
    assert isinstance(compute, PairMetric)
    return paired_difference(compute, truth, a, b)


# ---- no better than a constant


def test_a_coin_flip_is_no_better_than_the_majority_class() -> None:
    mine = right(0.52)
    gap, low, high = difference("accuracy", TRUTH, mine, MAJORITY)
    assert gap == pytest.approx(0.02) and low < 0 < high
    assert finding(scored(mine, {LINEAR: right(0.8, seed=1), "majority class": MAJORITY})) == (
        "No better than always predicting the majority class, as far as 400 examples can show: "
        f"accuracy 0.520 against 0.500 (difference +0.020 [{low:+.3f}, {high:+.3f}])."
    )


def test_a_model_that_predicts_one_label_equals_the_majority_class() -> None:
    assert finding(scored(MAJORITY, {"majority class": MAJORITY})) == (
        "No better than always predicting the majority class: accuracy 0.500 against 0.500 "
        "(difference +0.000 [+0.000, +0.000])."
    )


def test_a_linear_baseline_that_predicts_one_label_is_not_the_constant() -> None:
    text = finding(scored(right(0.5), {LINEAR: 1 - MAJORITY, "majority class": MAJORITY}))
    assert text is not None and text.startswith("No better than always predicting the majority class: ")


def test_worse_than_the_majority_class_is_no_better() -> None:
    text = finding(scored(right(0.3), {"majority class": MAJORITY}))
    assert text is not None
    assert text.startswith(
        "No better than always predicting the majority class: accuracy 0.300 against 0.500 (difference -0.200 [-0."
    )


def test_choices_are_compared_with_the_most_frequent_position() -> None:
    truth = np.arange(N) % 4
    mine = np.random.default_rng(0).permutation(truth)
    gap = difference("accuracy", truth, mine, np.zeros(N, np.int64))[0]
    text = finding(scored(mine, {"majority class": np.zeros(N, np.int64)}, truth, ("accuracy",)))
    assert text is not None and text.startswith("No better than always predicting the majority class")
    assert f": accuracy {0.25 + gap:.3f} against 0.250 (difference {gap:+.3f} [-0." in text


@pytest.mark.parametrize("metric", ["matthews", "f1", "macro_f1"])
def test_a_metric_by_which_chance_beats_the_majority_class_is_judged_by_matthews(metric: str) -> None:
    chance, skill = np.random.default_rng(2).permutation(TRUTH), right(0.7)
    assert METRICS["macro_f1"](TRUTH, chance) > METRICS["macro_f1"](TRUTH, MAJORITY) + 0.1
    value, low, high = difference("matthews", TRUTH, chance, MAJORITY)
    assert value == pytest.approx(METRICS["matthews"](TRUTH, chance))
    baselines = {"majority class": MAJORITY}
    assert finding(scored(chance, baselines, metrics=(metric,))) == (
        "No better than always predicting the majority class, as far as 400 examples can show: "
        f"matthews {value:.3f} [{low:.3f}, {high:.3f}] against 0."
    )
    assert finding(scored(skill, baselines, metrics=(metric,))) is None


@pytest.mark.parametrize("metric", ["pearson", "mse"])
def test_a_regression_is_compared_with_the_mean(metric: str) -> None:
    truth = np.linspace(0, 5, N)
    mean = {"mean": np.full(N, truth.mean())}
    noise = np.random.default_rng(1).standard_normal(N)
    unrelated, related = finding(scored(noise, mean, truth, (metric,))), scored(truth + noise, mean, truth, (metric,))
    value, low, high = difference(metric, truth, noise, mean["mean"])
    shown = {
        "pearson": f", as far as 400 examples can show: pearson {value:.3f} [{low:.3f}, {high:.3f}] against 0.",
        "mse": f": mse {METRICS['mse'](truth, noise):.3f} against 2.094 (difference {value:+.3f} "
        f"[{low:+.3f}, {high:+.3f}]).",
    }
    assert unrelated == f"No better than always predicting the mean{shown[metric]}"
    assert finding(related) is None


# ---- behind a baseline


def test_a_model_behind_the_linear_baseline_by_more_than_noise() -> None:
    mine, linear = right(0.7), right(0.9, seed=1)
    gap, low, high = difference("accuracy", TRUTH, mine, linear)
    assert gap == pytest.approx(-0.2) and high < 0
    assert finding(scored(mine, {LINEAR: linear, "majority class": MAJORITY})) == (
        f"Behind {LINEAR} by 0.200 accuracy, more than chance explains [{low:+.3f}, {high:+.3f}]."
    )


def test_the_best_of_several_baselines_is_named() -> None:
    baselines = {"word overlap": right(0.8, seed=1), "another": right(0.95, seed=2), "majority class": MAJORITY}
    text = finding(scored(right(0.65), baselines))
    assert text is not None and text.startswith("Behind another by 0.300 accuracy")


def test_behind_by_an_error_is_above_it() -> None:
    truth = np.linspace(0, 5, N)
    noise = np.random.default_rng(1).standard_normal(N)
    baselines = {"TF-IDF + ridge regression": truth + 0.1 * noise, "mean": np.full(N, truth.mean())}
    mine = truth + noise
    text = finding(scored(mine, {"worse": truth - 1.5 * noise, **baselines}, truth, ("mse",)))
    assert text is not None
    assert re.match(r"Behind TF-IDF \+ ridge regression by \d\.\d{3} mse, more than chance explains \[\+", text)
    assert finding(scored(baselines["TF-IDF + ridge regression"], baselines | {"noisy": mine}, truth, ("mse",))) is None


# ---- nothing to say


@pytest.mark.parametrize("linear", [0.72, 0.68, 0.55], ids=["behind within noise", "ahead within noise", "ahead"])
def test_a_model_level_with_or_ahead_of_its_baselines_has_no_verdict(linear: float) -> None:
    results = scored(right(0.7), {LINEAR: right(linear, seed=1), "majority class": MAJORITY})
    assert finding(results) is None
    assert of_run(results, FinetuneConfig(), MINI, 240) is None


def test_without_baselines_or_their_predictions_there_is_no_verdict() -> None:
    results = scored(right(0.5), {"majority class": MAJORITY})
    old = {name: {key: each[key] for key in ("accuracy", "interval")} for name, each in results["baseline"].items()}
    damaged = {"majority class": {"predicted": {"dtype": "|u1", "zlib": "eJw="}}}
    assert finding(results) is not None
    for baselines in ({}, old, damaged):
        assert finding(results | {"baseline": baselines}) is None
    del results["test"]["answers"]
    assert finding(results) is None


def test_a_custom_metric_leaves_the_verdict_to_a_built_in_one() -> None:
    baselines = {"majority class": MAJORITY}
    mixed = finding(scored(right(0.5), baselines, metrics=("mine", "accuracy")))
    assert mixed is not None and "accuracy 0.500 against 0.500" in mixed
    assert finding(scored(right(0.5), baselines, metrics=("mine",))) is None


def test_undefined_predictions_have_no_verdict() -> None:
    truth = np.linspace(0, 5, N)
    assert finding(scored(np.full(N, np.nan), {"mean": np.full(N, 2.5)}, truth, ("pearson", "mse"))) is None


# ---- what to try


ADAPT = "--adapt 3 (language-model training on your texts first)"


@pytest.mark.parametrize(
    ("config", "parameters", "rows", "expected"),
    [
        (recipe("quickstart"), MINI, 240, f"Try {ADAPT}, more labelled rows, or gpt1 sweep."),
        (recipe("quickstart"), MINI, 5_000, f"Try {ADAPT}, gpt1 sweep, or a larger model (--model openai-gpt)."),
        (FinetuneConfig(), MINI, 240, f"Try --recipe quickstart, {ADAPT}, or more labelled rows."),
        (FinetuneConfig(model="openai-gpt"), PAPER, 5_000, f"Try {ADAPT} or gpt1 sweep."),
        (recipe("quickstart", model="openai-gpt"), PAPER, 5_000,
         f"Try --recipe paper-finetune, {ADAPT}, or gpt1 sweep."),
        (recipe("quickstart", model="random:tiny"), MINI, 240,
         f"Try a pretrained model (--model mini, for English), {ADAPT}, or more labelled rows."),
        (recipe("quickstart"), None, None, f"Try {ADAPT} or gpt1 sweep."),
    ],
    ids=["few rows", "many rows", "another recipe", "large model", "small recipe", "random weights", "no log"],
)  # fmt: skip
def test_only_what_applies_to_the_run_is_suggested(
    config: FinetuneConfig, parameters: int | None, rows: int | None, expected: str
) -> None:
    assert advice(config, parameters, rows) == expected


def test_an_adapted_run_is_not_told_to_adapt() -> None:
    config = recipe("quickstart", adapt=3)
    assert advice(config, MINI, 240) == ("Try more labelled rows, gpt1 sweep, or a larger model (--model openai-gpt).")
    assert advice(recipe("paper-finetune", adapt=1), PAPER, 5_000) == "Try gpt1 sweep."


def test_the_default_recipe_depends_on_the_size() -> None:
    assert [recipe_for(n) for n in (MINI, PAPER_PARAMETERS - 1)] == ["quickstart", "quickstart"]
    assert [recipe_for(n) for n in (PAPER_PARAMETERS, PAPER)] == ["paper-finetune", "paper-finetune"]


def test_the_verdict_on_a_run_is_one_line_and_follows_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    results = scored(right(0.52), {"majority class": MAJORITY})
    text = of_run(results, recipe("quickstart"), MINI, 240)
    found = finding(results)
    assert text == f"{found} Try {ADAPT}, more labelled rows, or gpt1 sweep."
    show_scores(results | {"verdict": text})
    table, below = capsys.readouterr().err.split("majority class  ")
    assert "GPT-1" in table
    assert below.splitlines()[1:] == ["", text, ""]
    show_scores(results)  # of an older version
    assert capsys.readouterr().err.split("majority class  ")[1].splitlines()[1:] == [""]


def test_the_size_of_a_run_is_read_from_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert size_of_run(log) == (None, None)
    log.write_text(json.dumps({"event": "train"}) + "\n")
    assert size_of_run(log) == (None, None)
    with log.open("a") as file:
        file.write(json.dumps({"event": "start", "parameters": MINI, "examples": {"train": 240, "valid": 9}}) + "\n")
    assert size_of_run(log) == (MINI, 240)
