"""Pretraining: the order of windows, validation scores, and a killed run that is resumed bit for bit.

Run: pytest tests/test_pretrain.py
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import shlex
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt1 import backends, cli
from gpt1.backends.base import IGNORE
from gpt1.backends.parameters import initialise, shapes
from gpt1.checkpoint import event_log
from gpt1.checkpoint.model_dir import load_model
from gpt1.checkpoint.run_dir import RunDirectory
from gpt1.config import END_OF_DOCUMENT, SIZES, DropoutConfig, LoopConfig, ModelConfig, PretrainConfig
from gpt1.config.recipes import PRETRAINING, pretraining
from gpt1.data.corpus.prepare import Corpus, prepare, sources
from gpt1.data.corpus.windows import TrainingWindows, ValidationWindows
from gpt1.errors import UserError
from gpt1.system.files import read_json
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.tokenization.trainer import train as train_tokenizer
from gpt1.training.language_model import evaluate
from gpt1.training.pretrain import pretrain
from support.run_outcome import RunCommand, assert_same_outcome, outcome

ROUNDING = 1e-5
"""Relative: float32 log-probabilities, summed in another order."""


class Counting:
    """Fake corpus whose token ids are their positions."""

    def tokens(self, start: int, stop: int) -> NDArray[np.int32]:
        assert 0 <= start < stop
        return np.arange(start, stop, dtype=np.int32)


# ---- windows


def starts_of(windows: TrainingWindows, epoch: int) -> list[int]:
    steps = range(epoch * windows.steps_per_epoch, (epoch + 1) * windows.steps_per_epoch)
    return [int(row[0]) for step in steps for batch in windows.micro_batches(step) for row in batch.tokens]


@pytest.mark.parametrize("n_tokens", [9, 15, 16, 17, 100, 1_003])
def test_windows_of_an_epoch_stand_next_to_each_other_and_come_once(n_tokens: int) -> None:
    windows = TrainingWindows(Counting(), n_tokens, 8, LoopConfig(batch_size=4))
    offsets, orders = set(), set()
    for epoch in range(20):
        starts = starts_of(windows, epoch)
        assert len(starts) == windows.n_windows == max(1, n_tokens // 8 - 1)
        assert np.diff(sorted(starts)).tolist() == [8] * (len(starts) - 1)
        assert min(starts) >= 0
        assert max(starts) + 8 < n_tokens
        offsets.add(min(starts))
        orders.add(tuple(np.argsort(starts)))
    assert offsets <= set(range(8))
    if n_tokens == 1_003:
        assert len(offsets) > 4
        assert len(orders) == 20


def test_windows_are_a_function_of_seed_and_step() -> None:
    config = LoopConfig(batch_size=4, seed=3)
    first, second = (TrainingWindows(Counting(), 1_000, 8, config) for _ in range(2))
    others = TrainingWindows(Counting(), 1_000, 8, replace(config, seed=4))
    for step in (77, 0, 31, 30):  # in any order
        (a,), (b,), (other,) = (source.micro_batches(step) for source in (first, second, others))
        assert np.array_equal(a.tokens, b.tokens)
        assert not np.array_equal(a.tokens, other.tokens)


def test_every_position_predicts_the_token_after_it() -> None:
    windows = TrainingWindows(Counting(), 1_000, 8, LoopConfig(batch_size=4, micro_batch_size=3))
    batches = windows.micro_batches(5)
    assert [batch.tokens.shape for batch in batches] == [(3, 8), (1, 8)]
    for batch in batches:
        assert batch.lm_targets is not None
        assert np.array_equal(batch.lm_targets, batch.tokens + 1)
        assert batch.eos_positions.tolist() == [7] * len(batch.tokens)
    by_tokens = TrainingWindows(Counting(), 1_000, 8, LoopConfig(batch_size=4, micro_batch_tokens=17))
    assert [len(batch.tokens) for batch in by_tokens.micro_batches(5)] == [2, 2]


def test_text_shorter_than_a_window_is_refused() -> None:
    TrainingWindows(Counting(), 9, 8, LoopConfig())
    with pytest.raises(UserError, match=r"--corpus: 8 training tokens, a window needs 9; .* smaller --context"):
        TrainingWindows(Counting(), 8, 8, LoopConfig())


@pytest.mark.parametrize("stop", [12, 18, 19, 42])
def test_validation_predicts_every_token_but_the_first_once(stop: int) -> None:
    windows = ValidationWindows(Counting(), 10, stop, 8, pad=99)
    seen = []
    for batch in windows.batches(tokens_at_once=16):
        assert batch.lm_targets is not None
        real = batch.lm_targets != IGNORE
        assert np.array_equal(batch.lm_targets[real], batch.tokens[real] + 1)
        assert (batch.tokens[~real] == 99).all()
        seen += batch.lm_targets[real].tolist()
    assert seen == list(range(11, stop))


def test_part_of_the_validation_text_is_spread_over_all_of_it() -> None:
    windows = ValidationWindows(Counting(), 0, 801, 8, pad=0)
    (batch,) = windows.batches(1_024, most=3)
    assert batch.tokens[:, 0].tolist() == [0, 8 * round(99 / 2), 8 * 99]


# ---- a run

STEPS = 30
FLAGS = [
    "--size", "tiny", "--vocab-size", "90", "--context", "16", "--epochs", "1", "--max-steps", str(STEPS), "--warmup",
    "5", "--batch-size", "4", "--micro-batch-size", "3", "--lr", "0.003", "--eval-every", "6", "--save-every", "3",
    "--log-every", "2", "--valid-fraction", "0.1", "--valid-windows", "7", "--json",
]  # fmt: skip
WORDS = ["the", "fox", "ran", "over", "a", "hill", "and", "hen", "sat", "still", "by", "its", "warm", "red", "nest"]


def write_texts(folder: Path) -> Path:
    draw = random.Random(0)
    folder.mkdir(parents=True)
    for name in ("one", "two"):
        books = ("\n".join(" ".join(draw.choices(WORDS, k=9)) + "." for _ in range(150)) for _ in range(2))
        (folder / f"{name}.txt").write_text("\n<|endofbook|>\n".join(books), encoding="utf-8")
    return folder


@dataclass
class Command(RunCommand):
    """A `gpt1 pretrain` command on some texts, with its own run directory."""

    texts: Path
    out: Path

    def __post_init__(self) -> None:
        words = ["pretrain", "--corpus", self.texts, "--out", self.out, "--dtype", "float32", *FLAGS]
        self.argv = list(map(str, words))
        self.run = RunDirectory(self.out)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Command, Any]:
    """An uninterrupted run and its results."""
    if not backends.installed():
        pytest.skip("no framework is installed")
    folder = tmp_path_factory.mktemp("finished")
    command = Command(write_texts(folder / "texts"), folder / "run")
    return command, command.here()


@pytest.mark.parametrize("kill", range(2))
def test_killed_run_goes_on_bit_for_bit(kill: int, finished: tuple[Command, Any], tmp_path: Path) -> None:
    """Killed at a random moment, which the failure message contains."""
    uninterrupted, results = finished
    command = Command(uninterrupted.texts, tmp_path / "run")
    step, pause = random.randint(2, STEPS - 10), random.uniform(0.0, 0.02)
    process = command.process()
    command.wait_for_step(process, step)
    time.sleep(pause)
    process.kill()
    process.communicate()
    checkpoints = [path.name for path in command.run.checkpoints.paths()]
    print(f"killed {pause:.4f} s after step {step} was logged; checkpoints: {checkpoints}")
    assert not command.run.finished
    assert command.here() == results
    assert [f"step-{step}" for step in command.resumed()] == checkpoints[:1]
    assert_same_outcome(outcome(command.run), outcome(uninterrupted.run))


def test_a_run_leaves_a_language_model_that_learned(finished: tuple[Command, Any]) -> None:
    command, results = finished
    evaluations = [event for event in event_log.read(command.run.log.path) if event["event"] == "evaluate"]
    assert [event["step"] for event in evaluations] == [6, 12, 18, 24, 30]
    assert {"loss", "perplexity", "bits_per_byte"} <= evaluations[0].keys()
    assert evaluations[-1]["bits_per_byte"] < evaluations[0]["bits_per_byte"]
    model = load_model(command.run.model)
    assert model.config == replace(SIZES["tiny"], vocab_size=model.tokenizer.vocab_size)
    assert model.max_length == 16
    assert model.provenance["tokens"] == 64 * results["training"]["best_step"]
    assert results["training"]["steps"] == STEPS
    assert command.run.curves.exists()


def test_bits_per_byte_are_those_of_the_text_at_the_end(finished: tuple[Command, Any]) -> None:
    """Compare with scoring token by token, with the same contexts and no batching."""
    command, results = finished
    model = load_model(command.run.model)
    corpus = Corpus.open(command.run.corpus / "train", model.tokenizer)
    rows = corpus.chunk_index()
    start, first_byte, _ = min(rows[1:], key=lambda row: abs(row[0] - 0.9 * len(corpus)))
    ids = corpus.tokens(int(start), len(corpus))
    engine = backends.get(model.config, model.params, hardware=PretrainConfig().hardware)
    total = 0.0
    for begin in range(0, len(ids) - 1, 16):
        window = ids[begin : begin + 17]
        (batch,) = ValidationWindows(_Given(window), 0, len(window), 16, 0).batches(16)
        total -= float(engine.token_logprobs(batch).sum())
    n_bytes = corpus.manifest["bytes"] - int(first_byte)
    assert results["valid"]["tokens"] == len(ids) - 1
    assert results["valid"]["bytes"] == n_bytes
    tolerance = 0.02 if engine.dtype == "bfloat16" else ROUNDING
    assert results["valid"]["loss"] == pytest.approx(total / (len(ids) - 1), rel=tolerance)
    assert results["valid"]["bits_per_byte"] == pytest.approx(total / math.log(2) / n_bytes, rel=tolerance)
    assert results["valid"]["perplexity"] == pytest.approx(math.exp(results["valid"]["loss"]))


class _Given:
    def __init__(self, ids: NDArray[np.int32]):
        self.ids = ids

    def tokens(self, start: int, stop: int) -> NDArray[np.int32]:
        return self.ids[start:stop]


def test_the_text_that_validates_is_not_trained_on(
    finished: tuple[Command, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command, _ = finished
    seen: list[int] = []
    real = TrainingWindows.__init__

    def watched(self: TrainingWindows, corpus: Any, n_tokens: int, *rest: Any) -> None:
        seen.append(n_tokens)
        real(self, corpus, n_tokens, *rest)

    monkeypatch.setattr(TrainingWindows, "__init__", watched)
    results = Command(command.texts, tmp_path / "tail").here("--max-steps", "1")
    whole = read_json(tmp_path / "tail" / "corpus" / "train" / "manifest.json")["tokens"]
    assert seen == [whole - results["valid"]["tokens"] - 1]
    given = tmp_path / "valid.txt"
    given.write_text("the fox sat by its nest.\n" * 9, encoding="utf-8")
    other = Command(command.texts, tmp_path / "given")
    bpe = tmp_path / "tail" / "tokenizer"
    at = other.argv.index("--vocab-size")
    other.argv[at : at + 2] = ["--tokenizer", str(bpe)]
    results = other.here("--max-steps", "1", "--valid", str(given))
    assert seen[1:] == [whole]
    assert results["valid"]["bytes"] == len(given.read_bytes())


def test_a_finished_run_is_not_trained_again(
    finished: tuple[Command, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, results = finished
    before = outcome(command.run)
    monkeypatch.setattr(backends, "get", lambda *_, **__: pytest.fail("an engine was asked for"))
    assert command.here() == results == read_json(command.run.metrics_path)
    assert_same_outcome(outcome(command.run), before)
    path = shlex.quote(str(command.run.path))
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"Next: gpt1 generate {path} PROMPT, or gpt1 finetune --model {path} --data FILE --out DIR"
    )
    assert cli.main([*command.argv, "--lr", "0.1"]) == 2


def test_training_goes_on_from_a_model_with_all_of_its_positions(finished: tuple[Command, Any], tmp_path: Path) -> None:
    command, first = finished
    config = PretrainConfig(
        corpus=(command.texts,), out=tmp_path / "on", model=str(command.run.path), context=32, valid_fraction=0.1,
        loop=LoopConfig(epochs=1, max_steps=3, batch_size=2),
    )  # fmt: skip
    results = pretrain(config)
    model = load_model(config.out / "model")
    assert model.max_length == 32
    assert model.provenance["before"]["pretrained from"] == "random:tiny"
    assert results["valid"]["loss"] < 1.2 * first["valid"]["loss"], "it did not start from the model"


def test_prepared_text_is_used_where_it_lies(finished: tuple[Command, Any], tmp_path: Path) -> None:
    command, _ = finished
    prepared = command.run.corpus / "train"
    config = PretrainConfig(
        corpus=(prepared,), out=tmp_path / "run", size="tiny", tokenizer=command.run.tokenizer, context=16,
        valid_fraction=0.1, loop=LoopConfig(max_steps=1, batch_size=2),
    )  # fmt: skip
    pretrain(config)
    assert not (tmp_path / "run" / "corpus").exists()
    with pytest.raises(UserError, match=r"--tokenizer is missing: .* holds token ids"):
        pretrain(replace(config, out=tmp_path / "other", tokenizer=None))


def test_changed_text_is_refused_and_loses_nothing(
    finished: tuple[Command, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = write_texts(tmp_path / "texts")
    command = Command(texts, tmp_path / "run")
    config = ["--max-steps", "2"]
    command.here(*config)
    command.run.metrics_path.unlink()
    (texts / "one.txt").write_text("the hen sat still.\n" * 999, encoding="utf-8")
    assert cli.main([*command.argv, *config]) == 2
    assert "contains a different run (its train data differs" in capsys.readouterr().err


def test_a_finished_run_is_shown_for_its_own_text_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed file may have the same size and modification time."""
    command = Command(write_texts(tmp_path / "texts"), tmp_path / "run")
    steps = ["--max-steps", "2"]
    results = command.here(*steps)
    (tmp_path / "texts/three.txt").write_text("the hen sat still.\n", encoding="utf-8")
    assert cli.main([*command.argv, *steps]) == 2
    (tmp_path / "texts/three.txt").unlink()
    assert command.here(*steps) == results
    file = command.texts / "one.txt"
    state = file.stat()
    file.write_text(file.read_text(encoding="utf-8").replace("fox", "hen"), encoding="utf-8")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    capsys.readouterr()
    assert cli.main([*command.argv, *steps]) == 2
    assert capsys.readouterr().err == (
        f"gpt1: --corpus {command.texts}: has changed since the finished run in --out {command.out}; choose a new "
        "directory\n"
    )
    shutil.rmtree(command.run.corpus)
    assert command.here(*steps) == results
    assert "is missing, so --corpus was not compared with the text of the run" in capsys.readouterr().err


def test_a_finished_run_on_prepared_text_is_shown_for_its_tokens_alone(
    finished: tuple[Command, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = finished[0].run.tokenizer
    shutil.copytree(finished[0].run.corpus / "train", tmp_path / "prepared")
    config = PretrainConfig(
        corpus=(tmp_path / "prepared",), out=tmp_path / "run", size="tiny", tokenizer=tokenizer, context=16,
        valid_fraction=0.1, loop=LoopConfig(max_steps=1, batch_size=2),
    )  # fmt: skip
    assert pretrain(config) == pretrain(config)
    shutil.rmtree(tmp_path / "prepared")
    (tmp_path / "other.txt").write_text("the hen sat still.\n" * 99, encoding="utf-8")
    texts = sources((tmp_path / "other.txt",))
    prepare(texts, Tokenizer.load(tokenizer), tmp_path / "prepared", end_of_document=END_OF_DOCUMENT)
    with pytest.raises(UserError, match=r"--corpus .*prepared: has changed since the finished run in --out .*run"):
        pretrain(config)


# ---- samples during training


def test_each_evaluation_shows_how_a_prompt_goes_on(
    finished: tuple[Command, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default prompt is validation text; other prompts, or none, do not change the run."""
    command, results = finished
    events = event_log.read(command.run.log.path)
    samples = [event for event in events if event["event"] == "sample"]
    assert [event["step"] for event in samples] == [event["step"] for event in events if event["event"] == "evaluate"]
    (prompt,) = {event["prompt"] for event in samples}
    assert set(prompt.replace(".", "").split()) <= set(WORDS)
    for event in samples:
        assert event["text"]
        assert len(event["next"]) == 5
        assert 0 < sum(row["probability"] for row in event["next"]) <= 1
    silent = Command(command.texts, tmp_path / "silent")
    assert silent.here("--sample-tokens", "0") == results
    assert not any(event["event"] == "sample" for event in event_log.read(silent.run.log.path))
    assert_same_outcome(outcome(silent.run), outcome(command.run))
    silent.run.metrics_path.unlink()
    capsys.readouterr()
    assert silent.here("--sample-prompt", "a warm nest", "--sample-tokens", "3") == results


def test_the_overview_counts_the_epochs_that_training_reaches_and_notices_a_warm_up_without_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last batch of each epoch is not full: 3 steps of 64 windows are 3 epochs of fewer windows."""
    if not backends.installed():
        pytest.skip("no framework is installed")
    text = tmp_path / "text.txt"
    text.write_text(" ".join(random.Random(0).choices(WORDS, k=400)), encoding="utf-8")
    flags = ["--epochs", "3", "--size", "tiny", "--vocab-size", "80", "--context", "16", "--sample-tokens", "0"]
    words = ["pretrain", "--corpus", text, "--valid", text, "--out", tmp_path / "run", "--log-every", "1", *flags]
    assert cli.main([*map(str, words), "--dtype", "float32"]) == 0
    printed = capsys.readouterr().err
    assert "\n1 document, " in f"\n{printed}"
    assert "\n3 steps of 64 × 16 tokens: 3.00 epochs\n" in printed
    assert (
        "\n--warmup 2000: not shorter than the training of 3 steps, so the peak learning rate is never reached.\n"
    ) in printed
    logged = event_log.read(tmp_path / "run" / "log.jsonl")
    assert [event["epoch"] for event in logged if event["event"] == "train"] == [1, 2, 3]


# ---- settings


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "missing --corpus and --out; example: gpt1 pretrain --corpus books/"),
        (["--corpus", "texts"], "missing --out; example: gpt1 pretrain "),
        (["--corpus", "gone", "--out", "run"], "--corpus gone: no such file or folder"),
        (["--corpus", "texts", "--out", "run", "--size", "huge"], "--size huge: expected one of gpt1, mini, tiny"),
        (["--corpus", "texts", "--out", "run", "--recipe", "none"], "--recipe none: unknown; expected one of paper-"),
        (["--corpus", "texts", "--out", "run", "--context", "1"], "--context 1: expected 2 or more"),
        (["--corpus", "texts", "--out", "run", "--size", "tiny", "--vocab-size", "80", "--context", "513"],
         "--context 513: the model's context has 512 tokens"),
        (["--corpus", "texts", "--out", "run", "--valid-fraction", "1"], "--valid-fraction 1.0: expected a number in"),
        (["--corpus", "texts", "--out", "run", "--clf-pdrop", "0.5"], "--clf-pdrop 0.5: expected the default"),
        (["--corpus", "texts", "--out", "run", "--pad-to", "max"], "--pad-to max: expected the default"),
        (["--corpus", "texts", "--out", "run", "--model", "m", "--size", "tiny"], "--size tiny: only for a new model"),
        (["--corpus", "short.txt", "--out", "run", "--size", "tiny", "--vocab-size", "80"],
         "--corpus: 9 tokens are too few to split off a validation part"),
        (["--corpus", "short.txt", "--valid", "short.txt", "--out", "run", "--size", "tiny", "--vocab-size", "80"],
         "--corpus: 9 training tokens, a window needs 513"),
        (["--corpus", "unfinished", "--tokenizer", "texts", "--out", "run"], "the preparation was interrupted"),
        (["--corpus", "texts", "--out", "run", "--sample-tokens", "-1"], "--sample-tokens -1: expected 0 to 10,000"),
    ],
)  # fmt: skip
def test_what_cannot_be_pretrained_is_one_line_and_leaves_no_run(
    flags: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "texts")
    (tmp_path / "short.txt").write_text("a hen and a hen", encoding="utf-8")
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "one.index.bin").touch()
    train_tokenizer(["a hen and a hen"], 60).save(tmp_path / "texts")
    assert cli.main(["pretrain", *flags]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.match(rf"gpt1: .*{re.escape(message)}", last), last
    assert not (tmp_path / "run" / "config.json").exists()


def test_xavier_matrices_have_glorots_bounds_and_vectors_stay() -> None:
    config = ModelConfig(n_layer=1, n_head=2, n_embd=64, n_ctx=32, vocab_size=500)
    xavier, normal = (initialise(config, 0, init=init) for init in ("xavier", "normal"))  # type: ignore[arg-type]
    for name, shape in shapes(config).items():
        if len(shape) == 1:
            assert np.array_equal(xavier[name], normal[name])
            continue
        limit = math.sqrt(6.0 / sum(shape))
        assert np.abs(xavier[name]).max() <= limit
        assert xavier[name].std() == pytest.approx(limit / math.sqrt(3), rel=0.05)


PAPER: dict[str, Any] = {
    "context": 512, "init": "normal", "optim.lr": 2.5e-4, "optim.schedule": "cosine", "optim.warmup": 2_000,
    "optim.beta1": 0.9, "optim.beta2": 0.999, "optim.weight_decay": 0.01, "optim.max_grad_norm": 1.0,
    "dropout.embd_pdrop": 0.1, "dropout.resid_pdrop": 0.1, "dropout.attn_pdrop": 0.1, "loop.epochs": 100,
    "loop.max_steps": None, "loop.batch_size": 64,
}  # fmt: skip
"""Radford et al. 2018, §4.1."""
COURSE: dict[str, Any] = PAPER | {
    "init": "xavier", "optim.schedule": "linear", "optim.beta2": 0.99, "loop.max_steps": 100_000,
    "loop.epochs": 100_000,
}  # fmt: skip
"""Differences in the MindSpore course."""


@pytest.mark.parametrize(("name", "expected"), [("paper-pretrain", PAPER), ("mindspore-pretrain", COURSE)])
def test_recipes_have_the_numbers_of_their_source(name: str, expected: dict[str, Any]) -> None:
    found = pretraining(name)
    for path, value in expected.items():
        part: Any = found
        for word in path.split("."):
            part = getattr(part, word)
        assert part == value, path
    assert SIZES[found.size or "gpt1"] == ModelConfig()


def test_the_defaults_are_the_papers_and_a_run_from_its_file_has_its_settings() -> None:
    assert PretrainConfig(context=512) == pretraining("paper-pretrain")
    for name in PRETRAINING:
        config = replace(pretraining(name), corpus=(Path("a"), Path("b")), dropout=DropoutConfig.none())
        written = json.loads(json.dumps(_plain(config), default=str))
        assert PretrainConfig.from_dict(written) == replace(config, out=Path())


def _plain(config: PretrainConfig) -> dict[str, Any]:
    from gpt1.checkpoint.run_dir import _plain as plain

    return plain(config)


def test_evaluation_of_part_of_the_windows_scales_to_all(finished: tuple[Command, Any]) -> None:
    command, _ = finished
    model = load_model(command.run.model)
    corpus = prepare(
        sources([command.texts]), model.tokenizer, command.run.corpus / "train", end_of_document="<|endofbook|>"
    )
    engine = backends.get(model.config, model.params)
    windows = ValidationWindows(corpus, 0, len(corpus), 16, model.tokenizer.pad)
    part, whole = (evaluate(engine, windows, corpus.manifest["bytes"], most) for most in (40, None))
    assert part["bits_per_byte"] / whole["bits_per_byte"] == pytest.approx(part["loss"] / whole["loss"])
    assert part["loss"] == pytest.approx(whole["loss"], rel=0.1)
