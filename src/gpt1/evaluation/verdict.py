"""Verdict on a scored model: no better than a constant prediction, or behind a baseline, and what to try next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gpt1.checkpoint import event_log
from gpt1.checkpoint.loading import random_shape
from gpt1.config import FinetuneConfig
from gpt1.config.recipes import PAPER_PARAMETERS, recipe_for
from gpt1.console import counted
from gpt1.evaluation.diagnostics import comparable, paired_difference, significance, unpack
from gpt1.tasks.label_notes import listed
from gpt1.tasks.metrics import SMALLER_IS_BETTER

Array = NDArray[Any]

UNDEFINED = ("pearson", "spearman", "matthews")
"""Correlations, which are undefined for a constant prediction and count as 0."""
UNFAIR = ("f1", "macro_f1")
"""Metrics by which random labels beat the majority class; Matthews' correlation is compared instead."""
FEW_ROWS = 1_000
"""Number of training rows below which more rows are suggested."""
MOST_SUGGESTIONS = 3


def finding(results: Mapping[str, Any], seed: int = 0) -> str | None:
    """Return the findings about a model, None if there are none.

    They are the labels that it never predicts, and whether it is no better than a constant prediction or behind its
    best baseline.

    `results` has the form of `metrics.json`. The main metric decides, by the paired bootstrap; a custom metric cannot
    be recomputed, so the first built-in one is used. Without stored predictions, or with damaged ones, the result is
    None. A score above that of the constant by less than the noise counts as no better; the sentence names the number
    of examples.
    """
    scored = results.get(results["baseline_split"], {})
    try:
        truth, mine = (unpack(scored["answers"][name]) for name in ("truth", "predicted"))
        baselines = {name: unpack(each["predicted"]) for name, each in results["baseline"].items()}
    except (KeyError, ValueError):
        return None
    found = [_never_predicted(scored, mine), _compared(scored, truth, mine, baselines, seed)]
    return " ".join(filter(None, found)) or None


def _never_predicted(scored: Mapping[str, Any], mine: Array) -> str | None:
    """Return the sentence about labels that occur in the scored examples and that no prediction is."""
    rows = scored.get("per_label", ())
    missed = [
        f"{row['label']} ({counted(row['support'], 'example')})"
        for index, row in enumerate(rows)
        if row["support"] and not (mine == index).any()
    ]
    return f"Never predicted: {listed(missed)}." if missed else None


def _compared(
    scored: Mapping[str, Any], truth: Array, mine: Array, baselines: dict[str, Array], seed: int
) -> str | None:
    """Return the sentence about a constant prediction or the best baseline, None if the model is ahead."""
    main = next(iter(comparable(scored["interval"])), None)
    if main is None:
        return None
    constant = next((name for name, values in reversed(baselines.items()) if values.min() == values.max()), None)
    if constant is not None:
        metric, values = "matthews" if main in UNFAIR else main, baselines.pop(constant)
        if text := _not_above(constant, metric, truth, mine, values, seed):
            return text
    return _behind(main, truth, mine, baselines, seed) if baselines else None


def _not_above(name: str, metric: str, truth: Array, mine: Array, constant: Array, seed: int) -> str | None:
    """Return the sentence about the constant prediction `name`, None if the model is significantly better."""
    compute = comparable([metric])[metric]
    difference = paired_difference(compute, truth, mine, constant, seed=seed)
    if _undefined(difference) or significance(metric, difference) == "better":
        return None
    value, low, high = difference
    if metric in UNDEFINED:
        scores = f"{value:.3f} [{low:.3f}, {high:.3f}] against 0"
    else:
        gap = f"(difference {value:+.3f} [{low:+.3f}, {high:+.3f}])"
        scores = f"{compute(truth, mine):.3f} against {compute(truth, constant):.3f} {gap}"
    ahead = value < 0.0 if metric in SMALLER_IS_BETTER else value > 0.0
    limits = f", as far as {counted(len(truth), 'example')} can show" if ahead else ""
    return f"No better than always predicting the {name}{limits}: {metric} {scores}."


def _behind(metric: str, truth: Array, mine: Array, others: Mapping[str, Array], seed: int) -> str | None:
    """Return the sentence about the best of the other baselines, None if the model is not significantly worse."""
    compute = comparable([metric])[metric]
    best = min if metric in SMALLER_IS_BETTER else max
    name = best(others, key=lambda each: compute(truth, others[each]))
    difference = paired_difference(compute, truth, mine, others[name], seed=seed)
    if _undefined(difference) or significance(metric, difference) != "worse":
        return None
    value, low, high = difference
    return f"Behind {name} by {abs(value):.3f} {metric}, more than chance explains [{low:+.3f}, {high:+.3f}]."


def _undefined(difference: tuple[float, float, float]) -> bool:
    return any(map(math.isnan, difference))


def advice(config: FinetuneConfig, parameters: int | None, train_rows: int | None) -> str:
    """Return a sentence with at most three suggestions that apply to a run; None stands for an unknown number."""
    suggestions = []
    if random_shape(config.model, flag="--model"):
        suggestions.append("a pretrained model (--model mini, for English)")
    if parameters is not None and (config.recipe == "quickstart") != (recipe_for(parameters) == "quickstart"):
        suggestions.append(f"--recipe {recipe_for(parameters)}")
    if config.adaptation.adapt is None:
        suggestions.append("--adapt 3 (language-model training on your texts first)")
    if train_rows is not None and train_rows < FEW_ROWS:
        suggestions.append("more labelled rows")
    suggestions.append("gpt1 sweep")
    if parameters is not None and parameters < PAPER_PARAMETERS:
        suggestions.append("a larger model (--model openai-gpt)")
    *first, last = suggestions[:MOST_SUGGESTIONS]
    return f"Try {', '.join(first)}{',' * (len(first) > 1)}{' or ' * bool(first)}{last}."


def of_run(
    results: Mapping[str, Any], config: FinetuneConfig, parameters: int | None, train_rows: int | None, seed: int = 0
) -> str | None:
    """Return the `finding` about a run and the `advice` for it, None if there is nothing to say."""
    found = finding(results, seed)
    return found and f"{found} {advice(config, parameters, train_rows)}"


def size_of_run(log: Path) -> tuple[int | None, int | None]:
    """Return the numbers of parameters and of training rows in a run's log; None if they are not recorded."""
    events = event_log.read(log) if log.exists() else []
    start = next((event for event in events if event["event"] == "start"), {})
    return start.get("parameters"), start.get("examples", {}).get("train")
