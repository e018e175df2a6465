"""Dropout of every backend: rates, sites, counters.

Run: pytest tests/test_backend_dropout.py
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt1.backends.base import Batch
from gpt1.backends.parameters import Params
from gpt1.config import DropoutConfig, Head, ModelConfig
from support import reference_model
from support.comparisons import FLOAT32, assert_close, assert_identical, assert_same_step
from support.engines import DROPOUTS, NO_DROPOUT, Build
from support.model_cases import (
    HEADS,
    LM_LOSSES,
    float32,
    longer_case,
    part,
    random_batch,
    random_params,
    small_model,
)

MASKED = 1e-3
"""Tolerance for quotients of float32 gradients; a backend may round p to 16 bits."""
SIGMAS = 5
"""Standard deviations of a binomial count. Masks are deterministic, so the result does not vary between runs."""


@pytest.mark.parametrize("dropout", DROPOUTS.values(), ids=DROPOUTS)
def test_dropout_is_a_function_of_seed_step_and_micro_batch(build: Build, dropout: DropoutConfig) -> None:
    config, params, batch = longer_case("multiple-choice", 12, examples=4)
    engine = build(config, params, dropout=dropout, seed=1)
    losses, gradients = engine.gradients([batch], step=5)
    for other in (engine, build(config, params, dropout=dropout, seed=1)):
        again = other.gradients([batch], step=5)
        assert again[0] == losses
        assert_identical(again[1], gradients)
    other = build(config, params, dropout=dropout, seed=2)
    found = {losses["loss"], engine.gradients([batch], step=6)[0]["loss"], other.gradients([batch], step=5)[0]["loss"]}
    assert len(found) == 3
    twice = engine.gradients([batch, batch], step=5)[0]["loss"]
    assert abs(twice - losses["loss"]) > FLOAT32, "the second micro-batch must have masks of its own"


def test_training_step_has_the_dropout_of_its_number(build: Build) -> None:
    config, params, batch = longer_case("classification", 12, examples=4)
    engine = build(config, params, dropout=DropoutConfig())
    expected = [engine.gradients([batch, batch], step=step)[0] for step in (0, 1)]
    found = [engine.train_step([batch, batch], lr=0.0, step=step).read() for step in (0, 1)]
    assert [{name: result[name] for name in ("loss", "task_loss", "lm_loss")} for result in found] == expected


@pytest.mark.parametrize("lm_coef", [0.0, 0.5])
def test_without_dropout_neither_seed_nor_step_matters(build: Build, lm_coef: float) -> None:
    config, params, batch = longer_case("classification", 12, examples=4)
    losses, gradients = build(config, params, seed=0, lm_coef=lm_coef).gradients([batch], step=0)
    again = build(config, params, seed=5, lm_coef=lm_coef).gradients([batch], step=9)
    assert again[0] == losses
    assert_identical(again[1], gradients)


@pytest.mark.parametrize("openai", [False, True])
def test_inference_has_no_dropout(build: Build, openai: bool) -> None:
    config, params, batch = longer_case("multiple-choice", 12, examples=4)
    on = build(config, params, dropout=DropoutConfig(0.5, 0.5, 0.5, 0.5, embd_matrix=openai, clf_shared=openai))
    off = build(config, params)
    np.testing.assert_array_equal(on.logits(batch), off.logits(batch))
    np.testing.assert_array_equal(on.token_logprobs(batch), off.token_logprobs(batch))


WIDTH = 64
SITES = {
    "embeddings": ("embd_pdrop", "tokens_embed.weight", np.s_[5]),
    "attention weights": ("attn_pdrop", "h.L.attn.c_attn.bias", np.s_[-WIDTH:]),
    "attention output": ("resid_pdrop", "h.L.attn.c_proj.bias", np.s_[:]),
    "MLP output": ("resid_pdrop", "h.L.mlp.c_proj.bias", np.s_[:]),
    "classifier state": ("clf_pdrop", "score.weight", np.s_[0]),
}
"""Sites of dropout: field, a parameter whose gradient passes through it, and the part that belongs to one token."""
ZEROED = {
    "embd_pdrop": ["tokens_embed.weight", "positions_embed.weight"],
    "attn_pdrop": [f"h.{layer}.attn.c_attn.{kind}" for layer in (0, 1) for kind in ("weight", "bias")],
    "resid_pdrop": [
        f"h.{site}.c_proj.{kind}" for site in ("0.attn", "0.mlp", "1.attn", "1.mlp") for kind in ("weight", "bias")
    ],
    "clf_pdrop": ["score.weight"],
}
"""Parameters that have to be zero so that the input of each dropout is zero."""


def masks(
    build: Build, site: str, layer: int, p: float, lm_coef: float, steps: int, **switches: bool
) -> NDArray[np.float64]:
    """Return (steps, WIDTH) factors by which dropout of probability `p` at `site` multiplies 64 elements.

    If the input of the dropout is zero, its mask does not change any state, so the gradient by a bias that is added
    before it is the gradient without dropout times the mask. There is one token, so that every element has one mask,
    and one head per element, so that there are as many attention weights as elements.
    """
    field, name, pick = SITES[site]
    name = name.replace("L", str(layer))
    config = ModelConfig(2, WIDTH, WIDTH, 4, 9, head=Head("classification", 1, regression=True))
    params = random_params(config)
    for zeroed in ZEROED[field]:
        params[zeroed][...] = 0.0
    target = np.array([[3]], np.int32) if lm_coef else None
    batch = Batch(np.array([[5]], np.int32), np.zeros(1, np.int32), np.ones(1, np.float32), lm_targets=target)
    plain = build(config, params, lm_coef=lm_coef).gradients([batch])[1][name][pick]
    engine = build(config, params, lm_coef=lm_coef, dropout=replace(NO_DROPOUT, **{field: p}, **switches))
    return np.array([engine.gradients([batch], step=step)[1][name][pick] / plain for step in range(steps)])


@pytest.mark.parametrize(
    ("site", "layer", "lm_coef", "p"),
    [("embeddings", 0, 0.0, 0.6), ("classifier state", 0, 0.0, 0.6), ("classifier state", 0, 0.5, 0.6)]
    + [(site, layer, 0.0, 0.6) for site in ("attention output", "MLP output", "attention weights") for layer in (0, 1)]
    + [("attention weights", 1, 1e-30, 0.6), ("attention weights", 1, 0.0, 0.1), ("embeddings", 0, 0.0, 0.1)],
)  # fmt: skip
def test_dropout_zeroes_with_probability_p_and_scales_the_rest(
    build: Build, site: str, layer: int, lm_coef: float, p: float
) -> None:
    """The last layer's attention is computed for one position, or for all of them with an LM loss."""
    assert_mask(masks(build, site, layer, p, lm_coef, steps=40), p)


def assert_mask(found: NDArray[np.float64], p: float) -> None:
    kept = found > 0.5
    assert_close(found, kept / (1 - p), MASKED)
    assert abs(kept.sum() - kept.size * (1 - p)) < SIGMAS * math.sqrt(kept.size * p * (1 - p))
    assert kept.any(0).all(), "every element must be kept at times"
    assert p < 0.5 or not kept.all(0).any(), "every element must be dropped at times"


@pytest.mark.parametrize("p", [0.1, 0.6])
def test_dropout_on_the_embedding_matrix_zeroes_with_probability_p(build: Build, p: float) -> None:
    assert_mask(masks(build, "embeddings", 0, p, 0.0, steps=40, embd_matrix=True), p)


def embedding_case() -> tuple[ModelConfig, Params, Batch]:
    """Return a case with repeated tokens within and across sequences, segments, and unused positions."""
    config = replace(small_model(Head("classification", 2)), vocab_size=12)
    tokens = np.array([[3, 5, 5, 7], [5, 3, 8, 0]], np.int32)
    batch = Batch(
        tokens, np.array([3, 2], np.int32), np.array([1, 0]), lm_targets=np.array([[5, 5, 7, -1], [3, 8, -1, -1]]),
        segments=np.array([[0, 0, 1, 1], [0, 1, 1, 0]], np.int32),
    )  # fmt: skip
    return config, float32(random_params(config)), batch


def embedding_masks(
    build: Build, batches: list[Batch], p: float, step: int, **switches: bool
) -> dict[str, NDArray[np.float64]]:
    """Return the quotients of the gradients by both embeddings with and without dropout on them.

    The embeddings are zero, so that dropout does not change any state; the softmax of the LM loss is over tokens and
    positions, so that every row has a gradient.
    """
    config, params, _ = embedding_case()
    for name in ZEROED["embd_pdrop"]:
        params[name][...] = 0.0
    lm = {"lm_coef": 0.7, **LM_LOSSES["both"]}
    dropout = replace(NO_DROPOUT, embd_pdrop=p, **switches)
    found, plain = (
        build(config, params, dropout=each, **lm).gradients(batches, step=step)[1] for each in (dropout, NO_DROPOUT)
    )
    for name in ZEROED["embd_pdrop"]:
        assert np.abs(plain[name]).min() > 1e-4, "a gradient of every element shows its mask"
    return {name: found[name] / plain[name] for name in ZEROED["embd_pdrop"]}


def test_dropout_on_the_embedding_matrix_has_one_mask_for_all_that_reads_it(build: Build) -> None:
    """For all occurrences of a token, the rows of segments and positions, and the softmax of the LM loss."""
    _, _, batch = embedding_case()
    quotients = embedding_masks(build, [batch], 0.5, step=4, embd_matrix=True)
    for name, found in quotients.items():
        assert_close(found, (found > 1) * 2.0, MASKED, name)
        assert 0.2 < (found > 1).mean() < 0.8
    rows = np.concatenate(list(quotients.values())) > 1
    assert len(np.unique(rows, axis=0)) > 8, "the rows must have masks of their own"
    on_the_sum = embedding_masks(build, [batch], 0.5, step=4)["tokens_embed.weight"][5]
    assert np.abs(on_the_sum - (on_the_sum > 1) * 2.0).max() > 0.1, "on the sum each occurrence has its own"


def test_dropout_on_the_embedding_matrix_is_the_model_with_the_dropped_matrix(build: Build) -> None:
    """The losses equal the reference's with masked embeddings, and the gradients its gradients times the mask."""
    config, params, batch = embedding_case()
    masked = embedding_masks(build, [batch], 0.25, step=9, embd_matrix=True)
    factors = {name: np.round(found * 0.75) / 0.75 for name, found in masked.items()}
    for lm_coef, lm in [(0.0, {}), *((0.7, lm) for lm in LM_LOSSES.values())]:
        engine = build(config, params, dropout=replace(NO_DROPOUT, embd_pdrop=0.25, embd_matrix=True), lm_coef=lm_coef,
                       **lm)  # fmt: skip
        dropped = {name: value * factors.get(name, 1.0) for name, value in params.items()}
        losses, gradients = reference_model.gradients(dropped, config, [batch], lm_coef, **lm)
        expected = {name: value * factors.get(name, 1.0) for name, value in gradients.items()}
        assert_same_step(engine.gradients([batch], step=9), (losses, expected), FLOAT32)


def test_dropped_embedding_matrix_of_each_micro_batch_is_its_own(build: Build) -> None:
    _, _, batch = embedding_case()
    alone, both = (embedding_masks(build, [batch] * n, 0.5, 4, embd_matrix=True) for n in (1, 2))
    half = {name: both[name] - alone[name] / 2 for name in both}  # contribution of the second micro-batch
    for name, found in half.items():
        assert_close(found, found > 0.5, MASKED, name)
        assert 0.2 < ((found > 0.5) == (alone[name] > 1)).mean() < 0.8, "as alike as two coins"


@pytest.mark.parametrize("shared", [False, True])
def test_choices_of_a_question_share_a_classifier_mask_where_that_is_asked_for(build: Build, shared: bool) -> None:
    """The head's weights are zero, so that dropout does not change the loss; their gradient is a sum over choices."""
    config = ModelConfig(1, 2, WIDTH, 8, 9, head=HEADS["multiple-choice"])
    params = random_params(config)
    params["score.weight"][...] = 0.0
    batch = random_batch(config, examples=2, k=3)
    dropout = replace(NO_DROPOUT, clf_pdrop=0.5, clf_shared=shared)

    def quotients(batch: Batch) -> NDArray[np.float64]:
        found, plain = (
            build(config, params, lm_coef=0.0, dropout=each).gradients([batch])[1] for each in (dropout, NO_DROPOUT)
        )
        return found["score.weight"][0] / plain["score.weight"][0]

    def is_mask(found: NDArray[np.float64]) -> bool:
        return bool(np.abs(found - (found > 1) * 2.0).max() < MASKED)

    assert is_mask(quotients(part(batch, [0]))) == shared
    assert not is_mask(quotients(batch)), "each question has a mask of its own"


@pytest.mark.parametrize("p", [0.1, 0.6])
def test_shared_classifier_mask_zeroes_with_probability_p(build: Build, p: float) -> None:
    """Measured as above, in 40 steps of one question."""
    config = ModelConfig(1, 2, WIDTH, 8, 9, head=HEADS["multiple-choice"])
    params = random_params(config)
    params["score.weight"][...] = 0.0
    batch = random_batch(config, examples=1, k=3)
    plain = build(config, params, lm_coef=0.0).gradients([batch])[1]["score.weight"][0]
    engine = build(config, params, lm_coef=0.0, dropout=replace(NO_DROPOUT, clf_pdrop=p, clf_shared=True))
    steps = [engine.gradients([batch], step=step)[1]["score.weight"][0] / plain for step in range(40)]
    assert_mask(np.array(steps), p)


def test_every_layer_and_sub_layer_has_masks_of_its_own(build: Build) -> None:
    found = [masks(build, site, layer, 0.5, 0.0, 40) > 1 for site in list(SITES)[2:4] for layer in (0, 1)]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert abs((one == other).sum() - one.size / 2) < SIGMAS * math.sqrt(one.size) / 2
