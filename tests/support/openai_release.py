"""A folder in the layout of OpenAI's release, written without gpt1's code, to test reading."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.parameters import Params, shapes
from gpt1.checkpoint.model_dir import Model, load_model, save_model
from gpt1.config import DropoutConfig, ModelConfig

Vector = NDArray[np.float32]
Cut = Callable[[Vector], list[Vector]]

BLOCK = (
    "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight", "attn.c_proj.bias", "ln_1.weight", "ln_1.bias",
    "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias", "ln_2.weight", "ln_2.bias",
)  # fmt: skip

LETTERS = "abcdefghijé\"'"
TOKENS = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "ab", "ab</w>", "abc</w>", "\n</w>"]
ENCODER = {token: i for i, token in enumerate(TOKENS, start=1)} | {"<unk>": 0}
"""As in OpenAI's file, `<unk>` has id 0 and is the last entry."""
MERGES = "#version: 0.2\na b\na b</w>\nab c</w>\n"

CONFIG = ModelConfig(n_layer=2, n_head=2, n_embd=128, n_ctx=24, vocab_size=len(ENCODER))
"""Configuration of the weights in the folder, without special tokens."""
COMPLETE = replace(CONFIG, vocab_size=len(ENCODER) + 4)
"""Configuration of the loaded model."""


def random_params(config: ModelConfig = CONFIG, seed: int = 3) -> Params:
    """Return parameters without zero biases and gains of one."""
    draw = np.random.default_rng(seed)
    return {
        name: (draw.normal(0.0, 0.1, shape) + name.endswith(("ln_1.weight", "ln_2.weight"))).astype(np.float32)
        for name, shape in shapes(config).items()
    }


def evenly(vector: Vector) -> list[Vector]:
    return np.array_split(vector, 10)


def write_release(folder: Path, params: Mapping[str, NDArray[np.float32]], cut: Cut = evenly) -> Path:
    """Write `params` (gpt1's names) in the order and shapes of the release; return the folder."""
    n_layer = sum(name.endswith("ln_1.bias") for name in params)
    blocks = [params[f"h.{layer}.{name}"] for layer in range(n_layer) for name in BLOCK]
    arrays = [params["positions_embed.weight"], params["tokens_embed.weight"]]
    arrays += [array[None] if array.ndim == 2 else array for array in blocks]
    folder.mkdir(parents=True)
    for number, piece in enumerate(cut(np.concatenate([array.ravel() for array in arrays]))):
        np.save(folder / f"params_{number}.npy", piece)
    (folder / "params_shapes.json").write_text(json.dumps([array.shape for array in arrays]))
    (folder / "encoder_bpe_40000.json").write_text(json.dumps(ENCODER))
    (folder / "vocab_40000.bpe").write_text(MERGES, newline="\n")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def trained_on_release(tmp_path: Path, **changes: Any) -> Path:
    """Write a model directory of gpt1, as training does."""
    head = changes.get("head")
    config = replace(COMPLETE, **changes)
    labels = ("bad", "good") if head else ()
    tokenizer = load_model(write_release(tmp_path / "pretrained", random_params())).tokenizer
    model = Model(config, random_params(config), tokenizer, labels, 20, {"recipe": "x"})
    save_model(tmp_path / "trained", model, DropoutConfig(0.2, 0.3, 0.4))
    return tmp_path / "trained"
