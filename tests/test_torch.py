"""Tests of the PyTorch backend: dropout masks, attention, logits in slices, bfloat16, devices.

Run: pytest tests/test_torch.py
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gpt1 import backends
from gpt1.backends.base import Batch, Engine
from gpt1.backends.parameters import initialise
from gpt1.config import DeviceConfig, DropoutConfig, Head, ModelConfig
from gpt1.errors import UserError
from support import reference_model
from support.comparisons import FLOAT32, assert_close, assert_identical, assert_same_step
from support.engines import NO_DROPOUT, loss_among, rate, trained
from support.model_cases import (
    float32,
    longer_case,
    random_batch,
    random_params,
    shortest,
    task_case,
)

REGROUPED = 1e-6
"""Float32 on both sides, the same terms summed in another order (epsilon 1.2e-7)."""
ATTENTION = 5e-6
"""Float32 on both sides in other orders, over up to 300 keys; observed: 9e-7 of the largest value."""
BFLOAT16 = 0.015
"""Relative to the largest value: products of 8-bit significands (2^-8 is 0.004), two layers; observed: 0.006."""
SIGMAS = 5
"""Standard deviations of a binomial count. Masks are deterministic, so the result does not vary between runs."""


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture
def functional(torch: Any) -> Any:
    """The module `functional` of the PyTorch backend."""
    from gpt1.backends.torch import functional

    return functional


@pytest.fixture
def attention(torch: Any) -> Any:
    """The module `attention` of the PyTorch backend."""
    from gpt1.backends.torch import attention

    return attention


def torch_engine(config: ModelConfig, params: Any, **settings: Any) -> Engine:
    hardware = DeviceConfig(backend="torch", device="cpu", dtype=settings.pop("dtype", "float32"))
    loss = loss_among(settings)
    return backends.get(config, float32(params), hardware=hardware, loss=loss, **{"dropout": NO_DROPOUT, **settings})


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_noise_keeps_each_element_with_probability_one_minus_p(torch: Any, functional: Any, p: float) -> None:
    keep = functional.DropoutRng(torch.device("cpu"), 1, 2, 3).keep((7, 1001, 5), p, torch.float32).numpy()
    assert keep.shape == (7, 1001, 5)
    assert set(np.unique(keep)) <= {0.0, 1.0}
    assert abs(keep.sum() - keep.size * (1 - p)) <= SIGMAS * math.sqrt(keep.size * p * (1 - p))
    pairs = keep[..., 1:] * keep[..., :-1]  # neighbours share a random word and must still be independent
    assert abs(pairs.mean() - (1 - p) ** 2) <= SIGMAS / math.sqrt(pairs.size)


def test_mean_over_many_masks_is_the_value_itself(torch: Any, functional: Any) -> None:
    x, p, draws = torch.linspace(-3.0, 3.0, 101), 0.3, 2000
    noise = functional.DropoutRng(torch.device("cpu"), 0, 0, 0)
    mean = sum(noise.drop(x, p) for _ in range(draws)) / draws
    assert ((mean - x).abs() <= SIGMAS * x.abs() * math.sqrt(p / (1 - p) / draws) + FLOAT32).all()


def test_noise_is_a_function_of_its_counters_and_of_their_order(torch: Any, functional: Any) -> None:
    def words(*counters: int) -> bytes:
        noise = functional.DropoutRng(torch.device("cpu"), *counters)
        return b"".join(noise.keep((100,), 0.5, torch.uint8).numpy().tobytes() for _ in range(2))

    assert words(1, 2, 3) == words(1, 2, 3)
    found = [words(1, 2, 3), words(3, 2, 1), words(1, 3, 2), words(0, 0, 0), words(0, 0, 1), words(0, 1, 0)]
    assert len(set(found)) == len(found)
    assert len({half for both in found for half in (both[:100], both[100:])}) == 2 * len(found)


def test_dropping_nothing_returns_the_tensor_itself(torch: Any, functional: Any) -> None:
    x = torch.ones(3)
    assert functional.DropoutRng(torch.device("cpu"), 0).drop(x, 0.0) is x


def attention_inputs(torch: Any, time: int, size: int) -> list[Any]:
    """Return q, k and v of shape (2, 3, time, size), with the memory layout of the model's."""
    generator = torch.Generator().manual_seed(time)
    every = torch.randn(2, time, 3, 3, size, generator=generator)
    return [every[:, :, i].transpose(1, 2).requires_grad_() for i in range(3)]


@pytest.mark.parametrize("p", [0.0, 0.125, 0.5])
@pytest.mark.parametrize("time", [1, 2, 127, 128, 129, 300])
def test_attention_equals_the_plain_formula_with_the_same_masks(
    torch: Any, attention: Any, functional: Any, time: int, p: float
) -> None:
    """With unit vectors for v the output is the attention weights after dropout, from which the masks follow."""

    def attend(q: Any, k: Any, v: Any) -> Any:
        return attention.causal_attention(q, k, v, p, functional.DropoutRng(torch.device("cpu"), 1, 2, 3))

    zero = torch.zeros(2, 3, time, time, requires_grad=True)
    keep = attend(zero, zero, torch.eye(time).expand(2, 3, time, time)).detach() > 0
    past = torch.ones(time, time).tril_().bool()
    assert not keep[..., ~past].any()
    seen = keep[..., past].double()
    assert abs(seen.mean() - (1 - p)) <= SIGMAS * math.sqrt(p * (1 - p) / seen.numel())

    q, k, v = attention_inputs(torch, time, 8)
    found = attend(q, k, v)
    weights = torch.softmax((q @ k.transpose(-1, -2) / math.sqrt(8)).masked_fill(~past, -math.inf), -1)
    expected = (weights * keep / (1 - p)) @ v
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(0))
    assert_close(found.detach(), expected.detach(), ATTENTION)
    for one, other in zip(*(torch.autograd.grad(out, (q, k, v), upstream) for out in (found, expected)), strict=True):
        assert_close(one, other, ATTENTION)


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_no_query_sees_the_future(torch: Any, attention: Any, functional: Any, p: float) -> None:
    """Outputs are bit for bit independent of later positions, whose gradients are zero."""

    def attend(*inputs: Any) -> Any:
        return attention.causal_attention(*inputs, p, functional.DropoutRng(torch.device("cpu"), 1, 2, 3))

    q, k, v = attention_inputs(torch, 200, 8)
    out = attend(q, k, v)
    changed = [x.detach().clone() for x in (q, k, v)]
    for x in changed:
        x[:, :, 150:] = 1e4
    assert torch.equal(attend(*(x.requires_grad_() for x in changed))[:, :, :150], out[:, :, :150])
    for gradient in torch.autograd.grad(out[:, :, :150].sum(), (q, k, v)):
        assert not gradient[:, :, 150:].any()
        assert gradient[:, :, :150].any()


@pytest.mark.parametrize("at_once", [1, 100, 61 * 7])
def test_logits_in_slices_give_the_same_loss(torch: Any, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    config, params, batch = longer_case("classification", 40, examples=4)
    engine: Any = torch_engine(config, params, lm_coef=0.5)
    whole, logprobs = engine.gradients([batch]), engine.token_logprobs(batch)
    monkeypatch.setattr(engine, "traits", replace(engine.traits, logits_at_once=at_once))
    assert_same_step(engine.gradients([batch]), whole, REGROUPED)
    assert_close(engine.token_logprobs(batch), logprobs, REGROUPED)


def test_rows_that_fill_the_vocabulary_up_change_nothing(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA needs them; the cases have different numbers of matrices in the softmax."""
    for over_positions in (False, True):
        config, params, batch = longer_case("classification", 40, examples=4)
        engine: Any = torch_engine(config, params, lm_coef=0.5, lm_over_positions=over_positions)
        plain, logprobs = engine.gradients([batch]), engine.token_logprobs(batch)
        assert config.vocab_size % 128
        monkeypatch.setattr(engine, "traits", replace(engine.traits, vocabulary_multiple=128))
        assert_same_step(engine.gradients([batch]), plain, REGROUPED)
        assert_close(engine.token_logprobs(batch), logprobs, REGROUPED)
        monkeypatch.undo()


def test_logits_of_all_positions_never_exist_at_once(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory must not grow with batch times vocabulary: the largest tensor of a step is the embedding."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return out

    config = ModelConfig(n_layer=1, n_head=1, n_embd=4, n_ctx=32, vocab_size=1000)
    batch = random_batch(config, examples=20, time=32)
    engine: Any = torch_engine(config, random_params(config))
    monkeypatch.setattr(engine, "traits", replace(engine.traits, logits_at_once=20_000))
    with Watch():
        engine.gradients([batch])
        engine.token_logprobs(batch)
    assert batch.target_count > 300
    assert 10_000 < largest <= 20 * 32 * 32, "attention weights, 20 rows of logits, or the embedding, not 300 rows"


@pytest.mark.parametrize("task", ["language model", "classification"])
def test_bfloat16_follows_the_reference(torch: Any, task: str) -> None:
    """Weights, residual stream and losses are float32; only products are rounded, to 8 bits."""
    config, params, batch = longer_case(task, 200, examples=4)
    engine = torch_engine(config, params, lm_coef=0.5, dtype="bfloat16")
    assert engine.dtype == "bfloat16"
    losses, gradients = engine.gradients([batch])
    expected = reference_model.gradients(params, config, [batch], 0.5)
    assert losses == pytest.approx(expected[0], rel=BFLOAT16 / 5)
    assert_close(engine.token_logprobs(batch), reference_model.token_logprobs(params, config, batch), BFLOAT16)
    if config.head:
        assert_close(engine.logits(batch), reference_model.task_logits(params, config, batch), BFLOAT16)
    found, true = (np.concatenate([each[name].ravel() for name in params]) for each in (gradients, expected[1]))
    assert 1e-4 < np.linalg.norm(found - true) / np.linalg.norm(true) < BFLOAT16


def test_restored_engine_takes_the_same_next_step_in_bfloat16(torch: Any) -> None:
    config, params, batch = longer_case("classification", 40, examples=4)
    settings = {"dtype": "bfloat16", "dropout": DropoutConfig(), "seed": 3}
    engine = trained(torch_engine(config, params, **settings), batch, 2)
    other = torch_engine(config, engine.parameters(), **settings)
    other.load_optimizer_state(engine.optimizer_state(), 2)
    for each in (engine, other):
        each.train_step(shortest(batch), lr=rate(2), step=2)
    assert_identical(other.parameters(), engine.parameters())
    assert_identical(other.optimizer_state(), engine.optimizer_state())


@pytest.mark.parametrize(
    ("hardware", "message"),
    [
        (DeviceConfig(backend="torch", device="ascend"), "--device ascend: needs --backend mindspore"),
        (
            DeviceConfig(backend="torch", device="cpu", dtype="float16"),
            "--dtype float16: not supported on --device cpu",
        ),
        (DeviceConfig(backend="torch", device="cpu", compile=True), "--compile: only on --device cuda"),
    ],
)
def test_hardware_that_cannot_be_had_is_refused_with_the_flag(torch: Any, hardware: DeviceConfig, message: str) -> None:
    config, params, _ = task_case("classification")
    with pytest.raises(UserError, match=message):
        backends.get(config, float32(params), hardware=hardware)


def test_missing_cuda_is_refused_with_the_flag(torch: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("CUDA is here")
    config, params, _ = task_case("classification")
    with pytest.raises(UserError, match="--device cuda: PyTorch finds no CUDA device"):
        backends.get(config, float32(params), hardware=DeviceConfig(backend="torch", device="cuda"))


@pytest.mark.parametrize(("n_in", "n_out"), [(8, 24), (24, 8), (8, 8)])
@pytest.mark.parametrize("columns", [slice(None), slice(4), slice(4, None)])
def test_linear_layer_with_copies_has_the_gradients_of_the_plain_formula(
    torch: Any, functional: Any, n_in: int, n_out: int, columns: slice
) -> None:
    """Two passes: the gradients of the second are added to those of the first."""
    generator = torch.Generator().manual_seed(n_in)
    x, weight, bias = (
        torch.randn(shape, generator=generator).requires_grad_() for shape in ((3, 5, n_in), (n_in, n_out), (n_out,))
    )
    low = weight.detach() * 2, bias.detach() * 2  # the products use the copies
    upstream = torch.randn((3, 5, n_out), generator=generator)[..., columns]
    for _ in range(2):
        out = functional.linear(x, weight, bias, low, columns)
        out.backward(upstream)
    assert_close(out.detach(), (x @ low[0] + low[1])[..., columns].detach(), ATTENTION)
    expected = [torch.zeros_like(leaf) for leaf in (weight, bias)]
    expected[0][:, columns] = 2 * x.detach().flatten(0, 1).T @ upstream.flatten(0, 1)
    expected[1][columns] = 2 * upstream.flatten(0, 1).sum(0)
    for leaf, one in zip((weight, bias), expected, strict=True):
        assert_close(leaf.grad, one, ATTENTION)
    assert_close(x.grad, 2 * upstream @ low[0][:, columns].T, ATTENTION)


def test_copies_of_the_weights_follow_every_update_and_every_loaded_parameter(torch: Any) -> None:
    config = ModelConfig(n_layer=1, n_head=2, n_embd=16, n_ctx=16, vocab_size=40, head=Head("classification", 2))
    hardware = DeviceConfig(backend="torch", device="cpu", dtype="bfloat16")
    engine = backends.get(config, initialise(config, 0), hardware=hardware)
    tokens = np.arange(18, dtype=np.int32).reshape(2, 9)
    batch = Batch(tokens, np.full(2, 8, np.int32), np.array([0, 1]))
    before = engine.logits(batch)
    engine.train_step([batch], lr=0.1, step=0)
    trained, params = engine.logits(batch), engine.parameters()
    fresh = backends.get(config, params, hardware=hardware)
    np.testing.assert_array_equal(trained, fresh.logits(batch))
    assert not np.array_equal(trained, before)
    engine.load_parameters(initialise(config, 0))
    np.testing.assert_array_equal(engine.logits(batch), before)
    loss = engine.gradients([batch])[0]
    assert loss == backends.get(config, initialise(config, 0), hardware=hardware).gradients([batch])[0]


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("shape", [(3, 5, 64), (1, 64), (0, 64)])
def test_packed_linear_layer_is_the_plain_formula(
    torch: Any, functional: Any, gelu: bool, shape: tuple[int, ...]
) -> None:
    if not functional.can_pack():
        pytest.skip("this CPU, or this build of PyTorch, has no packed linear layers")
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(each, generator=generator).bfloat16() for each in (shape, (64, 96), (96,)))
    found = functional.packed_linear(x, functional.packed(weight), bias, gelu=gelu)
    expected = x.float() @ weight.float() + bias.float()
    if gelu:
        expected = torch.nn.functional.gelu(expected, approximate="tanh")
    assert found.dtype == torch.bfloat16
    assert_close(found.float(), expected, BFLOAT16)


def test_inference_is_the_same_without_packed_weights(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(n_layer=2, n_head=2, n_embd=64, n_ctx=16, vocab_size=40, head=Head("classification", 2))
    hardware = DeviceConfig(backend="torch", device="cpu", dtype="bfloat16")
    engine = backends.get(config, initialise(config, 0), hardware=hardware)
    batch = Batch(np.arange(18, dtype=np.int32).reshape(2, 9), np.full(2, 8, np.int32), np.array([0, 1]))
    packed = engine.logits(batch)
    monkeypatch.setattr("gpt1.backends.torch.engine.can_pack", lambda: False)
    plain = backends.get(config, initialise(config, 0), hardware=hardware).logits(batch)
    assert_close(packed, plain, BFLOAT16)
