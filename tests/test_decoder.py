"""Decoder of every backend: its logits with a KV cache equal those of the full forward pass without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt1 import backends
from gpt1.backends.base import IGNORE, Batch, Decoder, Engine
from gpt1.backends.parameters import Params
from gpt1.config import DeviceConfig, Head, ModelConfig
from support import reference_model
from support.engines import hardware
from support.model_cases import random_params

FLOAT32 = 1e-5
"""Of the largest value or of 1: float32 against float64 through two layers; observed: 6e-7."""
BFLOAT16 = 0.02
"""Of the largest logit: products of numbers of 8 bits (2^-8 is 0.004) through two layers; observed: 0.011."""

CONFIG = ModelConfig(n_layer=2, n_head=2, n_embd=16, n_ctx=24, vocab_size=61)
PARAMS: Params = {name: value.astype(np.float32) for name, value in random_params(CONFIG, scale=0.3).items()}
WITH_HEAD = ModelConfig(
    n_layer=2, n_head=2, n_embd=16, n_ctx=24, vocab_size=61, n_segments=2, head=Head("classification", 3)
)  # fmt: skip

Logits = NDArray[np.float32]
Build = Callable[..., Engine]


@pytest.fixture
def build(backend: str) -> Build:
    def engine(config: ModelConfig = CONFIG, params: Any = PARAMS, dtype: Any = "float32") -> Engine:
        return backends.get(config, params, hardware=hardware(backend, dtype))

    return engine


def texts(lengths: Sequence[int], seed: int = 0) -> list[NDArray[np.int32]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, CONFIG.vocab_size, length).astype(np.int32) for length in lengths]


def prefill(decoder: Decoder, prompts: Sequence[NDArray[np.int32]], rows: Sequence[int] | None = None) -> Logits:
    lengths = np.array([len(prompt) for prompt in prompts])
    tokens = np.full((len(prompts), lengths.max()), 60, np.int32)
    for line, prompt in zip(tokens, prompts, strict=True):
        line[: len(prompt)] = prompt
    return decoder.prefill(tokens, lengths, range(len(prompts)) if rows is None else rows)


def full(tokens: NDArray[np.int32], config: ModelConfig = CONFIG, params: Any = PARAMS) -> Any:
    """Return the reference logits (T, V) of one sequence."""
    states = reference_model.hidden(params, config, tokens[None])[0]
    return states @ params["tokens_embed.weight"][: config.vocab_size].T.astype(np.float64)


def assert_close(found: Any, expected: Any, tolerance: float = FLOAT32) -> None:
    limit = tolerance * float(np.abs(expected).max(initial=1.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)


def log_softmax(logits: Logits) -> Any:
    return reference_model.log_softmax(logits.astype(np.float64))


# ---- cached = full


@pytest.mark.parametrize("starts", [[1], [9], [24], [4, 4, 4], [1, 9, 4], [17, 2]])
def test_every_cached_position_equals_the_full_forward(build: Build, starts: list[int]) -> None:
    """Up to the last position of the context, from prompts of equal and of different lengths."""
    sequences = texts([CONFIG.n_ctx] * len(starts))
    decoder = build().decoder(len(starts), CONFIG.n_ctx)
    found = prefill(decoder, [tokens[:start] for tokens, start in zip(sequences, starts, strict=True)])
    expected = [full(tokens) for tokens in sequences]
    at = np.array(starts)
    for _ in range(CONFIG.n_ctx - max(starts)):
        assert_close(found, [logits[place - 1] for logits, place in zip(expected, at, strict=True)])
        found = decoder.step(np.array([tokens[place] for tokens, place in zip(sequences, at, strict=True)], np.int32))
        at += 1
    assert found.dtype == np.float32
    assert_close(found, [logits[place - 1] for logits, place in zip(expected, at, strict=True)])


def test_every_cached_position_equals_the_engines_own_full_forward(build: Build) -> None:
    [tokens] = texts([CONFIG.n_ctx])
    engine = build()
    decoder = engine.decoder(1, CONFIG.n_ctx)
    logits = [prefill(decoder, [tokens[:1]])] + [decoder.step(tokens[t : t + 1]) for t in range(1, CONFIG.n_ctx)]
    targets = np.append(tokens[1:], IGNORE)[None]
    batch = Batch(tokens[None], np.array([CONFIG.n_ctx - 1], np.int32), lm_targets=targets)
    cached = log_softmax(np.concatenate(logits))[np.arange(CONFIG.n_ctx - 1), tokens[1:]]
    assert_close(cached, engine.token_logprobs(batch)[0, :-1])


def test_a_model_with_segments_and_a_head_decodes_over_its_tokens_alone(build: Build) -> None:
    params = random_params(WITH_HEAD, scale=0.3)
    [tokens] = texts([10])
    decoder = build(WITH_HEAD, {name: value.astype(np.float32) for name, value in params.items()}).decoder(1, 10)
    prefill(decoder, [tokens[:6]])
    found = [decoder.step(tokens[t : t + 1])[0] for t in range(6, 10)]
    assert found[0].shape == (WITH_HEAD.vocab_size,)
    assert_close(found, full(tokens, WITH_HEAD, params)[6:])


def test_sequences_of_unequal_lengths_are_what_each_is_alone(build: Build) -> None:
    prompts, news = texts([2, 11, 5]), texts([6, 6, 6], seed=1)
    engine = build()
    together = engine.decoder(3, CONFIG.n_ctx)
    found = [prefill(together, prompts)]
    found += [together.step(np.array([new[t] for new in news], np.int32)) for t in range(6)]
    for row, (prompt, new) in enumerate(zip(prompts, news, strict=True)):
        alone = engine.decoder(1, CONFIG.n_ctx)
        expected = [prefill(alone, [prompt])] + [alone.step(new[t : t + 1]) for t in range(6)]
        assert_close([logits[row] for logits in found], [logits[0] for logits in expected])


# ---- rows


def test_a_row_that_begins_anew_leaves_the_others_alone(build: Build) -> None:
    first, second, fresh = texts([24, 24, 24])
    decoder = build().decoder(2, CONFIG.n_ctx)
    prefill(decoder, [first[:20], second[:9]])
    found = prefill(decoder, [fresh[:3]], rows=[0])
    assert_close(found, full(fresh)[None, 2])
    found = decoder.step(np.array([fresh[3], second[9]], np.int32))
    assert_close(found, [full(fresh)[3], full(second)[9]])


def test_a_copied_row_goes_on_from_its_source_by_itself(build: Build) -> None:
    first, second = texts([24, 24])
    branch = np.concatenate([second[:9], first[:2]])
    decoder = build().decoder(3, CONFIG.n_ctx)
    prefill(decoder, [first[:4], second[:9]], rows=[0, 1])
    decoder.copy(1, 2)
    decoder.step(np.array([first[4], second[9], branch[9]], np.int32))
    decoder.copy(2, 0)
    found = decoder.step(np.array([branch[10], second[10]], np.int32))  # only the first two rows
    assert_close(found, [full(branch)[10], full(second)[10]])


def test_rows_are_prefilled_in_any_order_and_in_parts(build: Build) -> None:
    sequences = texts([12, 12, 12])
    decoder = build().decoder(3, 12)
    prefill(decoder, [sequences[2][:7], sequences[0][:3]], rows=[2, 0])
    prefill(decoder, [sequences[1][:5]], rows=[1])
    found = decoder.step(np.array([sequences[0][3], sequences[1][5], sequences[2][7]], np.int32))
    assert_close(found, [full(sequences[0])[3], full(sequences[1])[5], full(sequences[2])[7]])


def test_a_decoder_has_the_weights_of_its_time(build: Build) -> None:
    """The engine discards its copies of the weights for decoding when the weights change."""
    [tokens] = texts([8])
    engine = build()
    prefill(engine.decoder(1, 8), [tokens])
    other = {name: value * np.float32(1.5) for name, value in PARAMS.items()}
    engine.load_parameters(other)
    assert_close(prefill(engine.decoder(1, 8), [tokens]), full(tokens, params=other)[-1:])
    targets = np.append(tokens[1:], IGNORE)[None].astype(np.int32)
    engine.train_step([Batch(tokens[None], np.array([7], np.int32), lm_targets=targets)], lr=0.1, step=0)
    trained = engine.parameters()
    assert_close(prefill(engine.decoder(1, 8), [tokens]), full(tokens, params=trained)[-1:])


# ---- lower precision


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("count", [1, 3])
def test_bfloat16_is_near_the_reference(build: Build, count: int) -> None:
    """With one row and with several, which have different kernels on a CPU."""
    sequences = texts([CONFIG.n_ctx] * count)
    decoder = build(dtype="bfloat16").decoder(count, CONFIG.n_ctx)
    found = [prefill(decoder, [tokens[: 3 + row] for row, tokens in enumerate(sequences)])]
    for t in range(3, 20):
        found.append(decoder.step(np.array([tokens[t + row] for row, tokens in enumerate(sequences)], np.int32)))
    for row, tokens in enumerate(sequences):
        expected = full(tokens)[2 + row : 20 + row]
        assert_close([logits[row] for logits in found], expected, BFLOAT16)
        assert np.abs(found[5][row] - expected[5]).max() > 1e-4  # it is not float32


def test_a_step_leaves_onednn_as_it_was() -> None:
    torch = pytest.importorskip("torch")
    engine = backends.get(CONFIG, PARAMS, hardware=DeviceConfig(backend="torch", device="cpu", dtype="bfloat16"))
    decoder = engine.decoder(1, 4)
    prefill(decoder, texts([2]))
    assert torch.backends.mkldnn.enabled
    with pytest.raises(IndexError):
        decoder.step(np.array([CONFIG.vocab_size], np.int32))
    assert torch.backends.mkldnn.enabled
