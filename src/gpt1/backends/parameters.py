"""The parameters of a GPT-1: names, shapes, initial values, which ones decay, and other formats' names for them.

Names are Hugging Face's without the prefix `transformer.`; matrices of a layer are (in, out), as in OpenAI's code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gpt1.config import Init, ModelConfig
from gpt1.errors import UserError

Params = dict[str, NDArray[np.float32]]

INIT_STD = 0.02
"""Standard deviation of the initial weights (Radford et al. 2018, §4.1)."""

HF_PREFIX = "transformer."

_MINDSPORE_OWN = re.compile(r"((?:tokens|positions)_embed)\.(embedding_table)|(h\.\d+\.ln_[12])\.(gamma|beta)")
"""The names that `mindspore.nn.Embedding` and `mindspore.nn.LayerNorm` give their parameters."""

HEAD = "score."
"""What the names of the head's parameters begin with."""


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of `config`, in the order of the forward pass."""
    width = config.n_embd
    table: dict[str, tuple[int, ...]] = {
        "tokens_embed.weight": (config.vocab_size + config.n_segments, width),
        "positions_embed.weight": (config.n_ctx, width),
    }
    for layer in range(config.n_layer):
        block = f"h.{layer}."
        table |= {
            block + "attn.c_attn.weight": (width, 3 * width),
            block + "attn.c_attn.bias": (3 * width,),
            block + "attn.c_proj.weight": (width, width),
            block + "attn.c_proj.bias": (width,),
            block + "ln_1.weight": (width,),
            block + "ln_1.bias": (width,),
            block + "mlp.c_fc.weight": (width, 4 * width),
            block + "mlp.c_fc.bias": (4 * width,),
            block + "mlp.c_proj.weight": (4 * width, width),
            block + "mlp.c_proj.bias": (width,),
            block + "ln_2.weight": (width,),
            block + "ln_2.bias": (width,),
        }
    if config.head:
        table["score.weight"] = (config.head.n_labels, width)
        if config.head.bias:
            table["score.bias"] = (config.head.n_labels,)
    return table


def count(config: ModelConfig) -> int:
    """Return the number of parameters of `config`."""
    return sum(int(np.prod(shape)) for shape in shapes(config).values())


def decays(name: str, shape: tuple[int, ...]) -> bool:
    """Say whether weight decay applies: to every matrix, embeddings included; not to biases and gains."""
    return len(shape) > 1


def initialise(
    config: ModelConfig, seed: int, given: Mapping[str, NDArray[np.float32]] | None = None, *, init: Init = "normal"
) -> Params:
    """Return float32 parameters: those of `given`, and random matrices, zero biases, unit gains for the rest.

    Matrices, embeddings too, are drawn from N(0, 0.02), or with `xavier` uniformly from ±√(6 / (rows + columns))
    (Glorot & Bengio 2010, eq. 16).

    `given` may have fewer rows in the token embedding than `config` asks for (special tokens and segments to be added):
    the missing token rows are drawn, the segment rows are zero. Each parameter has its own random stream, drawn from
    `seed` and its place in `shapes`, so that a model with a head starts from the same body as one without.

    Raises:
        UserError: `given` holds a parameter that `config` has not, or one of another shape.
    """
    given = dict(given or {})
    params: Params = {}
    for index, (name, shape) in enumerate(shapes(config).items()):
        # The head's stream must not depend on the number of layers before it; the body's is its place.
        stream = np.random.default_rng([seed, 10**6 if name == "score.weight" else index])
        value = given.pop(name, None)
        if name == "tokens_embed.weight":
            params[name] = _token_rows(config, stream, value, init)
        elif value is not None:
            if value.shape != shape:
                raise UserError(f"parameter {name}: shape {value.shape} found, {shape} expected")
            params[name] = np.ascontiguousarray(value, np.float32)
        elif len(shape) > 1:
            params[name] = _matrix(stream, shape, init)
        else:
            params[name] = np.full(shape, 1.0 if name.endswith(("ln_1.weight", "ln_2.weight")) else 0.0, np.float32)
    if given:
        raise UserError(f"parameter {min(given)} does not belong to this model")
    return params


def _matrix(stream: np.random.Generator, shape: tuple[int, ...], init: Init) -> NDArray[np.float32]:
    if init == "xavier":
        limit = (6.0 / sum(shape)) ** 0.5
        return stream.uniform(-limit, limit, shape).astype(np.float32)
    return stream.normal(0.0, INIT_STD, shape).astype(np.float32)


def _token_rows(
    config: ModelConfig, stream: np.random.Generator, given: NDArray[np.float32] | None, init: Init
) -> NDArray[np.float32]:
    rows = _matrix(stream, (config.vocab_size, config.n_embd), init)
    segments = np.zeros((config.n_segments, config.n_embd), np.float32)
    if given is None:
        return np.concatenate([rows, segments])
    full = (config.vocab_size + config.n_segments, config.n_embd)
    if given.shape == full:
        return np.ascontiguousarray(given, np.float32)
    if given.shape[1:] != rows.shape[1:] or len(given) > config.vocab_size:
        raise UserError(f"parameter tokens_embed.weight: shape {given.shape} found, {full} expected")
    return np.concatenate([given.astype(np.float32), rows[len(given) :], segments])


def to_huggingface(name: str) -> str:
    """Return the name that `transformers` has for our parameter `name`."""
    return name if name.startswith(HEAD) else HF_PREFIX + name


def from_huggingface(name: str) -> str | None:
    """Return our name for `transformers`' or MindNLP's tensor `name`; `None` for one that holds nothing of its own.

    `lm_head.weight` is tied to the token embedding, and `attn.bias` is an old release's causal mask. MindNLP has the
    names of `transformers`; its older releases had MindSpore's own in embeddings and layer norms.
    """
    name = name.removeprefix(HF_PREFIX)
    if old := _MINDSPORE_OWN.fullmatch(name):
        cell, kind = filter(None, old.groups())
        return f"{cell}.{'bias' if kind == 'beta' else 'weight'}"
    return None if name == "lm_head.weight" or name.endswith(".attn.bias") else name
