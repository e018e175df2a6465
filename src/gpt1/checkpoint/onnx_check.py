"""Comparison of an ONNX graph in ONNX Runtime with the engine of a backend."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.base import Batch, Engine

LENGTHS = (2, 17)
"""Lengths of the compared sequences, besides the maximum; the graph was traced with other lengths."""


def installed() -> bool:
    """Return whether ONNX Runtime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def largest_difference(engine: Engine, path: Path, seed: int = 0) -> float:
    """Return the maximum difference between the graph and the engine on random tokens; relative for values above 1.

    Compared are the scores of a head, or the log-probabilities of tokens of a language model.
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
