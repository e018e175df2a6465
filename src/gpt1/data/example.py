"""One example: its texts, label and weight; the check that a text can be used."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gpt1.errors import UserError

Label = str | float | int

INTEGER = re.compile(r"[+-]?[0-9]{1,400}")  # Python refuses ints of thousands of digits; as floats they are infinite

NOT_BLANK = r"\S"
"""Pattern that a usable text contains, for schemas; `usable_text` is the check."""

SHOWN_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Example:
    parts: tuple[str, ...]
    """The texts in the order of the input kind's fields: (text,) · (text_a, text_b) · (context,) or (context, question)
    with choices."""
    choices: tuple[str, ...] = ()
    """Texts to choose from (multiple choice)."""
    label: Label | None = None
    """As in the file; for multiple choice the index of the right choice; None = unlabelled."""
    weight: float = 1.0
    origin: str = ""
    """`train.csv row 17 (line 18)`: for error messages."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts: the parts, then the choices."""
        return (*self.parts, *self.choices)


def usable_text(value: Any, where: str) -> str:
    """Return `value` as a str that holds something besides white space and can be encoded as UTF-8.

    Raises:
        UserError: it is no text, blank, or holds a lone surrogate; the line begins with `where`.
    """
    if not isinstance(value, str):
        raise UserError(f"{where} is {shown(value)}, expected a text")
    if not value or value.isspace():
        raise UserError(f"{where} is empty")
    require_unicode(value, where)
    return str(value)  # also of NumPy's own kind of string


def require_unicode(value: str, where: str) -> None:
    """Raise UserError for a lone surrogate, which no UTF-8 can hold."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where} holds half of a character (\\u{ord(value[error.start]):04x} alone)") from None


def shown(value: Any, none: str = "null") -> str:
    """Return a value with its type for a message, shortened; `none` stands for None."""
    if value is None:
        return none
    text = repr(value)
    short = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
    return f"{short} ({type(value).__name__})"
