"""Training of a GPT-1 vocabulary."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import tokenizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.trainers import BpeTrainer

from gpt1 import console
from gpt1.errors import UserError
from gpt1.tokenization.pretokenizers import split
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer
from gpt1.tokenization.vocab_files import BYTE_TOKENS, END_OF_WORD, UNK_TOKEN, Merges

NEWLINE = "\n" + END_OF_WORD
MIN_FREQUENCY = 2
"""Minimum frequency of a pair to be merged (subword-nmt's default; Sennrich et al. 2016)."""

_FIXED = (UNK_TOKEN, NEWLINE, *SPECIAL_TOKENS)
_MIN_VOCAB_SIZE = len(_FIXED) + 4  # one character, in its two forms, may take half of the rest
_COVERAGE = 0.99999  # share of the text whose characters get tokens, with byte fallback
_FIRST_CODE = 0x10000  # no blanks and no surrogates from here on
_CHARACTERS_AT_ONCE = 8_192  # size of a text for the trainer, which buffers a few hundred texts

MOST_WORDS = 4_000_000
"""Maximum number of distinct words to count. Above it (hundreds of megabytes of a language without blanks between
words) the rarest are dropped, as in Manku & Motwani 2002."""


def train(
    texts: Iterable[str],
    vocab_size: int,
    pretokenizer: str = "fast",
    *,
    byte_fallback: bool = False,
    progress: bool = False,
) -> Tokenizer:
    """Train a tokenizer with at most `vocab_size` tokens, special tokens included, on a stream of texts.

    The layout of the vocabulary is the original's: `<unk>`, characters, characters at the end of a word, merges,
    `\\n</w>`; then the special tokens. Characters, most frequent first, take at most half of the vocabulary; others
    become `<unk>`. The vocabulary is smaller than `vocab_size` if no further pair occurs twice.

    The result depends only on the texts, not on their order unless they contain more than `MOST_WORDS` distinct words.
    Memory grows with the number of distinct words only.

    Args:
        texts: any number of texts.
        vocab_size: maximum number of tokens.
        pretokenizer: name of the pre-tokenizer.
        byte_fallback: add the 256 byte tokens after `<unk>`. The rarest characters, at most one in 100,000 of the text,
            and characters that are not in `texts` are encoded as bytes, so that nothing becomes `<unk>`.
        progress: print the number of words to stderr.

    Raises:
        UserError: `texts` contain no word, or `vocab_size` is too small for one character.
    """
    fixed = [*_FIXED, *(BYTE_TOKENS if byte_fallback else ())]
    smallest = _MIN_VOCAB_SIZE + len(fixed) - len(_FIXED)
    if vocab_size < smallest:
        raise UserError(f"--vocab-size {vocab_size}: expected at least {smallest}")
    counts: Counter[str] = Counter()
    rarest = 0
    for text in texts:
        counts.update(split(text, pretokenizer))
        while len(counts) > MOST_WORDS:
            rarest += 1
            counts = Counter({word: count for word, count in counts.items() if count > rarest})
    if progress and rarest:
        console.say(f"vocabulary: words seen at most {rarest} times were dropped while counting")
    if progress:
        console.say(f"vocabulary: {counts.total():,} words, {len(counts):,} distinct; learning merges")
    del counts["\n"]
    if not counts:
        raise UserError("cannot learn a vocabulary: the texts contain no words")
    characters = _most_frequent_characters(counts, (vocab_size - len(fixed)) // 4, _COVERAGE if byte_fallback else 1.0)
    symbols = [*characters, *(character + END_OF_WORD for character in characters)]
    merges = _learn_merges(counts, symbols, vocab_size - len(fixed) - len(symbols))
    made = dict.fromkeys(left + right for left, right in merges)  # two merges may make the same token
    first = [UNK_TOKEN, *(BYTE_TOKENS if byte_fallback else ())]
    vocab = {token: i for i, token in enumerate([*first, *symbols, *made, NEWLINE])}
    return Tokenizer.from_vocab(vocab, merges, pretokenizer)


def _most_frequent_characters(counts: Counter[str], limit: int, coverage: float) -> list[str]:
    """Return at most `limit` characters, most frequent first, and no more than needed for `coverage` of the text."""
    characters: Counter[str] = Counter()
    for word, count in counts.items():
        for character in word:
            characters[character] += count
    ranked = sorted(characters, key=lambda character: (-characters[character], character))[:limit]
    if coverage == 1.0:
        return ranked
    before = np.cumsum([0, *(characters[character] for character in ranked[:-1])])
    return ranked[: int(np.searchsorted(before, coverage * characters.total()))]


def _learn_merges(counts: Counter[str], symbols: list[str], n_merges: int) -> Merges:
    """Return the merges that create up to `n_merges` new tokens.

    BpeTrainer breaks ties by the index of a symbol, and indexes symbols with a suffix in the order of a hash table,
    which differs between processes. So each symbol is replaced by one character, in the order of the vocabulary.
    """
    code = {symbol: chr(_FIRST_CODE + i) for i, symbol in enumerate(symbols)}
    learner = tokenizers.Tokenizer(BPE())
    learner.pre_tokenizer = WhitespaceSplit()
    trainer = BpeTrainer(
        vocab_size=len(symbols) + n_merges,
        min_frequency=MIN_FREQUENCY,
        initial_alphabet=list(code.values()),
        show_progress=False,  # it would print to stdout
    )
    learner.train_from_iterator(_coded(counts, code), trainer)

    def decoded(token: str) -> str:
        return "".join(symbols[ord(character) - _FIRST_CODE] for character in token)

    merges = json.loads(learner.to_str())["model"]["merges"]
    return [(decoded(left), decoded(right)) for left, right in merges]


def _coded(counts: Counter[str], code: dict[str, str]) -> Iterator[str]:
    """Yield each word as often as it was counted, with a blank for a symbol that is not in `code`: no pair spans it."""
    for word, count in counts.items():
        if len(word) == 1:
            continue  # no pair in it
        coded = "".join(code.get(symbol, " ") for symbol in (*word[:-1], word[-1] + END_OF_WORD)) + " "
        at_once = max(1, _CHARACTERS_AT_ONCE // len(coded))
        for done in range(0, count, at_once):
            yield coded * min(at_once, count - done)
