"""HTML tags in text: what `fast` removes, in linear time, and where a corpus may be split.

Run: pytest tests/test_html_tags.py
"""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path

import pytest
import tokenizers

import gpt1.data.corpus.documents as documents_module
from gpt1.data.corpus.documents import chunks
from gpt1.tokenization.html_tags import (
    LONGEST_COMMENT,
    LONGEST_TAG,
    LONGEST_VALUE,
    MOST_ATTRIBUTES,
    TAG,
    unfinished_tag,
)
from gpt1.tokenization.pretokenizers import split
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.tokenization.trainer import NEWLINE, train

EARLIER_RULE = "<(?:/?[A-Za-z]|!)[^<>]{0,1000}>"
"""Rule in tokenizers that were saved before HTML's names were listed."""
SECONDS_PER_MEGABYTE = 60.0
"""Quadratic time would be hours; a linear search takes 0.1 to 4 s on an idle core."""


@pytest.mark.parametrize(
    "tag",
    [
        "<br>", "<BR/>", "<br />", "</P >", "<a href='x>y'>", '<img alt="a<b" src=x.png/>', "<input disabled required>",
        "<font size=+1>", "<td\nwidth = 5\n>", "<div data-id class='a'>", "<a href=http://a.b/?c=d&e=f>",
        "<!-- not <b> > shown -->", "<!DOCTYPE html>", '<!doctype html public "-//w3c//dtd html 4.0//en">', "<h1>",
    ],
)  # fmt: skip
def test_tags_comments_and_doctypes_of_html_become_blanks(tag: str) -> None:
    assert split(f"one{tag}two") == ["one", "two"]


@pytest.mark.parametrize(
    "text",
    [
        "<not bad>", "<b and c>", "<someone@example.com>", "<3", "a < b > c", "<p = 0.05>", "<i love this>", "<grin>",
        "<eos>", "< b>", "<b", "<https://example.com>", "<!-- no end", "<!important>", "<br<", "<a href='x>",
    ],
)  # fmt: skip
def test_everything_else_between_angle_brackets_stays(text: str) -> None:
    assert "".join(split(text)) == text.replace(" ", "").lower()


@pytest.mark.parametrize(
    "part",
    ["<a ", "x=", "<a x=x=", "<!--", "<!-", '<a x="', "<a x='<a y=\"", '<a x=" b="', "<", "</", "<a x ", "<a/", "<a =",
     "<!doctype ", "<a" + " x='y'" * 31, "<a x='" + "<b y=" * 160 + "' ", "<!--" + "-" * 9_999],
)  # fmt: skip
def test_a_megabyte_of_beginnings_takes_linear_time(part: str) -> None:
    text = (part * (1_000_000 // len(part) + 1))[:1_000_000]
    search = tokenizers.normalizers.Replace(tokenizers.Regex(TAG), " ")
    started = time.process_time()
    search.normalize_str(text)
    assert time.process_time() - started < SECONDS_PER_MEGABYTE


def test_the_longest_tag_is_within_the_bound_that_splitting_assumes() -> None:
    attribute = f"{' ' * 100}@{'x' * 51}{' ' * 100}={' ' * 100}'{'y' * LONGEST_VALUE}'"
    tag = f"</blockquote{attribute * MOST_ATTRIBUTES}{' ' * 100}>"
    assert re.fullmatch(TAG, tag)
    assert len(tag) <= LONGEST_TAG
    assert not re.fullmatch(TAG, f"<a x='{'y' * (LONGEST_VALUE + 1)}'>")
    assert re.fullmatch(TAG, f"<!--{'y' * LONGEST_COMMENT}-->")
    assert not re.fullmatch(TAG, f"<!--{'y' * (LONGEST_COMMENT + 1)}-->")


def test_every_beginning_of_a_tag_is_an_unfinished_tag() -> None:
    for tag in ("<a href = 'x > y' disabled data-x y=z/>", "<!-- a <b> -- > -->", "<!doctype html>", "</BLOCKQUOTE >"):
        for end in range(1, len(tag)):
            assert unfinished_tag(f"text {tag[:end]}") == len("text "), tag[:end]
        assert unfinished_tag(f"text {tag}") is None


def with_the_earlier_rule(tokenizer: Tokenizer) -> Tokenizer:
    pipeline = json.loads(tokenizer.backend.to_str())
    [rule] = [step for step in pipeline["normalizer"]["normalizers"] if step.get("pattern", {}).get("Regex") == TAG]
    rule["pattern"]["Regex"] = EARLIER_RULE
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(pipeline)), "fast")


PARTS = ["<a", "</b", "<br>", "<!--", "-->", "<!doctype", " x=", *"'\"></-", *["one", "two", " ", "\n"] * 6]


@pytest.mark.parametrize("seed", range(2))
def test_chunks_between_tags_have_the_ids_of_the_whole_document(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a tokenizer that was saved with the earlier rule."""
    monkeypatch.setattr(documents_module, "CHUNK_SIZE", 10)
    tokenizer = train(["one two one two <a> / ' \" - x = ! doctype b br"], 80)
    draw = random.Random(seed)
    for each in (tokenizer, with_the_earlier_rule(tokenizer)):
        n_chunks = 0
        for _ in range(500):
            text = "".join(draw.choices(PARTS, k=draw.randint(1, 300)))
            ids: list[int] = []
            for chunk in chunks(re.findall(r"[^\n]*\n|[^\n]+", text)):
                ids += [each.backend.token_to_id(NEWLINE)] * chunk.after_break + each.encode(chunk.text)
                n_chunks += 1
            assert ids == each.encode(text.strip(documents_module._BLANKS)), repr(text)
        assert n_chunks > 1_000, "the texts were hardly split"


def test_a_saved_tokenizer_keeps_the_rule_of_its_training(tmp_path: Path) -> None:
    earlier = with_the_earlier_rule(train(["one two < not bad >"] * 3, 80))
    earlier.save(tmp_path)
    assert Tokenizer.load(tmp_path).encode("one <not bad> two") == earlier.encode("one two")
