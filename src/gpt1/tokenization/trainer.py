"""Learn a GPT-1 vocabulary from text."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import tokenizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.trainers import BpeTrainer

from gpt1.errors import UserError
from gpt1.tokenization.pretokenizers import split
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer
from gpt1.tokenization.vocab_files import BYTE_TOKENS, END_OF_WORD, UNK_TOKEN, Merges

NEWLINE = "\n" + END_OF_WORD
MIN_FREQUENCY = 2
"""A pair seen less often is not merged (subword-nmt's default; Sennrich et al. 2016)."""

_FIXED = (UNK_TOKEN, NEWLINE, *SPECIAL_TOKENS)
_MIN_VOCAB_SIZE = len(_FIXED) + 4  # one character, in its two forms, may take half of what is left
_COVERAGE = 0.99999  # share of all characters that get tokens of their own where the others are encoded as bytes
_FIRST_CODE = 0x10000  # above it stand no blanks and no surrogates
_CHARACTERS_AT_ONCE = 8_192  # handed to the trainer, which holds a few hundred of such texts

MOST_WORDS = 4_000_000
"""Distinct words that are counted at a time. Beyond it (languages without blanks between words: hundreds of megabytes)
the rarest are forgotten, as in Manku & Motwani 2002."""


def train(
    texts: Iterable[str],
    vocab_size: int,
    pretokenizer: str = "fast",
    *,
    byte_fallback: bool = False,
    progress: bool = False,
) -> Tokenizer:
    """Learn a vocabulary of at most `vocab_size` tokens, special tokens included, from a stream of texts.

    The layout is the original's: `<unk>`, characters, characters that end a word, merges, `\\n</w>`; then the special
    tokens. Characters, most frequent first, take at most half of the vocabulary; the rest are `<unk>`. With
    `byte_fallback` the 256 byte tokens follow `<unk>`, and the rarest characters, at most one in 100,000 of the text,
    are encoded as bytes, as are all that `texts` do not hold: nothing is `<unk>`. Where no further pair repeats, the
    result is smaller: ask its `vocab_size`. The same texts give the same result, in any order as long as no more than
    `MOST_WORDS` distinct words stand in them; memory grows with these only. `progress` prints to stderr how many words
    were found.

    Raises UserError where `texts` hold no word, or `vocab_size` is too small for one character.
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
        print(f"vocabulary: words seen at most {rarest} times were forgotten on the way", file=sys.stderr)
    if progress:
        print(f"vocabulary: {counts.total():,} words, {len(counts):,} distinct; learning merges", file=sys.stderr)
    del counts["\n"]
    if not counts:
        raise UserError("nothing to learn a vocabulary from: the texts hold no word")
    characters = _most_frequent_characters(counts, (vocab_size - len(fixed)) // 4, _COVERAGE if byte_fallback else 1.0)
    symbols = [*characters, *(character + END_OF_WORD for character in characters)]
    merges = _learn_merges(counts, symbols, vocab_size - len(fixed) - len(symbols))
    made = dict.fromkeys(left + right for left, right in merges)  # two merges may make the same token
    first = [UNK_TOKEN, *(BYTE_TOKENS if byte_fallback else ())]
    vocab = {token: i for i, token in enumerate([*first, *symbols, *made, NEWLINE])}
    return Tokenizer.from_vocab(vocab, merges, pretokenizer)


def _most_frequent_characters(counts: Counter[str], limit: int, coverage: float) -> list[str]:
    """Return at most `limit` characters, most frequent first, and no more than make up `coverage` of the text."""
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
    """Return the merges that make up to `n_merges` new tokens.

    BpeTrainer breaks ties by a symbol's number, and numbers the symbols that have a suffix in the order of a hash
    table, which differs from process to process. So it is given one character for each symbol, in the vocabulary's
    order.
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
    """Yield each word as often as it was counted, with a blank for each symbol that `code` lacks: no pair spans it."""
    for word, count in counts.items():
        if len(word) == 1:
            continue  # no pair in it
        coded = "".join(code.get(symbol, " ") for symbol in (*word[:-1], word[-1] + END_OF_WORD)) + " "
        at_once = max(1, _CHARACTERS_AT_ONCE // len(coded))
        for done in range(0, count, at_once):
            yield coded * min(at_once, count - done)
