"""The bundled model: `mini` is accepted wherever a model or tokenizer is, and its files match its model card.

Run: pytest tests/test_mini.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import gpt1
from gpt1.backends.parameters import count, initialise
from gpt1.checkpoint import catalog
from gpt1.checkpoint.model_dir import Model, load_model, save_model
from gpt1.config import SIZES, ModelConfig, recipes
from gpt1.system.files import read_json
from gpt1.tokenization.trainer import train as train_tokenizer
from support.command_line import assert_refused, done
from support.command_line import gpt1 as run
from support.sample_runs import json_lines

MINI = catalog.BUNDLED_MODELS["mini"]
MOST_BYTES = 20_000_000
"""Maximum size of the folder, which is part of every installation."""

TEXTS = ("the sun rises in the east", "the old house stood on the hill", "a warm and funny story")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the bundled model by a small one; the test runs in an empty folder."""
    tokenizer = train_tokenizer(TEXTS * 4, 80)
    config = ModelConfig(n_layer=1, n_head=1, n_embd=16, n_ctx=32, vocab_size=tokenizer.vocab_size)
    save_model(tmp_path / "bundled", Model(config, initialise(config, 0), tokenizer, (), 32), dtype="bfloat16")
    monkeypatch.setitem(catalog.BUNDLED_MODELS, "mini", tmp_path / "bundled")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("rows.jsonl").write_text(json_lines(*({"text": TEXTS[i % 3], "label": f"{i % 2}"} for i in range(40))))
    Path("text.txt").write_text("\n".join(TEXTS * 40))
    return tmp_path / "bundled"


# ---- the name


@pytest.mark.parametrize(
    "words",
    [
        ["score", "mini", TEXTS[0]],
        ["next", "mini", "the sun"],
        ["generate", "mini", "the sun", "--max-tokens", "5"],
        ["tokenizer", "encode", "mini", TEXTS[0]],
        ["tokenizer", "decode", "mini", "5", "6"],
        ["evaluate", "mini", "--data", "rows.jsonl", "--zero-shot", "--heuristic", "sentiment"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_the_name_stands_for_the_folder_of_the_package(stand_in: Path, words: list[str]) -> None:
    found = done(*words, "--json").json
    assert found == done(*(stand_in if word == "mini" else word for word in words), "--json").json


def test_python_has_the_name_too(stand_in: Path) -> None:
    assert gpt1.tokenizer("mini").encode(TEXTS[0]) == gpt1.tokenizer(stand_in).encode(TEXTS[0])


def test_convert_takes_a_copy(stand_in: Path) -> None:
    done("convert", "mini", "copy", "--dtype", "bfloat16")
    names = {path.name for path in stand_in.iterdir()}
    assert {name: Path("copy", name).read_bytes() for name in names} == {
        name: (stand_in / name).read_bytes() for name in names
    }


FLAGS = ("--batch-size", "8", "--epochs", "1", "--dtype", "float32")


def test_training_starts_from_it_and_says_so(stand_in: Path) -> None:
    done("finetune", "--data", "rows.jsonl", "--model", "mini", "--out", "labels", *FLAGS, "--no-baseline")
    texts = ("--corpus", "text.txt", "--valid", "text.txt")
    done("pretrain", *texts, "--model", "mini", "--out", "writer", *FLAGS)
    given = load_model(stand_in)
    for name, said in (("labels", "fine-tuned from"), ("writer", "pretrained from")):
        found = load_model(Path(name, "model"))
        assert found.provenance[said] == "mini"
        assert found.tokenizer.encode(TEXTS[0]) == given.tokenizer.encode(TEXTS[0])
        moved = found.params["positions_embed.weight"] - given.params["positions_embed.weight"]
        assert 0 < abs(moved).max() < 0.01, "a few small steps from the given weights"


def test_its_tokenizer_serves_a_model_of_random_weights(stand_in: Path) -> None:
    """The architectures are identical, for a fair comparison."""
    tokenizer = ["--tokenizer", "mini"]
    model = ["--model", "random:tiny"]
    done("finetune", "--data", "rows.jsonl", *model, *tokenizer, "--out", "labels", *FLAGS, "--no-baseline")
    texts = ("--corpus", "text.txt", "--valid", "text.txt")
    done("pretrain", *texts, "--size", "tiny", *tokenizer, "--out", "writer", *FLAGS)
    done("prepare", "--corpus", "text.txt", *tokenizer, "--out", "tokens")
    given = load_model(stand_in).tokenizer
    for name in ("labels", "writer"):
        found = load_model(Path(name, "model"))
        assert found.config.vocab_size == given.vocab_size
        assert found.tokenizer.encode(TEXTS[1]) == given.encode(TEXTS[1])


def test_a_directory_of_that_name_goes_first(stand_in: Path) -> None:
    """As with `reviews`, an existing local directory takes precedence."""
    given = load_model(stand_in)
    save_model(Path("mini"), Model(given.config, initialise(given.config, 1), given.tokenizer, (), 32))
    own = done("score", Path("mini").resolve(), TEXTS[0], "--json").json
    assert done("score", "mini", TEXTS[0], "--json").json == own
    assert done("score", stand_in, TEXTS[0], "--json").json != own
    done("convert", "mini", "copy")
    assert Path("copy", "model.safetensors").read_bytes() == Path("mini", "model.safetensors").read_bytes()


def test_it_has_no_revisions_and_no_second_vocabulary(stand_in: Path) -> None:
    start = ["finetune", "--data", "rows.jsonl", "--out", "new", "--model", "mini"]
    assert_refused(run(*start[:-1], "mini@v1"), "--model mini@v1: mini is bundled with gpt1 and has no", notices=True)
    assert_refused(
        run("convert", "mini@v1", "new"), "mini@v1: mini is bundled with gpt1 and has no revisions; give mini"
    )
    for flag in (["--vocab-size", "90"], ["--tokenizer", "mini"]):
        assert_refused(run(*start, *flag), f"{' '.join(flag)}: mini has its own vocabulary", notices=True)


@pytest.mark.parametrize(
    "words",
    [
        ["score", "mini", "a text"],
        ["next", "mini"],
        ["generate", "mini"],
        ["convert", "mini", "new"],
        ["tokenizer", "encode", "mini", "a text"],
        ["pretrain", "--corpus", "text.txt", "--model", "mini", "--out", "new"],
        ["finetune", "--data", "rows.jsonl", "--recipe", "quickstart", "--out", "new"],
        ["finetune", "--data", "rows.jsonl", "--model", "random:tiny", "--tokenizer", "mini", "--out", "new"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_copy_of_gpt1_without_the_model_says_so_in_one_line(stand_in: Path, words: list[str]) -> None:
    (stand_in / "model.safetensors").unlink()
    said = "mini: this installation of gpt1 lacks the bundled model"
    assert_refused(run(*words), said, f"{stand_in / 'model.safetensors'} is missing", notices=True)
    assert not Path("new").exists()


@pytest.mark.parametrize("command", ["score", "generate", "next", "finetune", "pretrain", "prepare", "convert"])
def test_help_names_it(command: str) -> None:
    assert re.search(r"\bmini\b", done(command, "--help").out.replace("random:mini", "").replace("(gpt1, mini", ""))


def test_a_name_that_is_nothing_lists_it() -> None:
    for words in (["score", "unheard-of", "a text"], ["convert", "unheard-of", "new"]):
        assert_refused(run(*words), "mini")


def test_fine_tuning_starts_from_it_unless_another_model_is_named(stand_in: Path) -> None:
    assert all(make().model == "mini" for make in recipes.RECIPES.values())
    done("finetune", "--data", "rows.jsonl", "--out", "labels", *FLAGS, "--no-baseline")
    assert load_model(Path("labels", "model")).provenance["fine-tuned from"] == "mini"


# ---- what lies there


@pytest.fixture
def bundled() -> Path:
    if not (MINI / "model.safetensors").exists():
        pytest.skip("this checkout does not hold the weights of mini")
    return MINI


def test_the_bundled_model_is_the_small_size_in_half_precision(bundled: Path) -> None:
    model = load_model(bundled)
    assert model.config == SIZES["mini"]
    assert model.config.vocab_size == model.tokenizer.vocab_size
    header = (bundled / "model.safetensors").read_bytes()[:100_000]
    assert {row["dtype"] for name, row in header_of(header).items() if name != "__metadata__"} == {"BF16"}
    assert read_json(bundled / "config.json")["dtype"] == "bfloat16"
    assert sum(path.stat().st_size for path in bundled.iterdir()) <= MOST_BYTES


def header_of(content: bytes) -> dict[str, Any]:
    size = int.from_bytes(content[:8], "little")
    found: dict[str, Any] = json.loads(content[8 : 8 + size])
    return found


def test_the_bundled_model_was_trained_on_its_whole_context(bundled: Path) -> None:
    assert load_model(bundled).max_length == SIZES["mini"].n_ctx


def test_the_card_says_what_it_is_and_what_it_cannot_do(bundled: Path) -> None:
    card = (bundled / "README.md").read_text(encoding="utf-8")
    assert "TODO" not in card, "a figure is missing"
    assert f"{count(SIZES['mini']) / 1e6:.1f} M parameters" in card
    for heading in ("Usage", "Training data", "Training", "Limitations"):
        assert f"## {heading}" in card
    assert "no review" in card
    for name in recipes.PRETRAINING:
        if name.startswith("mini-"):
            assert f"--recipe {name}" in card
    assert "curves.svg" in card


def test_the_cards_figures_are_those_of_the_log(bundled: Path) -> None:
    card = (bundled / "README.md").read_text(encoding="utf-8")
    events = [json.loads(line) for line in (bundled / "training.jsonl").read_text(encoding="utf-8").splitlines()]
    final = [event for event in events if event["event"] == "score"][-1]
    assert f"{final['bits_per_byte']:.3f}" in card
    assert (bundled / "curves.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")


def test_the_bundled_model_knows_english_better_than_chance(bundled: Path) -> None:
    text = "The old man sat down by the fire and began to speak of the days when he was young."
    assert done("score", "mini", text, "--json").json["bits_per_byte"] < 2.5
    likeliest = [row["token"] for row in done("next", "mini", "He looked at", "--json").json["tokens"][:5]]
    assert {"the</w>", "her</w>", "him</w>"} & set(likeliest)
    written = done("generate", "mini", "The old house", "--max-tokens", "40", "--json").json["text"]
    assert len(set(written.split())) > 10
