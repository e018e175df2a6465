"""Pre-tokenizers: normalization of a text and its split into words, before BPE.

`fast` is a pipeline of the library `tokenizers`, so `tokenizer.json` contains all of it and any program that reads the
file splits text the same way. `openai`, the original code's (ftfy and spaCy), cannot be represented in that file: the
pipeline here is an approximation, and `openai_pretokenizer.py` is the exact one, in Python.
"""

from __future__ import annotations

from typing import NamedTuple

from tokenizers import Regex
from tokenizers.normalizers import NFC, Lowercase, Normalizer, Replace
from tokenizers.normalizers import Sequence as NormalizerSequence
from tokenizers.pre_tokenizers import PreTokenizer, Split

from gpt1.errors import UserError
from gpt1.tokenization.html_tags import TAG


class Pretokenizer(NamedTuple):
    """Pipeline of a normalizer and a pre-tokenizer of `tokenizers`."""

    normalizer: Normalizer
    pre_tokenizer: PreTokenizer


# Han, kana, and the length, repetition and closing marks of Japanese, which have no script in Unicode.
_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}" "\u3006\u3031-\u3035\u303c\u30fc\uff70\uff9e\uff9f"
_LETTER = rf"[\p{{L}}&&[^{_CJK}]]"
_LETTERS = rf"{_LETTER}[\p{{L}}\p{{M}}&&[^{_CJK}]]*+"

# Possessive quantifiers, so that a word of megabytes leaves no positions for backtracking.
_WORD = rf"{_LETTERS}(?:'{_LETTERS})*+|[{_CJK}][{_CJK}\p{{M}}]*+|\n|\S"


def _fast() -> Pretokenizer:
    return Pretokenizer(
        NormalizerSequence(
            [
                NFC(),
                Lowercase(),
                Replace(Regex(TAG), " "),
                Replace(Regex(r"[\r\n]\s*"), "\n"),
                Replace(Regex("[\u2018-\u201b\u02bc\u00b4]"), "'"),
                Replace(Regex("[\u201c-\u201f]"), '"'),
                Replace(Regex("[\u2010-\u2015]"), "-"),
                Replace("\u2026", "..."),
            ]
        ),
        Split(Regex(_WORD), behavior="removed", invert=True),
    )


# ---- approximation of OpenAI's pre-tokenizer for tokenizer.json

OPENAI_AGREEMENT = 0.90
"""Share of 2,420 reference texts (reviews, news, stories, exam texts, difficult lines) for which `tokenizer.json` alone
yields exactly the ids of OpenAI's code, as measured by `benchmarks/tokenizer.py`; 1 for the exact pre-tokenizer."""

_MARK = r"[\p{L}\p{M}\p{N}]"
_RUN = rf"{_MARK}++"
_END = rf"(?!{_MARK})"
_START = r"(?<![\p{L}\p{N}'])"
_CLITIC = rf"'(?:s|m|d|ll|re|ve){_END}"
_BEFORE_NOT = "ca|wo|sha|do|does|did|is|are|was|were|has|have|had|would|could|should|must|might|need|ai|dare|may|ought"
_WITH_DOT = (  # spaCy's list, without those that are also words
    r"mr|mrs|ms|dr|st|jr|mt|vs|v\.s|e\.g|i\.e|a\.m|p\.m|ph\.d|adm|bros|corp|gen|gov|inc|ltd|messrs|prof|rep|rev|sen|"
    "jan|feb|apr|aug|sep|sept|oct|nov|dec|ala|ariz|calif|conn|fla|kan|md|mich|minn|mont|neb|nev|okla|pa|tenn|wis"
)
_INSIDE = (
    rf"(?:'(?!(?:s|m|d|ll|re|ve){_END})|\.<|(?<=\d)[.:](?=\d)|\.(?=(?:com|net|org){_END})|(?<=\.\p{{L}})\.|[&@$%])"
)
_OPENAI_WORD = "|".join(
    [
        r"\n",
        r"\.\.+|--+|//+|~~+",
        rf"(?<![\p{{L}}\p{{N}}.])(?:[a-z]\.)+{_END}",  # initials
        rf"(?<![\p{{L}}\p{{N}}])(?:{_WITH_DOT})\.{_END}",
        rf"{_START}(?:{_BEFORE_NOT})(?=n't{_END})",
        rf"n't{_END}",
        rf"(?<=\w){_CLITIC}",
        rf"'em{_END}",
        rf"{_START}can(?=not{_END})",
        rf"(?<=can)not{_END}",
        rf"{_START}(?:gon|got)(?=(?:na|ta){_END})",
        rf"\d+(?=(?:am|pm|km|kg|mm|cm|m|g|lb){_END})",
        rf"{_RUN}(?:{_INSIDE}(?=[\p{{L}}\p{{N}}]){_RUN})*+",
        rf"(?:@|`|\.<)(?=\w){_RUN}",
        r"\S",
    ]
)


def _nearest_to_openai() -> Pretokenizer:
    return Pretokenizer(
        NormalizerSequence(
            [
                NFC(),
                Replace(Regex("[\u02bc\u2018-\u201b\u00b4\u0091\u0092]"), "'"),
                Replace(Regex("[\u201c-\u201f\u0093\u0094]"), '"'),
                Replace(Regex("[\u2013\u2014\u2015\u0096\u0097]"), "-"),
                Replace(Regex("[\u2026\u0085]"), "..."),
                Replace("&amp;", "&"),
                Replace(Regex(r"[\r\n]\s*"), "\n"),
                Replace(Regex(r"\A\s+|\s+\Z"), ""),
                Lowercase(),
            ]
        ),
        Split(Regex(_OPENAI_WORD), behavior="removed", invert=True),
    )


PRETOKENIZERS: dict[str, Pretokenizer] = {"fast": _fast(), "openai": _nearest_to_openai()}
"""Pipelines by name.

`fast`: NFC; lower case, character by character; HTML tags (`html_tags`) become blanks; curly quotes, dashes and `…`
become ASCII. A word is a run of letters with their combining marks and inner apostrophes (`don't`), a run of Han and
kana, a line break, or any other single character: a digit, a punctuation mark, a symbol. Blanks only separate words.
`\\r\\n` and `\\r` are line breaks, and line breaks with only blanks between them are one, as in OpenAI's
`text_standardize`.

`openai`: an approximation of ftfy and spaCy by a regular expression; `Tokenizer` and `split` use the exact one.
"""


def find_pretokenizer(name: str) -> Pretokenizer:
    """Return the pipeline of the pre-tokenizer `name`. Raises UserError for an unknown name."""
    try:
        return PRETOKENIZERS[name]
    except KeyError:
        known = ", ".join(sorted(PRETOKENIZERS))
        raise UserError(f"unknown pre-tokenizer {name!r}: expected one of {known}") from None


def valid_unicode(text: str) -> str:
    """Return `text` with each lone surrogate, which cannot be encoded as UTF-8, replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def split(text: str, pretokenizer: str = "fast") -> list[str]:
    """Return the words of `text`, normalised and split by a pre-tokenizer."""
    if pretokenizer == "openai":
        from gpt1.tokenization import openai_pretokenizer

        return openai_pretokenizer.split(text)
    normalizer, pre_tokenizer = find_pretokenizer(pretokenizer)
    return [word for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(valid_unicode(text)))]
