"""Pre-tokenizers, compared with a reference implementation of their rules.

Run: pytest tests/test_pretokenizers.py
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt1.errors import UserError
from gpt1.tokenization.pretokenizers import PRETOKENIZERS, find_pretokenizer, split, valid_unicode
from support.tokenizer_texts import NASTY, TEXTS

CJK_RANGES = (
    "2E80-2FD5 3005-3007 3021-3029 3031-3035 3038-303C 3041-3096 309D-309F 30A1-30FA 30FC-30FF 31F0-31FF 32D0-32FE "
    "3300-3357 3400-4DBF 4E00-9FFF F900-FAFF FF66-FF9F 20000-2FA1F"
)
CJK = frozenset(
    chr(code)
    for first, last in (pair.split("-") for pair in CJK_RANGES.split())
    for code in range(int(first, 16), int(last, 16) + 1)
)
ASCII = str.maketrans({**dict.fromkeys("‘’‚‛ʼ´", "'"), **dict.fromkeys("“”„‟", '"'), **dict.fromkeys("‐‑‒–—―", "-")})


def is_blank(c: str) -> bool:
    return c.isspace() and c not in "\x1c\x1d\x1e\x1f"  # blanks in Python, but not in Unicode


def tag_end(text: str, start: int) -> int | None:
    """Return the index after the HTML tag that starts at `start` in a lower-case text; None if there is none."""
    if text.startswith("<!--", start):
        end, nested = text.find("-->", start + 4), text.find("<!--", start + 4)
        return end + 3 if end >= 0 and not 0 <= nested < end else None
    if text.startswith("<!doctype", start):
        end = start + 9 + len(re.split("[<>]", text[start + 9 :])[0])
        return end + 1 if text[end : end + 1] == ">" else None
    i = start + 1 + text.startswith("/", start + 1)
    name = "".join(takewhile(lambda c: c not in " \t\n\f\r/>", text[i:]))
    i += len(name)
    if name not in ("a", "b", "i", "br"):
        return None
    while i < len(text):
        if text[i] == ">":
            return i + 1
        if text[i] in " \t\n\f\r/":
            i += 1
        elif (end := attribute_end(text, i)) is not None:
            i = end
        else:
            return None
    return None


def attribute_end(text: str, i: int) -> int | None:
    """Return the index after the attribute with a value that starts at `i`; None if there is none."""
    name = text[i:].partition("=")[0]
    i += len(name) + 1
    name = name.rstrip(" \t\n\f\r")
    proper = name.removeprefix("@").removeprefix(":") if name[:2] != "@:" else ""
    if i > len(text) or not re.fullmatch("[a-z_][a-z0-9_:.-]*", proper):
        return None
    i += len(text[i:]) - len(text[i:].lstrip(" \t\n\f\r"))
    if text[i : i + 1] in ("'", '"'):
        end = text.find(text[i], i + 1)
        return end + 1 if end >= 0 else None
    value = "".join(takewhile(lambda c: c not in " \t\n\f\r\"'<>`", text[i:]))
    return i + len(value) if value else None


def reference_words(text: str) -> list[str]:
    """Apply the rules of `fast` character by character, without a regular expression."""
    text = "".join(c.lower() for c in unicodedata.normalize("NFC", text))
    untagged, i = "", 0
    while i < len(text):
        end = tag_end(text, i) if text[i] == "<" else None
        untagged, i = (untagged + " ", end) if end else (untagged + text[i], i + 1)
    text = untagged.translate(ASCII).replace("…", "...")
    words: list[str] = []
    kind = ""  # of the current word: "letters", "cjk", "line" or none
    for c, following in pairwise(text + " "):
        category = unicodedata.category(c)[0]
        inner = c == "'" and unicodedata.category(following)[0] == "L" and following not in CJK
        if c in "\r\n":
            if kind != "line":
                words.append("\n")
            kind = "line"
        elif is_blank(c):
            kind = kind if kind == "line" else ""
        else:
            own = "cjk" if c in CJK else "letters" if category == "L" else ""
            if kind in ("letters", "cjk") and (own == kind or category == "M" or (inner and kind == "letters")):
                words[-1] += c
            else:
                words.append(c)
                kind = own
    return words


def test_fast_words_are_what_the_contract_says() -> None:
    assert split("Don’t panic—it's 42!") == ["don't", "panic", "-", "it's", "4", "2", "!"]
    assert split("a<br />b") == ["a", "b"]
    assert split("3 < 5 and 7 > 2") == ["3", "<", "5", "and", "7", ">", "2"]
    assert split("one\r\n\r\n two\n") == ["one", "\n", "two", "\n"]
    assert split("我用iPhone手机") == ["我用", "iphone", "手机"]
    assert split("Wait…") == ["wait", ".", ".", "."]
    assert split("'tis the dogs' rock'n'roll") == ["'", "tis", "the", "dogs", "'", "rock'n'roll"]


# Characters of Unicode 3.2: later versions do not change their properties.
settled = st.characters(codec="utf-8").filter(lambda c: unicodedata.ucd_3_2_0.category(c) != "Cn")
tricky = st.sampled_from("abİΣé'’ʼ“”—…<>/!=0½ \t\r\n\x85\xa0\u2028\u0301\u3099中々あーｱﾞ한ก\u0e33\x00\ufeff𝔸😀")


in_tags = st.sampled_from(
    ["<a", "</b", "<br", " ", "x", "=", "y", "'", '"', "/", ">", "<", "`", "\n", "<!--", "-->", "-"]
)
comment_like = st.sampled_from(["<!--", "-->", "<!doctype", "-", "!", ">", "<", "a", " "])
texts = st.one_of(
    st.text(st.one_of(tricky, settled), max_size=40),
    st.lists(in_tags, max_size=20).map("".join),
    st.lists(comment_like, max_size=12).map("".join),
)


@given(texts)
@settings(max_examples=1_000, deadline=None)
def test_fast_splits_like_the_rules_written_by_hand(text: str) -> None:
    assert split(text) == reference_words(text)


@pytest.mark.parametrize("text", NASTY + TEXTS)
def test_fast_splits_nasty_texts_like_the_rules_written_by_hand(text: str) -> None:
    assert split(text) == reference_words(text)


def test_lone_surrogates_become_replacement_characters() -> None:
    assert valid_unicode("a\ud800b\udc00") == "a\ufffdb\ufffd"
    assert valid_unicode("\ud83d\ude00") == "😀"
    assert split("a\ud800b") == ["a", "\ufffd", "b"]


def test_unknown_splitter_is_an_error_that_lists_those_that_exist() -> None:
    with pytest.raises(UserError, match=r"'spacy'.*fast"):
        find_pretokenizer("spacy")
    assert "fast" in PRETOKENIZERS
