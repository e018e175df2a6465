"""Files of labelled examples, and the message of an error about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt1.data.dataset import Columns, load_dataset
from gpt1.data.example import Example
from gpt1.errors import UserError
from support.shared_data import SHARED_DATA as SHARED

BY_USUAL_NAMES = Columns()
needs_shared_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not on this machine")


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def reviews(n: int, labels: tuple[Any, ...] = (0, 1)) -> list[dict[str, Any]]:
    return [{"text": f"review {i}", "label": labels[i % len(labels)]} for i in range(n)]


def error_of(call: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def labels_of(examples: list[Example]) -> list[Any]:
    return [example.label for example in examples]


# ---------------------------------------------------------------------------------------------------------------------
# Rows

CHOICE = {"context": "c", "choices": ["x", "y"], "label": 0}


# ---------------------------------------------------------------------------------------------------------------------
# Data sets


def sizes(path: Any, **options: Any) -> dict[str, int]:
    return {split: len(examples) for split, examples in load_dataset(path, **options).splits.items()}


def folder_of(path: Path, **splits: list[dict[str, Any]]) -> Path:
    for split, rows in splits.items():
        write_jsonl(path / f"{split}.jsonl", rows)
    return path
