"""`--recipe openai-finetune` from data to predictions: messages, metadata, resuming.

Each of its settings has its own tests: see docs/fidelity.md. Run: pytest tests/test_openai_finetune.py
"""

from __future__ import annotations

import json
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt1 import backends
from gpt1.api import evaluate
from gpt1.checkpoint import event_log
from gpt1.checkpoint.run_dir import RunDirectory
from gpt1.checkpoint.train_state import Progress
from gpt1.config import DeviceConfig, FinetuneConfig
from gpt1.config.recipes import recipe
from gpt1.data.dataset import read_examples
from gpt1.errors import Interrupted
from gpt1.inference.classifier import Classifier
from gpt1.system.files import read_json
from gpt1.tasks import TASKS, encode
from gpt1.training.finetune import finetune

pytestmark = pytest.mark.skipif(not backends.installed(), reason="no framework is installed")

MAX_LENGTH = 20
"""8 tokens per part."""
WORDS = [
    "the",
    "a",
    "room",
    "film",
    "day",
    "was",
    "and",
    "it",
    "very",
    "so",
    "bright",
    "calm",
    "kind",
    "bleak",
    "cold",
    "harsh",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """45 training stories with two endings each: in batches of 8, four steps per epoch and four stories left over."""
    folder = tmp_path_factory.mktemp("stories")
    draw = random.Random(0)
    for split, size in (("train", 45), ("test", 6)):
        rows = [
            {
                "context": " ".join(draw.choices(WORDS, k=draw.randint(4, 20))),
                "choices": [" ".join(draw.choices(WORDS, k=draw.randint(2, 12))) for _ in range(2)],
                "label": number % 2,
            }
            for number in range(size)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def settings(data: Path, out: Path) -> FinetuneConfig:
    """The recipe, on a small model and in small batches."""
    config = recipe("openai-finetune")
    return replace(
        config, data=str(data), out=out, model="random:tiny", vocab_size=60, recipe="openai-finetune", baseline=False,
        loop=replace(config.loop, batch_size=8, micro_batch_size=3, log_every=1),
        split=replace(config.split, max_length=MAX_LENGTH), hardware=DeviceConfig(dtype="float32"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FinetuneConfig, RunDirectory, str]:
    """A run and its messages."""
    config = settings(data, tmp_path_factory.mktemp("run") / "run")
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("gpt1.console.say", lambda line="": said.append(line))
        finetune(config)
    return config, RunDirectory(config.out), "\n".join(said)


def test_a_run_says_what_it_does_otherwise(finished: tuple[FinetuneConfig, RunDirectory, str]) -> None:
    _, _, said = finished
    assert "valid: 9 of 45 rows drawn from train, as in OpenAI's split of ROCStories" in said
    assert "examples were truncated to 8 tokens per part." in said
    assert "--drop-last: each epoch skips 4 training examples (different ones each time)." in said
    [line] = [line for line in said.splitlines() if "transformers" in line]
    assert line.startswith("Differences when loaded with transformers: the head has a bias, score.bias")
    assert "; gpt1 truncates each part of a long input separately" in line


def test_the_schedule_counts_whole_batches_alone(finished: tuple[FinetuneConfig, RunDirectory, str]) -> None:
    _, run, _ = finished
    steps = [event["step"] for event in event_log.read(run.log.path) if event["event"] == "train"]
    assert steps == list(range(1, 13))


def test_a_model_directory_records_head_bias_and_truncation(finished: tuple[FinetuneConfig, RunDirectory, str]) -> None:
    _, run, _ = finished
    details = read_json(run.model / "gpt1.json")
    assert details["model"]["head"]["bias"] is True
    assert (details["cut"], details["max_length"], details["huggingface_exact"]) == ("half", MAX_LENGTH, False)


def test_predictions_cut_as_the_training_did(
    finished: tuple[FinetuneConfig, RunDirectory, str], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in `gpt1 evaluate`, which gives the scores of the run."""
    config, run, _ = finished
    model = Classifier.open(run.path, config.hardware)
    examples = read_examples(data / "test.jsonl")
    found = model.encode(examples)
    halved, whole = (
        encode(TASKS["multiple-choice"], examples, model.model.tokenizer, MAX_LENGTH, truncation=truncation)
        for truncation in ("half", "longest")
    )  # type: ignore[arg-type]
    assert [ids.tolist() for ids in found.sequences] == [ids.tolist() for ids in halved.sequences]
    assert found.sha256() != whole.sha256(), "the texts must be long enough for a difference"
    model.predict(examples)
    assert "were truncated to 8 tokens per part." in capsys.readouterr().err
    scored = evaluate(run.path, str(data), hardware=config.hardware, baseline=False)["test"]
    assert scored["loss"] == read_json(run.metrics_path)["test"]["loss"]


def test_a_stopped_run_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    """With dropout on the embedding matrix, a shared mask, a step-dependent update rule, and skipped examples."""

    def run(name: str, *, stop_at: int) -> dict[str, Any]:
        calls = 0

        def share(labels: Any, predictions: Any) -> float:
            nonlocal calls
            calls += 1
            if calls == stop_at:
                signal.raise_signal(signal.SIGINT)
            return float((labels == predictions).mean())

        config = settings(data, tmp_path / name)
        if stop_at:
            with pytest.raises(Interrupted):
                finetune(config, share)
        finetune(config, share)
        found = RunDirectory(config.out)
        tensors, progress = found.checkpoints.load_newest(print) or ({}, Progress())
        losses = {event["step"]: event["loss"] for event in event_log.read(found.log.path) if event["event"] == "train"}
        resumed = [event["step"] for event in event_log.read(found.log.path) if event["event"] == "resume"]
        return {"tensors": tensors, "step": progress.step, "losses": losses, "resumed": resumed}

    straight, stopped = run("straight", stop_at=0), run("stopped", stop_at=2)  # the first call is a check of the metric
    assert (straight["resumed"], stopped["resumed"]) == ([], [4])
    assert straight["step"] == stopped["step"] == 12
    assert straight["losses"] == stopped["losses"]
    assert straight["tensors"].keys() == stopped["tensors"].keys()
    for name, value in straight["tensors"].items():
        np.testing.assert_array_equal(value, stopped["tensors"][name], err_msg=name)
