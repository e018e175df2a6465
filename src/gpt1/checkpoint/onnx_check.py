"""A model's graph in ONNX Runtime, held against the engine that the model runs in here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.base import Batch, Engine

LENGTHS = (2, 17)
"""Tokens of the sequences that are compared, besides the longest; the graph was traced with others."""


def installed() -> bool:
    """Say whether ONNX Runtime is there."""
    return importlib.util.find_spec("onnxruntime") is not None


def largest_difference(engine: Engine, path: Path, seed: int = 0) -> float:
    """Return how far the graph's answers to random tokens are from the engine's, at most; relative where above 1.

    They are the scores of a head, or a language model's log-probabilities of tokens.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    generator, config = np.random.default_rng(seed), engine.config
    k = config.head.pooling.sequences if config.head else 1
    worst = 0.0
    for length in (*LENGTHS, config.n_ctx):
        shape = (2 * k, min(length, config.n_ctx))
        batch = Batch(
            tokens=generator.integers(0, config.vocab_size, shape).astype(np.int32),
            eos_positions=generator.integers(0, shape[1], shape[0]).astype(np.int32),
            segments=generator.integers(0, config.n_segments, shape).astype(np.int32) if config.n_segments else None,
            lm_targets=generator.integers(0, config.vocab_size, shape).astype(np.int32),
            sequences_per_example=k,
        )
        inputs = {each.name: getattr(batch, each.name).astype(np.int64) for each in session.get_inputs()}
        [outputs] = session.run(None, inputs)
        if config.head:
            expected = engine.logits(batch)
        else:
            expected = engine.token_logprobs(batch)
            outputs = _logprobs_of(outputs, batch)
        apart = np.abs(outputs.reshape(expected.shape) - expected) / np.maximum(1, np.abs(expected))
        worst = max(worst, float(apart.max()))
    return worst


def _logprobs_of(logits: NDArray[np.float32], batch: Batch) -> NDArray[np.float64]:
    """Return the (N, T) log-probabilities of the batch's targets under (N, T, V) logits."""
    assert batch.lm_targets is not None
    wide = logits.astype(np.float64)
    chosen = np.take_along_axis(wide, batch.lm_targets[..., None].astype(np.int64), -1)[..., 0]
    most = wide.max(-1)
    sums: NDArray[np.float64] = np.log(np.exp(wide - most[..., None]).sum(-1)) + most
    return chosen - sums
