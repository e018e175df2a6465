"""Hugging Face directories are read exactly, or rejected with the name of the invalid tensor or setting.

Run: pytest tests/test_huggingface.py
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt1.backends.parameters import INIT_STD, shapes
from gpt1.checkpoint.model_dir import load_model
from gpt1.config import Head
from gpt1.errors import UserError
from gpt1.system.files import write_json
from gpt1.system.tensors import read_tensors, write_tensors
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS
from support.saved_models import (
    SHAPE,
    VOCAB,
    model,
    rewrite,
)

EMBEDDING = "transformer.tokens_embed.weight"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A directory like openai-gpt on the hub: prefixed names, an old mask, no special tokens, a tied output layer."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    params = model(replace(SHAPE, vocab_size=len(VOCAB))).params
    weights = {f"transformer.{name}": value for name, value in params.items()}
    weights["transformer.h.0.attn.bias"] = np.tril(np.ones((24, 24), np.float32))[None, None]
    weights["lm_head.weight"] = params["tokens_embed.weight"]
    write_tensors(folder / "model.safetensors", weights)
    write_json(folder / "config.json", {
        "model_type": "openai-gpt", "afn": "gelu", "n_layer": 2, "n_head": 2, "n_embd": 16, "n_ctx": 24,
        "n_positions": 24, "vocab_size": len(VOCAB), "layer_norm_epsilon": 1e-5,
    })  # fmt: skip
    (folder / "vocab.json").write_text(json.dumps(VOCAB))
    (folder / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    return folder


def test_foreign_directory_without_special_tokens_gets_four_more_rows(foreign: Path) -> None:
    loaded = load_model(foreign, seed=5)
    given = read_tensors(foreign / "model.safetensors")["transformer.tokens_embed.weight"]
    rows = loaded.params["tokens_embed.weight"]
    assert loaded.config == replace(SHAPE, vocab_size=len(VOCAB) + 4)
    assert rows.shape == (len(VOCAB) + 4, 16)
    assert rows[:-4].tobytes() == given.tobytes()
    assert 0 < np.abs(rows[-4:]).max() < 5 * INIT_STD
    special = [loaded.tokenizer.pad, loaded.tokenizer.bos, loaded.tokenizer.sep, loaded.tokenizer.eos]
    assert sorted(special) == list(range(len(VOCAB), len(VOCAB) + len(SPECIAL_TOKENS)))
    assert load_model(foreign, seed=5).params["tokens_embed.weight"].tobytes() == rows.tobytes()
    assert load_model(foreign, seed=6).params["tokens_embed.weight"].tobytes() != rows.tobytes()


def test_foreign_parameters_are_taken_as_they_are(foreign: Path) -> None:
    loaded = load_model(foreign)
    given = read_tensors(foreign / "model.safetensors")
    for name in shapes(SHAPE).keys() - {"tokens_embed.weight"}:
        assert loaded.params[name].tobytes() == given[f"transformer.{name}"].tobytes(), name


def test_names_without_a_prefix_are_known(foreign: Path) -> None:
    """As `OpenAIGPTModel.save_pretrained` writes them."""
    given = read_tensors(foreign / "model.safetensors")
    write_tensors(
        foreign / "model.safetensors", {name.removeprefix("transformer."): value for name, value in given.items()}
    )
    assert load_model(foreign).params["h.1.ln_2.bias"].tobytes() == given["transformer.h.1.ln_2.bias"].tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "'gpt2' found, 'openai-gpt' expected"),
        ({"model_type": ...}, "None found, 'openai-gpt' expected"),
        ({"afn": "relu"}, "'relu' found"),
        ({"n_layer": 3}, "config.json: n_layer is 3, but 2 in model.safetensors"),
        ({"n_positions": 48}, "n_positions is 48, but 24 in"),
        ({"n_positions": ..., "n_ctx": 48}, "n_ctx is 48, but 24 in"),
        ({"n_embd": 32}, "n_embd is 32, but 16 in"),
        ({"vocab_size": 7}, f"vocab_size is 7, but {len(VOCAB)} in"),
        ({"n_head": 3}, "n_head 3; the width 16 is not a multiple of n_head"),
        ({"n_head": ...}, "n_head None; a positive whole number expected"),
        ({"n_layer": "2"}, "n_layer '2'; a positive whole number expected"),
        ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon 'small'; a positive number expected"),
        ({"n_layer": 1}, "n_layer is 1, but 2 in"),
    ],
)
def test_foreign_directory_that_is_no_such_gpt1_is_refused(foreign: Path, change: dict[str, Any], message: str) -> None:
    rewrite(foreign / "config.json", **change)
    with pytest.raises(UserError, match=message):
        load_model(foreign)


@pytest.mark.parametrize(
    "name", ["tokens_embed.weight", "positions_embed.weight", "h.0.ln_1.weight", "h.1.mlp.c_fc.bias"]
)
def test_missing_parameter_is_named_and_not_made_up(foreign: Path, name: str) -> None:
    given = read_tensors(foreign / "model.safetensors")
    del given[f"transformer.{name}"]
    write_tensors(foreign / "model.safetensors", given)
    with pytest.raises(UserError, match=f"parameter {name} is missing"):
        load_model(foreign)


def test_more_rows_than_tokens_are_refused(foreign: Path) -> None:
    """An additional row would become that of a special token."""
    for more in (1, 5):
        resize(foreign, len(VOCAB) + more)
        with pytest.raises(UserError, match=f"{len(VOCAB) + more} rows in the embedding, {len(VOCAB)} tokens"):
            load_model(foreign)


@pytest.mark.parametrize("rows", [1, len(VOCAB) - 1])
def test_fewer_rows_than_tokens_are_refused_unless_only_special_ones_lack(foreign: Path, rows: int) -> None:
    resize(foreign, rows)
    message = rf"{rows} rows in the embedding, {len(VOCAB) + 4} tokens in the vocabulary \(special ones included\): '"
    with pytest.raises(UserError, match=message):
        load_model(foreign)


def resize(folder: Path, rows: int) -> None:
    """Change the number of rows of the token embedding, its copy and `config.json`."""
    retensor(folder, **{name: np.zeros((rows, 16), np.float32) for name in (EMBEDDING, "lm_head.weight")})
    rewrite(folder / "config.json", vocab_size=rows)


def retensor(folder: Path, **changes: Any) -> None:
    """Change tensors of a directory; `...` removes one."""
    tensors = read_tensors(folder / "model.safetensors") | changes
    write_tensors(folder / "model.safetensors", {name: value for name, value in tensors.items() if value is not ...})


def test_softmax_of_its_own_is_refused(foreign: Path) -> None:
    """gpt1 does not support models with an untied output layer."""
    softmax = read_tensors(foreign / "model.safetensors")["lm_head.weight"]
    softmax[3, 4] += 1
    retensor(foreign, **{"lm_head.weight": softmax})
    with pytest.raises(UserError, match=r"lm_head\.weight differs from the token embedding"):
        load_model(foreign)


@pytest.mark.parametrize(
    "value",
    [
        np.ones((1, 1, 24, 24)), np.tril(np.ones((24, 24))), np.tril(np.ones((24, 12)))[None, None],
        np.triu(np.ones((24, 24)))[None, None], np.zeros(24), np.zeros(()),
    ],
    ids=["all", "two dimensions", "oblong", "anticausal", "vector", "number"],
)  # fmt: skip
def test_mask_that_is_not_causal_is_refused(foreign: Path, value: NDArray[np.float64]) -> None:
    retensor(foreign, **{"transformer.h.1.attn.bias": value.astype(np.float32)})
    with pytest.raises(UserError, match=r"h\.1\.attn\.bias of shape .* is not a causal mask"):
        load_model(foreign)


@pytest.mark.parametrize("name", ["transformer.h.1.attn.extra", "clf.weight", "transformer.h.9x.ln_1.weight"])
def test_tensor_without_a_place_is_named(foreign: Path, name: str) -> None:
    retensor(foreign, **{name: np.zeros(3, np.float32)})
    with pytest.raises(UserError, match=f"tensor {name.removeprefix('transformer.')} does not belong to a GPT-1"):
        load_model(foreign)


def test_head_of_the_double_heads_model_says_what_to_do(foreign: Path) -> None:
    retensor(foreign, **{"multiple_choice_head.summary.weight": np.zeros((1, 16), np.float32)})
    with pytest.raises(UserError, match=r"multiple_choice_head\.summary\.weight .*transformer\.save_pretrained"):
        load_model(foreign)


def test_parameter_that_stands_there_twice_is_named(foreign: Path) -> None:
    retensor(foreign, **{"h.0.ln_1.bias": np.zeros(16, np.float32)})
    with pytest.raises(UserError, match=r"parameter h\.0\.ln_1\.bias occurs twice"):
        load_model(foreign)


def test_foreign_parameter_of_another_shape_is_named(foreign: Path) -> None:
    retensor(foreign, **{"transformer.h.0.mlp.c_fc.weight": np.zeros((64, 16), np.float32)})
    message = r"model\.safetensors: parameter h\.0\.mlp\.c_fc\.weight: shape \(64, 16\) found, \(16, 64\) expected"
    with pytest.raises(UserError, match=message):
        load_model(foreign)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(None, ("LABEL_0", "LABEL_1")), ({}, ("LABEL_0", "LABEL_1")), ({"1": "no", "0": "yes"}, ("yes", "no"))],
)
def test_labels_of_a_foreign_head_are_read(foreign: Path, labels: Any, expected: tuple[str, ...]) -> None:
    """`transformers` omits label names if they are its two defaults."""
    retensor(foreign, **{"score.weight": np.ones((2, 16), np.float32)})
    rewrite(foreign / "config.json", id2label=labels)
    loaded = load_model(foreign)
    assert loaded.config.head == Head("classification", 2)
    assert loaded.label_names == expected


@pytest.mark.parametrize("labels", [{}, {"0": "a", "1": "b"}, {"0": "a", "1": "b", "two": "c"}])
def test_labels_that_are_not_those_of_the_head_are_refused(foreign: Path, labels: Any) -> None:
    retensor(foreign, **{"score.weight": np.ones((3, 16), np.float32)})
    rewrite(foreign / "config.json", id2label=labels)
    with pytest.raises(UserError, match=r"id2label has the ids .*; score\.weight has the labels 0 to 2"):
        load_model(foreign)


def test_directory_without_safetensors_says_so(foreign: Path) -> None:
    (foreign / "model.safetensors").rename(foreign / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"model\.safetensors: missing; gpt1 reads safetensors and MindSpore's \.ckpt"):
        load_model(foreign)


def test_directory_that_is_no_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a model directory"):
        load_model(tmp_path)
