"""Offsets of a tokenizer's words in the original text, for highlighting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from unicodedata import combining, normalize

from gpt1.tokenization.ftfy_fast_path import typewritten

Span = tuple[int, int]
"""First character and the one after the last, in code points."""

RESYNCHRONISED = 4
"""So many equal characters in a row say that two texts go on together."""
FARTHEST = 120
"""Characters, of both texts together, after which that is given up."""


class Word(NamedTuple):
    text: str
    """As it stands in the text; as the tokenizer has it where it was not found there."""
    start: int | None
    end: int | None
    size: int
    """How many tokens it is."""


def words_in(text: str, spans: Iterable[tuple[str, Span | None, int]]) -> list[Word]:
    """Return the words of `text` from their names, spans and numbers of tokens, in order.

    Those of one place are one: `…` is three full stops to a tokenizer. A combining mark belongs to what it stands on.
    """
    words: list[Word] = []
    last = 0  # where the word before ends
    for name, span, size in spans:
        if span is None:
            words.append(Word(name, None, None, size))
            continue
        start, end = span
        while end < len(text) and combining(text[end]):
            end += 1
        if words and start < last:
            before = words.pop()
            start, end, size = before.start or 0, max(end, last), size + before.size
        words.append(Word(text[start:end], start, end, size))
        last = end
    return words


def find_words(words: Sequence[str], text: str) -> list[Span | None]:
    """Return the span in `text` of each word that pre-tokenizer `openai` made of it; None if it is unknown.

    That pre-tokenizer repairs a text first and returns no offsets. So both are compared character by character, without
    blanks, case, accents and typography; where they differ (mojibake, entities) the comparison resumes at the nearest
    position from which both agree. A word begins and ends at characters that are equal.
    """
    in_text = [(c, position) for position, char in enumerate(text) for c in _plain(char)]
    in_words = [(c, index) for index, word in enumerate(words) for c in _plain(word)]
    spans: list[Span | None] = [None] * len(words)
    for i, j in _pairs("".join(c for c, _ in in_text), "".join(c for c, _ in in_words)):
        position, index = in_text[i][1], in_words[j][1]
        before = spans[index]
        spans[index] = (before[0] if before else position, position + 1)
    return spans


def _plain(text: str) -> str:
    letters = normalize("NFKD", typewritten(text)).lower()
    return "".join(c for c in letters if not c.isspace() and not combining(c))


def _pairs(one: str, other: str) -> Iterable[Span]:
    """Yield (i, j) in ascending order where one[i] and other[j] are the same character of two almost equal texts."""
    i = j = 0
    while i < len(one) and j < len(other):
        if one[i] == other[j]:
            yield i, j
            i, j = i + 1, j + 1
        elif (skip := _nearest(one[i : i + FARTHEST], other[j : j + FARTHEST])) is not None:
            i, j = i + skip[0], j + skip[1]
        else:
            return


def _nearest(one: str, other: str) -> Span | None:
    """Return how many characters of each to leave out, the fewest, so that both go on together."""
    for total in range(1, FARTHEST):
        for left in range(min(total, len(one)) + 1):
            right = total - left
            if right <= len(other):
                a, b = one[left : left + RESYNCHRONISED], other[right : right + RESYNCHRONISED]
                if a == b and (len(a) == RESYNCHRONISED or (left + len(a), right + len(b)) == (len(one), len(other))):
                    return left, right
    return None
