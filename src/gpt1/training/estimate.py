"""Estimate of the training time of a run on this machine, from a few measured steps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt1.backends.base import BUCKETS, Batch
from gpt1.backends.parameters import count
from gpt1.data.batching import EncodedExamples
from gpt1.training.setup import FinetuneSetup

SECONDS, MOST_STEPS = 2.0, 5
"""Time for which steps are measured, and the largest number of them."""
SAMPLED_STEPS = 100
"""Steps of the first epoch by whose padded tokens those of the others are estimated."""
AFFORDABLE = 2e11
"""Floating-point operations of a batch that is measured at once; of a larger one, a part is measured first."""
FORWARD = 1 / 3
"""Share of a training step's time that its tokens take without gradients (Kaplan et al. 2020, §2.1)."""
UNCERTAINTY = 0.2
"""Relative error of a measured step as an estimate of the others, which have other lengths."""


def training_time(training: FinetuneSetup, encoded: Mapping[str, EncodedExamples]) -> dict[str, Any]:
    """Measure training steps and return {seconds: [low, high], steps, measured, device, dtype}.

    The seconds are those of the training steps, the validation after each epoch and the scores at the end; not of
    baselines, report and --adapt. They are proportional to padded tokens. The engine's weights change.
    """
    per_epoch, steps, loop = training.batches.steps_per_epoch, training.steps, training.config.loop
    sample = sorted(map(training.batches.micro_batches, range(min(steps, per_epoch, SAMPLED_STEPS))), key=_tokens)
    batches = sample[len(sample) // 2]
    first, timed, measured_tokens = _measured(training, batches, encoded["train"])
    evaluations = -(-steps // per_epoch) + (steps // loop.eval_every if loop.eval_every else 0) + 1
    scored = sum(int(each.lengths.sum()) * each.per_example for split, each in encoded.items() if split != "train")
    tokens = steps * np.mean([_tokens(each) for each in sample]) + evaluations * scored * FORWARD
    shapes = {batch.tokens.shape for each in sample for batch in each}
    compiled = 1 if training.engine.buckets is BUCKETS else len(shapes)  # other engines compile each shape
    low = min(timed) / measured_tokens * tokens * (1 - UNCERTAINTY)
    high = max(timed) / measured_tokens * tokens * (1 + UNCERTAINTY) + max(0.0, first - max(timed)) * compiled
    return {
        "seconds": [round(float(low), 2), round(float(high), 2)], "steps": steps, "measured": len(timed),
        "device": training.engine.device, "dtype": training.engine.dtype,
    }  # fmt: skip


def _measured(
    training: FinetuneSetup, batches: Sequence[Batch], encoded: EncodedExamples
) -> tuple[float, list[float], int]:
    """Return the seconds of the first step, those of others, and their tokens.

    If the batches of a step are large, they are examples of medium length; and the batches only if these take less than
    `SECONDS` by that measurement.
    """
    affordable = AFFORDABLE / (6 * count(training.engine.config))
    if _tokens(batches) > affordable:
        middle = np.argsort(encoded.lengths)[len(encoded) // 2 :]
        width = training.batches.collator.width(int(encoded.lengths[middle[0]])) * encoded.per_example
        part = [training.batches.collator(encoded, middle[: max(1, int(affordable / width))])]
        first, timed = _repeated(training, part)
        if max(timed) / _tokens(part) * _tokens(batches) > SECONDS:
            return first, timed, _tokens(part)
    return *_repeated(training, batches), _tokens(batches)


def _repeated(training: FinetuneSetup, batches: Sequence[Batch]) -> tuple[float, list[float]]:
    """Return the seconds of the first step with these batches, which may allocate and compile, and of repetitions."""
    timed: list[float] = []
    first = _seconds(training, batches, 0)
    while not timed or (len(timed) < MOST_STEPS and sum(timed) + max(timed) < SECONDS):
        timed.append(_seconds(training, batches, len(timed) + 1))
    return first, timed


def _seconds(training: FinetuneSetup, batches: Sequence[Batch], step: int) -> float:
    started = time.perf_counter()
    training.engine.train_step(batches, lr=training.config.optim.lr, step=step).read()
    return time.perf_counter() - started


def _tokens(batches: Sequence[Batch]) -> int:
    return sum(batch.tokens.size for batch in batches)
