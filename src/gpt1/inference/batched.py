"""Batched scoring of many examples: computed longest first, returned in the given order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1 import console
from gpt1.backends.base import IGNORE, Engine
from gpt1.backends.dist import Ranks
from gpt1.config import Head
from gpt1.data.batching import Collator, EncodedExamples, inference_batches
from gpt1.tasks.metrics import compute
from gpt1.tasks.problem_types import PROBLEM_TYPES


def task_logits(
    engine: Engine,
    encoded: EncodedExamples,
    collator: Collator,
    *,
    label: str | None = None,
    bar: console.Bar | None = None,
    ranks: Ranks | None = None,
) -> NDArray[np.float32]:
    """Return the logits (B, C) of the examples, in the given order.

    `label` shows a progress bar of that name; `bar` is an existing bar to advance instead. `ranks` share the batches;
    each gets the logits of all, bit for bit the same.
    """
    head = engine.config.head
    assert head is not None
    out = np.zeros((len(encoded), head.pooling.columns(head.n_labels, encoded.per_example)), np.float32)
    own = console.Bar(len(encoded), label or "", "text") if label else None
    for number, (examples, batch) in enumerate(inference_batches(encoded, collator, engine.tokens_at_once)):
        if ranks is None or number % ranks.size == ranks.rank:
            out[examples] = engine.logits(batch)
        if shown := bar or own:
            shown.advance(len(examples))
    if own:
        own.close()
    if ranks and ranks.size > 1:  # one rank has the logits of an example, the others zeros
        out = np.array(ranks.total(*out.ravel().tolist()), np.float32).reshape(out.shape)
    return out


def scores(
    logits: NDArray[np.float32],
    encoded: EncodedExamples,
    head: Head,
    metric_names: tuple[str, ...],
    extra: dict[str, Any],
) -> dict[str, float]:
    """Return {"loss": weighted mean, metric: value …} of (B, C) logits against the examples' labels."""
    labels = encoded.labels
    assert labels is not None
    problem_type = PROBLEM_TYPES[head.problem_type]
    loss = float(np.average(problem_type.losses(logits, labels), weights=encoded.weights))
    return {"loss": loss} | compute(metric_names, labels, problem_type.predictions(logits), extra)


def sequence_logprobs(
    engine: Engine, sequences: list[NDArray[np.int32]], collator: Collator
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (index, natural-log probabilities (T - 1,) of the tokens after the first) of every sequence."""
    encoded = EncodedExamples(sequences)
    for examples, batch in inference_batches(encoded, collator, engine.tokens_at_once):
        logprobs = engine.token_logprobs(batch)
        assert batch.lm_targets is not None
        for index, row, targets in zip(examples, logprobs, batch.lm_targets, strict=True):
            yield int(index), row[: int((targets != IGNORE).sum())]


def mean_logprobs(
    engine: Engine, encoded: EncodedExamples, starts: NDArray[np.int64], collator: Collator, *, label: str | None = None
) -> NDArray[np.float64]:
    """Return mean natural-log probabilities (B, k) of the tokens from a start position on; -inf if there are none.

    `starts` (B, k) are the positions, at least 1. Tokens before them are context only: the softmax over the vocabulary
    is computed for the scored tokens alone. `label` shows a progress bar of that name.
    """
    out = np.full(starts.shape, -np.inf)
    bar = console.Bar(len(encoded), label or "", "text") if label else None
    for examples, batch in inference_batches(encoded, collator, engine.tokens_at_once):
        assert batch.lm_targets is not None
        predicts = np.arange(1, batch.tokens.shape[1] + 1)  # position t predicts token t + 1
        targets = np.where(predicts >= starts[examples].reshape(-1, 1), batch.lm_targets, IGNORE)
        sums = engine.token_logprobs(replace(batch, lm_targets=targets)).sum(1, dtype=np.float64)
        counts = (targets != IGNORE).sum(1)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)
        out[examples] = means.reshape(len(examples), -1)
        if bar:
            bar.advance(len(examples))
    if bar:
        bar.close()
    return out
