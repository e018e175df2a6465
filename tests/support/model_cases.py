"""Small models with random weights, and batches for them: one case for each task head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.base import IGNORE, Batch
from gpt1.backends.parameters import Params, shapes
from gpt1.config import Head, ModelConfig

Float64Params = dict[str, NDArray[np.float64]]

HEADS = {
    "classification": Head("classification", 3),
    "entailment": Head("entailment", 3),
    "similarity": Head("similarity", 2),
    "similarity regression": Head("similarity", 1, regression=True),
    "multiple-choice": Head("multiple-choice", 1),
    "classification with a bias": Head("classification", 3, bias=True),
    "similarity with a bias": Head("similarity", 2, bias=True),
}
TASKS = ["language model", *HEADS]
SEQUENCES = {"similarity": 2, "similarity regression": 2, "similarity with a bias": 2, "multiple-choice": 3}

LM_LOSSES: dict[str, dict[str, Any]] = {
    "mean over tokens": {},
    "mean over sequences": {"lm_mean": "sequence"},
    "positions in the softmax": {"lm_over_positions": True},
    "both": {"lm_mean": "sequence", "lm_over_positions": True},
}
"""Settings of the LM loss in `config.LossConfig`, besides its coefficient."""


def small_model(head: Head | None = None) -> ModelConfig:
    return ModelConfig(n_layer=2, n_head=2, n_embd=4, n_ctx=7, vocab_size=9, n_segments=2, head=head)


def random_params(config: ModelConfig, seed: int = 0, scale: float = 0.5) -> Float64Params:
    """Return large random weights, with gains other than 1 and biases other than 0, so that no error is small."""
    rng = np.random.default_rng(seed)
    params = {name: rng.normal(0.0, scale, shape) for name, shape in shapes(config).items()}
    return {
        name: value + 1.0 if name.endswith(("ln_1.weight", "ln_2.weight")) else value for name, value in params.items()
    }


def random_batch(config: ModelConfig, *, examples: int = 3, time: int = 6, k: int = 1, seed: int = 1) -> Batch:
    """Return sequences of unequal lengths, right-padded with 0, with unequal weights, and targets on text only."""
    rng = np.random.default_rng(seed)
    n = examples * k
    lengths = rng.integers(2, time + 1, n)
    lengths[0] = time
    text = np.arange(time) < lengths[:, None]
    following = np.arange(1, time + 1) < lengths[:, None]
    tokens = np.where(text, rng.integers(1, config.vocab_size, (n, time)), 0).astype(np.int32)
    labels: NDArray[Any] | None = None
    if config.head:
        classes = k if config.head.task == "multiple-choice" else config.head.n_labels
        labels = rng.integers(0, classes, examples)
        if config.head.regression:
            labels = rng.normal(0.0, 2.0, examples).astype(np.float32)
    return Batch(
        tokens=tokens,
        eos_positions=(lengths - 1).astype(np.int32),
        labels=labels,
        weights=rng.uniform(0.5, 2.0, examples).astype(np.float32) if config.head else None,
        lm_targets=np.where(following, np.roll(tokens, -1, 1), IGNORE).astype(np.int32),
        segments=rng.integers(0, config.n_segments, (n, time)).astype(np.int32) if config.n_segments else None,
        sequences_per_example=k,
    )


def task_case(name: str) -> tuple[ModelConfig, Float64Params, Batch]:
    config = small_model(HEADS.get(name))
    return config, random_params(config), random_batch(config, k=SEQUENCES.get(name, 1))


def part(batch: Batch, examples: list[int], time: int | None = None) -> Batch:
    """Return the chosen examples of a batch, truncated to `time` positions."""
    k = batch.sequences_per_example
    rows = np.ravel([[example * k + i for i in range(k)] for example in examples])

    def cut(values: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if values is None else values[rows, :time]

    return replace(
        batch,
        tokens=batch.tokens[rows, :time],
        eos_positions=batch.eos_positions[rows],
        labels=None if batch.labels is None else batch.labels[examples],
        weights=None if batch.weights is None else batch.weights[examples],
        lm_targets=cut(batch.lm_targets),
        segments=cut(batch.segments),
    )


def longer_case(task: str, time: int, examples: int = 2) -> tuple[ModelConfig, Params, Batch]:
    """Return a `task_case` with a context of 512 tokens; `time` is the length of the longest sequence."""
    config = ModelConfig(
        n_layer=2, n_head=2, n_embd=16, n_ctx=512, vocab_size=61, n_segments=2, head=HEADS.get(task)
    )  # fmt: skip
    batch = random_batch(config, examples=examples, time=max(2, time), k=SEQUENCES.get(task, 1))
    if time == 1:
        batch = replace(part(batch, list(range(examples)), 1), eos_positions=np.zeros(len(batch.tokens), np.int32))
    return config, float32(random_params(config, scale=0.2)), batch


def shortest(batch: Batch) -> list[Batch]:
    """Return each example as a micro-batch, truncated to its length."""
    ends = batch.eos_positions.reshape(-1, batch.sequences_per_example).max(1) + 1
    return [part(batch, [example], int(end)) for example, end in enumerate(ends)]


def float32(params: Any) -> Params:
    return {name: np.asarray(value, np.float32) for name, value in params.items()}
