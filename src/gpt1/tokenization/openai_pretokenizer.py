"""The tokenisation of OpenAI's code, exactly: ftfy, `text_standardize`, spaCy's English rules, lower case, BPE, fast.

A text is lines, a line is *chunks* (runs without white space), a chunk is *pieces* (it is split around runs of a mark),
a piece is words, a word is ids. From the chunk on, hardly anything depends on the neighbours, so the ids of chunks and
pieces are kept, and encoding what was seen before takes one look-up a chunk. What sees more than a chunk: ftfy (a line
and those before it), line breaks, and spaCy's special cases (see `Words`).

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
"""A longer run without white space is cut after every so many characters: spaCy's time grows with a run's square."""
LONGEST_LINE = 100_000
"""A line of more chunks is read in parts of so many."""
AT_ONCE = 128
"""Pieces that spaCy reads at once: bounds the memory of its documents."""
LONGEST_KEPT = 64
"""Characters of a chunk whose ids are kept; longer ones hardly come again."""
MOST_KEPT = 1 << 19
"""Chunks and pieces whose ids are kept, some 150 MB; when there are more, all are forgotten."""

Ids = tuple[int, ...]


# ---- text to chunks: ftfy


def lines_of(text: str) -> Iterator[list[str]]:
    """Yield the chunks of each line of `text` that is not blank, as ftfy repairs it."""
    for line in repaired_lines(text):
        if chunks := line.split():
            if len(line) > LONGEST_CHUNK and max(map(len, chunks)) > LONGEST_CHUNK:
                chunks = [*chain.from_iterable(map(_cut, chunks))]
            yield chunks


def _cut(chunk: str) -> Iterator[str]:
    return (chunk[start : start + LONGEST_CHUNK] for start in range(0, len(chunk), LONGEST_CHUNK))


# ---- chunks to pieces: text_standardize

_ASCII = str.maketrans({"—": "-", "–": "-", "―": "-", "…": "...", "´": "'"})
_MARKS = re.compile("|".join(f"{re.escape(mark)}+" for mark in '-~!";?+,)(/*[]}{|_'))
"""No backslash: the original's pattern is no raw string, so what looks like one is a second plus sign."""


def pieces_of(chunk: str) -> list[str]:
    """Return what `text_standardize` makes of a chunk: dashes and dots in ASCII, blanks around runs of a mark.

    A piece is a chunk that stays as it is.
    """
    return _MARKS.sub(r" \g<0> ", chunk.translate(_ASCII)).split()


# ---- pieces to words: spaCy

_LONGEST_SUFFIX = 8
"""Characters at the end of a piece that hold any suffix of spaCy's but a run of dots (the longest has 5)."""


class SpacyTokenizer:
    """What words spaCy's English tokeniser makes of pieces. One object may serve several threads.

    spaCy looks for special cases ("lol:D") in the tokens of the whole text, so a match that spans a blank and changes
    nothing can hide one inside a piece. Tokenised without that search, a piece in whose tokens no special case is found
    has the same words everywhere; any other has to be read with what stands beside it, as far as a special case may
    span: not across a line break, nor a word that is part of none.
    """

    def __init__(self) -> None:
        try:
            import spacy
            from spacy.tokenizer import Tokenizer
            from spacy.util import compile_infix_regex, compile_prefix_regex, compile_suffix_regex
        except ImportError:
            raise not_installed("spaCy") from None
        if importlib.util.find_spec("ftfy") is None:  # at once, and not at the first text that needs it
            raise not_installed("ftfy")
        english = spacy.blank("en")
        self._vocab = english.vocab
        self._rules = frozenset(english.tokenizer.rules)
        prefix = compile_prefix_regex(english.Defaults.prefixes)
        suffix = compile_suffix_regex(english.Defaults.suffixes)
        infix = compile_infix_regex(english.Defaults.infixes)
        ready = False

        # Every prefix is anchored, and a suffix is short: so a piece of nothing but quotes takes a bearable time.
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

        # A tokeniser searches its tokens for those special cases that had an affix when it was made.
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
        """Return the words of each piece, lower case; None where they may depend on the rest of the line."""
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
        """Whether a piece is one word and part of no special case, so that none spans it."""
        return self._is_a_word(piece) and piece not in self._of_cases

    def _is_a_word(self, piece: str) -> bool:
        """Whether a piece is letters without a rule of their own: no affix is of letters alone."""
        return piece.isascii() and piece.isalpha() and piece not in self._rules

    def of_line(self, pieces: Iterable[str]) -> list[str]:
        """Return the words of a line, or of a part of it between pieces that stand alone, lower case."""
        with self._lock, self._vocab.memory_zone():
            return [token.text.lower() for token in self._whole(" ".join(pieces))]

    def _holds_a_case(self, words: Sequence[str]) -> bool:
        return any(
            tuple(words[start : start + len(case)]) == case
            for start in range(len(words) - 1)
            for case in self._cases.get(tuple(words[start : start + 2]), ())
        )


@cache
def spacy_tokenizer() -> SpacyTokenizer:
    """Return the process's `SpacyTokenizer`: spaCy takes a second or two to load."""
    return SpacyTokenizer()


def split(text: str) -> list[str]:
    """Return the words of `text`, lower case, a line break for each one or more of them between words."""
    words: list[str] = []
    for chunks in lines_of(text):
        if words:
            words.append("\n")
        words += spacy_tokenizer().of_line(chain.from_iterable(map(pieces_of, chunks)))
    return words


# ---- words to ids: what was seen is kept


class Encoder:
    """Texts to ids. Threads may share it."""

    def __init__(self, bpe: Callable[[Sequence[str]], list[Ids]]) -> None:
        """`bpe` returns the ids of each word of a list."""
        self._bpe = bpe
        self._newline = bpe(["\n"])[0]
        self._kept: dict[str, Ids] = {}

    def encode(self, text: str) -> list[int]:
        """Return the ids that OpenAI's code gives `text`."""
        ids: list[int] = []
        for chunks in lines_of(text):
            if ids:
                ids += self._newline
            try:
                ids += [*chain.from_iterable(map(self._kept.__getitem__, chunks))]  # whole, or not at all
            except KeyError:
                ids += self._of_line(chunks)
        return ids

    def _of_line(self, chunks: Sequence[str]) -> Iterable[int]:
        """Return the ids of a line with a chunk that is not known yet, or depends on its neighbours."""
        if len(chunks) > LONGEST_LINE:
            return chain(*map(self._of_line, _batched(chunks, LONGEST_LINE)))
        if len(self._kept) > MOST_KEPT:
            self._kept = {}
        kept = self._kept  # nothing is ever taken out of it, whatever other threads do
        new = {chunk: pieces_of(chunk) for chunk in chunks if chunk not in kept}
        new_ids = self._of_pieces(dict.fromkeys(piece for piece in chain(*new.values()) if piece not in kept))
        if None in new_ids.values():
            kept.update((piece, ids) for piece, ids in new_ids.items() if ids and len(piece) <= LONGEST_KEPT)
            return self._in_context(chain(*map(pieces_of, chunks)), kept)
        new_ids |= {chunk: tuple(chain(*(new_ids.get(piece) or kept[piece] for piece in new[chunk]))) for chunk in new}
        kept.update((run, ids) for run, ids in new_ids.items() if ids and len(run) <= LONGEST_KEPT)
        return chain(*(new_ids.get(chunk) or kept[chunk] for chunk in chunks))

    def _in_context(self, pieces: Iterable[str], kept: Mapping[str, Ids]) -> Iterator[int]:
        """Yield the ids of a line of which some piece has other words in other lines."""
        for _, group in groupby(pieces, spacy_tokenizer().stands_alone):
            part = [*group]
            try:
                yield from [*chain(*(kept[piece] for piece in part))]
            except KeyError:
                yield from chain(*self._bpe(spacy_tokenizer().of_line(part)))

    def _of_pieces(self, pieces: Iterable[str]) -> dict[str, Ids | None]:
        """Return the ids of each piece; None where its words may depend on the rest of the line."""
        ids_of: dict[str, Ids | None] = {}
        for some in _batched(pieces, AT_ONCE):
            words_of = spacy_tokenizer().of_pieces(some)
            ids = iter(self._bpe([*chain(*filter(None, words_of.values()))]))
            ids_of |= {
                piece: tuple(chain(*islice(ids, len(parts)))) if parts else None for piece, parts in words_of.items()
            }
        return ids_of


def _batched(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """itertools.batched of Python 3.12."""
    items = iter(items)
    while some := list(islice(items, size)):
        yield some
