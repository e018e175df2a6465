"""`gpt1 explain`: weights for words, attention, pages, mistakes of a run.

Run: pytest tests/test_cli_explain.py
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest

from gpt1.checkpoint import event_log
from gpt1.cli import main
from support.command_line import assert_refused, done, gpt1
from support.sample_runs import ROUNDING, csv_text, file_digests, labelled

pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("in_world")


def test_an_explanation_has_a_weight_for_every_word_of_the_text() -> None:
    text = "A warm, funny story"
    found = done("explain", "run", text, "--json").json
    predicted = done("predict", "run", text, "--json").json
    assert found["label"] == predicted["label"]
    assert found["scores"] == pytest.approx(predicted["scores"], abs=ROUNDING)
    assert found["explained"] == found["label"]
    [told] = found["texts"]
    assert (told["name"], told["text"]) == ("text", text)
    assert [word["text"] for word in told["words"]] == ["A", "warm", ",", "funny", "story"]
    assert {word["occlusion"] for word in told["words"]} == {None}
    against = done("explain", "run", text, "--json", "--label", "bad", "--occlusion").json
    sign = 1 if found["label"] == "bad" else -1
    assert [word["weight"] for word in against["texts"][0]["words"]] == pytest.approx(
        [sign * word["weight"] for word in told["words"]], abs=ROUNDING
    )
    assert all(isinstance(word["occlusion"], float) for word in against["texts"][0]["words"])
    plain = done("explain", "run", text).out
    assert plain.startswith(f"{found['label']}  {found['score']:.4f}\nweights: + for {found['label']}, - against it\n")
    assert "\x1b" not in plain


def test_pairs_and_choices_are_explained_text_by_text() -> None:
    pair = done("explain", "grades", "a story", "the story", "--json").json
    assert (pair["label"], pair["explained"]) == (None, None)
    assert [text["name"] for text in pair["texts"]] == ["text_a", "text_b"]
    choices = done("explain", "endings", "a story", "was warm", "was cold", "--label", "1", "--json").json
    assert choices["explained"] == 1
    assert [text["name"] for text in choices["texts"]] == ["context", "choice 0", "choice 1"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_words_are_coloured_on_a_terminal_that_wants_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", variable)
        with contextlib.redirect_stdout(Terminal()) as out:
            assert main(["explain", "run", "a warm story"]) == 0
        assert ("\x1b[" in out.getvalue()) == coloured


def test_attention_is_shown_by_layer_and_head() -> None:
    found = done("explain", "run", "a warm story", "--attention", "1", "--json").json["attention"]
    assert (found["layer"], found["tokens"][0], found["tokens"][-1]) == (1, "<bos>", "<eos>")
    assert len(found["heads"]) > 1
    one = done("explain", "run", "a warm story", "--attention", "1.0", "--json").json["attention"]
    assert one["head"] == 0
    assert one["heads"] == found["heads"][:1]
    assert "layer 1, head 0: each token and the tokens it attends to most" in done(
        "explain", "run", "a warm story", "--attention", "1.0"
    ).out  # fmt: skip


def test_a_page_has_every_example(tmp_path: Path) -> None:
    outcome = done("explain", "run", "a warm <story>", "a dull one", "--html", tmp_path / "page.html", "--json")
    assert len(outcome.json) == 2
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert text.count("<article>") == 2
    assert "<story>" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], 'nothing to explain: give a text, as in gpt1 explain RUN "a text"'),
        (["run", " "], "text ' ' is empty"),
        (["grades", "alone"], "this model's task is similarity: it takes a pair of texts (TEXT_A TEXT_B), 1 given"),
        (["mini", "fine"], "mini is a language model without a task; fine-tune it first: gpt1 finetune --model mini"),
        (["run", "fine", "--label", "great"], "--label great: unknown; expected one of bad, good"),
        (["grades", "a", "b", "--label", "1"], "--label 1: this model predicts a value"),
        (["run", "fine", "--attention", "9"], "--attention 9: expected LAYER or LAYER.HEAD, with layers 0 to 1"),
        (["run", "fine", "--attention", "0.x"], "--attention 0.x: expected LAYER or LAYER.HEAD"),
        (
            ["run", "fine", "--html", "nowhere/page.html"],
            "--html nowhere/page.html: expected a file in a directory that exists",
        ),
        (["run", "fine", "--html", "unseen"], "--html unseen: expected a file in a directory"),
    ],
)
def test_what_cannot_be_explained_is_one_line(words: list[str], said: str) -> None:
    before = file_digests(Path())
    assert_refused(gpt1("explain", *words), said)
    assert file_digests(Path()) == before


def test_mistakes_have_the_words_that_spoke_for_them_in_results_and_log(run_copy: Path) -> None:
    mistakes = json.loads(Path("grades/metrics.json").read_text())["test"]["mistakes"]  # no prediction is exact
    assert [list(mistake["words"]) for mistake in mistakes] == [["text_a", "text_b"]] * len(mistakes) != []
    [event] = [event for event in event_log.read(Path("grades/log.jsonl")) if event["event"] == "mistakes"]
    assert (event["split"], event["mistakes"]) == ("test", mistakes)
    events = [event for event in event_log.read(run_copy / "log.jsonl") if event["event"] == "mistakes"]
    flipped = run_copy / "flipped.csv"
    flipped.write_text(csv_text(*((text, {"good": "bad", "bad": "good"}[label]) for text, label in labelled(8))))
    found = done("evaluate", run_copy, "--data", flipped, "--no-baseline", "--json").json["test"]["mistakes"]
    for mistake in found:
        assert list(mistake["words"]) == ["text"]
        for word in mistake["words"]["text"]:
            assert mistake["texts"][0][word["start"] : word["end"]] == word["text"]
    assert found
    [last] = [event for event in event_log.read(run_copy / "log.jsonl") if event["event"] == "mistakes"][len(events) :]
    assert last["mistakes"] == found
    assert last["data"] == str(flipped)
