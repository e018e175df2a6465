"""`gpt1 score`: log-probabilities of tokens, windows, rows of a file.

Run: pytest tests/test_cli_score.py
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from gpt1 import api
from support.command_line import assert_refused, done, gpt1
from support.sample_runs import BAD, GOOD, labelled

pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("in_world")
WINDOW_ROUNDING = 1e-5
"""Tolerance for log-probabilities, which are larger."""


def test_a_score_has_a_log_probability_for_each_token_but_the_first() -> None:
    found = done("score", "run", "A warm\nand “funny” story", "--json").json
    assert list(found) == ["text", "ids", "tokens", "logprobs", "perplexity", "bits_per_byte", "unknown_share"]
    assert found["text"] == "A warm\nand “funny” story"
    assert len(found["ids"]) == len(found["tokens"]) == len(found["logprobs"])
    assert found["tokens"][:4] == ["a</w>", "warm</w>", "\n</w>", "and</w>"]
    first, *rest = found["logprobs"]
    assert first is None
    assert all(value < 0 for value in rest)
    assert found["perplexity"] == pytest.approx(math.exp(-sum(rest) / len(rest)))
    n_bytes = len(" warm\nand “funny” story".encode())
    assert found["bits_per_byte"] == pytest.approx(-sum(rest) / math.log(2) / n_bytes)


def test_a_score_says_what_share_of_the_bytes_the_vocabulary_lacks() -> None:
    assert done("score", "run", "a warm story", "--json").json["unknown_share"] == 0
    found = done("score", "run", "a “warm” \U0001f319 story", "--json").json
    assert found["tokens"].count("<unk>") == 3
    assert found["unknown_share"] == pytest.approx((3 + 3 + 4) / len("".join(found["text"].split()).encode()))


def test_people_read_a_token_a_line() -> None:
    *tokens, summary = done("score", "run", "a warm story").out.splitlines()
    assert [line.split()[-1] for line in tokens] == ["a", "warm", "story"]
    assert re.fullmatch(r"perplexity \d+\.\d\d, \d+\.\d\d\d bits per byte, 0\.0% of the bytes unknown", summary)


@pytest.mark.parametrize("text", ["story", "<br />"])
def test_a_text_of_one_token_or_none_has_no_perplexity(text: str) -> None:
    found = done("score", "run", text, "--json").json
    assert found["logprobs"] == [None] * len(found["ids"])
    assert (found["perplexity"], found["bits_per_byte"]) == (None, None)
    done("score", "run", text)


def test_text_that_is_not_unicode_is_scored_as_the_tokenizer_reads_it() -> None:
    """Bytes of a command line that are not UTF-8 arrive as lone surrogates."""
    assert done("score", "run", "a \udcff story", "--json").json["text"] == "a \ufffd story"
    assert done("predict", "run", "a \udcff story", "--json").json["label"] in ("bad", "good")


def test_a_text_longer_than_the_context_is_scored_in_windows_that_overlap_by_half() -> None:
    words = [word for word in " ".join(GOOD + BAD).split() if len(api.encode(Path("run"), [word])[0]["ids"]) == 1]
    text = [words[i * i % 53 % len(words)] for i in range(1_100)]

    def logprobs(start: int, end: int) -> list[float]:
        return done("score", "run", " ".join(text[start:end]), "--json").json["logprobs"]

    found = logprobs(0, 1_100)
    assert len(found) == 1_100
    first, second, third = logprobs(0, 512), logprobs(256, 768), logprobs(512, 1_024)
    last = logprobs(768, 1_100)
    expected = [*first, *second[256:], *third[256:], *last[256:]]
    assert found[0] is None
    np.testing.assert_allclose(found[1:], expected[1:], atol=WINDOW_ROUNDING)
    exact = logprobs(0, 513)
    np.testing.assert_allclose(exact[1:512], first[1:], atol=WINDOW_ROUNDING)
    np.testing.assert_allclose(exact[512], logprobs(256, 513)[-1], atol=WINDOW_ROUNDING)


def test_the_rows_of_a_file_are_scored_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "EXAMPLES_AT_ONCE", 7)
    found = done("score", "run", "--input", "reviews.csv", "--json").rows
    assert [row["text"] for row in found] == [text for text, _ in labelled()]
    alone = done("score", "run", found[11]["text"], "--json").json
    assert found[11]["perplexity"] == pytest.approx(alone["perplexity"], rel=WINDOW_ROUNDING)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "nothing to score: give texts"),
        (["run", ""], "an empty text was given; there is nothing to score"),
        (["run", "fine", "--input", "new.csv"], "--input: give either a file or texts, not both"),
        (["run", "fine", "--text", "review"], "--text review: requires --input FILE"),
        (["run", "--input", "blank.csv", "--on-bad-row", "error"], "blank.csv row 7 (line 8): 'text' is empty"),
        (["run", "--input", "pairs.jsonl"], "pairs.jsonl: no column for text"),
    ],
)
def test_what_cannot_be_scored_is_one_line(words: list[str], said: str) -> None:
    assert_refused(gpt1("score", *words), said)


def test_a_row_without_a_text_has_no_score_and_its_reason() -> None:
    outcome = done("score", "run", "--input", "blank.csv", "--json")
    *scored, empty = outcome.rows
    assert [row["error"] for row in scored] == [None] * 6
    assert empty.keys() == scored[0].keys()
    assert (empty["text"], empty["tokens"], empty["perplexity"], empty["error"]) == (None, [], None, "'text' is empty")
    assert "1 of 7 rows have no score: empty text." in outcome.err
    assert len(done("score", "run", "--input", "blank.csv", "--json", "--on-bad-row", "skip").rows) == 6
