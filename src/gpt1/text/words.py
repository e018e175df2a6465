"""From text to words: what happens before BPE.

A splitter is a `tokenizers` normaliser and pre-tokeniser, so that a saved `tokenizer.json` holds all of it and any
program that reads the file splits alike. The exact splitter of the original code (`openai`: ftfy and spaCy) cannot be
written into that file: when it joins `SPLITTERS`, it brings the nearest pipeline there, and its exact work in Python.
"""

from __future__ import annotations

from typing import NamedTuple

from tokenizers import Regex
from tokenizers.normalizers import NFC, Lowercase, Normalizer, Replace
from tokenizers.normalizers import Sequence as NormalizerSequence
from tokenizers.pre_tokenizers import PreTokenizer, Split

from gpt1.errors import UserError


class Splitter(NamedTuple):
    normalizer: Normalizer
    pre_tokenizer: PreTokenizer


# Han, kana, and the length, repetition and closing marks of Japanese, which Unicode assigns to no script.
_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}" "\u3006\u3031-\u3035\u303c\u30fc\uff70\uff9e\uff9f"
_LETTER = rf"[\p{{L}}&&[^{_CJK}]]"
_LETTERS = rf"{_LETTER}[\p{{L}}\p{{M}}&&[^{_CJK}]]*+"

# Possessive quantifiers: a word of megabytes leaves no trail of places to come back to.
_WORD = rf"{_LETTERS}(?:'{_LETTERS})*+|[{_CJK}][{_CJK}\p{{M}}]*+|\n|\S"

# A tag starts with a letter right after "<" or "</", or with "<!". It holds no other "<", which keeps the search
# linear, and at most 1,000 characters, so that two far signs do not take the text between them along.
_TAG = r"<(?:/?[A-Za-z]|!)[^<>]{0,1000}>"


def _fast() -> Splitter:
    return Splitter(
        NormalizerSequence(
            [
                NFC(),
                Replace(Regex(_TAG), " "),
                Replace(Regex(r"[\r\n]\s*"), "\n"),
                Replace(Regex("[\u2018-\u201b\u02bc\u00b4]"), "'"),
                Replace(Regex("[\u201c-\u201f]"), '"'),
                Replace(Regex("[\u2010-\u2015]"), "-"),
                Replace("\u2026", "..."),
                Lowercase(),
            ]
        ),
        Split(Regex(_WORD), behavior="removed", invert=True),
    )


SPLITTERS: dict[str, Splitter] = {"fast": _fast()}
"""Splitters by name.

`fast`: NFC; HTML tags become blanks; curly quotes, dashes and `…` become ASCII; lower case, character by character. A
word is a run of letters with their combining marks and inner apostrophes (`don't`), a run of Han and kana, a line
break, or any other single character: a digit, a punctuation mark, a symbol. Blanks separate words and vanish. `\\r\\n`
and `\\r` are line breaks, and line breaks with nothing but blanks between them are one, as in OpenAI's
`text_standardize`.
"""


def splitter(name: str) -> Splitter:
    """Return the splitter called `name`. Raises UserError where there is none."""
    try:
        return SPLITTERS[name]
    except KeyError:
        raise UserError(f"unknown word splitter {name!r}: expected one of {', '.join(sorted(SPLITTERS))}") from None


def valid_unicode(text: str) -> str:
    """Return `text` with each lone surrogate, which no UTF-8 can hold, replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def split(text: str, words: str = "fast") -> list[str]:
    """Return the words of `text`, as splitter `words` normalises and separates them."""
    normalizer, pre_tokenizer = splitter(words)
    return [word for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(valid_unicode(text)))]
