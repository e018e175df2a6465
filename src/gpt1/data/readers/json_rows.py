"""Rows of .jsonl and .json files."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

from gpt1.data.readers.rows import BadRow, Note, ParsedRows
from gpt1.data.readers.text import decoded_lines
from gpt1.errors import UserError

MOST_CHARACTERS = 1 << 28
"""Size of a .json file, which is read whole and takes about ten times as much memory."""

_KIND = "not a JSON object"
_SHAPES = "a list of objects, an object of equally long lists, or one object a line"


def jsonl_rows(path: Path, encoding: str | None, note: Note) -> ParsedRows:
    """Yield (line, cells) of each row, in constant memory."""
    for line, text in enumerate(decoded_lines(path, encoding, note), 1):
        if not text or text.isspace():
            continue
        try:
            yield line, _object(json.loads(text), "one JSON object on each line")
        except json.JSONDecodeError as error:
            reason = f"not JSON ({error.msg} at column {error.colno})"
            yield line, BadRow(f"{reason}; expected one JSON object on each line", kind=_KIND)
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits; deep nesting
            yield line, BadRow(f"invalid JSON ({error})", kind=_KIND)


def _object(value: Any, expected: str) -> dict[str, Any] | BadRow:
    if isinstance(value, dict):
        return value
    return BadRow(f"a JSON {type(value).__name__}; expected {expected}", kind=_KIND)


def json_rows(path: Path, encoding: str | None, note: Note) -> ParsedRows:
    """Yield (None, cells) of each row of a .json file, which is read whole, or (line, cells) if it holds JSON lines.

    The forms are those that `json.dump` and pandas' `to_json` write: a list of objects; an object of equally long
    lists, or of objects with the same keys, one for each column; {"data": …} around one of them, or around a list of
    lists beside {"columns": […]}.
    """
    if holds_json_lines(path, encoding):
        note(f"{path.name}: read as JSON lines, one object a line.")
        yield from jsonl_rows(path, encoding, note)
        return
    value = _whole(path, encoding, note)
    if isinstance(value, dict) and isinstance(value.get("data"), list | dict):
        columns, value = value.get("columns"), value["data"]
        if isinstance(columns, list) and isinstance(value, list) and all(isinstance(row, list) for row in value):
            if any(len(row) != len(columns) for row in value):
                raise UserError(f"{path.name}: the rows in 'data' do not have {len(columns)} cells, as 'columns' has")
            value = [dict(zip(map(str, columns), row, strict=True)) for row in value]
    if isinstance(value, dict):
        value = _of_columns(path, value)
    if not isinstance(value, list):
        raise UserError(f"{path.name}: a JSON {type(value).__name__}; expected {_SHAPES}")
    for cells in value:
        yield None, _object(cells, "an object")


def holds_json_lines(path: Path, encoding: str | None) -> bool:
    """Return whether the first line of a .json file is an object by itself and is followed by another line."""
    lines = decoded_lines(path, encoding, lambda _: None, MOST_CHARACTERS)
    first, *second = [*islice((line for line in lines if not line.isspace()), 2)] or [""]
    if not second or not first.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _whole(path: Path, encoding: str | None, note: Note) -> Any:
    parts, size = [], 0
    for line in decoded_lines(path, encoding, note, MOST_CHARACTERS):
        size += len(line)
        if size > MOST_CHARACTERS:
            raise UserError(
                f"{path} has more than {MOST_CHARACTERS:,} characters, the most that is read whole; convert it to "
                f"JSON lines, which can be of any size: jq -c '.[]' {path.name} > {path.name.partition('.')[0]}.jsonl"
            )
        parts.append(line)
    try:
        return json.loads("".join(parts))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path.name} line {error.lineno}: not JSON ({error.msg} at column {error.colno}); expected {_SHAPES}"
        ) from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits; deep nesting
        raise UserError(f"{path.name}: invalid JSON ({error})") from None


def _of_columns(path: Path, columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of {column: list}, {column: {row index: cell}} or {row index: object}, as pandas writes them."""
    values = list(columns.values())
    if values and all(isinstance(cells, dict) and cells.keys() == values[0].keys() for cells in values):
        if all(map(str.isdecimal, columns)) and not all(map(str.isdecimal, values[0])):
            return values  # {row index: object}
        values = [list(cells.values()) for cells in values]
    if not values or not all(isinstance(cells, list) for cells in values):
        raise UserError(f"{path.name}: a JSON object with {_listed(columns)}; expected {_SHAPES}")
    lengths = {name: len(cells) for name, cells in zip(columns, values, strict=True)}
    if len(set(lengths.values())) > 1:
        raise UserError(f"{path.name}: columns of different lengths ({_lengths(lengths)}); expected {_SHAPES}")
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*values, strict=True)]


def _listed(columns: dict[str, Any]) -> str:
    return ", ".join(f"{name!r} ({type(value).__name__})" for name, value in islice(columns.items(), 4)) or "no keys"


def _lengths(lengths: dict[str, int]) -> str:
    return ", ".join(f"{name}: {length:,}" for name, length in islice(lengths.items(), 4))
