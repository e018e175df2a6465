"""Incremental decoding: text is returned as soon as no later token can change it."""

from __future__ import annotations

from collections.abc import Sequence

from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.tokenization.vocab_files import END_OF_WORD, END_OF_WORD_BYTES


class TextStream:
    """Incremental decoder of a stream of tokens, up to the first of the strings in `stop`.

    The texts that `push` and `finish` return concatenate to what decoding all tokens at once adds to the text of
    `before`, the tokens before the stream. A word is returned with its last token, because only the whole word decides
    whether a blank precedes it (not before `n't`, but before `n'tis`). A suffix that may be the start of a stop string
    is held back until the next word decides.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int] = (), stop: Sequence[str] = ()):
        self.tokenizer, self.stop = tokenizer, [text.lower() for text in stop]
        self.stopped = False
        """Whether a stop string was found; no text is returned after it."""
        self._last_word = self._last_whole_word(before)
        self._word: list[int] = []
        self._held = ""

    def push(self, token: int) -> str:
        """Add a token; return the text that is now final, often empty."""
        self._word.append(token)
        return self._release(self._take_word()) if self._ends_word(self._word) else ""

    def finish(self) -> str:
        """Return the rest of the text, after the last token."""
        rest = self._release(self._take_word())
        if not self.stopped:
            rest, self._held = rest + self._held, ""
        return rest

    def _take_word(self) -> str:
        """Return the text that the tokens since the last complete word add."""
        known = len(self.tokenizer.decode(self._last_word))
        text = self.tokenizer.decode([*self._last_word, *self._word])[known:]
        self._last_word, self._word = self._word, []
        return text

    def _release(self, text: str) -> str:
        """Return the part of the held and the new text that is final; hold back the rest."""
        if self.stopped:
            return ""
        text = self._held + text
        matches = [start for stop in self.stop if (start := text.find(stop)) >= 0]
        if matches:
            self.stopped, self._held = True, ""
            return text[: min(matches)]
        longest = max(map(len, self.stop), default=1)
        held = next((size for size in range(longest - 1, 0, -1) if text and self._may_stop(text[-size:])), 0)
        cut = len(text) - min(held, len(text))
        self._held = text[cut:]
        return text[:cut]

    def _may_stop(self, end: str) -> bool:
        return any(stop.startswith(end) for stop in self.stop)

    def _ends_word(self, tokens: Sequence[int]) -> bool:
        """Return whether the last of `tokens` ends a word; after an unknown character `</w>` is bytes too."""
        *_, last = end = self.tokenizer.tokens(tokens[-len(END_OF_WORD_BYTES) :])
        return last.endswith(END_OF_WORD) or tuple(end) == END_OF_WORD_BYTES

    def _last_whole_word(self, tokens: Sequence[int]) -> list[int]:
        """Return the tokens of the last complete word, which decides what may follow without a blank."""
        size = len(END_OF_WORD_BYTES)
        ends = [i for i in range(len(tokens)) if self._ends_word(tokens[max(0, i + 1 - size) : i + 1])][-2:]
        if not ends:
            return []
        return list(tokens[ends[0] + 1 if len(ends) == 2 else 0 : ends[-1] + 1])
