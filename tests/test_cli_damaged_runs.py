"""Damaged or incomplete runs and model directories, as the commands report them.

Run: pytest tests/test_cli_damaged_runs.py
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt1.backends.parameters import initialise
from gpt1.checkpoint.model_dir import Model, load_model, save_model
from gpt1.config import ModelConfig
from support.command_line import assert_refused, done, gpt1
from support.sample_runs import QUICK

pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("in_world")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize(
    "words", [["predict", "{}", "fine"], ["score", "{}", "fine story"]], ids=lambda words: words[0]
)
def test_damaged_weights_of_a_run_are_replaced_by_its_checkpoint_and_it_is_said(
    run_copy: Path, damage: Callable[[Path], None], words: list[str]
) -> None:
    damage(run_copy / "model" / "model.safetensors")
    outcome = done(*(word.format(run_copy) for word in words))
    assert "model.safetensors: its sha256 is not the one in gpt1.json; the file is damaged or truncated" in outcome.err
    assert "Using the weights of the checkpoint at step 8 instead." in outcome.err
    assert outcome.out


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_damaged_model_directory_is_refused(run_copy: Path, damage: Callable[[Path], None], file: str) -> None:
    damage(run_copy / "model" / file)
    said = f"{file}: its sha256 is not the one in gpt1.json; the file is damaged or truncated"
    assert_refused(gpt1("predict", run_copy / "model", "fine"), said)
    words = [
        "finetune",
        "--data",
        "reviews.csv",
        "--out",
        run_copy.parent / "new",
        *QUICK,
        "--model",
        run_copy / "model",
    ]
    assert_refused(gpt1(*words), said, notices=True)


@pytest.mark.parametrize("file", ["model/gpt1.json", "config.json"])
def test_settings_that_are_cut_off_are_refused(run_copy: Path, file: str) -> None:
    (run_copy / file).write_text('{"format": 1, ')
    assert_refused(gpt1("evaluate", run_copy, "--data", "reviews.csv"), f"{file}: not JSON", notices=True)


def test_a_run_that_has_no_model_yet_says_how_it_goes_on(run_copy: Path) -> None:
    shutil.rmtree(run_copy / "model")
    for words in (
        ["predict", run_copy, "fine"],
        ["score", run_copy, "fine"],
        ["evaluate", run_copy, "--data", "reviews.csv"],
    ):
        assert_refused(
            gpt1(*words), "this run has no model yet; rerun the same gpt1 finetune command to resume it", notices=True
        )


@pytest.mark.parametrize("command", [["predict"], ["explain"], ["score"], ["evaluate", "--data", "reviews.csv"]])
def test_a_place_without_a_model_is_refused(command: list[str]) -> None:
    name, *flags = command
    texts = [] if flags else ["fine"]
    assert_refused(gpt1(name, "nowhere", *texts, *flags), "nowhere: no such directory; expected a run, a model")
    assert_refused(gpt1(name, "unseen", *texts, *flags), "unseen: not a model directory")


def test_a_language_model_without_a_task_is_refused_where_a_task_is_needed(tmp_path: Path) -> None:
    tokenizer = load_model(Path("run/model")).tokenizer
    shape = ModelConfig(n_layer=1, n_head=1, n_embd=8, n_ctx=16, vocab_size=tokenizer.vocab_size)
    save_model(tmp_path / "lm", Model(shape, initialise(shape, 0), tokenizer))
    assert_refused(gpt1("predict", tmp_path / "lm", "fine"), "is a language model without a task; fine-tune it first")
    assert done("score", tmp_path / "lm", "a fine story", "--json").json["perplexity"] > 1
