"""Training, evaluation and generation with the rows of CUDA and MPS: on that hardware where it is, else pretended.

Run: pytest tests/test_accelerator_rows.py
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from gpt1 import backends
from gpt1.backends.base import Batch, Engine
from gpt1.backends.dropout import generator_seed
from gpt1.config import DeviceConfig, DropoutConfig, ModelConfig
from support.comparisons import assert_identical, determined
from support.model_cases import longer_case, shortest

torch = pytest.importorskip("torch")

from gpt1.backends.torch import device as devices  # noqa: E402
from gpt1.backends.torch import engine as engines  # noqa: E402
from support.device_rows import on_cpu  # noqa: E402
from support.pretended_device import DeviceError, PretendedDevice  # noqa: E402

TOLERANCES = {"float32": 1e-5, "bfloat16": 3e-2, "float16": 4e-3}
"""Relative to the largest value: float32 in another order; products of 16 bits with 8 and 11 bits of precision."""

ROWS_AT_ONCE = 3
"""Rows of logits in memory, so that the softmax of a small batch has several slices."""


@dataclass
class Accelerator:
    """A device with the row of an accelerator."""

    name: str
    pretended: PretendedDevice | None

    def __enter__(self) -> None:
        self._block: AbstractContextManager[Any] = self.pretended or nullcontext()
        self._block.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._block.__exit__(*error)


@pytest.fixture(params=["cuda", "mps"])
def accelerator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    row = devices.TRAITS[request.param]
    small = {"logits_at_once": ROWS_AT_ONCE * max(row.vocabulary_multiple, 64)}
    if row.available():
        monkeypatch.setitem(devices.TRAITS, request.param, replace(row, **small))
        yield Accelerator(request.param, None)
        return
    absent = {"available": lambda: True, "name": lambda device: "pretended", "lacks_bfloat16": lambda device: ""}
    counted = {"count": lambda: 2} if row.count else {}
    monkeypatch.setitem(devices.TRAITS, request.param, replace(row, **absent, **counted, **small))
    name = "cuda:1" if row.count else request.param
    yield Accelerator(name, PretendedDevice(name, monkeypatch))


def engine(config: ModelConfig, params: Any, device: str, dtype: Any = "float32", p: float = 0.0) -> Engine:
    hardware = DeviceConfig(backend="torch", device=device, dtype=dtype)
    return backends.get(config, params, hardware=hardware, dropout=DropoutConfig(p, p, p, p), seed=7)


def results(built: Engine, batch: Batch) -> dict[str, Any]:
    """Return everything that an engine computes; training and resuming come last."""
    prompts, lengths = batch.tokens[:2], batch.eos_positions[:2].astype(np.int64) + 1
    decoder = built.decoder(2, 40)
    found = {
        "logits": built.logits(batch),
        "logprobs": built.token_logprobs(batch),
        "prefill": decoder.prefill(prompts, lengths, [0, 1]),
        "decoded": decoder.step(prompts[:, 0]),
        "attributions": built.attributions(batch, np.ones((len(batch.labels), 3), np.float32)),  # type: ignore[arg-type]
        "attention": built.attention(batch),
    }
    losses, gradients = built.gradients(shortest(batch))
    found |= losses | {f"gradient of {name}": value for name, value in gradients.items()}
    for step in range(3):
        found[f"losses of step {step}"] = list(built.train_step([batch], lr=1e-3, step=step).read().values())
        built.load_optimizer_state(built.optimizer_state(), step + 1)
        built.load_parameters(built.parameters())
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_accelerator_computes_what_the_cpu_does(accelerator: Accelerator, dtype: str) -> None:
    config, params, batch = longer_case("classification", 12, examples=4)
    expected = results(engine(config, params, "cpu"), batch)
    with accelerator:
        found = results(engine(config, params, accelerator.name, dtype), batch)
    for name, value in expected.items():
        scale = max(np.abs(value).max(), 1e-3)
        difference = np.abs(np.subtract(found[name], value)).max()
        assert difference <= TOLERANCES[dtype] * scale, name
    if pretended := accelerator.pretended:
        names = {"aten::native_layer_norm_backward", "aten::_fused_adamw_", "aten::_log_softmax", "aten::_softmax"}
        assert names <= pretended.operators
        assert (pretended.copied_from_pinned > 0) == (accelerator.name == "cuda:1")
        low = getattr(torch, dtype)
        expected_casts = set() if dtype == "float32" else {(pretended.device.type, low)}
        assert pretended.autocasts == expected_casts


def test_generator_of_the_device_is_seeded_for_each_micro_batch(accelerator: Accelerator) -> None:
    """The CPU's generator would leave a run that cannot be resumed bit for bit."""
    config, params, batch = longer_case("classification", 12, examples=2)
    name = "h.0.attn.c_attn.weight"
    with accelerator:
        built = engine(config, params, accelerator.name, p=0.5)
        before = torch.default_generator.initial_seed()
        grads = [built.gradients(shortest(batch), step=step)[1][name] for step in (3, 3, 4)]
        assert torch.default_generator.initial_seed() == before
    if accelerator.pretended:
        counters = [(step, micro) for step in (3, 3, 4) for micro in (0, 1)]
        assert accelerator.pretended.seeds == [generator_seed(7, step, micro) for step, micro in counters]
    else:
        assert np.array_equal(grads[0], grads[1])
    assert not np.array_equal(grads[0], grads[2])


def test_tensor_on_the_wrong_device_is_noticed(accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch) -> None:
    if accelerator.pretended is None:
        pytest.skip("the device itself refuses it")
    config, params, batch = longer_case("classification", 12)
    monkeypatch.setattr(devices, "to_device", lambda array, device, traits: torch.from_numpy(array))
    with accelerator, pytest.raises(DeviceError, match="mixes cpu, "):
        engine(config, params, accelerator.name).logits(batch)


# ---- float16


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a device that trains in float16, on the CPU."""
    monkeypatch.setitem(devices.TRAITS, "cuda", on_cpu(devices.TRAITS["cuda"]))
    return "cuda"


def test_step_that_overflows_is_computed_again_with_a_smaller_scale(half: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, params, batch = longer_case("classification", 12)
    found = []
    for scales in ((2.0**40, 2.0**6), (2.0**6,)):
        monkeypatch.setattr(engines, "LOSS_SCALES", scales)
        built = engine(config, params, half, "float16", p=0.1)
        found.append((built.train_step(shortest(batch), lr=1e-2, step=0).read(), built.parameters()))
    assert found[0][0] == found[1][0]
    assert_identical(found[0][1], found[1][1])


def test_small_gradients_survive_in_float16(half: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients below 6e-8 are 0 in float16; scaling the loss down shows that the scale has an effect."""
    config, params, batch = longer_case("classification", 12)
    name = "h.0.attn.c_attn.weight"
    exact = engine(config, params, "cpu").gradients([batch])[1][name]
    built = engine(config, params, half, "float16")

    def error() -> float:
        found = built.gradients([batch])[1][name]
        return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))

    scaled = error()
    monkeypatch.setattr(engines, "LOSS_SCALES", (2.0**-14,))
    assert scaled < TOLERANCES["float16"] < error()


# ---- optimizer and compiler


def test_plain_optimizer_makes_the_updates_of_the_fused_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config, params, batch = longer_case("classification", 12)
    found = []
    for fused in (True, False):
        row = replace(on_cpu(devices.TRAITS["mps"]), fused_optimizer=fused)
        monkeypatch.setitem(devices.TRAITS, "mps", row)
        built = engine(config, params, "mps")
        built.train_step([batch], lr=1e-2, step=0)
        resumed = engine(config, built.parameters(), "mps")
        resumed.load_optimizer_state(built.optimizer_state(), 1)
        resumed.train_step([batch], lr=1e-2, step=1)
        found.append(determined(resumed.parameters()))
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, atol=TOLERANCES["float32"], err_msg=name)


def test_compiled_blocks_compute_what_the_others_do(half: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiler of machine code: the graphs that are compiled, with gradients, run operator by operator."""
    row = replace(devices.TRAITS[half], lacks_compiler=lambda: "")
    monkeypatch.setitem(devices.TRAITS, half, row)
    compiler = torch.compile
    compiled = []

    def traced(function: Any, **settings: Any) -> Any:
        compiled.append(function)
        return compiler(function, backend="aot_eager", **settings)

    monkeypatch.setattr(torch, "compile", traced)
    config, params, batch = longer_case("classification", 12)
    expected = engine(config, params, half).gradients([batch])
    hardware = DeviceConfig(backend="torch", device=half, dtype="float32", compile=True)
    built = backends.get(config, params, hardware=hardware, dropout=DropoutConfig.none(), seed=7)
    losses, grads = built.gradients([batch])
    assert len(compiled) == config.n_layer
    assert losses == pytest.approx(expected[0], rel=TOLERANCES["float32"])
    for name, value in expected[1].items():
        np.testing.assert_allclose(grads[name], value, atol=TOLERANCES["float32"], err_msg=name)
