"""Detection of the encoding of a text file from its bytes."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

SAMPLE_SIZE = 1 << 18
"""Bytes, from the first one that is not ASCII, by which an encoding is detected."""

MARKS = {
    codecs.BOM_UTF8: ("utf-8", "UTF-8"),
    codecs.BOM_UTF32_LE: ("utf-32-le", "UTF-32"),  # before UTF-16, whose mark is the start of this one
    codecs.BOM_UTF32_BE: ("utf-32-be", "UTF-32"),
    codecs.BOM_UTF16_LE: ("utf-16-le", "UTF-16"),
    codecs.BOM_UTF16_BE: ("utf-16-be", "UTF-16"),
}
"""Byte-order mark -> (codec, name)."""

USUAL_SHARE = 0.8
"""Least share of usual characters of a script in a text of it; a text in another encoding has half of it at most."""


class Script(NamedTuple):
    """A multi-byte encoding."""

    codec: str
    name: str
    usual: Callable[[str], bool]
    """Whether a character is usual in such text: of the first level of its standard."""
    frequent: str
    """The most frequent characters of such text, by which two scripts are told apart."""


def _lead(codec: str, first: int, last: int) -> Callable[[str], bool]:
    """Return a test of the first byte of a character in a double-byte encoding."""

    def usual(character: str) -> bool:
        encoded = character.encode(codec, "ignore")
        return len(encoded) == 2 and first <= encoded[0] <= last

    return usual


_PUNCTUATION = re.compile("[\u2010-\u2027\u3000-\u301f\uff01-\uff5e·]")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fe]")
_CHINESE, _KANJI, _HANGUL = _lead("gb2312", 0xB0, 0xD7), _lead("shift_jis", 0x88, 0x98), _lead("euc_kr", 0xB0, 0xC8)
_TRADITIONAL = _lead("big5", 0xA4, 0xC6)


def _japanese(character: str) -> bool:
    return bool(_KANA.match(character)) or _KANJI(character)


_FREQUENT_KANA = "のにはをたがでてとしれさあいうるなもすまりくんかこっきよだらー"

SCRIPTS = (
    Script("gb18030", "GB18030", _CHINESE, "的一是不了人我在有他这个们来到大说为子和你地出也时得就那要会可好很看没"),
    Script("cp932", "Shift-JIS", _japanese, _FREQUENT_KANA),
    Script("cp949", "EUC-KR", _HANGUL, "이다는에의가을를고하지은기도사한로서어나자아리있그해것보좋너무"),
    Script("euc_jp", "EUC-JP", _japanese, _FREQUENT_KANA),
    Script("big5", "Big5", _TRADITIONAL, "的一是不了人我在有他這個們來到大說為子和你地出也時得就那要會可好很看沒"),
)
CP1252 = Script("cp1252", "cp1252", lambda _: False, "")


def by_mark(head: bytes) -> tuple[str, str] | None:
    """Return (codec, name) of a file that begins with a byte-order mark."""
    return next((found for mark, found in MARKS.items() if head.startswith(mark)), None)


def utf16_by_zeros(head: bytes) -> str | None:
    """Return the codec of UTF-16 without a byte-order mark; None if `head` is not such text.

    ASCII characters have a zero as every second byte there, and line breaks are characters, not halves of others.
    """
    units = len(head) // 2
    low, high = head[0::2], head[1::2]
    codec = "utf-16-le"
    if low.count(0) > high.count(0):
        low, high, codec = high, low, "utf-16-be"
    zeros = high.count(0)
    if not zeros or (zeros < units // 4 and _decodes(head, "utf-8")):
        return None
    text = _decoded(head, codec) or ""
    breaks, halves = text.count("\n") + text.count("\r"), high.count(b"\n") + high.count(b"\r")
    return codec if breaks > 10 * halves and text.count("\0") < len(text) / 20 else None


def detect(sample: bytes) -> Script | None:
    """Return the encoding of bytes that are not ASCII alone: None for UTF-8, cp1252 (a guess) if no script fits.

    A text that is mostly UTF-8 is UTF-8: reading its other bytes is an error.
    """
    if _decodes(sample, "utf-8"):
        return None
    mostly_utf8 = _utf8_share(sample) >= 0.5
    texts = {script: text for script in SCRIPTS if (text := _text_of(script, sample))}
    frequencies = {script: _frequency(text, script) for script, text in texts.items()}
    best = max(frequencies, key=lambda script: frequencies[script], default=CP1252)
    if mostly_utf8 and not frequencies.get(best):
        return None
    return best


def first_word(sample: bytes, codec: str) -> tuple[str, str]:
    """Return the first word that is not ASCII: its bytes as text with escapes, and decoded."""
    at = next(i for i, byte in enumerate(sample) if byte >= 0x80)
    word = rb"[^\s,;|\"]*"
    before = re.search(word + rb"\Z", sample[max(0, at - 40) : at])
    after = re.match(word, sample[at : at + 40])
    assert before is not None
    assert after is not None
    raw = before[0] + after[0]
    return raw.decode("ascii", "backslashreplace"), raw.decode(codec, "replace").rstrip("\ufffd")


def _text_of(script: Script, sample: bytes) -> str:
    """Return the characters of a sample beyond ASCII if it is such text, else ""."""
    text = _decoded(sample, script.codec)
    counts = Counter(character for character in text or "" if not character.isascii())
    usual = sum(n for character, n in counts.items() if script.usual(character) or _PUNCTUATION.match(character))
    return "".join(counts.elements()) if counts and usual >= USUAL_SHARE * counts.total() else ""


def _frequency(text: str, script: Script) -> float:
    return sum(character in script.frequent for character in text) / len(text)


def _utf8_share(sample: bytes) -> float:
    """Return the share of valid UTF-8 among the bytes that are not ASCII."""
    n_ascii = len(sample.translate(None, bytes(range(0x80, 0x100))))
    valid = len(sample.decode("utf-8", "ignore").encode()) - n_ascii
    return valid / (len(sample) - n_ascii)


def _decoded(sample: bytes, codec: str) -> str | None:
    """Return the text of a sample, whose last character may be incomplete; None if it is not in this encoding."""
    try:
        return codecs.getincrementaldecoder(codec)().decode(sample)
    except UnicodeDecodeError:
        return None


def _decodes(sample: bytes, codec: str) -> bool:
    return _decoded(sample, codec) is not None
