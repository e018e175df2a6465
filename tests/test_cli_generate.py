"""`gpt1 generate` and `gpt1 next`: texts, samples, stop strings, next tokens.

Run: pytest tests/test_cli_generate.py
"""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gpt1.checkpoint.model_dir import load_model, save_model
from gpt1.cli import main
from support.command_line import assert_refused, done, gpt1

pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("in_world")


WRITE = ["--temperature", "0", "--max-tokens", "6"]


def test_a_text_goes_on_from_its_prompt_also_by_a_fine_tuned_model() -> None:
    found = done("generate", "run", "A warm", *WRITE, "--json").json
    assert list(found) == ["prompt", "text", "finish_reason", "tokens"]
    assert (found["prompt"], found["finish_reason"], len(found["tokens"])) == ("A warm", "length", 6)
    shown = done("generate", "run", "A warm ", *WRITE)
    assert shown.out == f"A warm{found['text']}\n"
    assert re.fullmatch(
        r"6 tokens in [\d.]+ s, prompt included: [\d,]+ tokens/s; cpu \(\d+ threads?\), float32\n", shown.err
    )


def test_the_line_about_the_speed_begins_after_the_text() -> None:
    """A terminal shows both streams."""
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        assert main(["generate", "run", "A warm", *WRITE]) == 0
    assert re.search(r"^6 tokens in ", screen.getvalue(), re.MULTILINE)


def test_samples_are_a_list_in_json_and_paragraphs_for_people() -> None:
    words = ["generate", "run", "A warm", "--max-tokens", "6", "--n", "3", "--seed", "5"]
    found = done(*words, "--json").json
    assert len({row["text"] for row in found}) == 3
    assert done(*words).out == "".join(f"A warm{row['text']}\n\n" for row in found)
    alone = done("generate", "run", "A warm", "--max-tokens", "6", "--seed", "5", "--json").json
    assert alone == found[0]


def test_stop_strings_are_given_one_by_one() -> None:
    text = done("generate", "run", "A warm", *WRITE, "--json").json["text"]
    found = done("generate", "run", "--stop", "nowhere", "--stop", text[4:6], "A warm", *WRITE, "--json").json
    assert (found["text"], found["finish_reason"]) == (text[: text.index(text[4:6])], "stop")


def test_without_a_prompt_a_text_begins_as_after_bos() -> None:
    assert done("generate", "run", *WRITE, "--json").json == done("generate", "run", "", *WRITE, "--json").json
    assert done("next", "run", "--json").json == done("next", "run", "", "--json").json


def test_the_next_tokens_are_bars_for_people() -> None:
    found = done("next", "run", "A warm", "--top", "4", "--json").json
    assert list(found) == ["tokens"]
    assert [list(row) for row in found["tokens"]] == [["token", "id", "probability"]] * 4
    lines = done("next", "run", "A warm", "--top", "4").out.splitlines()
    for line, row in zip(lines, found["tokens"], strict=True):
        name, share, bar = line.split()
        assert name == row["token"].removesuffix("</w>") + "…" * (row["token"][-1] != ">")
        assert share == f"{row['probability']:.2%}"
        assert bar == "█" * round(40 * row["probability"] / found["tokens"][0]["probability"])


def test_an_untrained_eos_is_never_written(tmp_path: Path) -> None:
    """Its embedding is random in an imported model, so it may be as likely as any word."""
    model = load_model(Path("run/model"))
    loud = {**model.params, "tokens_embed.weight": model.params["tokens_embed.weight"].copy()}
    eos = model.tokenizer.eos
    likely = done("next", "run", "A warm", "--top", "1", "--json").json["tokens"][0]["id"]
    loud["tokens_embed.weight"][eos] = 2 * loud["tokens_embed.weight"][likely]
    for drawn, reason in (([], "stop"), (["<eos>"], "length")):
        provenance = {"drawn": {"tokens": drawn, "seed": 0}} if drawn else {}
        save_model(tmp_path / reason, replace(model, params=loud, provenance=provenance))
        assert done("generate", tmp_path / reason, "A warm", *WRITE, "--json").json["finish_reason"] == reason


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["generate", "run", "fine", "--max-tokens", "0"], "--max-tokens 0: expected 1 or more"),
        (["generate", "run", "fine", "--temperature", "-1"], "--temperature -1.0: expected zero or more"),
        (["generate", "run", "fine", "--temperature", "nan"], "--temperature nan: expected zero or more"),
        (["generate", "run", "fine", "--top-p", "0"], "--top-p 0.0: expected a number in (0, 1]"),
        (["generate", "run", "fine", "--top-k", "0"], "--top-k 0: expected 1 or more"),
        (["generate", "run", "fine", "--repetition-penalty", "0"], "--repetition-penalty 0.0: expected a positive"),
        (["generate", "run", "fine", "--n", "65"], "--n 65: expected 1 to 64"),
        (["generate", "run", "fine", "--stop", ""], "--stop '': expected a text that is not empty"),
        (["generate", "run", "fine", "--seed", "-1"], "--seed -1: expected 0 to 4,294,967,295"),
        (["generate", "run", "fine", "--device", "cpu", "--compile"], "--compile: "),
        (["generate", "nowhere", "fine"], "nowhere: no such directory"),
        (["generate", "run", "one", "two"], "'two': unexpected argument"),
        (["generate"], "missing MODEL; example: gpt1 generate "),
        (["next", "run", "fine", "--top", "0"], "--top 0: expected 1 or more"),
        (["next", "unseen", "fine"], "unseen: not a model directory"),
    ],
)
def test_what_cannot_be_written_is_one_line(words: list[str], said: str) -> None:
    assert_refused(gpt1(*words), said)
