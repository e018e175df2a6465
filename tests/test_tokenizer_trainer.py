"""Training of a vocabulary: comparison with a reference implementation, layout, limits.

Run: pytest tests/test_tokenizer_trainer.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from gpt1.errors import UserError
from gpt1.tokenization.pretokenizers import split
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer
from gpt1.tokenization.trainer import MIN_FREQUENCY, NEWLINE, train
from gpt1.tokenization.vocab_files import Merges
from support.tokenizer_texts import TEXTS, files_of


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(TEXTS * 2, 400)


def reference_merges(texts: list[str], symbols: list[str], n_tokens: int) -> Merges:
    """Merge the most frequent pair, ties by the ids of its symbols, until there are `n_tokens` new tokens."""
    words = Counter((*word[:-1], word[-1] + "</w>") for text in texts for word in split(text))
    number = {symbol: i for i, symbol in enumerate(symbols)}
    merges: Merges = []
    while len(number) < len(symbols) + n_tokens:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], number[pair[0]], number[pair[1]]), default=None)
        if best is None or pairs[best] < MIN_FREQUENCY:
            break
        merges.append(best)
        number.setdefault("".join(best), len(number))
        merged: Counter[tuple[str, ...]] = Counter()
        for word, count in words.items():
            parts, rest = [], word
            while rest:
                width = 2 if rest[:2] == best else 1
                parts.append("".join(rest[:width]))
                rest = rest[width:]
            merged[tuple(parts)] += count
        words = merged
    return merges


def vocab_and_merges(tokenizer: Tokenizer) -> tuple[list[str], Merges]:
    model = json.loads(tokenizer.backend.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [(left, right) for left, right in model["merges"]]


def test_a_learned_vocabulary_has_the_layout_of_the_original() -> None:
    tokens, merges = vocab_and_merges(train(["ab ab ab ba", "ab\nab"], 100))
    assert tokens == ["<unk>", "a", "b", "a</w>", "b</w>", "ab</w>", NEWLINE, *SPECIAL_TOKENS]
    assert merges == [("a", "b</w>")]


@pytest.mark.parametrize(("vocab_size", "learned"), [(196, 196), (200, 200), (5000, 201)])
def test_merges_are_those_of_the_algorithm_written_by_hand(vocab_size: int, learned: int) -> None:
    """With 201 tokens every word is one token, and no pair remains."""
    texts = TEXTS * 2
    tokenizer = train(iter(texts), vocab_size)
    tokens, merges = vocab_and_merges(tokenizer)
    characters = Counter(character for text in texts for character in "".join(split(text)) if character != "\n")
    ordered = sorted(characters, key=lambda character: (-characters[character], character))
    symbols = [*ordered, *(character + "</w>" for character in ordered)]
    assert tokens[1 : len(symbols) + 1] == symbols
    assert merges == reference_merges(texts, symbols, vocab_size - len(symbols) - 6)
    assert tokenizer.vocab_size == learned


def test_the_same_texts_give_the_same_bytes_in_every_process_and_order(tmp_path: Path) -> None:
    """Without our encoding, the library assigns ids to `</w>` symbols in the order of a randomly seeded hash table."""
    program = (
        "import sys; from pathlib import Path; from gpt1.tokenization.trainer import train\n"
        "texts = Path(sys.argv[1]).read_text(encoding='utf-8').split('#')[:: int(sys.argv[3])]\n"
        "train(texts, 400).save(Path(sys.argv[2]))"
    )
    (tmp_path / "texts").write_text("#".join(TEXTS * 2), encoding="utf-8")
    for run, step in enumerate(("1", "1", "-1")):
        arguments = [str(tmp_path / "texts"), str(tmp_path / str(run)), step]
        subprocess.run([sys.executable, "-c", program, *arguments], check=True)
    first, second, reversed_order = (files_of(tmp_path / str(run)) for run in range(3))
    assert first == second == reversed_order


def test_chinese_text_merges(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("灯塔看守人")
    assert tokenizer.unk not in ids
    assert len(ids) < 5
    assert tokenizer.decode(tokenizer.encode(TEXTS[4])).replace(" ", "") == TEXTS[4]


def test_words_of_chinese_come_out_of_a_few_sentences() -> None:
    """The example of docs/usage.md."""
    lines = [
        "今天天气很好，我们去公园看花。公园里的花很美，天气也很好。",
        "昨天天气不好，我们在家里看书。书里的故事很好看。",
        "我喜欢看书，也喜欢看花。她喜欢在公园里看书。",
        "明天我们再去公园，天气好就去看花，天气不好就在家看书。",
    ]
    tokenizer = train(["\n".join(lines) + "\n"], 90)
    ids = tokenizer.encode("天气很好，我们在公园看书。")
    assert " ".join(tokenizer.tokens(ids)) == "天气 很好</w> ，</w> 我们 在 公园 看书</w> 。</w>"


def test_characters_take_at_most_half_of_the_vocabulary_and_the_rarest_are_unknown() -> None:
    rare = "".join(chr(0x4E00 + i) for i in range(500))
    tokenizer = train([rare, "the cat sat on the mat " * 10], 106)
    tokens, merges = vocab_and_merges(tokenizer)
    assert tokenizer.vocab_size <= 106
    assert sum(len(token.removesuffix("</w>")) == 1 for token in tokens) == 2 * 25 + 1, "and the line break"
    assert ("t", "h") in merges or ("h", "e</w>") in merges
    assert tokenizer.unk not in tokenizer.encode("the cat")
    assert tokenizer.encode(rare[-1]) == [tokenizer.unk]


def test_no_merge_spans_an_unknown_character() -> None:
    tokenizer = train(["aéb " * 3], 14)  # room for two characters
    assert tokenizer.tokens(tokenizer.encode("aéb")) == ["a", "<unk>", "b</w>"]
    assert vocab_and_merges(tokenizer)[1] == []


def test_the_most_frequent_pair_is_merged_first_however_often_it_comes() -> None:
    """`a` and `b` are the more frequent characters; the counts of the pairs differ only beyond ten thousand."""
    _, merges = vocab_and_merges(train(["zy " * 10_002, "ab " * 10_001, "a b " * 5], 30))
    assert merges == [("z", "y</w>"), ("a", "b</w>")]


def test_every_learned_vocabulary_has_the_line_break() -> None:
    assert train(["no line breaks here"], 100).encode("\n") != [0]


@pytest.mark.parametrize("texts", [[], [""], ["  \n\n <br /> \t"]])
def test_texts_without_a_word_are_an_error(texts: list[str]) -> None:
    with pytest.raises(UserError, match="the texts contain no words"):
        train(texts, 100)


def test_a_vocabulary_too_small_for_a_character_is_an_error() -> None:
    with pytest.raises(UserError, match="--vocab-size 9: expected at least 10"):
        train(["a"], 9)
    assert train(["a a b"], 10).vocab_size == 8


def test_training_keeps_stdout_clean(capfd: pytest.CaptureFixture[str]) -> None:
    train(TEXTS, 300, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "learning merges" in err
