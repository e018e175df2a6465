"""Offsets of words in the original text, with every pre-tokenizer. Run: pytest tests/test_offsets.py"""

from __future__ import annotations

import pytest

from gpt1.checkpoint.loading import resolve_model
from gpt1.tokenization.offsets import find_words
from gpt1.tokenization.pretokenizers import valid_unicode
from gpt1.tokenization.tokenizer import Tokenizer

TEXTS = [
    "Warm, funny and over far too soon.",
    "It’s a Café… really, cafe\u0301 <br /> OK! 1986\r\n\r\nDon't  go—now",
    "日本語テキスト and 中文",
    "\U0001f600 hi \U0001f600",
    "İstanbul ﬁne",
    "I donâ€™t like &amp; want it &lt;here&gt; (really). Mr. Smith can't cannot…",
    "x \ud800 y",
    "   ",
    "",
]


@pytest.fixture(scope="module", params=["fast", "openai"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "openai":
        pytest.importorskip("spacy")
        pytest.importorskip("ftfy")
    return Tokenizer.load(resolve_model("mini"), pretokenizer=request.param)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_words_follow_each_other_and_own_every_token(tokenizer: Tokenizer, text: str) -> None:
    ids, words = tokenizer.encode_with_words(text)
    assert ids == tokenizer.encode(text)
    assert sum(word.size for word in words) == len(ids)
    done = 0
    for word in words:
        if word.start is None:
            assert tokenizer.pretokenizer == "openai"
            continue
        assert word.end is not None
        assert done <= word.start < word.end
        assert word.text == valid_unicode(text)[word.start : word.end]
        done = word.end


def test_a_word_is_shown_as_it_was_written(tokenizer: Tokenizer) -> None:
    words = tokenizer.encode_with_words(TEXTS[1])[1]
    found = [word.text for word in words if word.start is not None]
    assert {"Café", "…", "really", "cafe\u0301", "OK", "—", "now"} <= set(found)
    assert [word.size for word in words if word.text == "…"] == [3]


def test_repaired_text_is_found_around_what_was_repaired() -> None:
    words = ["i", "do", "n't", "like", "&", "want", "it", "<", "here", ">", "(", "really", ")", "."]
    text = "I donâ€™t like &amp; want it &lt;here&gt; (really)."
    found = [None if span is None else text[slice(*span)] for span in find_words(words, text)]
    assert found == ["I", "do", "nâ€™t", "like", "&", "want", "it", None, "here", None, "(", "really", ")", "."]


def test_a_text_that_is_another_one_has_no_places() -> None:
    assert find_words(["other", "words"], "#" * 500 + "nothing alike") == [None, None]
    assert find_words([], "text") == []
    assert find_words(["word"], "") == [None]
