"""Examples from Python values: lists, arrays and Series of texts, pairs, or contexts with choices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpt1.data.example import Example, shown
from gpt1.data.input_kinds import InputKind
from gpt1.data.paper_kinds import INPUT_KINDS
from gpt1.errors import UserError

EXPECTED = "expected a list of texts, of pairs (text, text), or of (context, [choice, choice, …])"
"""Values of the built-in kinds, for messages."""


def examples_of(
    X: Any,  # noqa: N803
    name: str = "X",
    kinds: Sequence[InputKind] = INPUT_KINDS,
) -> tuple[InputKind, list[Example]]:
    """Convert Python values to unlabelled examples.

    An array or table with one column is a list of texts, with two columns a list of pairs. All rows must be of the same
    kind as the first; a value that matches several kinds is of the first of them.

    Args:
        X: The values.
        name: Name of the values in errors.
        kinds: Input kinds to choose from.

    Returns:
        The input kind and the examples.

    Raises:
        UserError: `X` is empty, a value is not a text, a text is empty, or rows are of different kinds.
    """
    try:
        return _examples_of(X, name, kinds)
    except UserError as error:
        if len(columns := list(getattr(X, "columns", ()))) < 2:
            raise
        raise UserError(f"{error}; select the column of the texts, as in frame[{columns[0]!r}]") from None


def _examples_of(X: Any, name: str, kinds: Sequence[InputKind]) -> tuple[InputKind, list[Example]]:  # noqa: N803
    rows = _rows(X, name, kinds)
    kind = _kind(rows[0], f"{name}[0]", kinds)
    for index, row in enumerate(rows):
        if not kind.matches(row):
            other = _kind(row, f"{name}[{index}]", kinds)
            raise UserError(f"{name}[{index}] is {other.singular}, expected {kind.singular} as in the previous rows")
    return kind, [kind.from_python(row, f"{name}[{index}]") for index, row in enumerate(rows)]


def _kind(row: Any, where: str, kinds: Sequence[InputKind]) -> InputKind:
    for kind in kinds:
        if kind.matches(row):
            return kind
    raise UserError(f"{where} is {shown(row, 'None (NoneType)')}: {_expected(kinds)}")


def _expected(kinds: Sequence[InputKind]) -> str:
    return EXPECTED + "".join(f", or of {kind.grammar}" for kind in kinds if kind not in INPUT_KINDS)


def _rows(X: Any, name: str, kinds: Sequence[InputKind]) -> list[Any]:  # noqa: N803
    widest = max(len(kind.fields) for kind in kinds)
    if isinstance(X, str | bytes | dict) or not hasattr(X, "__iter__"):
        raise UserError(f"{name} is {shown(X)}: {_expected(kinds)}")
    if hasattr(X, "to_numpy"):  # pandas, polars
        X = X.to_numpy()  # noqa: N806
    if (shape := getattr(X, "shape", None)) is not None and (len(shape) > 2 or (len(shape) == 2 and shape[1] > widest)):
        columns = "one or two" if widest == 2 else f"1 to {widest}"
        raise UserError(f"{name} has the shape {shape}: {_expected(kinds)}; an array has {columns} columns")
    rows = X.tolist() if hasattr(X, "tolist") else list(X)
    if not rows:
        raise UserError(f"{name} has 0 examples; at least 1 is required")
    if shape is not None and len(shape) == 2 and shape[1] == 1:
        return [row[0] for row in rows]
    return [row.tolist() if hasattr(row, "tolist") else row for row in rows]
