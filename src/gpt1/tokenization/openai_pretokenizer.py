"""Exact tokenization of OpenAI's code: ftfy, `text_standardize`, spaCy's English rules, lower case, BPE.

A text is split into lines, a line into *chunks* (runs without white space), a chunk into *pieces* (at runs of a
punctuation mark), a piece into words, a word into ids. The ids of most chunks and pieces do not depend on their
neighbours, so they are cached, and a known chunk takes one look-up. Only three things depend on more than a chunk: ftfy
(on the line and those before it), line breaks, and spaCy's special cases (see `SpacyTokenizer`).

Source: openai/finetune-transformer-lm `text_utils.py`. Versions: spaCy 3.8, ftfy 6.3.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, groupby, islice
from typing import Any

from gpt1.tokenization.ftfy_fast_path import not_installed, repaired_lines

LONGEST_CHUNK = 2_000
"""Maximum characters of a chunk; longer ones are split, because spaCy's time grows with the square of the length."""
LONGEST_LINE = 100_000
"""Maximum chunks of a line; longer lines are processed in parts."""
AT_ONCE = 128
"""Pieces per call of spaCy, which limits the memory of its documents."""
LONGEST_KEPT = 64
"""Maximum characters of a cached chunk or piece; longer ones are rarely repeated."""
MOST_KEPT = 1 << 19
"""Maximum number of cached chunks and pieces, about 150 MB; the cache is cleared when it is exceeded."""

Ids = tuple[int, ...]


# ---- text to chunks: ftfy


def lines_of(text: str) -> Iterator[list[str]]:
    """Yield the chunks of each line of `text` that is not blank, after repair by ftfy."""
    for line in repaired_lines(text):
        if chunks := line.split():
            if len(line) > LONGEST_CHUNK and max(map(len, chunks)) > LONGEST_CHUNK:
                chunks = [*chain.from_iterable(map(_cut, chunks))]
            yield chunks


def _cut(chunk: str) -> Iterator[str]:
    """Split a chunk into parts of at most `LONGEST_CHUNK` characters."""
    return (chunk[start : start + LONGEST_CHUNK] for start in range(0, len(chunk), LONGEST_CHUNK))


# ---- chunks to pieces: text_standardize

_ASCII = str.maketrans({"—": "-", "–": "-", "―": "-", "…": "...", "´": "'"})
_MARKS = re.compile("|".join(f"{re.escape(mark)}+" for mark in '-~!";?+,)(/*[]}{|_'))
"""Without the backslash: the original's pattern is not a raw string, so `\\\\+` in it is a second plus sign."""


def pieces_of(chunk: str) -> list[str]:
    """Split a chunk as `text_standardize` does: dashes and dots in ASCII, blanks around runs of a mark.

    The pieces of a piece are the piece itself.
    """
    return _MARKS.sub(r" \g<0> ", chunk.translate(_ASCII)).split()


# ---- pieces to words: spaCy

_LONGEST_SUFFIX = 8
"""Characters at the end of a piece that contain every suffix of spaCy except a run of dots (the longest has 5)."""


class SpacyTokenizer:
    """spaCy's English tokenizer, applied to pieces. Thread-safe.

    spaCy searches for special cases ("lol:D") in the tokens of the whole text, so a match that spans a blank and
    changes nothing can hide one inside a piece. Here a piece is tokenized without that search. If its tokens contain no
    special case, its words are the same in every context. Any other piece has to be tokenized with its neighbours, as
    far as a special case may span: up to a line break, or to a word that is part of none.
    """

    def __init__(self) -> None:
        try:
            import spacy
            from spacy.tokenizer import Tokenizer
            from spacy.util import compile_infix_regex, compile_prefix_regex, compile_suffix_regex
        except ImportError:
            raise not_installed("spaCy") from None
        if importlib.util.find_spec("ftfy") is None:  # fail now, not at the first text that needs it
            raise not_installed("ftfy")
        english = spacy.blank("en")
        self._vocab = english.vocab
        self._rules = frozenset(english.tokenizer.rules)
        prefix = compile_prefix_regex(english.Defaults.prefixes)
        suffix = compile_suffix_regex(english.Defaults.suffixes)
        infix = compile_infix_regex(english.Defaults.infixes)
        ready = False

        # Every prefix is anchored, and suffixes are short. With that, a piece that is all quotes takes acceptable time.
        def prefix_search(string: str) -> re.Match[str] | None:
            return prefix.match(string) if ready else None

        def suffix_search(string: str) -> re.Match[str] | None:
            return suffix.search(string, max(0, len(string.rstrip(".")) - _LONGEST_SUFFIX)) if ready else None

        def infix_finditer(string: str) -> Iterator[re.Match[str]]:
            return infix.finditer(string) if ready else iter(())

        def tokenizer(rules: dict[str, Any] | None) -> Callable[[str], Any]:
            made: Callable[[str], Any] = Tokenizer(
                self._vocab, rules, prefix_search, suffix_search, infix_finditer, url_match=english.tokenizer.url_match
            )
            return made

        # A tokenizer searches for those special cases that contained an affix when it was created: here for none.
        self._by_piece, affixes_alone = tokenizer(english.tokenizer.rules), tokenizer(None)
        ready = True
        self._whole = tokenizer(english.tokenizer.rules)
        self._cases: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        self._of_cases: set[str] = set()
        for case in self._rules:
            before, after = (tuple(token.text for token in read(case)) for read in (affixes_alone, self._by_piece))
            self._of_cases.update(before)
            if len(before) > 1 and before != after:
                self._cases.setdefault(before[:2], set()).add(before)
        self._lock = threading.Lock()

    def of_pieces(self, pieces: Iterable[str]) -> dict[str, list[str] | None]:
        """Return the lower-case words of each piece; None if they may depend on the rest of the line."""
        words_of: dict[str, list[str] | None] = {}
        hard: list[str] = []
        for piece in pieces:
            if self._is_a_word(piece):
                words_of[piece] = [piece.lower()]
            else:
                hard.append(piece)
        with self._lock, self._vocab.memory_zone():
            tokens = iter([(token.text, token.whitespace_) for token in self._by_piece(" ".join(hard))])
        for piece in hard:
            words: list[str] = []
            for word, blank in tokens:
                words.append(word)
                if blank:
                    break
            words_of[piece] = None if self._holds_a_case(words) else [word.lower() for word in words]
        return words_of

    def stands_alone(self, piece: str) -> bool:
        """Return whether a piece is one word and part of no special case, so that none can span it."""
        return self._is_a_word(piece) and piece not in self._of_cases

    def _is_a_word(self, piece: str) -> bool:
        """Return whether a piece is letters without a rule, hence a word: no affix consists of letters only."""
        return piece.isascii() and piece.isalpha() and piece not in self._rules

    def of_line(self, pieces: Iterable[str]) -> list[str]:
        """Return the lower-case words of a line, or of a part of it between pieces that stand alone."""
        with self._lock, self._vocab.memory_zone():
            return [token.text.lower() for token in self._whole(" ".join(pieces))]

    def _holds_a_case(self, words: Sequence[str]) -> bool:
        """Return whether `words` contain a special case."""
        return any(
            tuple(words[start : start + len(case)]) == case
            for start in range(len(words) - 1)
            for case in self._cases.get(tuple(words[start : start + 2]), ())
        )


@cache
def spacy_tokenizer() -> SpacyTokenizer:
    """Return the only `SpacyTokenizer` of the process, because spaCy takes a second or two to load."""
    return SpacyTokenizer()


def split(text: str) -> list[str]:
    """Return the lower-case words of `text`, with one line break for each run of line breaks between words."""
    words: list[str] = []
    for chunks in lines_of(text):
        if words:
            words.append("\n")
        words += spacy_tokenizer().of_line(chain.from_iterable(map(pieces_of, chunks)))
    return words


# ---- words to ids, with a cache


class Encoder:
    """Encoder of texts to token ids, with a cache of chunks and pieces. Thread-safe.

    `bpe` returns the token ids of each word of a list.
    """

    def __init__(self, bpe: Callable[[Sequence[str]], list[Ids]]) -> None:
        self._bpe = bpe
        self._newline = bpe(["\n"])[0]
        self._kept: dict[str, Ids] = {}

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, equal to those of OpenAI's code."""
        ids: list[int] = []
        for chunks in lines_of(text):
            if ids:
                ids += self._newline
            try:
                ids += [*chain.from_iterable(map(self._kept.__getitem__, chunks))]  # adds nothing if one is missing
            except KeyError:
                ids += self._of_line(chunks)
        return ids

    def _of_line(self, chunks: Sequence[str]) -> Iterable[int]:
        """Return the ids of a line with a chunk that is not cached, and cache those that do not depend on the line."""
        if len(chunks) > LONGEST_LINE:
            return chain(*map(self._of_line, _batched(chunks, LONGEST_LINE)))
        if len(self._kept) > MOST_KEPT:
            self._kept = {}
        kept = self._kept  # other threads add to it and may replace it, but never remove entries
        new = {chunk: pieces_of(chunk) for chunk in chunks if chunk not in kept}
        new_ids = self._of_pieces(dict.fromkeys(piece for piece in chain(*new.values()) if piece not in kept))
        if None in new_ids.values():
            kept.update((piece, ids) for piece, ids in new_ids.items() if ids and len(piece) <= LONGEST_KEPT)
            return self._in_context(chain(*map(pieces_of, chunks)), kept)
        new_ids |= {chunk: tuple(chain(*(new_ids.get(piece) or kept[piece] for piece in new[chunk]))) for chunk in new}
        kept.update((run, ids) for run, ids in new_ids.items() if ids and len(run) <= LONGEST_KEPT)
        return chain(*(new_ids.get(chunk) or kept[chunk] for chunk in chunks))

    def _in_context(self, pieces: Iterable[str], kept: Mapping[str, Ids]) -> Iterator[int]:
        """Yield the ids of a line in which the words of a piece depend on its neighbours."""
        for _, group in groupby(pieces, spacy_tokenizer().stands_alone):
            part = [*group]
            try:
                yield from [*chain(*(kept[piece] for piece in part))]
            except KeyError:
                yield from chain(*self._bpe(spacy_tokenizer().of_line(part)))

    def _of_pieces(self, pieces: Iterable[str]) -> dict[str, Ids | None]:
        """Return the ids of each piece; None if its words may depend on the rest of the line."""
        ids_of: dict[str, Ids | None] = {}
        for some in _batched(pieces, AT_ONCE):
            words_of = spacy_tokenizer().of_pieces(some)
            ids = iter(self._bpe([*chain(*filter(None, words_of.values()))]))
            ids_of |= {
                piece: tuple(chain(*islice(ids, len(parts)))) if parts else None for piece, parts in words_of.items()
            }
        return ids_of


def _batched(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield lists of `size` items, as `itertools.batched` of Python 3.12."""
    items = iter(items)
    while some := list(islice(items, size)):
        yield some
