"""Hugging Face's layout of openai-gpt: `config.json` and `model.safetensors`.

MindNLP's layout is the same, with `model.safetensors` or a `.ckpt` file of MindSpore. Unknown and missing tensors are
errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from gpt1 import backends
from gpt1.backends.parameters import INIT_STD, Params, from_huggingface, shapes, to_huggingface
from gpt1.config import REGRESSION_PROBLEM, DropoutConfig, Head, ModelConfig, ProblemName, Stored, problem_name
from gpt1.errors import UserError
from gpt1.system.files import read_json
from gpt1.system.tensors import read_tensors, write_tensors

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CKPT = "mindspore.ckpt"
"""MindNLP's name for a file of weights in MindSpore's format."""
ONNX = "model.onnx"
"""Common name of an ONNX graph, which includes the weights."""


# ---- reading


def read(directory: Path) -> tuple[ModelConfig, Params, tuple[str, ...]]:
    """Read the configuration, parameters and label names; `vocab_size` is the number of rows of the embedding.

    Raises:
        UserError: the configuration is not that of a GPT-1 or does not match the weights; a tensor is missing, has the
            wrong shape, or does not belong to a GPT-1; there are several files of weights.
        CorruptFile: a file is truncated.
    """
    path = directory / CONFIG
    hf_config = read_json(path)
    if hf_config.get("model_type") != "openai-gpt":
        raise UserError(f"{path}: model_type {hf_config.get('model_type')!r} found, 'openai-gpt' expected")
    if hf_config.get("afn", "gelu") != "gelu":
        raise UserError(f"{path}: afn {hf_config['afn']!r} found; GPT-1 has 'gelu'")
    weights = _only_weights(directory)
    params = read_weights(weights)
    config = _model_config(path, weights, hf_config, params)
    score = params.get("score.weight")
    label_names: tuple[str, ...] = ()
    if score is not None:
        problem_type = hf_config.get("problem_type")
        if problem_type == "multi_label_classification":
            raise UserError(
                f"{path}: problem_type {problem_type!r} found; gpt1 supports {' and '.join(get_args(ProblemName))}"
            )
        regression = problem_type == REGRESSION_PROBLEM or len(score) == 1
        config = replace(config, head=Head("classification", len(score), regression))
        label_names = () if regression else _label_names(path, hf_config, len(score))
    expected = shapes(config)
    for name, shape in expected.items():
        if name not in params:
            raise UserError(f"{weights}: parameter {name} is missing")
        if params[name].shape != shape:
            raise UserError(f"{weights}: parameter {name}: shape {params[name].shape} found, {shape} expected")
    if unknown := params.keys() - expected.keys():
        raise UserError(f"{weights}: tensor {min(unknown)} does not belong to a GPT-1 of {config.n_layer} layers")
    return config, params, label_names


def _only_weights(directory: Path) -> Path:
    """Return the file of weights: `model.safetensors`, or a `.ckpt` of any name."""
    files = [path for path in (directory / WEIGHTS, *sorted(directory.glob("*.ckpt"))) if path.exists()]
    if len(files) > 1:
        names = " and ".join(path.name for path in files)
        raise UserError(f"{directory}: contains {names}; keep only one file of weights")
    return files[0] if files else directory / WEIGHTS


def read_weights(path: Path) -> Params:
    """Read the parameters of a safetensors or `.ckpt` file, renamed to gpt1's names.

    Raises:
        UserError: the file is missing, does not contain a GPT-1, contains a parameter twice, an output layer that is
            not tied to the embedding, a mask that is not causal, or an unsupported head.
    """
    if not path.exists():
        raise UserError(f"{path}: missing; gpt1 reads safetensors and MindSpore's .ckpt")
    params: Params = {}
    repeating: Params = {}  # redundant tensors
    for name, value in _tensors(path).items():
        ours = from_huggingface(name)
        if not np.isfinite(value).all():
            raise UserError(
                f"{path}: tensor {name} contains NaN or infinity; the file is damaged, or training diverged"
            )
        if ours in params:
            raise UserError(f"{path}: parameter {ours} occurs twice, under different names")
        if ours is None:
            repeating[name] = value
        elif ours.startswith("multiple_choice_head."):
            raise UserError(
                f"{path}: tensor {name} belongs to the head of an OpenAIGPTDoubleHeadsModel, which gpt1 does not "
                "support; save the model without it: model.transformer.save_pretrained(DIR)"
            )
        else:
            params[ours] = value
    if "tokens_embed.weight" not in params:
        raise UserError(f"{path}: parameter tokens_embed.weight is missing; this is not a GPT-1")
    for name, value in repeating.items():
        if name.endswith("lm_head.weight"):
            if not np.array_equal(value, params["tokens_embed.weight"]):
                raise UserError(f"{path}: tensor {name} differs from the token embedding; in a GPT-1 the two are tied")
        elif not _is_causal_mask(value):
            raise UserError(
                f"{path}: tensor {name} of shape {value.shape} is not a causal mask, as expected in a GPT-1"
            )
    return params


def _tensors(path: Path) -> Params:
    if path.suffix != ".ckpt":
        return read_tensors(path)
    backends.require("mindspore", str(path))
    from gpt1.backends.mindspore import ckpt

    params: Params = ckpt.read(path)
    return params


def _is_causal_mask(value: NDArray[np.float32]) -> bool:
    size = value.shape[-1] if value.ndim else 0
    return value.shape == (1, 1, size, size) and np.array_equal(value[0, 0], np.tril(np.ones((size, size))))


def _model_config(path: Path, weights: Path, hf_config: Mapping[str, Any], params: Params) -> ModelConfig:
    """Return the configuration, after validating that `config.json` matches the weights."""
    if "positions_embed.weight" not in params:
        raise UserError(f"{weights}: parameter positions_embed.weight is missing")
    for name in ("tokens_embed.weight", "positions_embed.weight"):
        if params[name].ndim != 2:
            raise UserError(f"{weights}: {name} has shape {params[name].shape}; (rows, width) expected")
    rows, width = params["tokens_embed.weight"].shape
    layers = {int(match[1]) for name in params if (match := re.match(r"h\.(\d+)\.", name))}
    positions = "n_positions" if "n_positions" in hf_config else "n_ctx"
    held = {
        "n_layer": max(layers, default=-1) + 1,
        "n_embd": width,
        positions: len(params["positions_embed.weight"]),
        "vocab_size": rows,
    }
    for name, value in held.items():
        if _whole_number(path, hf_config, name, default=value) != value:
            raise UserError(f"{path}: {name} is {hf_config[name]}, but {value} in {weights.name}")
    n_head = _whole_number(path, hf_config, "n_head")
    if width % n_head:
        raise UserError(f"{path}: n_head {n_head}; the width {width} is not a multiple of n_head")
    epsilon = hf_config.get("layer_norm_epsilon", ModelConfig.layer_norm_epsilon)
    if not isinstance(epsilon, float) or epsilon <= 0:
        raise UserError(f"{path}: layer_norm_epsilon {epsilon!r}; a positive number expected")
    return ModelConfig(
        n_layer=held["n_layer"], n_head=n_head, n_embd=width, n_ctx=held[positions], vocab_size=rows,
        layer_norm_epsilon=epsilon,
    )  # fmt: skip


def _whole_number(path: Path, hf_config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = hf_config.get(name, default)
    if type(value) is not int or value <= 0:
        raise UserError(f"{path}: {name} {value!r}; a positive whole number expected")
    return value


def _label_names(path: Path, hf_config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Return the label names in the order of their ids; `transformers` omits them if they are its two defaults."""
    labels = hf_config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    if set(labels) != {str(index) for index in range(count)}:
        raise UserError(
            f"{path}: id2label has the ids {', '.join(labels)}; score.weight has the labels 0 to {count - 1}"
        )
    return tuple(labels[str(index)] for index in range(count))


def read_dropout(directory: Path) -> DropoutConfig:
    """Return the dropout probabilities of `config.json`; missing ones have GPT-1's defaults."""
    path = directory / CONFIG
    hf_config = read_json(path) if path.exists() else {}
    return DropoutConfig(
        **{name: hf_config[name] for name in ("embd_pdrop", "resid_pdrop", "attn_pdrop") if name in hf_config}
    )


# ---- writing


def write_weights(path: Path, params: Params, dtype: Stored = "float32") -> None:
    """Write a safetensors or `.ckpt` file with the parameter names of `transformers` and MindNLP."""
    tensors = {to_huggingface(name): value for name, value in params.items()}
    if path.suffix == ".ckpt":
        backends.require("mindspore", str(path))
        from gpt1.backends.mindspore import ckpt

        ckpt.write(path, tensors, dtype)
    else:
        write_tensors(path, tensors, dtype)


def config_json(
    config: ModelConfig, dropout: DropoutConfig, special: Mapping[str, int], label_names: Sequence[str] = (),
    dtype: Stored = "float32",
) -> dict[str, Any]:  # fmt: skip
    """Return the content of `config.json`.

    `special` maps `transformers`' names of special tokens to ids. `dtype` is the dtype of the weights, in which
    `transformers` loads the model.
    """
    head = config.head
    values: dict[str, Any] = {
        "architectures": ["OpenAIGPTForSequenceClassification" if head else "OpenAIGPTLMHeadModel"],
        "model_type": "openai-gpt",
        "afn": "gelu",
        "vocab_size": config.vocab_size + config.n_segments,
        "n_positions": config.n_ctx,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "initializer_range": INIT_STD,
        "embd_pdrop": dropout.embd_pdrop,
        "resid_pdrop": dropout.resid_pdrop,
        "attn_pdrop": dropout.attn_pdrop,
        **special,
        "tie_word_embeddings": True,
        "dtype": dtype,
    }
    if head:
        labels = label_names or tuple(f"LABEL_{index}" for index in range(head.n_labels))
        values |= {
            "id2label": {str(index): label for index, label in enumerate(labels)},
            "label2id": {label: index for index, label in enumerate(labels)},
            "problem_type": problem_name(not label_names),
        }
    return values
