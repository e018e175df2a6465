"""Fine-tuning in several processes equals fine-tuning in one. Run: pytest tests/test_dist_finetune.py"""

from __future__ import annotations

import json
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from gpt1 import backends, cli
from gpt1.backends.dist import SingleProcess
from gpt1.backends.parameters import initialise
from gpt1.checkpoint.run_dir import RunDirectory
from gpt1.config import DeviceConfig, Head, LoopConfig, ModelConfig
from gpt1.data.batching import Collator, EncodedExamples, TrainingBatches
from gpt1.inference.batched import task_logits
from gpt1.system.files import read_json
from support.launchers import PATIENCE, SAME, assert_same_run, call_two, dies_at_step, events

STEPS = 30
OTHER_MASKS = 1e-3
"""Relative: an adaptation has dropout, whose masks are drawn per micro-batch, and each process has one of half the
size; six steps at a small learning rate."""
FLAGS = [
    "--model", "random:tiny", "--vocab-size", "80", "--max-length", "24", "--batch-size", "8", "--micro-batch-size",
    "2", "--max-steps", str(STEPS), "--epochs", "20", "--lr", "0.003", "--embd-pdrop", "0", "--attn-pdrop", "0",
    "--resid-pdrop", "0", "--clf-pdrop", "0", "--eval-every", "10", "--save-every", "5", "--log-every", "1",
    "--test-fraction", "0.2", "--pad-to", "max", "--dtype", "float32", "--device", "cpu", "--no-baseline",
]  # fmt: skip


def batches(micro: int | None, rank: int = 0, n_ranks: int = 1) -> TrainingBatches:
    """Return the batches of 29 texts of 2 to 20 tokens, of which the longest do not fit into a micro-batch together."""
    sequences = [np.full(2 + 7 * number % 19, number, np.int32) for number in range(29)]
    config = LoopConfig(batch_size=8, micro_batch_size=micro, micro_batch_tokens=48)
    encoded = EncodedExamples(sequences, labels=np.zeros(29, np.int64))
    return TrainingBatches(encoded, config, Collator(99, 32), rank, n_ranks)


@pytest.mark.parametrize("n_ranks", [2, 3, 8])
@pytest.mark.parametrize("micro", [None, 1, 2])
def test_ranks_train_on_the_examples_of_one_process_each_once(n_ranks: int, micro: int | None) -> None:
    def examples(source: TrainingBatches, step: int) -> list[int]:
        return [int(first) for batch in source.micro_batches(step) for first in batch.tokens[:, 0]]

    alone, shared = batches(micro), [batches(micro, rank, n_ranks) for rank in range(n_ranks)]
    for step in range(2 * alone.steps_per_epoch):  # the last batch of an epoch has 5 examples
        found = [examples(each, step) for each in shared]
        assert sorted(chain(*found)) == sorted(examples(alone, step))
        if len(examples(alone, step)) == 8:
            assert all(found)
    if micro and micro * n_ranks <= 8:  # micro-batch i of one process is that of rank i % R, with its dropout
        parts = [batch.tokens.tolist() for batch in alone.micro_batches(0)]
        for rank, each in enumerate(shared):
            assert [batch.tokens.tolist() for batch in each.micro_batches(0)] == parts[rank::n_ranks]


class Recorded(SingleProcess):
    """One of two ranks, which records what it adds to a sum."""

    size = 2

    def __init__(self, rank: int):
        self.rank = rank
        self.added: list[float] = []

    def total(self, *values: float) -> list[float]:
        self.added = list(values)
        return self.added


def test_each_rank_scores_some_batches_and_the_sum_has_the_logits_of_all() -> None:
    pytest.importorskip("torch")
    config = ModelConfig(n_layer=1, n_head=2, n_embd=8, n_ctx=32, vocab_size=100, head=Head("classification", 2))
    hardware = DeviceConfig(backend="torch", device="cpu")
    engine = backends.get(config, initialise(config, 0), hardware=hardware)
    engine.tokens_at_once = 64
    source = batches(None)
    alone = task_logits(engine, source.encoded, source.collator)
    ranks = [Recorded(0), Recorded(1)]
    parts = [task_logits(engine, source.encoded, source.collator, ranks=rank) for rank in ranks]
    assert all(part.any() for part in parts)
    np.testing.assert_array_equal(np.add(ranks[0].added, ranks[1].added).reshape(alone.shape), alone)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of different lengths; 43 of 68 are trained on, so the last batch of an epoch has fewer than the others."""
    path = tmp_path_factory.mktemp("data") / "all.jsonl"
    words = (("bad", "cold", "dull"), ("good", "warm", "fine"))
    rows = [
        {"text": " ".join([words[n][i % 3]] * (1 + i % 5) + ["book", str(i)]), "label": n}
        for i in range(34)
        for n in (0, 1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def finetuning(backend: str, data: Path, out: Path) -> list[str]:
    return ["finetune", "--backend", backend, "--data", str(data), "--out", str(out), *FLAGS]


@pytest.fixture(scope="module")
def alone(backend: str, data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    out = tmp_path_factory.mktemp("alone") / "run"
    assert cli.main(finetuning(backend, data, out)) == 0
    return RunDirectory(out)


def test_losses_and_gradients_of_thirty_steps_in_two_processes_are_those_of_one(
    backend: str, data: Path, alone: RunDirectory, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path / "run")
    words = [*finetuning(backend, data, run.path), "--json"]
    done = call_two(backend, ["-m", "gpt1", *words], tmp_path / "logs")
    assert done.returncode == 0, done.said
    assert_same_run(run, alone)
    steps, expected = events(run, "train"), events(alone, "train")
    assert [event["step"] for event in steps] == list(range(1, STEPS + 1))
    for one, other in zip(steps, expected, strict=True):
        for name in ("loss", "task_loss", "lm_loss", "grad_norm"):
            assert one[name] == pytest.approx(other[name], rel=SAME)
    for split in ("valid", "test"):
        ours, theirs = (read_json(each.metrics_path)[split]["accuracy"] for each in (run, alone))
        assert ours == theirs
    assert run.report.exists()
    assert len(events(run, "start")) == 1  # only rank 0 writes
    assert done.said.count("Best model") == 1
    assert "2 × " in done.said
    assert "Micro-batches of at most 2 examples." in done.said
    (results,) = [json.loads(line) for line in done.said.splitlines() if line.startswith("{")]  # and only rank 0 prints
    assert results["test"]["accuracy"] == read_json(run.metrics_path)["test"]["accuracy"]
    again = call_two(backend, ["-m", "gpt1", *words[:-1]], tmp_path / "logs of a finished run")
    assert again.returncode == 0, again.said
    assert again.said.count("is already finished") == 1


def test_run_that_lost_a_process_ends_and_is_resumed_in_one(
    backend: str, data: Path, alone: RunDirectory, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path / "run")
    words = finetuning(backend, data, run.path)
    started = time.monotonic()
    done = call_two(backend, [str(dies_at_step(17, backend, tmp_path)), *words], tmp_path / "logs")
    assert time.monotonic() - started < PATIENCE
    assert done.returncode != 0
    if backend == "torch":  # msrun may kill the other one before it prints the error
        assert "gpt1: another process of this run has exited or cannot be reached" in done.said
    assert run.checkpoints.paths()[0].name == "step-15"
    assert not run.finished
    assert cli.main(words) == 0
    assert [event["step"] for event in events(run, "resume")] == [15]
    assert_same_run(run, alone)


def test_adaptation_in_two_processes_is_that_of_one(backend: str, data: Path, tmp_path: Path) -> None:
    runs = [RunDirectory(tmp_path / name) for name in ("alone", "shared")]
    flags = ["--adapt", "2", "--max-steps", "3"]
    assert cli.main([*finetuning(backend, data, runs[0].path), *flags]) == 0
    done = call_two(backend, ["-m", "gpt1", *finetuning(backend, data, runs[1].path), *flags], tmp_path / "logs")
    assert done.returncode == 0, done.said
    alone, shared = (read_json(run.metrics_path)["adaptation"] for run in runs)
    for name, tolerance in (("before", SAME), ("after", OTHER_MASKS)):
        assert shared["bits_per_byte"][name] == pytest.approx(alone["bits_per_byte"][name], rel=tolerance)
    assert {**shared, "bits_per_byte": 0, "seconds": 0} == {**alone, "bits_per_byte": 0, "seconds": 0}
    assert shared["bits_per_byte"]["after"] < shared["bits_per_byte"]["before"]
    assert done.said.count("Bits per byte on held-out texts") == 1
    folders = [next((run.path / "adapted").iterdir()) for run in runs]
    assert folders[0].name == folders[1].name
    assert sorted(path.name for path in folders[1].iterdir()) == sorted(path.name for path in folders[0].iterdir())
    assert len(events(RunDirectory(folders[1]), "evaluate")) == len(events(RunDirectory(folders[0]), "evaluate"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("finetune --seeds 3", "--seeds 3: torchrun started 9 processes, which share one run; use --seed instead"),
        (
            "finetune --batch-size 8",
            "--batch-size 8: fewer than the 9 processes that torchrun started; start at most 8",
        ),
        (
            "pretrain --batch-size 8",
            "--batch-size 8: fewer than the 9 processes that torchrun started; start at most 8",
        ),
        ("sweep", "torchrun started 9 processes; run gpt1 sweep as one process, without torchrun"),
    ],
)
def test_processes_that_would_have_no_work_are_refused_before_data_is_read(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "9", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    source = "--corpus" if "pretrain" in words else "--data"
    assert cli.main([*words.split(), source, str(tmp_path / "missing"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"gpt1: {said}")
    assert not (tmp_path / "out").exists()
