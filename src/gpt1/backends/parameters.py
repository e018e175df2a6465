"""Parameters of a GPT-1: names, shapes, roles, initial values, weight decay, names in other formats.

Names are those of Hugging Face without the prefix `transformer.`; the matrices of a layer are (in, out), as in
OpenAI's code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt1.config import Init, ModelConfig
from gpt1.errors import UserError

Params = dict[str, NDArray[np.float32]]

INIT_STD = 0.02
"""Standard deviation of the initial weights (Radford et al. 2018, §4.1)."""

HF_PREFIX = "transformer."

_MINDSPORE_OWN = re.compile(r"((?:tokens|positions)_embed)\.(embedding_table)|(h\.\d+\.ln_[12])\.(gamma|beta)")
"""Names of the parameters of `mindspore.nn.Embedding` and `mindspore.nn.LayerNorm`."""

HEAD = "score."
"""Prefix of the names of the head's parameters."""


class Role(Enum):
    """Role of a parameter, which determines its initial value."""

    EMBEDDING = "embedding"
    MATRIX = "matrix"
    BIAS = "bias"
    GAIN = "gain"


class Parameter(NamedTuple):
    """Declaration of one parameter."""

    shape: tuple[int, ...]
    role: Role


def declare(config: ModelConfig) -> dict[str, Parameter]:
    """Return the declaration of every parameter of `config`, in the order of the forward pass."""
    width = config.n_embd
    table = {
        "tokens_embed.weight": Parameter((config.vocab_size + config.n_segments, width), Role.EMBEDDING),
        "positions_embed.weight": Parameter((config.n_ctx, width), Role.EMBEDDING),
    }
    for layer in range(config.n_layer):
        block = f"h.{layer}."
        table |= _affine(block + "attn.c_attn", width, 3 * width)
        table |= _affine(block + "attn.c_proj", width, width)
        table |= _norm(block + "ln_1", width)
        table |= _affine(block + "mlp.c_fc", width, 4 * width)
        table |= _affine(block + "mlp.c_proj", 4 * width, width)
        table |= _norm(block + "ln_2", width)
    if config.head:
        table["score.weight"] = Parameter((config.head.n_labels, width), Role.MATRIX)
        if config.head.bias:
            table["score.bias"] = Parameter((config.head.n_labels,), Role.BIAS)
    return table


def _affine(name: str, n_in: int, n_out: int) -> dict[str, Parameter]:
    return {
        f"{name}.weight": Parameter((n_in, n_out), Role.MATRIX),
        f"{name}.bias": Parameter((n_out,), Role.BIAS),
    }


def _norm(name: str, width: int) -> dict[str, Parameter]:
    return {f"{name}.weight": Parameter((width,), Role.GAIN), f"{name}.bias": Parameter((width,), Role.BIAS)}


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of `config`, in the order of the forward pass."""
    return {name: parameter.shape for name, parameter in declare(config).items()}


def count(config: ModelConfig) -> int:
    """Return the number of parameters of `config`."""
    return sum(int(np.prod(shape)) for shape in shapes(config).values())


def decays(name: str, shape: tuple[int, ...]) -> bool:
    """Return whether weight decay applies to a parameter: to matrices and embeddings, not to biases and gains."""
    return len(shape) > 1


def initialise(
    config: ModelConfig,
    seed: int,
    pretrained: Mapping[str, NDArray[np.float32]] | None = None,
    *,
    init: Init = "normal",
) -> Params:
    """Return float32 parameters: those of `pretrained`, and initial values by role for the others.

    Embeddings and matrices are drawn from N(0, 0.02), or with `xavier` uniformly from ±√(6 / (rows + columns))
    (Glorot & Bengio 2010, eq. 16); biases are 0 and gains 1.

    The token embedding of `pretrained` may have fewer rows than that of `config`, without special tokens and segments:
    the missing tokens are drawn, the segments are zero. Each parameter has its own random stream, seeded with `seed`
    and its index in `declare`, so that a model has the same initial body with and without a head.

    Raises:
        UserError: `pretrained` has a parameter that `config` does not have, or one of another shape.
    """
    remaining = dict(pretrained or {})
    params: Params = {}
    for index, (name, parameter) in enumerate(declare(config).items()):
        # The stream of the head must not depend on the number of layers; those of the body are the indices.
        stream = np.random.default_rng([seed, 10**6 if name == "score.weight" else index])
        value = remaining.pop(name, None)
        if name == "tokens_embed.weight":
            params[name] = _token_rows(config, stream, value, init)
        elif value is not None:
            if value.shape != parameter.shape:
                raise UserError(f"parameter {name}: shape {value.shape} found, {parameter.shape} expected")
            params[name] = np.ascontiguousarray(value, np.float32)
        else:
            params[name] = initial_value(parameter, stream, init)
    if remaining:
        raise UserError(f"parameter {min(remaining)}: not a parameter of this model")
    return params


def initial_value(parameter: Parameter, stream: np.random.Generator, init: Init) -> NDArray[np.float32]:
    """Return the float32 initial value of `parameter` by its role; random values are drawn from `stream`."""
    shape = parameter.shape
    match parameter.role:
        case Role.GAIN:
            return np.ones(shape, np.float32)
        case Role.BIAS:
            return np.zeros(shape, np.float32)
        case Role.EMBEDDING | Role.MATRIX:
            if init == "xavier":
                limit = (6.0 / sum(shape)) ** 0.5
                return stream.uniform(-limit, limit, shape).astype(np.float32)
            return stream.normal(0.0, INIT_STD, shape).astype(np.float32)


def _token_rows(
    config: ModelConfig, stream: np.random.Generator, pretrained: NDArray[np.float32] | None, init: Init
) -> NDArray[np.float32]:
    """Return the token embedding with its segments' rows: `pretrained`, completed if it has fewer rows."""
    rows = initial_value(Parameter((config.vocab_size, config.n_embd), Role.EMBEDDING), stream, init)
    segments = np.zeros((config.n_segments, config.n_embd), np.float32)
    if pretrained is None:
        return np.concatenate([rows, segments])
    full = (config.vocab_size + config.n_segments, config.n_embd)
    if pretrained.shape == full:
        return np.ascontiguousarray(pretrained, np.float32)
    if pretrained.shape[1:] != rows.shape[1:] or len(pretrained) > config.vocab_size:
        raise UserError(f"parameter tokens_embed.weight: shape {pretrained.shape} found, {full} expected")
    return np.concatenate([pretrained.astype(np.float32), rows[len(pretrained) :], segments])


def to_huggingface(name: str) -> str:
    """Return the name of parameter `name` in `transformers`."""
    return name if name.startswith(HEAD) else HF_PREFIX + name


def from_huggingface(name: str) -> str | None:
    """Return our name of the tensor `name` of `transformers` or MindNLP; `None` for a redundant tensor.

    Redundant are `lm_head.weight`, which is tied to the token embedding, and `attn.bias`, the causal mask of old
    releases. MindNLP uses the names of `transformers`; its older releases used MindSpore's names in embeddings and
    layer norms.
    """
    name = name.removeprefix(HF_PREFIX)
    if old := _MINDSPORE_OWN.fullmatch(name):
        cell, kind = filter(None, old.groups())
        return f"{cell}.{'bias' if kind == 'beta' else 'weight'}"
    return None if name == "lm_head.weight" or name.endswith(".attn.bias") else name
