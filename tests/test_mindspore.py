"""Tests of the MindSpore backend: compiled steps, unsupported settings. (tests/test_backend_*.py test all backends.)"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpt1 import backends
from gpt1.backends.base import Engine
from gpt1.config import DeviceConfig, DropoutConfig, LossConfig
from gpt1.errors import UserError
from support.comparisons import assert_close, assert_identical
from support.engines import DROPOUTS
from support.model_cases import longer_case, shortest

FLOAT32 = 1e-5
"""Relative to the largest value or 1: a graph computes sums in another order (epsilon 1.2e-7)."""

HALF = 2e-2
"""Relative: float16 has 11 bits (epsilon 9.8e-4), and a step has a dozen consecutive products."""

WEIGHT = "h.0.mlp.c_fc.weight"


@pytest.fixture
def mindspore() -> Any:
    return pytest.importorskip("mindspore")


@pytest.fixture
def build(mindspore: Any) -> Callable[..., Engine]:
    def engine(config: Any, params: Any, *, eager: bool = False, dtype: Any = "auto", **settings: Any) -> Engine:
        hardware = DeviceConfig(backend="mindspore", device="cpu", eager=eager, dtype=dtype)
        return backends.get(config, params, hardware=hardware, **{"dropout": DropoutConfig(), **settings})

    return engine


# ---- compiled steps


@pytest.mark.parametrize(
    ("task", "rule", "lm_coef"),
    [("language model", "paper", 0.5), ("classification", "paper", 0.0), ("multiple-choice", "openai", 0.5)],
)
def test_a_compiled_step_is_the_one_of_single_operators(
    build: Callable[..., Engine], task: str, rule: str, lm_coef: float
) -> None:
    config, params, batch = longer_case(task, 12)
    openai = rule == "openai"
    settings = {"dropout": DROPOUTS[rule], "loss": LossConfig(lm_coef, "token", lm_over_positions=openai)}
    compiled, eager = (build(config, params, eager=eager, **settings) for eager in (False, True))
    for step in range(3):
        expected, found = (engine.train_step([batch], lr=1e-2, step=step).read() for engine in (eager, compiled))
        assert found == pytest.approx(expected, rel=FLOAT32)
        for name, moment in eager.optimizer_state().items():
            assert_close(compiled.optimizer_state()[name], moment, FLOAT32, name)
        compiled.load_parameters(eager.parameters())  # Adam amplifies the rounding noise of the key bias


def test_a_compiled_step_is_the_same_alone_as_after_others(build: Callable[..., Engine]) -> None:
    """Dropout, learning rate and bias correction of step 3 are inputs; the graph has no constants of earlier steps."""
    config, params, batch = longer_case("classification", 12)
    engine, other = build(config, params), build(config, params)
    losses = [engine.train_step([batch], lr=1e-2, step=step).read()["loss"] for step in range(3)]
    assert len(set(losses)) == 3
    other.load_parameters(engine.parameters())
    other.load_optimizer_state(engine.optimizer_state(), 3)
    results = [each.train_step([batch], lr=2e-2, step=3).read() for each in (engine, other)]
    assert results[0] == results[1]
    assert_identical(other.parameters(), engine.parameters())
    assert_identical(other.optimizer_state(), engine.optimizer_state())


def test_each_shape_of_batch_is_compiled_once_and_the_update_once(
    build: Callable[..., Engine], mindspore: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """For any number of targets, weights, rate and step; the message is printed once."""
    from mindspore.graph.api import ms_compile_cache

    config, params, batch = longer_case("classification", 12, examples=4)
    long, short = replace(batch, weights=None), shortest(batch)[0]
    engine, before = build(config, params), len(ms_compile_cache)
    for step in range(3):
        engine.train_step([long, short], lr=0.1 / (step + 1), step=step)
        engine.train_step([batch], lr=0.2, step=step)
        assert len(ms_compile_cache) - before == 3
    assert capsys.readouterr().err.count("compiled") == 1


def test_inference_is_compiled_where_many_batches_of_a_shape_are_scored(
    build: Callable[..., Engine], mindspore: Any
) -> None:
    """That depends on the data only: earlier calls do not change a bit of later results."""
    from mindspore.graph.api import ms_compile_cache

    config, params, batch = longer_case("classification", 12)
    many = replace(batch, batches_of_this_shape=1_000)
    engine, before = build(config, params), len(ms_compile_cache)
    first = engine.logits(batch)
    assert len(ms_compile_cache) == before
    found = engine.logits(many)
    np.testing.assert_array_equal(engine.logits(many), found)
    assert len(ms_compile_cache) == before + 1
    np.testing.assert_array_equal(engine.logits(batch), first)
    np.testing.assert_allclose(found, first, rtol=FLOAT32, atol=FLOAT32)


def test_operator_by_operator_compiles_nothing(build: Callable[..., Engine], mindspore: Any) -> None:
    from mindspore.graph.api import ms_compile_cache

    config, params, batch = longer_case("classification", 12)
    engine, before = build(config, params, eager=True), len(ms_compile_cache)
    engine.train_step([batch], lr=0.1, step=0)
    assert len(ms_compile_cache) == before


# ---- float16 products with a scaled loss


def test_twenty_steps_in_float16_follow_float32(build: Callable[..., Engine]) -> None:
    """Compiled, with static shapes and loss scaling."""
    config, params, batch = longer_case("classification", 12)
    half, single = (build(config, params, dtype=dtype) for dtype in ("float16", "float32"))
    assert (half.dtype, single.dtype) == ("float16", "float32")
    losses = [
        [engine.train_step([batch], lr=1e-2, step=step).read()["loss"] for step in range(20)]
        for engine in (half, single)
    ]
    np.testing.assert_allclose(*losses, rtol=HALF)
    assert losses[0][-1] < losses[0][0]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(half.logits(batch), single.logits(batch), atol=HALF)


def test_a_step_that_overflows_is_computed_again_with_a_smaller_scale(
    build: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpt1.backends.mindspore import engine as module

    config, params, batch = longer_case("classification", 12)
    found = []
    for scales in ((2.0**40, 2.0**6), (2.0**6,)):
        monkeypatch.setattr(module, "LOSS_SCALES", scales)
        engine = build(config, params, dtype="float16")
        found.append((engine.train_step([batch], lr=1e-2, step=0).read(), engine.parameters()))
    assert found[0][0] == found[1][0]
    assert_identical(found[0][1], found[1][1])


def test_small_gradients_survive_in_float16(build: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients below 6e-8 are 0 in float16; scaling the loss down shows that the scale has an effect."""
    from gpt1.backends.mindspore import engine as module

    config, params, batch = longer_case("classification", 12)
    exact = build(config, params).gradients([batch])[1]
    engine = build(config, params, dtype="float16")

    def error() -> float:
        found = engine.gradients([batch])[1]
        return float(np.linalg.norm(found[WEIGHT] - exact[WEIGHT]) / np.linalg.norm(exact[WEIGHT]))

    scaled = error()
    monkeypatch.setattr(module, "LOSS_SCALES", (2.0**-14,))
    assert scaled < HALF < error()


# ---- the device


def test_engines_follow_whatever_mindspore_did_before_in_the_process(mindspore: Any) -> None:
    """MindSpore rejects setting its device after the first operator, even if it is the same device."""
    if mindspore.hal.is_available("Ascend"):
        pytest.skip("Ascend is here")
    program = """
import mindspore
from gpt1.backends.mindspore import device
from gpt1.config import DeviceConfig
mindspore.ops.ones(3).asnumpy()
print(*(device.choose(DeviceConfig(backend="mindspore", device=name))[0] for name in ("cpu", "auto", "cpu")))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout.split()) == (0, ["cpu"] * 3), found.stderr


@pytest.mark.parametrize(
    ("used", "asked", "said"),
    [
        (("CPU", 0), "ascend", "--device ascend: this process has used CPU, "),
        (("Ascend", 0), "ascend:1", "--device ascend:1: this process has used ascend:0, "),
        (("Ascend", 1), "ascend:1", ""),
    ],
)
def test_another_device_than_the_process_computes_on_is_refused(
    mindspore: Any, monkeypatch: pytest.MonkeyPatch, used: tuple[str, int], asked: str, said: str
) -> None:
    from gpt1.backends.mindspore import device

    def refuse(*target: Any) -> None:
        raise RuntimeError("The runtime has been initialized")

    current = SimpleNamespace(device_target=used[0], device_id=used[1])
    monkeypatch.setattr(mindspore, "get_current_device", lambda: current)
    monkeypatch.setattr(mindspore, "set_device", refuse)
    monkeypatch.setattr(device, "has_ascend", lambda: True)
    monkeypatch.setattr(device, "ascend_count", lambda: 2)
    monkeypatch.setattr(device, "ascend_card", lambda number: "Ascend910B2")
    hardware = DeviceConfig(backend="mindspore", device=asked)
    if said:
        with pytest.raises(UserError, match=said + "and MindSpore cannot change the device; use a new process"):
            device.choose(hardware)
    else:
        assert device.choose(hardware).device == "ascend (Ascend910B2)"


# ---- bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "cuda"}, "--device cuda: needs --backend torch"),
        ({"device": "ascend"}, "--device ascend: MindSpore finds no Ascend device"),
        ({"compile": True}, "--compile: for --backend torch"),
        ({"dtype": "bfloat16"}, "--dtype bfloat16: MindSpore does not support it on cpu; use --dtype float32"),
    ],
)
def test_what_mindspore_cannot_do_is_refused_with_the_flag(
    mindspore: Any, settings: dict[str, Any], message: str
) -> None:
    if settings.get("device") == "ascend" and mindspore.hal.is_available("Ascend"):
        pytest.skip("Ascend is here")
    config, params, _ = longer_case("classification", 2)
    with pytest.raises(UserError, match=message):
        backends.get(config, params, hardware=DeviceConfig(backend="mindspore", **settings))


def test_numpy_2_is_named_before_mindspore_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """MindSpore can be imported with NumPy 2, but fails at the first reshape."""
    monkeypatch.setattr(backends, "installed", lambda: ["mindspore"])
    monkeypatch.setattr(np, "__version__", "2.1.3")
    for name in ("mindspore", "auto"):
        with pytest.raises(UserError, match=r"NumPy 2.1.3 found, MindSpore needs 1.26; run: pip install 'numpy<2'"):
            backends.chosen(DeviceConfig(backend=name))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "framework"), backends.NAMES.items())
def test_a_framework_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, name: Any, framework: str) -> None:
    monkeypatch.setattr(backends, "installed", list)
    with pytest.raises(UserError, match=rf"--backend {name}: {framework} is not installed; run: pip install"):
        backends.chosen(DeviceConfig(backend=name))


def test_eager_is_refused_with_pytorch() -> None:
    pytest.importorskip("torch")
    config, params, _ = longer_case("classification", 2)
    with pytest.raises(UserError, match="--eager: for --backend mindspore"):
        backends.get(config, params, hardware=DeviceConfig(backend="torch", eager=True))


def test_doctor_describes_the_machine(mindspore: Any) -> None:
    found = backends.describe("mindspore")
    assert found["version"] == mindspore.__version__
    assert found["devices"][0]["gflops"]["float32"] > 0


def test_doctor_says_what_is_wrong_with_numpy_2(
    mindspore: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gpt1.api import doctor

    monkeypatch.setattr(backends, "installed", lambda: ["mindspore"])
    monkeypatch.setattr(np, "__version__", "2.1.3")
    assert doctor()["backends"] == {}
    assert "mindspore: NumPy 2.1.3 found, MindSpore needs 1.26; run: pip install 'numpy<2'" in capsys.readouterr().err


def test_a_dtype_that_is_not_to_be_had_is_refused_before_the_data_are_read(mindspore: Any, tmp_path: Any) -> None:
    """Encoding a corpus, which comes first, may take hours."""
    from gpt1.config import FinetuneConfig, PretrainConfig
    from gpt1.training.finetune import finetune
    from gpt1.training.pretrain import pretrain

    hardware = DeviceConfig(backend="mindspore", device="cpu", dtype="bfloat16")
    out, nowhere = tmp_path / "run", tmp_path / "nowhere"
    for command, config in (
        (finetune, FinetuneConfig(data=str(nowhere), out=out, hardware=hardware)),
        (pretrain, PretrainConfig(corpus=(nowhere,), size="tiny", out=out, hardware=hardware)),
    ):
        with pytest.raises(UserError, match="--dtype bfloat16: MindSpore does not support it on cpu"):
            command(config)  # type: ignore[operator]
    assert not out.exists()
