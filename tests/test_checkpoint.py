"""Files: model directories come back bit for bit, also through `transformers`; damage is found, named and survived."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt1.backends.parameters import INIT_STD, Params, initialise, shapes
from gpt1.checkpoint.model_dir import Model, load_model, load_model_with, save_model
from gpt1.checkpoint.train_state import Checkpoints, Progress
from gpt1.config import DropoutConfig, Head, ModelConfig, Stored
from gpt1.errors import UserError
from gpt1.system.files import CorruptFile, read_json, recover_directory, replace_directory, write_json
from gpt1.system.tensors import read_tensors, write_tensors
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer

LETTERS = "abcdefghij"
EMBEDDING = "transformer.tokens_embed.weight"
VOCAB = {token: i for i, token in enumerate(["<unk>", *LETTERS, *(f"{c}</w>" for c in LETTERS), "ab</w>", "\n</w>"])}
TOKENIZER = Tokenizer.from_vocab(dict(VOCAB), [("a", "b</w>")])
SHAPE = ModelConfig(n_layer=2, n_head=2, n_embd=16, n_ctx=24, vocab_size=TOKENIZER.vocab_size)
CLASSIFICATION = replace(SHAPE, head=Head("classification", 3))
LABELS = ("negative", "neutral", "positive")
MODEL_FILES = {
    "README.md",
    "config.json", "gpt1.json", "model.safetensors",
    "merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json",
}  # fmt: skip

ODD_SHAPES = {"z": (2, 3), "a": (5,), "ä": (), "empty": (0, 3)}
LARGEST_BFLOAT16 = float(np.array(0x7F7F0000, np.uint32).view(np.float32))


def model(config: ModelConfig = CLASSIFICATION, **changes: Any) -> Model:
    """A model whose every value is random: no bias is zero, no gain is one."""
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
    """Change entries of a JSON file; `...` takes one out."""
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))


def flip(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


# ---- model directories

every_head = pytest.mark.parametrize(
    "config",
    [
        SHAPE,
        CLASSIFICATION,
        replace(SHAPE, head=Head("entailment", 3), n_segments=2),
        replace(SHAPE, head=Head("similarity", 1, regression=True), n_segments=1),
        replace(SHAPE, head=Head("multiple-choice", 1), layer_norm_epsilon=1e-6),
        replace(SHAPE, head=Head("classification", 3, bias=True)),
    ],
    ids=["lm", "classification", "entailment", "regression", "multiple-choice", "bias"],
)


@every_head
def test_model_directory_round_trips_bit_for_bit(tmp_path: Path, config: ModelConfig) -> None:
    given = model(config, cut="half")
    save_model(tmp_path / "first", given)
    loaded = load_model(tmp_path / "first")
    assert_same_params(loaded.params, given.params)
    for part in ("config", "label_names", "max_length", "provenance", "cut"):
        assert getattr(loaded, part) == getattr(given, part), part
    save_model(tmp_path / "second", loaded)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_model_directory_holds_what_the_design_says(tmp_path: Path) -> None:
    save_model(tmp_path / "model", model(), DropoutConfig(embd_pdrop=0.2))
    assert {path.name for path in (tmp_path / "model").iterdir()} == MODEL_FILES
    config = read_json(tmp_path / "model" / "config.json")
    expected = {
        "model_type": "openai-gpt", "architectures": ["OpenAIGPTForSequenceClassification"],
        "n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 24, "vocab_size": TOKENIZER.vocab_size, "afn": "gelu",
        "embd_pdrop": 0.2, "resid_pdrop": 0.1, "attn_pdrop": 0.1, "layer_norm_epsilon": 1e-5,
        "pad_token_id": TOKENIZER.pad, "bos_token_id": TOKENIZER.bos, "eos_token_id": TOKENIZER.eos,
        "problem_type": "single_label_classification",
        "id2label": {"0": "negative", "1": "neutral", "2": "positive"},
        "label2id": {"negative": 0, "neutral": 1, "positive": 2},
    }  # fmt: skip
    assert {name: config.get(name) for name in expected} == expected
    details = read_json(tmp_path / "model" / "gpt1.json")
    assert details["model"]["head"] == {"task": "classification", "n_labels": 3, "regression": False, "bias": False}
    assert (details["cut"], details["huggingface_exact"], details["huggingface_differences"]) == ("longest", True, [])
    assert details["labels"] == list(LABELS)
    assert (details["words"], details["max_length"]) == ("fast", 20)
    assert "<bos> a <sep> b <eos>" in details["template"]
    assert details["provenance"] == {"seed": 3, "step": 12}
    assert details["sha256"].keys() == {"model.safetensors", "tokenizer.json"}
    tokenizer = read_json(tmp_path / "model" / "tokenizer_config.json")
    assert tokenizer["model_max_length"] == 20, "where `transformers` truncates, we do"
    assert tokenizer["padding_side"] == "right"


def test_directory_without_label_names_names_its_outputs_for_transformers(tmp_path: Path) -> None:
    save_model(tmp_path / "model", model(replace(SHAPE, head=Head("similarity", 1, regression=True))))
    config = read_json(tmp_path / "model" / "config.json")
    assert config["problem_type"] == "regression"
    assert config["id2label"] == {"0": "LABEL_0"}


def test_segment_rows_stand_after_the_tokens_and_start_at_zero(tmp_path: Path) -> None:
    """So that a loaded model is unchanged until they are trained."""
    config = replace(SHAPE, n_segments=2)
    assert not initialise(config, seed=0)["tokens_embed.weight"][SHAPE.vocab_size :].any()
    given = model(SHAPE)
    grown = initialise(config, seed=0, pretrained=given.params)["tokens_embed.weight"]
    assert grown.shape == (SHAPE.vocab_size + 2, SHAPE.n_embd)
    assert grown[:-2].tobytes() == given.params["tokens_embed.weight"].tobytes()
    assert not grown[-2:].any()
    save_model(tmp_path / "model", model(config))
    assert read_json(tmp_path / "model" / "config.json")["vocab_size"] == SHAPE.vocab_size + 2


def test_directory_from_before_a_setting_came_has_its_default(tmp_path: Path) -> None:
    save_model(tmp_path, given := model())
    details = read_json(tmp_path / "gpt1.json")
    del details["model"]["head"]["bias"]
    rewrite(tmp_path / "gpt1.json", model=details["model"], cut=..., huggingface_exact=..., huggingface_differences=...)
    loaded = load_model(tmp_path)
    assert loaded.config == given.config
    assert loaded.cut == "longest"


@pytest.mark.parametrize(
    ("head", "cut", "said"),
    [
        (Head("classification", 3, bias=True), "longest", ["score.bias"]),
        (Head("entailment", 3), "half", ["cut by itself"]),
        (Head("entailment", 3, bias=True), "half", ["score.bias", "cut by itself"]),
        (Head("classification", 3), "half", []),  # one part is cut as ever
    ],
)
def test_directory_says_what_transformers_will_do_otherwise(
    tmp_path: Path, head: Head, cut: str, said: list[str]
) -> None:
    save_model(tmp_path, model(replace(SHAPE, head=head), cut=cut))
    details = read_json(tmp_path / "gpt1.json")
    assert details["huggingface_exact"] is (not said)
    assert len(details["huggingface_differences"]) == len(said)
    for words, difference in zip(said, details["huggingface_differences"], strict=True):
        assert words in difference


def test_initial_weights_are_the_papers() -> None:
    """N(0, 0.02) for every matrix, as embeddings and the head are; zero biases; gains of one."""
    config = ModelConfig(n_layer=1, n_head=2, n_embd=64, n_ctx=64, vocab_size=200, head=Head("classification", 40))
    for name, value in initialise(config, seed=1).items():
        if value.ndim == 1:
            assert (value == (1.0 if name in ("h.0.ln_1.weight", "h.0.ln_2.weight") else 0.0)).all(), name
        else:
            assert value.std() == pytest.approx(0.02, rel=0.05), name
            assert abs(value.mean()) < 5 * 0.02 / value.size**0.5, name


def test_bias_of_the_head_starts_at_zero_and_stands_beside_its_weight(tmp_path: Path) -> None:
    config = replace(SHAPE, head=Head("classification", 3, bias=True))
    params = initialise(config, seed=0)
    assert params["score.bias"].tolist() == [0.0, 0.0, 0.0]
    plain = initialise(CLASSIFICATION, seed=0)
    assert_same_params({name: value for name, value in params.items() if name != "score.bias"}, plain)
    save_model(tmp_path, model(config))
    assert {"score.weight", "score.bias"} <= read_tensors(tmp_path / "model.safetensors").keys()


# ---- through transformers


@pytest.mark.parametrize(
    ("config", "architecture"),
    [
        (SHAPE, "OpenAIGPTLMHeadModel"),
        (CLASSIFICATION, "OpenAIGPTForSequenceClassification"),
        (replace(SHAPE, head=Head("classification", 1, regression=True)), "OpenAIGPTForSequenceClassification"),
    ],
    ids=["lm", "classification", "regression"],
)
def test_transformers_loads_our_directory_and_we_load_theirs(
    tmp_path: Path, config: ModelConfig, architecture: str
) -> None:
    transformers = pytest.importorskip("transformers", minversion="5")
    given = model(config)
    save_model(tmp_path / "ours", given)
    theirs, report = getattr(transformers, architecture).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[part] for part in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    theirs.save_pretrained(tmp_path / "theirs")
    transformers.AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    loaded = load_model(tmp_path / "theirs")
    assert_same_params(loaded.params, given.params)
    assert loaded.config == given.config
    assert loaded.label_names == given.label_names
    assert loaded.tokenizer.encode("ab cab") == TOKENIZER.encode("ab cab")


# ---- Hugging Face directories


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A directory as openai-gpt's on the hub: prefixed names, an old mask, no special tokens, a tied softmax."""
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
    """`OpenAIGPTModel.save_pretrained` writes them so."""
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
        ({"n_layer": 3}, "config.json: n_layer 3 there, 2 in model.safetensors"),
        ({"n_positions": 48}, "n_positions 48 there, 24 in"),
        ({"n_positions": ..., "n_ctx": 48}, "n_ctx 48 there, 24 in"),
        ({"n_embd": 32}, "n_embd 32 there, 16 in"),
        ({"vocab_size": 7}, f"vocab_size 7 there, {len(VOCAB)} in"),
        ({"n_head": 3}, "n_head 3; the width 16 is not a multiple of it"),
        ({"n_head": ...}, "n_head None; a positive whole number expected"),
        ({"n_layer": "2"}, "n_layer '2'; a positive whole number expected"),
        ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon 'small'; a positive number expected"),
        ({"n_layer": 1}, "n_layer 1 there, 2 in"),
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
    """A row too many would become that of a special token."""
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
    """Give the token embedding, its copy and `config.json` another number of rows."""
    retensor(folder, **{name: np.zeros((rows, 16), np.float32) for name in (EMBEDDING, "lm_head.weight")})
    rewrite(folder / "config.json", vocab_size=rows)


def retensor(folder: Path, **changes: Any) -> None:
    """Change tensors of a directory; `...` takes one out."""
    tensors = read_tensors(folder / "model.safetensors") | changes
    write_tensors(folder / "model.safetensors", {name: value for name, value in tensors.items() if value is not ...})


def test_softmax_of_its_own_is_refused(foreign: Path) -> None:
    """A model whose softmax is not its embedding is none that gpt1 computes."""
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
    with pytest.raises(UserError, match=r"h\.1\.attn\.bias of shape .* is no causal mask"):
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
    with pytest.raises(UserError, match=r"two tensors for parameter h\.0\.ln_1\.bias"):
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
    """`transformers` writes no names where they are its two default ones."""
    retensor(foreign, **{"score.weight": np.ones((2, 16), np.float32)})
    rewrite(foreign / "config.json", id2label=labels)
    loaded = load_model(foreign)
    assert loaded.config.head == Head("classification", 2)
    assert loaded.label_names == expected


@pytest.mark.parametrize("labels", [{}, {"0": "a", "1": "b"}, {"0": "a", "1": "b", "two": "c"}])
def test_labels_that_are_not_those_of_the_head_are_refused(foreign: Path, labels: Any) -> None:
    retensor(foreign, **{"score.weight": np.ones((3, 16), np.float32)})
    rewrite(foreign / "config.json", id2label=labels)
    with pytest.raises(UserError, match=r"id2label names .*; score\.weight has the labels 0 to 2"):
        load_model(foreign)


def test_directory_without_safetensors_says_so(foreign: Path) -> None:
    (foreign / "model.safetensors").rename(foreign / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"model\.safetensors: missing; gpt1 reads safetensors and MindSpore's \.ckpt"):
        load_model(foreign)


def test_directory_that_is_no_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model directory"):
        load_model(tmp_path)


# ---- damage to our own directories


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", model())
    return tmp_path / "model"


@pytest.mark.parametrize("place", [0, 8, 700, -1])
@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_one_flipped_bit_is_found(saved: Path, file: str, place: int) -> None:
    flip(saved / file, place)
    with pytest.raises(CorruptFile, match=f"{file}: its sha256"):
        load_model(saved)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "gpt1.json"])
@pytest.mark.parametrize("size", [0, 5, 200])
def test_cut_off_file_is_found(saved: Path, file: str, size: int) -> None:
    os.truncate(saved / file, size)
    with pytest.raises(CorruptFile, match=file):
        load_model(saved)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_lost_file_is_found(saved: Path, file: str) -> None:
    (saved / file).unlink()
    with pytest.raises(CorruptFile, match=f"{file}: missing"):
        load_model(saved)


def test_damaged_tokenizer_is_found_where_the_weights_come_from_elsewhere(saved: Path) -> None:
    """Weights out of a checkpoint must not be put beside another vocabulary."""
    flip(saved / "tokenizer.json", 700)
    with pytest.raises(CorruptFile, match=r"tokenizer\.json"):
        load_model_with(saved, model().params)


@pytest.mark.parametrize("found", [None, 2])
def test_unknown_format_is_refused(saved: Path, found: int | None) -> None:
    rewrite(saved / "gpt1.json", format=found)
    with pytest.raises(UserError, match=f"format {found} found, 1 expected"):
        load_model(saved)


@pytest.mark.parametrize("name", ["h.1.mlp.c_proj.weight", "score.weight", "tokens_embed.weight"])
def test_parameter_that_is_missing_or_of_another_shape_is_named(saved: Path, name: str) -> None:
    params = model().params
    with pytest.raises(UserError, match=f"parameter {name} is missing"):
        load_model_with(saved, {key: value for key, value in params.items() if key != name})
    with pytest.raises(UserError, match=rf"{name} has shape \(3,\) in the weights"):
        load_model_with(saved, params | {name: np.zeros(3, np.float32)})


def test_weights_may_hold_more_than_the_model_needs(saved: Path) -> None:
    given = model()
    moments = {f"first.{name}": value * 0 for name, value in given.params.items()}
    assert_same_params(load_model_with(saved, given.params | moments).params, given.params)


# ---- tensors


def write_raw(path: Path, dtype: str, values: NDArray[Any], shape: list[int] | None = None) -> None:
    """A safetensors file by its specification: the header's length, the header, the bytes."""
    data = values.tobytes()
    entry = {"dtype": dtype, "shape": shape or list(values.shape), "data_offsets": [0, len(data)]}
    header = json.dumps({"x": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def test_every_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    patterns = np.arange(2**16, dtype=np.uint16)
    write_raw(tmp_path / "x", "BF16", patterns.reshape(256, 256))
    found = read_tensors(tmp_path / "x")["x"]
    assert found.dtype == np.float32
    assert found.shape == (256, 256)
    sign, exponent, fraction = (patterns.astype(np.float64) // 2**15, (patterns >> 7) & 0xFF, (patterns & 0x7F) / 2**7)
    finite = exponent < 0xFF
    value = np.where(exponent, 2.0 ** (exponent - 127.0) * (1 + fraction), 2.0**-126 * fraction) * (1 - 2 * sign)
    assert np.array_equal(found.ravel()[finite], value[finite].astype(np.float32))
    assert np.array_equal(np.isnan(found.ravel()), ~finite & (fraction > 0))


def test_every_float16_is_widened_exactly(tmp_path: Path) -> None:
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    write_raw(tmp_path / "x", "F16", values)
    found = read_tensors(tmp_path / "x")["x"]
    assert found.dtype == np.float32
    assert np.array_equal(found, values.astype(np.float64), equal_nan=True)


@pytest.mark.parametrize(
    "value", [np.array(2.5, np.float32), np.zeros((0, 3), np.float32), np.full((2, 1, 2), -0.0, np.float32)]
)
def test_tensors_of_any_shape_come_back(tmp_path: Path, value: NDArray[np.float32]) -> None:
    write_tensors(tmp_path / "x", {"a": value})
    assert_same_params(read_tensors(tmp_path / "x"), {"a": value})


def test_tensor_in_another_memory_order_comes_back(tmp_path: Path) -> None:
    value = np.arange(12, dtype=np.float32).reshape(3, 4).T
    write_tensors(tmp_path / "x", {"a": value})
    assert np.array_equal(read_tensors(tmp_path / "x")["a"], value)


@pytest.mark.parametrize(("dtype", "numpys"), [("float32", np.float32), ("float16", np.float16)])
def test_file_is_byte_for_byte_that_of_the_library(tmp_path: Path, dtype: Stored, numpys: type) -> None:
    """For bfloat16, which NumPy has not, tests/test_transformers.py asks PyTorch's half of the library."""
    from safetensors.numpy import save

    rng = np.random.default_rng(0)
    tensors = {name: np.asarray(rng.standard_normal(shape), np.float32).T for name, shape in ODD_SHAPES.items()}
    write_tensors(tmp_path / "x", tensors, dtype)
    assert (tmp_path / "x").read_bytes() == save(
        {name: value.astype(numpys, order="C") for name, value in tensors.items()}, {"format": "pt"}
    )


def bfloat16(value: float) -> float:
    """The nearest bfloat16 by its definition, 8 bits of significand; of two as near, the one whose last bit is 0."""
    if value == 0 or not math.isfinite(value):
        return value
    unit = 2.0 ** (max(math.frexp(value)[1], -125) - 8)
    return round(value / unit) * unit  # Python rounds halves to even


def test_bfloat16_is_the_nearest_and_a_tie_goes_to_the_even_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 2**32, 20_000, np.uint32)
    ties = (rng.integers(0, 2**16, 5_000, np.uint32) << 16) + 0x8000
    beside = np.concatenate([ties - 1, ties + 1])
    values = np.concatenate([anything, ties, beside]).view(np.float32)
    values = values[np.abs(values) < LARGEST_BFLOAT16]
    write_tensors(tmp_path / "x", {"x": values}, "bfloat16")
    assert read_tensors(tmp_path / "x")["x"].tolist() == [bfloat16(float(value)) for value in values]


def test_float16_is_the_nearest(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal(1_000, np.float32)
    write_tensors(tmp_path / "x", {"x": values}, "float16")
    found = read_tensors(tmp_path / "x")["x"]
    assert np.array_equal(found, values.astype(np.float16).astype(np.float32))
    assert not np.array_equal(found, values)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_was_written_narrow_is_written_again_bit_for_bit(tmp_path: Path, dtype: Stored) -> None:
    """Of every pattern: zeros, subnormals and infinities too; a NaN remains one."""
    patterns = np.arange(2**16, dtype=np.uint16)
    write_raw(tmp_path / "given", {"bfloat16": "BF16", "float16": "F16"}[dtype], patterns)
    given = read_tensors(tmp_path / "given")["x"]
    write_tensors(tmp_path / "again", {"x": given}, dtype)
    written = np.frombuffer((tmp_path / "again").read_bytes()[-2 * len(patterns) :], np.uint16)
    assert np.array_equal(written[~np.isnan(given)], patterns[~np.isnan(given)])
    assert np.array_equal(np.isnan(read_tensors(tmp_path / "again")["x"]), np.isnan(given))


@pytest.mark.parametrize("bits", [0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF])
def test_nan_does_not_round_to_infinity_or_zero(tmp_path: Path, bits: int) -> None:
    write_tensors(tmp_path / "x", {"x": np.array([bits], np.uint32).view(np.float32)}, "bfloat16")
    assert np.isnan(read_tensors(tmp_path / "x")["x"]).all()


@pytest.mark.parametrize(("dtype", "most", "beyond"), [("float16", 65_519, 65_520), ("bfloat16", 3.389e38, 3.4e38)])
def test_value_beyond_the_range_is_named_and_never_becomes_infinity(
    tmp_path: Path, dtype: Stored, most: float, beyond: float
) -> None:
    write_tensors(tmp_path / "x", {"w": np.array([most, np.inf], np.float32)}, dtype)
    assert np.isfinite(read_tensors(tmp_path / "x")["w"]).tolist() == [True, False]
    with pytest.raises(
        UserError, match=rf"tensor w holds -{beyond:g}.*beyond the range of {dtype}".replace("+", r"\+")
    ):
        write_tensors(tmp_path / "y", {"w": np.array([0, -beyond], np.float32)}, dtype)


def test_model_directory_in_bfloat16_is_half_as_large_and_says_so(tmp_path: Path) -> None:
    given = model()
    save_model(tmp_path / "whole", given)
    save_model(tmp_path / "half", given, dtype="bfloat16")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    header = int.from_bytes((tmp_path / "half" / "model.safetensors").read_bytes()[:8], "little")
    assert sizes[1] == 8 + header + 2 * sum(value.size for value in given.params.values())
    assert sizes[1] < 0.6 * sizes[0]
    assert read_json(tmp_path / "half" / "config.json")["dtype"] == "bfloat16"
    details = read_json(tmp_path / "half" / "gpt1.json")
    assert (details["huggingface_exact"], len(details["huggingface_differences"])) == (False, 1)
    assert "transformers computes in bfloat16" in details["huggingface_differences"][0]
    loaded = load_model(tmp_path / "half")
    expected = {name: np.vectorize(bfloat16)(value).astype(np.float32) for name, value in given.params.items()}
    assert_same_params(loaded.params, expected)
    assert loaded.config == given.config


def test_other_dtype_is_named(tmp_path: Path) -> None:
    write_raw(tmp_path / "x", "I64", np.zeros(2, np.int64))
    with pytest.raises(UserError, match="tensor x has dtype I64; F32, F16 or BF16 expected"):
        read_tensors(tmp_path / "x")


@pytest.mark.parametrize("cut", [0, 4, 20, -1])
def test_cut_off_safetensors_file_is_found_without_a_checksum(tmp_path: Path, cut: int) -> None:
    write_raw(tmp_path / "x", "F32", np.zeros(4, np.float32))
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:cut])
    with pytest.raises(CorruptFile, match="not a whole safetensors file"):
        read_tensors(tmp_path / "x")


def test_full_disk_is_named_with_what_is_needed_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "x").write_bytes(b"half")
    monkeypatch.setattr(Path, "open", lambda *args, **kwargs: Full())
    with pytest.raises(OSError, match=r"No space left on device \(4\.0 MB are needed, [\d.,]+ MB free\)") as found:
        write_tensors(tmp_path / "x", {"w": np.zeros(1_000_000, np.float32)})
    assert found.value.errno == errno.ENOSPC
    assert found.value.filename == str(tmp_path / "x")
    assert not (tmp_path / "x").exists()


# ---- checkpoints


def state(step: int) -> Params:
    return {"w": np.full((2, 2), step, np.float32), "first.w": np.full((2, 2), -step, np.float32)}


def save(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        checkpoints.save(state(step), Progress(step=step))


def newest(checkpoints: Checkpoints, say: Callable[[str], None] = pytest.fail) -> tuple[Params, Progress]:
    found = checkpoints.load_newest(say)
    assert found is not None
    return found


def test_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    progress = Progress(12, 10, 0.1 + 0.2, 5, 1, 3.25, 12_345, [{"loss": 1 / 3, "grad_norm": 1e-30}])
    Checkpoints(tmp_path).save(state(12), progress)
    tensors, found = newest(Checkpoints(tmp_path))
    assert_same_params(tensors, state(12))
    assert found == progress


def test_first_run_finds_no_checkpoint(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none").load_newest(pytest.fail) is None


def test_newest_is_the_one_with_the_largest_number(tmp_path: Path) -> None:
    """Not the last by name, nor the last written; and what is named otherwise is none."""
    checkpoints = Checkpoints(tmp_path, keep=9)
    save(checkpoints, 10, 9, 100, 99)
    (tmp_path / "step-200-copy").mkdir()
    assert [path.name for path in checkpoints.paths()] == ["step-100", "step-99", "step-10", "step-9"]
    assert newest(checkpoints)[1].step == 100


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path, keep=3), 8, 9, 10, 11, 12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-11", "step-12"]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty_object(path: Path) -> None:
    path.write_text("{}")


def list_of_nothing(path: Path) -> None:
    path.write_text("[]")


def garbage(path: Path) -> None:
    path.write_bytes(b"\x80\xff{]")


damages = pytest.mark.parametrize(
    ("file", "damage"),
    [
        *((file, damage) for file in ("state.safetensors", "progress.json") for damage in (flip, cut, Path.unlink)),
        *(("manifest.json", damage) for damage in (cut, Path.unlink, garbage, empty_object, list_of_nothing)),
        ("progress.json", garbage),
        ("", shutil.rmtree),
    ],
)


def hurt(checkpoint: Path, file: str, damage: Callable[[Path], object]) -> None:
    damage(checkpoint / file)
    checkpoint.mkdir(exist_ok=True)


@damages
def test_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, file: str, damage: Callable[[Path], object]
) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 5, 10)
    hurt(tmp_path / "step-10", file, damage)
    said: list[str] = []
    tensors, progress = newest(checkpoints, said.append)
    assert progress.step == 5
    assert_same_params(tensors, state(5))
    assert len(said) == 1
    assert "step-10" in said[0]


@damages
def test_when_all_checkpoints_are_damaged_nothing_is_made_up(
    tmp_path: Path, file: str, damage: Callable[[Path], object]
) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 5, 10)
    for path in checkpoints.paths():
        hurt(path, file, damage)
    said: list[str] = []
    with pytest.raises(UserError, match="all 2 checkpoints are damaged"):
        checkpoints.load_newest(said.append)
    assert len(said) == 2


def test_damaged_checkpoint_is_replaced_when_its_step_comes_again(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 5, 10)
    cut(tmp_path / "step-10" / "state.safetensors")
    save(checkpoints, 10)
    assert newest(checkpoints)[1].step == 10


# ---- a crash while a directory is replaced


class PowerCut(BaseException):
    """Nothing is saved and nobody is told."""


def cut_power_at(patch: pytest.MonkeyPatch, call: int) -> None:
    """Cut the power in place of the given rename, the first being number 1."""
    rename, calls = os.replace, count(1)

    def renamed(*args: Any, **kwargs: Any) -> None:
        if next(calls) == call:
            raise PowerCut
        rename(*args, **kwargs)

    patch.setattr(os, "replace", renamed)


def fill(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "a").write_text(text)
        (folder / "b").write_text(text)

    return write


def texts(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.iterdir()]


@pytest.mark.parametrize("call", [1, 2])
def test_crash_at_a_rename_leaves_the_old_directory_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """The first rename puts the old directory aside, the second puts the new one in its place."""
    target = tmp_path / "model"
    replace_directory(target, fill("old"))
    with monkeypatch.context() as patch:
        cut_power_at(patch, call)
        with pytest.raises(PowerCut):
            replace_directory(target, fill("new"))
    recover_directory(target)
    assert texts(target) == ["old", "old"]
    replace_directory(target, fill("newer"))
    assert texts(target) == ["newer", "newer"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_replacing_recovers_by_itself_before_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a second crash, in the new attempt, would lose the only whole directory."""
    target = tmp_path / "model"
    replace_directory(target, fill("old"))
    with monkeypatch.context() as patch:
        cut_power_at(patch, 2)
        with pytest.raises(PowerCut):
            replace_directory(target, fill("new"))

    def write(folder: Path) -> None:
        assert texts(target) == ["old", "old"]

    replace_directory(target, write)


def test_crash_after_the_new_directory_is_in_place_keeps_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    replace_directory(target, fill("old"))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        replace_directory(target, fill("new"))
    recover_directory(target)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert texts(target) == ["new", "new"]


def test_error_while_writing_leaves_the_old_directory_and_the_next_writing_is_clean(tmp_path: Path) -> None:
    target = tmp_path / "model"
    replace_directory(target, fill("old"))

    def write(folder: Path) -> None:
        (folder / "half").write_text("")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        replace_directory(target, write)
    assert texts(target) == ["old", "old"]
    replace_directory(target, fill("new"))
    assert texts(target) == ["new", "new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_crash_left_of_another_checkpoint_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path)
    with monkeypatch.context() as patch:
        cut_power_at(patch, 1)
        with pytest.raises(PowerCut):
            save(checkpoints, 7)
    assert checkpoints.load_newest(pytest.fail) is None
    save(checkpoints, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["step-8"]


# ---- JSON


def test_json_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "x.json", {"a": "Ähre"})
    with monkeypatch.context() as patch:
        cut_power_at(patch, 1)
        with pytest.raises(PowerCut):
            write_json(tmp_path / "x.json", {"a": "new"})
    assert read_json(tmp_path / "x.json") == {"a": "Ähre"}


@pytest.fixture(params=[b"", b"{", b"[1]", b"null", b"\xff\xfe{}"])
def no_object(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "x.json").write_bytes(request.param)
    return tmp_path / "x.json"


def test_what_is_no_json_object_is_named(no_object: Path) -> None:
    with pytest.raises(CorruptFile, match=r"x\.json: (not JSON|a JSON object expected)"):
        read_json(no_object)


def test_missing_json_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.json: missing"):
        read_json(tmp_path / "x.json")


def test_card_says_what_the_model_is_and_where_it_comes_from(tmp_path: Path) -> None:
    origin = {"fine-tuned from": "runs/lm", "recipe": None, "before": {"corpus": "books", "drawn": ["<pad>", "<bos>"]}}
    save_model(tmp_path / "model", model(provenance=origin))
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-classification\n")
    assert "- fine-tuned from: runs/lm\n- before: corpus books; drawn `<pad>` `<bos>`\n" in card
    assert "recipe" not in card
    assert "`transformers` loads this directory as it is" in card
