"""Inference is float32 unless --dtype is set, and does not depend on the batch. Run: pytest tests/test_precision.py

The tests simulate a CPU with fast bfloat16, where `--dtype auto` of training is bfloat16.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import gpt1
from gpt1.backends.parameters import initialise
from gpt1.checkpoint.loading import open_model
from gpt1.checkpoint.model_dir import Model, save_model
from gpt1.cli import main
from gpt1.config import DeviceConfig, Head, ModelConfig, ServeConfig, ZeroShotConfig
from gpt1.data.example import Example
from gpt1.evaluation.zero_shot import ZeroShot
from gpt1.inference.classifier import Classifier
from gpt1.inference.generator import TextGenerator
from gpt1.inference.scorer import Scorer
from gpt1.serve.service import Service
from gpt1.system.files import read_json
from gpt1.tokenization.trainer import train

FIVE_DECIMALS = 5e-6
"""Maximum difference of probabilities that agree in five decimals (float32 sums in another order: 1e-7)."""

TEXT = "a warm and funny story"
LONG = "the old house stood on the hill where the sun rises in the east "
BESIDE = [LONG * repeats for repeats in (1, 2, 3, 4)]
TORCH = ("--backend", "torch", "--device", "cpu")
ON_CPU = DeviceConfig(backend="torch", device="cpu")


def computes_bfloat16_fast(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    """Simulate a CPU with or without fast bfloat16 products."""
    from gpt1.backends.torch.device import TRAITS

    monkeypatch.setitem(
        TRAITS, "cpu", replace(TRAITS["cpu"], training_dtype=lambda device: "bfloat16" if fast else "float32")
    )


@pytest.fixture(autouse=True)
def _fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    computes_bfloat16_fast(monkeypatch, True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a classifier with random weights, so large that rounding to bfloat16 depends on the batch."""
    tokenizer = train([TEXT, LONG] * 4, 90)
    config = ModelConfig(2, 2, 64, 128, tokenizer.vocab_size, head=Head("classification", 2))
    stream = np.random.default_rng(0)
    params = {
        name: value + stream.normal(0, 0.05, value.shape).astype(np.float32)
        for name, value in initialise(config, 0).items()
    }
    save_model(
        folder := tmp_path_factory.mktemp("precision") / "model", Model(config, params, tokenizer, ("bad", "good"), 128)
    )
    return folder


def rows_file(folder: Path, texts: list[str]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": "bad" if i % 2 else "good"}) + "\n"
                            for i, text in enumerate(texts)))  # fmt: skip
    return path


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict[str, Any]]:
    """Return the JSON list that a command prints."""
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    found = [json.loads(line) for line in out.splitlines()]
    return found[0] if len(found) == 1 and isinstance(found[0], list) else found


def served(model: Path, texts: list[str]) -> list[dict[str, Any]]:
    async def classify() -> list[dict[str, Any]]:
        service = Service.open(model, ServeConfig(), ON_CPU)
        service.worker.start()
        try:
            answer = await service.classify([Example((text,)) for text in texts])
        finally:
            service.worker.stop()
        return list(answer["data"])

    return asyncio.run(classify())


def test_a_probability_is_the_same_wherever_it_is_asked_for(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_file(tmp_path, [*BESIDE, TEXT])
    estimator = gpt1.GPT1Classifier.load(model, backend="torch", device="cpu")
    python = {"backend": "torch", "device": "cpu"}
    answers = {
        "alone": printed(capsys, "predict", model, TEXT, *TORCH)[-1],
        "in a batch": printed(capsys, "predict", model, *BESIDE, TEXT, *TORCH)[-1],
        "--input": printed(capsys, "predict", model, "--input", rows, *TORCH)[-1],
        "served": served(model, [TEXT])[-1],
        "served in a batch": served(model, [*BESIDE, TEXT])[-1],
        "gpt1.predict": gpt1.predict(model, [TEXT], **python)[-1],
        "gpt1.load": gpt1.load(model, **python).predict([*BESIDE, TEXT])[-1],
        "estimator": {"scores": dict(zip(["bad", "good"], estimator.predict_proba([*BESIDE, TEXT])[-1], strict=True))},
    }
    expected = answers["alone"]["scores"]
    for place, answer in answers.items():
        assert answer["scores"] == pytest.approx(expected, abs=FIVE_DECIMALS), place
    rounded = gpt1.predict(model, [*BESIDE, TEXT], dtype="bfloat16", **python)[-1]
    assert abs(rounded["scores"]["good"] - expected["good"]) > FIVE_DECIMALS, "else this test would see nothing"


def test_whatever_answers_does_so_in_float32_unless_a_dtype_is_set(model: Path) -> None:
    for hardware, dtype in ((ON_CPU, "float32"), (DeviceConfig("torch", "cpu", "bfloat16"), "bfloat16")):
        engines = [
            Classifier.open(model, hardware).engine,
            Scorer.open(model, hardware).engine,
            TextGenerator.open(model, hardware).engine,
            Service.open(model, ServeConfig(), hardware).engine,
            ZeroShot(open_model(model), ZeroShotConfig(), hardware).engine,
            gpt1.load(model, backend="torch", device="cpu", dtype=hardware.dtype).engine,
        ]
        assert [engine.dtype for engine in engines] == [dtype] * len(engines)


@pytest.mark.parametrize(("flags", "scored_in"), [((), "float32"), (("--dtype", "bfloat16"), "bfloat16")])
def test_evaluate_agrees_with_what_finetune_printed(
    flags: tuple[str, ...], scored_in: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training is in bfloat16 both times; its final evaluation is inference, in float32."""
    rows, run = rows_file(tmp_path, [*BESIDE, TEXT] * 8), tmp_path / "run"
    training = ("--batch-size", "8", "--epochs", "1", "--no-baseline", "--out", run)
    [finished] = printed(capsys, "finetune", "--data", rows, "--model", model, *training, *TORCH, *flags)
    assert read_json(run / "metrics.json") == finished
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert log[0]["dtype"] == "bfloat16"
    [again] = printed(capsys, "evaluate", run, "--data", rows, "--no-baseline", *TORCH)
    closeness = FIVE_DECIMALS if scored_in == "float32" else 0.05
    for name in ("loss", "accuracy"):
        assert again["test"][name] == pytest.approx(finished["test"][name], abs=closeness)
    assert (abs(again["test"]["loss"] - finished["test"]["loss"]) > FIVE_DECIMALS) == (scored_in == "bfloat16")


@pytest.mark.parametrize(
    ("fast", "flags", "said"),
    [
        (True, (), "float32; --dtype bfloat16 is 1.4 to 3 times as fast, with differences in the third decimal\n"),
        (True, ("--dtype", "float32"), "float32\n"),
        (True, ("--dtype", "bfloat16"), "bfloat16\n"),
        (False, (), "float32\n"),
    ],
)
def test_predicting_a_file_names_the_faster_dtype_where_there_is_one(
    fast: bool, flags: tuple[str, ...], said: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    computes_bfloat16_fast(monkeypatch, fast)
    assert main(["predict", str(model), "--input", str(rows_file(tmp_path, [TEXT])), *TORCH, *flags]) == 0
    err = capsys.readouterr().err
    assert f", {said}" in err and err.startswith("rows.jsonl: cpu")
