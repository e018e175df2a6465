"""`gpt1 tokenizer`: training a vocabulary, encoding and decoding.

Run: pytest tests/test_cli_tokenizer.py
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from gpt1 import api
from support.command_line import assert_refused, done, gpt1
from support.sample_runs import FILES, QUICK, file_digests

pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("in_world")


def test_a_vocabulary_is_learned_from_text_or_tables_and_used_for_a_run(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "more.txt.gz", "wt", encoding="utf-8") as file:
        file.write(str(FILES["notes.txt"]))
    sources = ["notes.txt", "pairs.jsonl", "reviews.csv", tmp_path / "more.txt.gz"]
    learned = done("tokenizer", "train", "--input", *sources, "--vocab-size", "90", "--out", tmp_path / "bpe", "--json")
    assert learned.json == {"out": str(tmp_path / "bpe"), "vocab_size": 90}
    found = done("tokenizer", "encode", tmp_path / "bpe", "a warm story", "--json").json
    assert set(found) == {"ids", "tokens"}
    assert len(found["ids"]) == len(found["tokens"]) > 3
    assert done("tokenizer", "decode", tmp_path / "bpe", *found["ids"], "--json").json == {"text": "a warm story"}
    run = tmp_path / "run"
    done("finetune", "--data", "reviews.csv", "--out", run, *QUICK, "--tokenizer", tmp_path / "bpe", "--max-steps", "1")
    assert done("tokenizer", "encode", run, "a warm story", "--json").json == found


def test_a_small_text_gives_the_vocabulary_that_it_supports(tmp_path: Path) -> None:
    outcome = done("tokenizer", "train", "--input", "notes.txt", "--out", tmp_path / "bpe", "--json")
    assert f"The text supports {outcome.json['vocab_size']:,} tokens, not 40,482." in outcome.err


def test_people_read_tokens_and_texts_a_line_each() -> None:
    assert done("tokenizer", "encode", "run", "A warm", "story").out == "a</w> warm</w>\nstory</w>\n"
    ids = api.encode(Path("run"), ["a warm, funny story"])[0]["ids"]
    assert done("tokenizer", "decode", "run", *ids).out == "a warm, funny story\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["decode", "run", "1", "100000"], "token id 100000: expected 0 to "),
        (["decode", "run", "-1"], "token id -1: expected 0 to "),
        (["decode", "run"], "nothing to decode: give token ids"),
        (["decode", "nowhere", "1"], "nowhere: no such directory"),
        (["encode", "run"], "nothing to encode: give texts"),
        (["encode", "nowhere", "fine"], "nowhere: no such directory"),
        (["train", "--input", "gone.txt", "--out", "bpe"], "gone.txt: no such file"),
        (["train", "--input", "latin.csv", "--encoding", "utf-8", "--out", "bpe"], "latin.csv row 1 (line 2): byte e9"),
        (["train", "--input", "empty.csv", "--out", "bpe"], "empty.csv is empty"),
        (["train", "--input", "notes.txt", "--vocab-size", "3", "--out", "bpe"], "--vocab-size 3: expected at least"),
        (["train", "--input", "notes.txt", "--out", "run/model"], "--out run/model: holds a model"),
        (["train", "--input", "notes.txt"], "missing --out; example: gpt1 tokenizer train --input "),
    ],
)
def test_what_the_tokenizer_cannot_do_is_one_line(words: list[str], said: str) -> None:
    before = file_digests(Path())
    assert_refused(gpt1("tokenizer", *words), said)
    assert file_digests(Path()) == before
