"""Attributions and attention weights of every backend, compared with the NumPy reference model.

Run: pytest tests/test_backend_attributions.py
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt1.backends.base import Batch
from gpt1.backends.parameters import Params, shapes
from gpt1.config import DropoutConfig, Head, ModelConfig
from support import reference_model
from support.comparisons import FLOAT32, assert_close, assert_identical
from support.engines import NO_DROPOUT, Build, trained
from support.model_cases import (
    HEADS,
    longer_case,
)


def margins(batch: Batch, config: ModelConfig) -> NDArray[np.float32]:
    """Return random weights (B, C) of the task scores, of both signs."""
    assert config.head
    columns = batch.sequences_per_example if config.head.task == "multiple-choice" else config.head.n_labels
    shape = len(batch.tokens) // batch.sequences_per_example, columns
    return np.random.default_rng(2).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("time", [1, 33, 512])
@pytest.mark.parametrize("task", HEADS)
def test_attributions_equal_the_reference(build: Build, task: str, time: int) -> None:
    config, params, batch = longer_case(task, time)
    weights = margins(batch, config)
    found = build(config, params).attributions(replace(batch, labels=None, weights=None, lm_targets=None), weights)
    assert found.dtype == np.float32
    assert_close(found, reference_model.attributions(params, config, batch, weights), FLOAT32)
    pads = np.arange(batch.tokens.shape[1]) > batch.eos_positions[:, None]
    assert pads.any() or time == 1
    assert not found[pads].any()


@pytest.mark.parametrize("time", [1, 33, 512])
@pytest.mark.parametrize("task", ["language model", "classification", "similarity"])
def test_attention_equals_the_reference(build: Build, task: str, time: int) -> None:
    config, params, batch = longer_case(task, time)
    found = build(config, params).attention(replace(batch, labels=None, weights=None, lm_targets=None))
    assert found.dtype == np.float32
    assert_close(found, reference_model.attention_weights(params, config, batch), FLOAT32)
    assert not np.triu(found, 1).any(), "nothing looks ahead"
    assert_close(found.sum(-1), np.ones(found.shape[:-1]), FLOAT32)


def test_looking_inside_changes_nothing_and_knows_no_dropout(build: Build) -> None:
    config, params, batch = longer_case("classification", 40)
    weights = margins(batch, config)
    engine, plain = (build(config, params, dropout=each) for each in (DropoutConfig(), NO_DROPOUT))
    trained(engine, batch, 1)
    plain.load_parameters(engine.parameters())
    before = engine.gradients([batch], step=1), engine.logits(batch)
    np.testing.assert_array_equal(engine.attributions(batch, weights), plain.attributions(batch, weights))
    np.testing.assert_array_equal(engine.attention(batch), plain.attention(batch))
    after = engine.gradients([batch], step=1), engine.logits(batch)
    assert after[0][0] == before[0][0]
    assert_identical(after[0][1], before[0][1])
    np.testing.assert_array_equal(after[1], before[1])


def linear_case(n_head: int = 2) -> tuple[ModelConfig, Params]:
    """Return a linear model, for which gradient x input is exact and can be computed by hand.

    Scores of 0 make attention the mean over all positions up to the query; the value projection is the identity; the
    MLP is 0. A layer norm with an enormous epsilon, and its root as gain, only subtracts the mean of a row, which is 0
    here. So the state at `<eos>` is its embedding plus the mean of all embeddings.
    """
    config = ModelConfig(1, n_head, 4, 8, 9, layer_norm_epsilon=1e12, head=Head("classification", 2))
    rng = np.random.default_rng(3)
    params = {name: np.zeros(shape, np.float32) for name, shape in shapes(config).items()}
    for name in ("tokens_embed.weight", "positions_embed.weight"):
        half = rng.normal(size=(len(params[name]), 2))
        params[name] = np.concatenate([half, -half], 1).astype(np.float32)
    params["h.0.attn.c_attn.weight"][:, 8:] = np.eye(4)
    params["h.0.attn.c_proj.weight"][...] = np.eye(4)
    for norm in ("ln_1", "ln_2"):
        params[f"h.0.{norm}.weight"][...] = 1e6
    params["score.weight"][...] = rng.normal(size=(2, 4))
    return config, params


def test_attributions_of_a_linear_model_are_what_each_token_adds(build: Build) -> None:
    """With the contributions of the positions they sum to the margin."""
    config, params = linear_case()
    tokens = np.array([[1, 5, 2, 7, 0, 0]], np.int32)
    batch = Batch(tokens, eos_positions=np.array([3], np.int32))
    direction = params["score.weight"][1] - params["score.weight"][0]  # gradient of the log odds
    share = np.array([0.25, 0.25, 0.25, 1.25, 0.0, 0.0])  # `<eos>`: its residual, and a quarter of the mean
    expected = share * (params["tokens_embed.weight"][tokens[0]] @ direction)
    engine = build(config, params)
    found = engine.attributions(batch, np.array([[-1.0, 1.0]], np.float32))
    assert_close(found, expected[None], FLOAT32)
    of_positions = share @ (params["positions_embed.weight"][:6] @ direction)
    logits = engine.logits(batch)
    assert found.sum() + of_positions == pytest.approx(float(logits[0, 1] - logits[0, 0]), abs=FLOAT32)
