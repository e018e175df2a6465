"""The example (texts, label, weight) and the validation and comparison of texts."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from gpt1.data.bad_rows import RowError

Label = str | float | int

INTEGER = re.compile(r"[+-]?[0-9]{1,400}")  # Python refuses ints of thousands of digits; as floats they are infinite

NOT_BLANK = r"\S"
"""Regular expression that matches in any usable text, for JSON schemas; `usable_text` does the full validation."""

SHOWN_CHARACTERS = 40

EMPTY_TEXT = "empty text"
"""Kind of a `RowError`."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled or unlabelled example."""

    parts: tuple[str, ...]
    """The texts in the order of the input kind's fields: (text,) · (text_a, text_b) · (context,) or (context, question)
    with choices."""
    choices: tuple[str, ...] = ()
    """Texts to choose from (multiple choice)."""
    label: Label | None = None
    """The label as in the file; for multiple choice the index of the correct choice; None = unlabelled."""
    weight: float = 1.0
    origin: str = ""
    """Location for error messages, such as `train.csv row 17 (line 18)`."""
    group: str | None = None
    """Value of the column --group; None = no group."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts: the parts followed by the choices."""
        return (*self.parts, *self.choices)


def usable_text(value: Any, where: str) -> str:
    """Return `value` as a non-blank str that can be encoded as UTF-8.

    Raises:
        RowError: `value` is not a str, is blank, or contains a lone surrogate; the message begins with `where`.
    """
    if not isinstance(value, str):
        missing = value is None or (isinstance(value, float) and math.isnan(value))
        raise RowError(f"{where} is {shown(value)}, expected a text", EMPTY_TEXT if missing else "not a text")
    if not value or value.isspace():
        raise RowError(f"{where} is empty", EMPTY_TEXT)
    require_unicode(value, where)
    return str(value)  # converts np.str_


def require_unicode(value: str, where: str) -> None:
    """Raise RowError if `value` contains a lone surrogate, which UTF-8 cannot encode."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"half of a character (\\u{ord(value[error.start]):04x} alone)"
        raise RowError(f"{where} contains {half}", "half of a character") from None


def folded_text(text: str) -> str:
    """Return a text without differences of case, blanks and composed characters, to compare it with others."""
    return " ".join(unicodedata.normalize("NFC", text).split()).casefold()


def shown(value: Any, none: str = "null") -> str:
    """Return a shortened repr of `value` with its type, for messages; `none` is returned for None."""
    if value is None:
        return none
    text = repr(value).replace("\n", " ")  # that of an array or a table has several lines
    short = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
    return f"{short} ({type(value).__name__})"
