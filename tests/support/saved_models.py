"""A small model with random weights, its directory, and damage to files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.parameters import shapes
from gpt1.checkpoint.model_dir import Model
from gpt1.config import Head, ModelConfig
from gpt1.tokenization.tokenizer import Tokenizer

LETTERS = "abcdefghij"
VOCAB = {token: i for i, token in enumerate(["<unk>", *LETTERS, *(f"{c}</w>" for c in LETTERS), "ab</w>", "\n</w>"])}
TOKENIZER = Tokenizer.from_vocab(dict(VOCAB), [("a", "b</w>")])
SHAPE = ModelConfig(n_layer=2, n_head=2, n_embd=16, n_ctx=24, vocab_size=TOKENIZER.vocab_size)
CLASSIFICATION = replace(SHAPE, head=Head("classification", 3))
LABELS = ("negative", "neutral", "positive")


def model(config: ModelConfig = CLASSIFICATION, **changes: Any) -> Model:
    """Return a model with random values for all parameters, including biases and gains."""
    draw = np.random.default_rng(7)
    params = {name: draw.normal(0.0, 1.0, shape).astype(np.float32) for name, shape in shapes(config).items()}
    named = config.head is not None and config.head.task != "multiple-choice" and not config.head.regression
    values = {"label_names": LABELS if named else (), "max_length": 20, "provenance": {"seed": 3, "step": 12}}
    return Model(config, params, TOKENIZER, **values | changes)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same_params(found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == np.float32, name
        assert found[name].shape == value.shape, name
        assert found[name].tobytes() == value.tobytes(), name


def rewrite(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file; `...` removes one."""
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))


def flip(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def bfloat16(value: float) -> float:
    """Round to the nearest bfloat16 (8 bits of significand); ties to even."""
    if value == 0 or not math.isfinite(value):
        return value
    unit = 2.0 ** (max(math.frexp(value)[1], -125) - 8)
    return round(value / unit) * unit  # Python rounds halves to even
