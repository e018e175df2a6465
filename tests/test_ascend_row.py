"""The traits of Ascend, on a CPU; trial products; cards. Run: pytest tests/test_ascend_row.py"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mindspore")

import mindspore
from mindspore import Tensor, ops

from gpt1 import backends
from gpt1.backends.mindspore import device, functional
from gpt1.backends.mindspore import engine as engine_module
from gpt1.cli import main
from gpt1.config import DeviceConfig
from gpt1.errors import UserError
from support.comparisons import assert_close, assert_identical
from support.engines import DROPOUTS
from support.model_cases import longer_case

ROUNDING = 1e-5
"""Relative to the largest value or 1: float32 on both sides, sums in another order (epsilon 1.2e-7)."""

SIXTEEN_BITS = {"float16": 2e-2, "bfloat16": 1e-1}
"""Relative to the largest value or 1: a step has a dozen consecutive products (epsilon 9.8e-4 and 7.8e-3)."""

EPSILON = 1e-5

OLD, NEW = "Ascend910A", "Ascend910B2"


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return the simulated card of `--device ascend`, whose tensors are on the CPU; `name` can be set."""
    card = SimpleNamespace(name=NEW)
    monkeypatch.setattr(device, "ascend_card", lambda number: card.name)
    row = replace(device.TRAITS["ascend"], available=lambda: True, count=None, target="CPU")
    monkeypatch.setitem(device.TRAITS, "ascend", row)
    return card


def on(name: str, dtype: Any = "float32", eager: bool = True) -> DeviceConfig:
    return DeviceConfig(backend="mindspore", device=name, dtype=dtype, eager=eager)


def engine(name: str, case: Any, dtype: Any = "float32", eager: bool = True) -> Any:
    config, params, _ = case
    return backends.get(config, params, hardware=on(name, dtype, eager), dropout=DROPOUTS["paper"])


def change_row(monkeypatch: pytest.MonkeyPatch, **traits: Any) -> None:
    monkeypatch.setitem(device.TRAITS, "ascend", replace(device.TRAITS["ascend"], **traits))


# ---- what the row computes


@pytest.mark.parametrize("task", ["language model", "classification", "multiple-choice"])
def test_row_computes_what_the_row_of_a_cpu_does(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, sums by reductions, and the LM loss in slices of three positions."""
    case = longer_case(task, 12)
    config, _, batch = case
    change_row(monkeypatch, logits_at_once=3 * config.vocab_size)
    cpu, ascend = engine("cpu", case), engine("ascend", case)
    assert (ascend.device, list(ascend.buckets), ascend.tokens_at_once) == (
        "ascend (Ascend910B2)",
        [config.n_ctx],
        16_384,
    )
    (expected, gradients), (found, others) = (each.gradients([batch], step=3) for each in (cpu, ascend))
    assert found == pytest.approx(expected, rel=ROUNDING)
    for name, value in gradients.items():
        assert_close(others[name], value, ROUNDING, name)
    results = [each.train_step([batch], lr=1e-2, step=0).read() for each in (cpu, ascend)]
    assert results[1] == pytest.approx(results[0], rel=ROUNDING)
    for name, moment in cpu.optimizer_state().items():
        assert_close(ascend.optimizer_state()[name], moment, ROUNDING, name)
    if config.head:
        np.testing.assert_allclose(ascend.logits(batch), cpu.logits(batch), rtol=ROUNDING, atol=ROUNDING)


def test_sums_of_the_row_use_no_matrix_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of float32 matrices may be rounded to 11 bits there; sums of gradients must not be."""
    assert not device.TRAITS["ascend"].sums_by_products
    monkeypatch.setattr(ops, "MatMul", None)
    x, column, row = (Tensor(np.arange(1, n + 1, dtype=np.float32)) for n in (6, 2, 3))
    sums, x, column = functional.Sums(by_products=False), x.reshape(2, 3), column.reshape(2, 1)
    assert sums.of_columns(x).asnumpy().tolist() == [5, 7, 9]
    assert sums.of_rows(x, row).asnumpy().tolist() == [[14], [32]]
    assert sums.outer(column, row).asnumpy().tolist() == [[1, 2, 3], [2, 4, 6]]
    assert sums.of_squares((x, row)).asnumpy() == 91 + 14
    norm = functional.Normalise(EPSILON, sums)
    assert norm.bprop(x, row, row, x, x)[0].shape == (2, 3)


@pytest.mark.parametrize("by_products", [True, False])
def test_gradient_of_the_layer_norm_uses_only_the_first_output_of_the_kernel(by_products: bool) -> None:
    """The third is the reciprocal standard deviation by its documentation, and the variance on a CPU."""
    draw = np.random.default_rng(0).normal
    x, weight = 5 + 3 * draw(size=(7, 16)), draw(size=(7, 16))
    gain, bias = draw(size=16), draw(size=16)
    norm = functional.Normalise(EPSILON, functional.Sums(by_products))
    kernel, garbage = norm.norm, Tensor(np.full((7, 1), np.nan, np.float32))
    norm.norm = lambda *inputs: (kernel(*inputs)[0], garbage, garbage)

    def weighted(*inputs: Tensor) -> Tensor:
        return (norm(*inputs) * Tensor(weight, mindspore.float32)).sum()

    arrays = (Tensor(each, mindspore.float32) for each in (x, gain, bias))
    found = mindspore.grad(weighted, (0, 1, 2))(*arrays)
    rate = 1 / np.sqrt(x.var(1, keepdims=True) + EPSILON)
    normal, by_normal = (x - x.mean(1, keepdims=True)) * rate, weight * gain
    of_x = rate * (by_normal - by_normal.mean(1, keepdims=True) - normal * (by_normal * normal).mean(1, keepdims=True))
    for one, expected in zip(found, (of_x, (weight * normal).sum(0), weight.sum(0)), strict=True):
        assert_close(one.asnumpy(), expected, ROUNDING)


def test_compiled_step_of_the_row_is_the_one_of_single_operators() -> None:
    case = longer_case("classification", 12)
    compiled, single = (engine("ascend", case, "float16", eager) for eager in (False, True))
    expected, found = (each.train_step([case[2]], lr=1e-2, step=0).read() for each in (single, compiled))
    assert found == pytest.approx(expected, rel=ROUNDING)
    for name, moment in single.optimizer_state().items():
        assert_close(compiled.optimizer_state()[name], moment, SIXTEEN_BITS["float16"], name)


class Bfloat16Operators:
    """`mindspore.ops` with products of bfloat16 matrices, which have no kernel on a CPU."""

    def __getattr__(self, name: str) -> Any:
        operator = getattr(ops, name)
        if name not in ("MatMul", "BatchMatMul"):
            return operator

        def create(**flags: bool) -> Any:
            def product(a: Tensor, b: Tensor) -> Tensor:
                single = [ops.cast(each, mindspore.float32) for each in (a, b)]
                return ops.cast(operator(**flags)(*single), a.dtype)

            return product

        return create


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("task", ["language model", "classification"])
def test_row_trains_in_16_bits_close_to_float32(task: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case = longer_case(task, 12)
    expected = engine("cpu", case).gradients([case[2]])[1]
    if dtype == "bfloat16":
        monkeypatch.setattr(functional, "ops", Bfloat16Operators())
    found = engine("ascend", case, dtype)
    assert found.dtype == dtype
    gradients = found.gradients([case[2]])[1]
    for name, value in expected.items():
        assert_close(gradients[name], value, SIXTEEN_BITS[dtype], name)
    assert any((gradients[name] != value).any() for name, value in expected.items()), "else the products are float32"


def test_row_repeats_a_step_that_overflows_in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    case = longer_case("classification", 12)
    found = []
    for scales in ((2.0**40, 2.0**6), (2.0**6,)):
        monkeypatch.setattr(engine_module, "LOSS_SCALES", scales)
        ascend = engine("ascend", case, "float16")
        found.append((ascend.train_step([case[2]], lr=1e-2, step=0).read(), ascend.parameters()))
    assert found[0][0] == found[1][0]
    assert_identical(found[0][1], found[1][1])


# ---- trial products


def products_rounded(bits: int) -> Any:
    """Return an operator that rounds the factors of float32 products to `bits` significant bits."""

    def create(**flags: bool) -> Any:
        def rounded(x: Tensor) -> Tensor:
            mantissa, exponent = np.frexp(x.asnumpy())
            return Tensor(np.ldexp(np.round(mantissa * 2.0**bits) / 2.0**bits, exponent).astype(np.float32))

        return lambda a, b: ops.matmul(rounded(a), rounded(b))

    return create


def saturating_product(**flags: bool) -> Any:
    return lambda a, b: ops.clamp(ops.matmul(a, b), -65504, 65504)


def test_trials_recognise_rounded_and_saturating_products(monkeypatch: pytest.MonkeyPatch) -> None:
    keeps, overflows = device.keeps_float32.__wrapped__, device.overflows_to_infinity.__wrapped__
    assert keeps() and overflows()
    for bits in (8, 11):  # bfloat16; float16 and HF32
        monkeypatch.setattr(device, "ops", SimpleNamespace(MatMul=products_rounded(bits)))
        assert not keeps()
    monkeypatch.setattr(device, "ops", SimpleNamespace(MatMul=products_rounded(24)))
    assert keeps()
    monkeypatch.setattr(device, "ops", SimpleNamespace(MatMul=saturating_product))
    assert not overflows()


@pytest.mark.parametrize(
    ("name", "dtype", "said"),
    [
        (OLD, "float16", r"--dtype float16: ascend \(Ascend910A\) gives 65504 instead of infinity.*; use --device cpu"),
        (OLD, "auto", r"--dtype float16: ascend \(Ascend910A\) gives 65504 instead of infinity"),
        (NEW, "float16", r"--dtype float16: .* gives 65504 instead of infinity .*; use --dtype bfloat16"),
    ],
)
def test_training_in_float16_is_refused_where_an_overflow_cannot_be_detected(
    card: SimpleNamespace, name: str, dtype: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "overflows_to_infinity", lambda: False)
    card.name, case = name, longer_case("classification", 12)
    with pytest.raises(UserError, match=said):
        backends.check(on("ascend", dtype))
    if dtype == "float16":
        predicting = engine("ascend", case, dtype)
        assert np.isfinite(predicting.logits(case[2])).all()
        with pytest.raises(UserError, match=said):
            predicting.train_step([case[2]], lr=1e-2, step=0)


@pytest.mark.parametrize(("name", "instead"), [(OLD, "float16"), (NEW, "bfloat16")])
def test_float32_is_refused_where_its_products_are_rounded(
    card: SimpleNamespace, name: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before training with `auto`, whose scores are computed in float32 afterwards."""
    monkeypatch.setattr(device, "keeps_float32", lambda: False)
    card.name, case = name, longer_case("classification", 12)
    said = rf"--dtype float32 \(the default of inference\): ascend \({name}\) .*; use --dtype {instead}$"
    with pytest.raises(UserError, match=said):
        backends.for_answers(*case[:2], on("ascend", "auto"))
    for dtype in ("auto", "float32"):
        with pytest.raises(UserError, match=said):
            backends.check(on("ascend", dtype))
    backends.check(on("ascend", "float16"))


# ---- cards and devices


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((each, "bfloat16") for each in ("Ascend910B1", "Ascend910B4-1", "Ascend910_9392", "Ascend950PR_9589")),
        *((each, "float16") for each in ("Ascend910A", "Ascend910B", "Ascend910ProB", "Ascend310P3", "Ascend310B1")),
    ],
)
def test_auto_is_bfloat16_on_cards_that_have_it(card: SimpleNamespace, name: str, dtype: str) -> None:
    card.name = name
    assert backends.training_dtype(on("ascend", "auto")) == dtype
    if dtype == "float16":
        with pytest.raises(UserError, match=f"--dtype bfloat16: {name} does not have it; use --dtype float16"):
            device.choose(on("ascend", "bfloat16"))


def test_number_of_a_device_is_the_one_among_the_visible_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """CANN numbers the devices in ASCEND_RT_VISIBLE_DEVICES from 0; so does MindSpore."""
    change_row(monkeypatch, count=lambda: 2, target="Ascend")
    chosen: list[Any] = []
    monkeypatch.setattr(mindspore, "set_device", lambda *device: chosen.append(device))
    for name in ("ascend", "ascend:1"):
        device.choose(on(name))
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    for variable, value in {"RANK_ID": 1, "RANK_SIZE": 2, "DEVICE_ID": 1, "MS_WORKER_NUM": 2, "MS_NODE_ID": 1}.items():
        monkeypatch.setenv(variable, str(value))
    device.choose(on("ascend"))
    assert chosen == [("Ascend", 0), ("Ascend", 1), ("Ascend", 1)]


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "--device ascend:99: MindSpore finds no Ascend device; use --device cpu, and run gpt1 doctor"),
        (8, "--device ascend:99: MindSpore finds 8 Ascend devices; use ascend:0 to ascend:7, or --device cpu"),
    ],
)
def test_device_that_is_not_there_is_one_line_before_the_data_are_read(
    count: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change_row(monkeypatch, count=lambda: count, available=lambda: count > 0)
    flags = ("--backend", "mindspore", "--device", "ascend:99")
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n")  # invalid too, but read later
    assert main(["finetune", "--data", str(rows), "--out", str(tmp_path / "run"), *flags]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_doctor_measures_the_dtypes_of_the_card(card: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    card.name = OLD
    monkeypatch.setattr(device, "matmul_speed", lambda dtype: 1.0)
    [found] = backends.describe("mindspore")["devices"]
    assert found == {"name": "ascend (Ascend910A)", "auto_dtype": "float16", "gflops": {"float16": 1, "float32": 1}}
