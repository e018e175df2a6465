"""Validation of the arguments of `fit`: labels, weights and settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import column_or_1d
from sklearn.utils.validation import assert_all_finite

from gpt1.config import SPLIT_VERSION, DataConfig, FinetuneConfig
from gpt1.data.duplicates import keys
from gpt1.data.example import Example, require_unicode, usable_text
from gpt1.data.splits import linked, openai_split, stratified_split
from gpt1.errors import UserError

Weights = NDArray[np.float64]


def checked_targets(estimator: object, y: Any, count: int) -> NDArray[Any]:
    """Return y as an array (n,) without NaN; raises UserError if it is not."""
    if y is None:
        raise UserError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    _require_one_kind(y)
    targets: NDArray[Any] = column_or_1d(y, warn=True)
    assert_all_finite(targets, input_name="y")
    if len(targets) != count:
        raise UserError(f"X and y are of unequal lengths: {count} examples, {len(targets)} labels")
    return targets


def _require_one_kind(y: Any) -> None:
    """Raise UserError if y holds None, or texts and numbers, which NumPy would convert to texts."""
    values = y.tolist() if isinstance(y, np.ndarray) else list(y) if isinstance(y, list | tuple) else []
    if (missing := next((n for n, value in enumerate(values) if value is None), None)) is not None:
        raise UserError(f"y[{missing}] is None: a label expected")
    for number, value in enumerate(values):
        if isinstance(value, str) and not value.isascii():
            require_unicode(value, f"y[{number}]:")
    if len({isinstance(value, str) for value in values}) > 1:
        other = next(n for n, value in enumerate(values) if isinstance(value, str) != isinstance(values[0], str))
        raise UserError(f"y mixes texts and numbers: y[0] is {values[0]!r}, y[{other}] is {values[other]!r}")


def checked_weights(sample_weight: Any, count: int) -> Weights:
    """Return the weights as an array (n,) of numbers of at least 0, not all of them 0; None: ones."""
    if sample_weight is None:
        return np.ones(count)
    weights = np.asarray(sample_weight, np.float64)
    if weights.ndim == 0:
        weights = np.full(count, weights)
    if weights.shape != (count,):
        raise UserError(f"sample_weight has the shape {weights.shape}, ({count},) expected: one weight per example")
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise UserError("sample_weight holds a weight that is negative or not finite")
    if not weights.any():
        raise UserError("sample_weight: all weights are zero; at least one must be non-zero")
    return weights


def checked_choices(targets: NDArray[Any], examples: Sequence[Example]) -> NDArray[np.int64]:
    """Return the targets of multiple choice as int64: the index of each example's correct choice."""
    for index, (choice, example) in enumerate(zip(targets.tolist(), examples, strict=True)):
        if choice not in range(len(example.choices)):
            raise UserError(f"y[{index}] is {choice!r}, expected a choice, 0 to {len(example.choices) - 1}")
    return targets.astype(np.int64)


def labelled(examples: Sequence[Example], labels: Sequence[Any], weights: Weights) -> list[Example]:
    """Return the examples with their labels and weights."""
    triples = zip(examples, labels, weights.tolist(), strict=True)
    return [replace(example, label=label, weight=weight) for example, label, weight in triples]


def unlabelled_examples(texts: Any) -> tuple[Example, ...]:
    """Return texts in memory as examples without labels; none for a path or None.

    Raises:
        UserError: an item is no text, or is empty.
    """
    if texts is None or isinstance(texts, str | Path):
        return ()
    return tuple([Example((usable_text(text, f"unlabelled[{i}]"),)) for i, text in enumerate(texts)])


def drawn(examples: list[Example], config: FinetuneConfig) -> dict[str, list[Example]]:
    """Return {"train": examples}, and "valid" if the settings have a validation fraction."""
    fraction = config.split.valid_fraction
    if fraction is None:
        return {"train": examples}
    if config.split.split_strategy == "openai":
        rest, drawn = openai_split(examples, fraction)
    else:
        version = config.split.split_version or SPLIT_VERSION
        groups = None if version == 1 else linked(keys(examples))
        rest, drawn = stratified_split(examples, fraction, config.loop.seed, groups, version)
    if not drawn:
        raise UserError(f"validation_fraction={fraction}: no row of {len(examples)} is left for validation")
    return {"train": rest, "valid": drawn}


def require_use(config: FinetuneConfig) -> None:
    """Raise UserError if a setting applies to runs from files only, since no setting is ignored."""
    usual = FinetuneConfig()
    idle = {name: (getattr(config, name), getattr(usual, name)) for name in ("data", "out", "columns")}
    for name in ("train_fraction", "test_fraction", "max_examples", "group"):
        idle[name] = getattr(config.split, name), getattr(DataConfig(), name)
    idle["track"] = config.tracking.track, ""
    if config.split.valid_fraction is None:
        idle |= {name: (getattr(config.loop, name), None) for name in ("patience", "eval_every")}
        idle["metric"] = config.metric, None
    for name, (value, expected) in idle.items():
        if value != expected:
            needs = "validation_fraction" if name in ("patience", "eval_every", "metric") else "gpt1 finetune"
            raise UserError(f"recipe: {name} is {value}, which fit cannot use without {needs}; leave it out")
