"""Slow reference for OpenAI's `text_utils.py`: ftfy, regular expressions and spaCy on the whole text.

Used by tests/test_openai_pretokenizer.py and as the baseline of benchmarks/tokenizer.py.
Needs the extra `openai`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any

import ftfy
import spacy

Merges = list[tuple[str, str]]
_REPLACED = {"—": "-", "–": "-", "―": "-", "…": "...", "´": "'"}
_RUNS = re.compile(r'(-+|~+|!+|"+|;+|\?+|\++|,+|\)+|\(+|\/+|\*+|\[+|\]+|}+|{+|\|+|_+)')


def standardise(text: str) -> str:
    for found, put in _REPLACED.items():
        text = text.replace(found, put)
    text = _RUNS.sub(r" \1 ", text)
    text = re.sub(r"\s*\n\s*", " \n ", text)
    return re.sub(r"[^\S\n]+", " ", text).strip()


class OpenAITokenizer:
    """OpenAI's tokenizer: the `words` of a text and, with a vocabulary, its `ids`. BPE is cached by word."""

    def __init__(self, vocab: Mapping[str, int] | None = None, merges: Merges | None = None) -> None:
        self.vocab = vocab or {}
        self.ranks = {pair: rank for rank, pair in enumerate(merges or ())}
        self._pieces: dict[str, list[str]] = {}

    @cached_property
    def spacy(self) -> Any:
        return spacy.blank("en")

    def words(self, text: str) -> list[str]:
        """Return the lower-case tokens; a line break is without the blank that follows it in the original."""
        tokens = self.spacy(standardise(ftfy.fix_text(text)))
        return ["\n" if token.text == "\n " else token.text.lower() for token in tokens]

    def ids(self, text: str) -> list[int]:
        return [self.vocab.get(piece, 0) for word in self.words(text) for piece in self.pieces(word)]

    def pieces(self, word: str) -> list[str]:
        if word not in self._pieces:
            self._pieces[word] = self._merged([*word[:-1], word[-1] + "</w>"])
        return self._pieces[word]

    def _merged(self, symbols: list[str]) -> list[str]:
        while len(symbols) > 1:
            rank, best = min((self.ranks.get(pair, 1 << 30), pair) for pair in pairwise(symbols))
            if rank == 1 << 30:
                break
            merged, place = [], 0
            while place < len(symbols):
                taken = 2 if tuple(symbols[place : place + 2]) == best else 1
                merged.append("".join(symbols[place : place + taken]))
                place += taken
            symbols = merged
        return symbols
