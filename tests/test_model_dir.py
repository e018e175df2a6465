"""Model directories: exact round trips, also through `transformers`, and detection of damaged files.

Run: pytest tests/test_model_dir.py
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpt1.backends.parameters import initialise
from gpt1.checkpoint.model_dir import load_model, load_model_with, save_model
from gpt1.config import DropoutConfig, Head, ModelConfig
from gpt1.errors import UserError
from gpt1.system.files import CorruptFile, read_json
from gpt1.system.tensors import read_tensors
from support.saved_models import (
    CLASSIFICATION,
    LABELS,
    SHAPE,
    TOKENIZER,
    assert_same_params,
    bfloat16,
    contents,
    flip,
    model,
    rewrite,
)

MODEL_FILES = {
    "README.md",
    "config.json", "gpt1.json", "model.safetensors",
    "merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json",
}  # fmt: skip


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
    given = model(config, truncation="half")
    save_model(tmp_path / "first", given)
    loaded = load_model(tmp_path / "first")
    assert_same_params(loaded.params, given.params)
    for part in ("config", "label_names", "max_length", "provenance", "truncation"):
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
    assert tokenizer["model_max_length"] == 20, "gpt1 truncates like `transformers`"
    assert tokenizer["padding_side"] == "right"


def test_directory_without_label_names_names_its_outputs_for_transformers(tmp_path: Path) -> None:
    save_model(tmp_path / "model", model(replace(SHAPE, head=Head("similarity", 1, regression=True))))
    config = read_json(tmp_path / "model" / "config.json")
    assert config["problem_type"] == "regression"
    assert config["id2label"] == {"0": "LABEL_0"}


def test_segment_rows_stand_after_the_tokens_and_start_at_zero(tmp_path: Path) -> None:
    """A loaded model is therefore unchanged until they are trained."""
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
    assert loaded.truncation == "longest"


@pytest.mark.parametrize(
    ("head", "truncation", "said"),
    [
        (Head("classification", 3, bias=True), "longest", ["score.bias"]),
        (Head("entailment", 3), "half", ["each part of a long input separately"]),
        (Head("entailment", 3, bias=True), "half", ["score.bias", "each part of a long input separately"]),
        (Head("classification", 3), "half", []),  # a single part is truncated as usual
    ],
)
def test_directory_says_what_transformers_will_do_otherwise(
    tmp_path: Path, head: Head, truncation: str, said: list[str]
) -> None:
    save_model(tmp_path, model(replace(SHAPE, head=head), truncation=truncation))
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
    """Weights of a checkpoint must not be combined with another vocabulary."""
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


def test_card_says_what_the_model_is_and_where_it_comes_from(tmp_path: Path) -> None:
    origin = {"fine-tuned from": "runs/lm", "recipe": None, "before": {"corpus": "books", "drawn": ["<pad>", "<bos>"]}}
    save_model(tmp_path / "model", model(provenance=origin))
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-classification\n")
    base = "- Details of the base model: corpus books; randomly initialized tokens `<pad>` `<bos>`\n"
    assert f"- Fine-tuned from: runs/lm\n{base}" in card
    assert "recipe" not in card
    assert "`transformers` loads this directory and computes the same results" in card
