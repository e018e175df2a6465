"""Offsets of a tokenizer's words in the original text, for highlighting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from unicodedata import combining, normalize

from gpt1.tokenization.ftfy_fast_path import typewritten

Span = tuple[int, int]
"""Start and end (exclusive) in code points."""

RESYNCHRONISED = 4
"""Number of consecutive equal characters after which two texts count as aligned again."""
FARTHEST = 120
"""Maximum number of characters, of both texts together, to skip in search of that."""


class Word(NamedTuple):
    """Word with its offsets in the text."""

    text: str
    """The word as in the text, or as the tokenizer has it if it was not found there."""
    start: int | None
    """First character, in code points; None if the word was not found."""
    end: int | None
    """Character after the last."""
    size: int
    """Number of tokens."""


def words_in(text: str, spans: Iterable[tuple[str, Span | None, int]]) -> list[Word]:
    """Return the words of `text` from the tokenizer's words, their spans and numbers of tokens, in order.

    Words with overlapping spans are merged: `…` is three full stops to a tokenizer. A combining mark is part of the
    word before it.
    """
    words: list[Word] = []
    last = 0  # end of the previous word
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
    """Return the span in `text` of each word that the pre-tokenizer `openai` made of it; None if it is not found.

    That pre-tokenizer repairs the text first and returns no offsets. So words and text are compared character by
    character, ignoring blanks, case, accents and typography. Where they differ (mojibake, entities), the comparison
    resumes at the nearest position from which both agree. A span starts and ends at characters that are equal.
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
    """Return `text` in the form for comparison: lower case, without accents, typography and blanks."""
    letters = normalize("NFKD", typewritten(text)).lower()
    return "".join(c for c in letters if not c.isspace() and not combining(c))


def _pairs(one: str, other: str) -> Iterable[Span]:
    """Align two almost equal texts: yield (i, j) in ascending order where one[i] and other[j] correspond."""
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
    """Return how many characters of each text to skip, as few as possible, so that they agree; None if that fails."""
    for total in range(1, FARTHEST):
        for left in range(min(total, len(one)) + 1):
            right = total - left
            if right <= len(other):
                a, b = one[left : left + RESYNCHRONISED], other[right : right + RESYNCHRONISED]
                if a == b and (len(a) == RESYNCHRONISED or (left + len(a), right + len(b)) == (len(one), len(other))):
                    return left, right
    return None
