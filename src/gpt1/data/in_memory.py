"""Examples from values of Python: a list, an array, a Series of texts; pairs; contexts with their choices."""

from __future__ import annotations

from typing import Any

from gpt1.data.examples import Example
from gpt1.errors import UserError

EXPECTED = "expected a list of texts, of pairs (text, text), or of (context, [choice, choice, …])"


def given_examples(X: Any, name: str = "X") -> tuple[str, list[Example]]:  # noqa: N803
    """Return (single | pair | choices, the examples without labels) of what a person calls `name`.

    An array or a table of one column is a list of texts, of two columns a list of pairs. All rows are of the kind of
    the first.

    Raises:
        UserError: it holds nothing, something else than texts, an empty text, or rows of several kinds.
    """
    rows = _rows(X, name)
    kind = _kind(rows[0], f"{name}[0]")
    return kind, [_example(row, kind, f"{name}[{number}]") for number, row in enumerate(rows)]


def _rows(X: Any, name: str) -> list[Any]:  # noqa: N803
    if isinstance(X, str | bytes | dict) or not hasattr(X, "__iter__"):
        raise UserError(f"{name} is {_shown(X)}: {EXPECTED}")
    if hasattr(X, "to_numpy"):  # of pandas and polars
        X = X.to_numpy()  # noqa: N806
    if (shape := getattr(X, "shape", None)) is not None and (len(shape) > 2 or (len(shape) == 2 and shape[1] > 2)):
        raise UserError(f"{name} has the shape {shape}: {EXPECTED}; an array has one or two columns")
    rows = X.tolist() if hasattr(X, "tolist") else list(X)
    if not rows:
        raise UserError(f"{name} holds 0 examples, at least 1 is needed")
    if shape is not None and len(shape) == 2 and shape[1] == 1:
        return [row[0] for row in rows]
    return [row.tolist() if hasattr(row, "tolist") else row for row in rows]


def _kind(row: Any, where: str) -> str:
    match row:
        case str():
            return "single"
        case [str(), str()]:
            return "pair"
        case [str(), [_, _, *_] as choices] if not isinstance(choices, str):
            return "choices"
    raise UserError(f"{where} is {_shown(row)}: {EXPECTED}")


def _example(row: Any, kind: str, where: str) -> Example:
    if (found := _kind(row, where)) != kind:
        words = {"single": "a text", "pair": "a pair of texts", "choices": "a context with choices"}
        raise UserError(f"{where} is {words[found]}, expected {words[kind]} as in the rows before")
    match kind:
        case "single":
            return Example((_text(row, where),), origin=where)
        case "pair":
            return Example((_text(row[0], where), _text(row[1], where)), origin=where)
    return Example((_text(row[0], where),), tuple(_text(choice, where) for choice in row[1]), origin=where)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: {_shown(value)} found, expected a text")
    if not value or value.isspace():
        raise UserError(f"{where}: the text is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: holds half of a character (\\u{ord(value[error.start]):04x} alone)") from None
    return str(value)  # also of NumPy's own kind of string


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:39] + '…'} ({type(value).__name__})"
