"""Vocabularies with a token for each byte: nothing is unknown. Run: pytest tests/test_byte_fallback.py"""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers

from gpt1.errors import UserError
from gpt1.tokenization.streaming_decoder import TextStream
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.tokenization.trainer import train
from gpt1.tokenization.vocab_files import BYTE_TOKENS, END_OF_WORD

TEXTS = ["the cat sat on the mat.", "the dog sat on the log; 10 dogs sat on the mat.", "a cat and a dog."] * 3
UNKNOWN = [
    "héllo wörld",
    "你好，世界",
    "a 😀 b 😀 😀",
    "cat😀dog cat",
    "😀",
    "3 < 5 and 7 > 2",
    "ﷺ \U00010348 \x00",
    "the é of the cat",
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(TEXTS, 400, byte_fallback=True)


@pytest.mark.parametrize("text", UNKNOWN)
def test_no_text_is_unknown_and_every_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.unk not in ids
    assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")


def test_words_stay_apart_where_their_ends_are_bytes(tokenizer: Tokenizer) -> None:
    """The bytes of several words follow each other; the last one too ends with a blank only inside the text."""
    assert tokenizer.decode(tokenizer.encode("cat 😀 😀")) == "cat 😀 😀"
    assert tokenizer.decode(tokenizer.encode("é é cat")) == "é é cat"


@pytest.mark.parametrize("text", UNKNOWN)
def test_saved_pipeline_and_transformers_agree(tokenizer: Tokenizer, tmp_path: Path, text: str) -> None:
    tokenizer.save(tmp_path)
    ids = tokenizer.encode(text)
    pipeline = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).encode(text) == ids
    assert pipeline.encode(text, add_special_tokens=False).ids == ids
    assert pipeline.decode(ids) == tokenizer.decode(ids)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(text, add_special_tokens=False).input_ids == ids
    assert theirs.decode(ids) == tokenizer.decode(ids)


def test_vocabulary_and_merges_alone_bring_the_fallback_back(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert Tokenizer.load(tmp_path, "fast").encode("a 😀") == tokenizer.encode("a 😀")


@pytest.mark.parametrize("text", UNKNOWN)
def test_bytes_of_tokens_sum_to_those_of_the_words(tokenizer: Tokenizer, text: str) -> None:
    """Bits per byte divide by this sum: an emoji is four tokens and four bytes, its end none."""
    _, sizes = tokenizer.encode_with_sizes(text)
    assert sum(sizes) == len("".join(text.split()).encode())


def test_a_character_that_becomes_several_counts_once() -> None:
    ids, sizes = train([*TEXTS, "..."], 100).encode_with_sizes("cat…")
    assert sum(sizes) == len("cat…".encode()) < len(ids) + len("cat…".encode())


@pytest.mark.parametrize("text", UNKNOWN)
def test_streamed_text_is_the_decoded_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(f"the {text} dog")
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) + stream.finish() == tokenizer.decode(ids)
    assert any(pieces), "a word appears when it is whole"


def test_an_unknown_word_is_streamed_when_its_end_has_come(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer)
    *before, last = [stream.push(token) for token in tokenizer.encode("😀")]
    assert (set(before), last) == ({""}, "😀")


def test_rare_characters_of_the_texts_are_bytes_too() -> None:
    """A character takes two tokens; one that makes up less than one in 100,000 does not get them."""
    vocab = train(["the cat sat on the mat " * 20_000, "ж"], 400, byte_fallback=True).backend.get_vocab()
    assert "ж" not in vocab and "ж" + END_OF_WORD not in vocab
    assert {"c", "c" + END_OF_WORD, *BYTE_TOKENS} <= vocab.keys()
    assert "ж" in train(["the cat sat on the mat " * 20_000, "ж"], 400).backend.get_vocab()


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(UserError, match="--vocab-size 200: expected at least 266"):
        train(TEXTS, 200, byte_fallback=True)


def test_words_are_found_in_the_text_that_was_written(tokenizer: Tokenizer) -> None:
    """Explanations colour them there: `tokenizers` puts the bytes that end a word beside it."""
    text = "The é of 你好， 😀 cat"
    _, words = tokenizer.encode_with_words(text)
    assert [word.text for word in words] == ["The", "é", "of", "你好", "，", "😀", "cat"]
    assert [text[word.start : word.end] for word in words] == [word.text for word in words]
