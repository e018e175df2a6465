"""Device traits: adding a device; the traits of every device, on a CPU. Run: pytest tests/test_device_traits.py"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gpt1 import api, backends
from gpt1.backends.base import Batch
from gpt1.backends.device_traits import choose_traits
from gpt1.backends.dropout import generator_seed
from gpt1.backends.parameters import Params, initialise
from gpt1.config import DeviceConfig, DropoutConfig, Head, ModelConfig
from gpt1.config.device import DEVICES
from gpt1.errors import UserError
from support.device_rows import on_cpu

CONFIG = ModelConfig(n_layer=2, n_head=2, n_embd=16, n_ctx=16, vocab_size=40, head=Head("classification", 2))
ROUNDING = 1e-5
"""Float32 on both sides; a fused kernel sums in another order."""


@pytest.fixture
def device() -> Any:
    pytest.importorskip("torch")
    from gpt1.backends.torch import device

    return device


def engine(device: str, p: float = 0.0) -> Any:
    hardware = DeviceConfig(backend="torch", device=device, dtype="float32")
    dropout = DropoutConfig(embd_pdrop=p, attn_pdrop=p, resid_pdrop=p, clf_pdrop=p)
    return backends.get(CONFIG, initialise(CONFIG, 0), hardware=hardware, dropout=dropout, seed=1)


def batch() -> Batch:
    tokens = np.random.default_rng(0).integers(0, 40, (4, 9)).astype(np.int32)
    ends = np.array([8, 8, 5, 3], np.int32)
    return Batch(tokens, ends, np.array([0, 1, 1, 0]), lm_targets=np.roll(tokens, -1, 1))


def gradients(device: str, p: float = 0.0, step: int = 0) -> Params:
    found: Params = engine(device, p).gradients([batch()], step=step)[1]
    return found


@pytest.mark.parametrize("name", ["cuda", "mps", "made-up"])
def test_row_of_an_accelerator_computes_on_a_cpu_what_the_cpu_row_does(
    device: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    row = device.TRAITS["cuda" if name == "made-up" else name]
    monkeypatch.setattr("gpt1.config.device.DEVICES", [*DEVICES, "made-up"])
    monkeypatch.setitem(device.TRAITS, name, replace(on_cpu(row), tokens_at_once=77))
    expected, found = engine("cpu"), engine(name)
    assert (found.device, found.tokens_at_once) == ("an accelerator's row on a CPU", 77)
    np.testing.assert_allclose(found.logits(batch()), expected.logits(batch()), atol=ROUNDING)
    np.testing.assert_allclose(found.token_logprobs(batch()), expected.token_logprobs(batch()), atol=ROUNDING)
    for key, value in gradients("cpu").items():
        np.testing.assert_allclose(gradients(name)[key], value, atol=ROUNDING, err_msg=key)
    prompt, length = batch().tokens[:2], np.array([9, 9])
    logits = [each.decoder(2, 16).prefill(prompt, length, [0, 1]) for each in (expected, found)]
    np.testing.assert_allclose(logits[1], logits[0], atol=ROUNDING)


def test_dropout_by_the_generator_of_the_device_is_a_function_of_seed_and_step(
    device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(device.TRAITS, "cuda", on_cpu(device.TRAITS["cuda"]))
    name = "h.0.attn.c_attn.weight"
    first, again, other = (gradients("cuda", 0.5, step)[name] for step in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_generator_seed_has_63_bits_and_depends_on_every_counter() -> None:
    """NumPy 1.26 raises TypeError if a uint64 is shifted by a Python integer."""
    seeds = [generator_seed(*counters) for counters in ((1, 2, 3), (1, 2, 4), (0, 2, 3), (3, 2, 1))]
    assert all(type(seed) is int and 0 <= seed < 1 << 63 for seed in seeds)
    assert len(set(seeds)) == 4
    assert seeds[0] == generator_seed(1, 2, 3)


def test_auto_takes_the_first_available_row(device: Any) -> None:
    cpu = device.TRAITS["cpu"]
    rows = {"absent": replace(cpu, available=lambda: False), "present": cpu, "cpu": cpu}
    assert choose_traits("auto", rows, "PyTorch") == ("present", None, cpu)


def test_number_of_a_device_is_its_own_or_that_of_the_process(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        "cuda": replace(device.TRAITS["cuda"], available=lambda: True, count=lambda: 2),
        "cpu": device.TRAITS["cpu"],
    }

    def chosen(name: str) -> tuple[str, int | None]:
        return choose_traits(name, rows, "PyTorch")[:2]

    assert (chosen("cuda"), chosen("cuda:0"), chosen("cuda:1")) == (("cuda", 0), ("cuda", 0), ("cuda", 1))
    assert (chosen("cpu"), chosen("cpu:0")) == (("cpu", None), ("cpu", None))
    started_by_torchrun(monkeypatch, rank=1, size=2)
    assert (chosen("auto"), chosen("cuda"), chosen("cpu")) == (("cuda", 1), ("cuda", 1), ("cpu", None))


def started_by_torchrun(monkeypatch: pytest.MonkeyPatch, rank: int, size: int) -> None:
    for name, value in {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank}.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        ("cuda:7", 1, "--device cuda:7: PyTorch finds 1 CUDA device; use cuda:0, or --device cpu"),
        ("cuda:7", 4, "--device cuda:7: PyTorch finds 4 CUDA devices; use cuda:0 to cuda:3, or --device cpu"),
        ("mps", 1, "--device mps: PyTorch finds no MPS device; use --device cpu"),
        ("mps:1", 1, "--device mps:1: PyTorch finds no MPS device; use --device cpu"),
        ("cpu:1", 1, "--device cpu:1: there is one CPU device; use --device cpu"),
        ("auto:1", 1, "--device auto:1: auto has no number; use --device auto, or a type, as in cuda:1"),
        ("ascend:99", 1, "--device ascend:99: needs --backend mindspore; PyTorch runs on cuda, mps or cpu"),
    ],
)
def test_device_that_is_not_there_is_refused_with_those_that_are(
    device: Any, monkeypatch: pytest.MonkeyPatch, name: str, count: int, said: str
) -> None:
    monkeypatch.setitem(device.TRAITS, "mps", replace(device.TRAITS["mps"], available=lambda: False))
    cuda = replace(device.TRAITS["cuda"], available=lambda: True, count=lambda: count)
    monkeypatch.setitem(device.TRAITS, "cuda", cuda)
    with pytest.raises(UserError) as refused:
        backends.check(DeviceConfig(backend="torch", device=name))
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tpu", "--device tpu: expected one of auto, cpu, cuda, mps, ascend"),
        ("gpu", "; did you mean cuda?"),
        ("cuda:", "--device cuda:: expected cuda or cuda:N, where N is a number, as in cuda:0"),
        ("cuda:x", "--device cuda:x: expected cuda or cuda:N"),
        ("cuda:-1", "--device cuda:-1: expected cuda or cuda:N"),
    ],
)
def test_name_that_is_no_device_is_refused(name: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        DeviceConfig(device=name)
    assert said in str(refused.value)


def test_one_device_is_not_shared_by_processes(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"cuda": replace(device.TRAITS["cuda"], available=lambda: True, count=lambda: 2)}
    started_by_torchrun(monkeypatch, rank=1, size=2)
    with pytest.raises(UserError, match="--device cuda:0: torchrun started 2 processes, each with a device of its own"):
        choose_traits("cuda:0", rows, "PyTorch")
    started_by_torchrun(monkeypatch, rank=2, size=3)
    with pytest.raises(UserError, match="torchrun started process 2 on a machine with 2 CUDA devices; start at most"):
        choose_traits("cuda", rows, "PyTorch")


# ---- dtypes and compilers


@pytest.fixture
def tesla(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA card without bfloat16 units."""
    torch = pytest.importorskip("torch")
    cuda = replace(device.TRAITS["cuda"], available=lambda: True, count=lambda: 1)
    monkeypatch.setitem(device.TRAITS, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")


@pytest.mark.usefixtures("tesla")
def test_card_without_bfloat16_trains_in_float16(device: Any) -> None:
    hardware = DeviceConfig(backend="torch", device="cuda")
    assert backends.training_dtype(hardware) == "float16"
    with pytest.raises(UserError) as refused:
        backends.check(replace(hardware, dtype="bfloat16"))
    lacking = "Tesla T4 has compute capability 7.5; 8.0 or newer is required"
    assert str(refused.value) == f"--dtype bfloat16: {lacking}; use --dtype float32 or float16"


@pytest.mark.parametrize(("name", "dtype"), [("cpu", "float16")])
def test_dtype_that_a_device_lacks_is_refused_with_those_it_has(device: Any, name: str, dtype: Any) -> None:
    with pytest.raises(UserError, match="--dtype float16: not supported on --device cpu; use --dtype bfloat16 or floa"):
        backends.check(DeviceConfig(backend="torch", device=name, dtype=dtype))


def test_mps_trains_in_float32_unless_a_dtype_is_set(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast on MPS has float16, and bfloat16 from macOS 14 on."""
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(device.TRAITS, "mps", replace(device.TRAITS["mps"], available=lambda: True))
    hardware = DeviceConfig(backend="torch", device="mps")
    assert backends.training_dtype(hardware) == "float32"
    assert backends.training_dtype(replace(hardware, dtype="float16")) == "float16"
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: (major, minor) <= (13, 6))
    with pytest.raises(UserError, match="--dtype bfloat16: MPS supports it on macOS 14 or newer; use --dtype float32"):
        backends.check(replace(hardware, dtype="bfloat16"))


@pytest.mark.usefixtures("tesla")
def test_compile_without_a_compiler_is_refused(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "triton" else object())
    hardware = DeviceConfig(backend="torch", device="cuda", compile=True)
    with pytest.raises(UserError, match="--compile: Triton, which compiles for CUDA, is not installed; run without --"):
        device.choose(hardware, training=True)


def test_doctor_lists_devices_with_different_dtypes(
    device: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = replace(on_cpu(device.TRAITS["cuda"]), lacks_bfloat16=lambda device: "too old")
    monkeypatch.setitem(device.TRAITS, "cuda", row)
    monkeypatch.setattr(device, "matmul_speed", lambda device, dtype: {2: 16_000, 4: 32_000}[dtype.itemsize])
    monkeypatch.setattr(backends, "installed", lambda: ["torch"])
    facts = api.doctor()["backends"]["torch"]["devices"]
    assert [list(each["gflops"]) for each in facts] == [["float32", "bfloat16"], ["float32", "float16"]]
    said = [line.split() for line in capsys.readouterr().err.splitlines()]
    assert [words[-4:] for words in said if "accelerator's" in words] == [["float32", "32,000", "–", "16,000"]]
