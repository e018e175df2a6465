"""Rows of .jsonl files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt1.data.readers.rows import BadRow, Note
from gpt1.data.readers.text import decoded_lines


def jsonl_rows(path: Path, encoding: str | None, note: Note) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """Yield (line, cells) of each row, in constant memory."""
    for line, text in enumerate(decoded_lines(path, encoding, note), 1):
        if not text or text.isspace():
            continue
        try:
            cells = json.loads(text)
        except json.JSONDecodeError as error:
            reason = f"not JSON ({error.msg} at column {error.colno})"
            raise BadRow(f"{reason}; expected one JSON object on each line", line) from None
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits; deep nesting
            raise BadRow(f"invalid JSON ({error})", line) from None
        if not isinstance(cells, dict):
            raise BadRow(f"a JSON {type(cells).__name__}; expected one JSON object on each line", line)
        yield line, cells
