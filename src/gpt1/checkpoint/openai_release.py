"""OpenAI's release of GPT-1: the weights as one float32 vector in ten files, and two vocabulary files.

`params_shapes.json` lists the shapes of the parameters in the vector: positions, tokens, then for each block c_attn,
c_proj, ln_1, c_fc, c_proj, ln_2, each with weight and bias. Matrices are (1, in, out). The release has no special
tokens and no head, and does not store the number of attention heads, which are `HEAD_SIZE` wide.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.parameters import Params, shapes
from gpt1.config import ModelConfig
from gpt1.errors import UserError
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.tokenization.vocab_files import UNK_TOKEN

SHAPES = "params_shapes.json"
PIECES = tuple(f"params_{number}.npy" for number in range(10))
ENCODER, MERGES = "encoder_bpe_40000.json", "vocab_40000.bpe"

HEAD_SIZE = 64
"""Width of an attention head in the release (768 / 12); narrower models have one head."""


def is_release(directory: Path) -> bool:
    """Return whether `directory` contains a release or a part of one."""
    return (directory / SHAPES).exists() or any(directory.glob("params_*.npy"))


def layout(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return {parameter: shape} in the shapes and the order of the release."""
    table = shapes(config)
    names = ["positions_embed.weight", "tokens_embed.weight", *(name for name in table if name.startswith("h."))]
    return {name: (1, *table[name]) if _is_block_matrix(name, table[name]) else table[name] for name in names}


def _is_block_matrix(name: str, shape: tuple[int, ...]) -> bool:
    return name.startswith("h.") and len(shape) == 2


# ---- reading


def read(directory: Path) -> tuple[ModelConfig, Params]:
    """Read the configuration and the parameters of a release, whose token embedding has no special tokens.

    The parameters are views of one vector. The ten files may differ in size from the release. Nothing is unpickled.

    Raises:
        UserError: a file is missing, unexpected or not a `.npy` file of float32 numbers; the shapes are not those of a
            GPT-1; the vector is too short or too long.
    """
    config = _read_config(directory / SHAPES)
    table = layout(config)
    vector = _read_vector(directory, table)
    params: Params = {}
    start = 0
    for name, shape in table.items():
        end = start + math.prod(shape)
        params[name] = vector[start:end].reshape(shape[1:] if _is_block_matrix(name, shape[1:]) else shape)
        start = end
    return config, params


def _read_config(path: Path) -> ModelConfig:
    """Return the configuration of the GPT-1 with the parameter shapes in `path`."""
    shapes_in_file = _read_shapes(path)
    if len(shapes_in_file) < 14 or (len(shapes_in_file) - 2) % 12:
        raise UserError(
            f"{path}: {len(shapes_in_file)} shapes; a GPT-1 has 2 (positions, tokens) and 12 for each block: 14, 26, …"
        )
    for index, name in enumerate(("positions_embed.weight", "tokens_embed.weight")):
        if len(shapes_in_file[index]) != 2:
            raise UserError(f"{path}: shape {index} ({name}) is {shapes_in_file[index]}; (rows, width) expected")
    (n_ctx, n_embd), (vocab_size, _) = shapes_in_file[:2]
    if n_embd > HEAD_SIZE and n_embd % HEAD_SIZE:
        raise UserError(f"{path}: embedding width {n_embd}; expected a multiple of {HEAD_SIZE}, the size of a head")
    config = ModelConfig(
        n_layer=(len(shapes_in_file) - 2) // 12, n_head=max(1, n_embd // HEAD_SIZE), n_embd=n_embd, n_ctx=n_ctx,
        vocab_size=vocab_size,
    )  # fmt: skip
    for index, (name, shape) in enumerate(layout(config).items()):
        if shapes_in_file[index] != shape:
            raise UserError(f"{path}: shape {index} ({name}) is {shapes_in_file[index]}; {shape} expected")
    return config


def _read_shapes(path: Path) -> list[tuple[int, ...]]:
    try:
        listed: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing; the release folder is incomplete") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(listed, list):
        raise UserError(f"{path}: a list of shapes expected, {type(listed).__name__} found")
    for index, shape in enumerate(listed):
        if not (isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)):
            raise UserError(f"{path}: entry {index} is {shape!r}; a list of positive whole numbers expected")
    return [tuple(shape) for shape in listed]


def _read_vector(directory: Path, table: dict[str, tuple[int, ...]]) -> NDArray[np.float32]:
    """Return the pieces as one vector of the size given by `table`."""
    extra = sorted(path.name for path in directory.glob("params_*.npy") if path.name not in PIECES)
    if extra:
        raise UserError(f"{directory / extra[0]}: does not belong to a release; expected {PIECES[0]} to {PIECES[-1]}")
    pieces = [_open_piece(directory / name) for name in PIECES]
    expected, total = sum(map(math.prod, table.values())), sum(map(len, pieces))
    if total != expected:
        raise UserError(
            f"{directory}: {total:,} numbers in {PIECES[0]} to {PIECES[-1]}, {expected:,} expected from {SHAPES}: "
            f"{_place_of_end(table, total)}{_uneven(pieces, expected)}"
        )
    for name, piece in zip(PIECES, pieces, strict=True):
        if not np.isfinite(piece).all():
            index = int(np.flatnonzero(~np.isfinite(piece))[0])
            raise UserError(f"{directory / name}: number {index:,} is {piece[index]}; the file is damaged")
    vector = np.empty(expected, np.float32)
    np.concatenate(pieces, out=vector)
    return vector


def _open_piece(path: Path) -> NDArray[np.float32]:
    """Return the numbers of a piece as a memory map."""
    try:
        piece: Any = np.load(path, mmap_mode="r", allow_pickle=False)  # allocates nothing, whatever the header says
    except FileNotFoundError:
        raise UserError(f"{path}: missing; the release folder is incomplete") from None
    except (ValueError, EOFError, OverflowError, BadZipFile) as error:
        raise UserError(f"{path}: not a complete .npy file of numbers ({error}); pickles are not read") from None
    if not isinstance(piece, np.memmap):
        raise UserError(f"{path}: an archive; a .npy file with one array expected")
    if piece.dtype != np.float32:
        raise UserError(f"{path}: numbers of type {piece.dtype}; float32 expected")
    if extra := path.stat().st_size - piece.offset - piece.nbytes:
        raise UserError(f"{path}: {extra:,} bytes follow its array; the file is damaged")
    if piece.ndim != 1:
        raise UserError(f"{path}: an array of shape {piece.shape}; one dimension expected")
    return piece


def _place_of_end(table: dict[str, tuple[int, ...]], length: int) -> str:
    """Describe which parameter a vector of `length` numbers ends in."""
    start = 0
    for name, shape in table.items():
        if length < start + math.prod(shape):
            return f"they end within {name} {shape}, {length - start:,} numbers after its start"
        start += math.prod(shape)
    return f"{length - start:,} follow the last parameter"


def _uneven(pieces: list[NDArray[np.float32]], wanted: int) -> str:
    """Name the pieces whose size differs from an even split, since these are probably damaged."""
    even = [wanted // len(pieces) + (number < wanted % len(pieces)) for number in range(len(pieces))]
    uneven = [
        f"{name} {len(piece):,} (expected {size:,})"
        for name, piece, size in zip(PIECES, pieces, even, strict=True)
        if len(piece) != size
    ]
    return f"; pieces of unexpected size: {', '.join(uneven)}" if len(uneven) < len(pieces) else ""


# ---- writing


def write(folder: Path, config: ModelConfig, params: Params, tokenizer: Tokenizer) -> None:
    """Write a release to `folder`, without the special tokens of `tokenizer`, for which `params` has no rows.

    The vector is split by `np.array_split`, as in the release, so that equal models give equal files.

    Raises:
        UserError: a release cannot store `config` (see `require_storable`).
    """
    require_storable(config)
    table = layout(config)
    vector = np.concatenate([params[name].ravel() for name in table])
    for name, piece in zip(PIECES, np.array_split(vector, len(PIECES)), strict=True):
        np.save(folder / name, piece, allow_pickle=False)
    _write_text(folder / SHAPES, json.dumps(list(table.values())))
    encoder, merges = vocabulary(tokenizer)
    _write_text(folder / ENCODER, encoder)
    _write_text(folder / MERGES, merges)


def require_storable(config: ModelConfig) -> None:
    """Raise UserError if a release cannot store `config`: another head size or layer-norm epsilon."""
    n_head = max(1, config.n_embd // HEAD_SIZE)
    if config.n_head != n_head or config.n_embd % n_head:
        raise UserError(
            f"--to openai: {config.n_head} heads of width {config.n_embd // config.n_head}; the release does not store "
            f"the number of heads and implies a width of {HEAD_SIZE} (one head if the model is narrower)"
        )
    if config.layer_norm_epsilon != ModelConfig.layer_norm_epsilon:
        raise UserError(
            f"--to openai: layer_norm_epsilon {config.layer_norm_epsilon}; the release does not store it and "
            f"implies {ModelConfig.layer_norm_epsilon}"
        )


def vocabulary(tokenizer: Tokenizer) -> tuple[str, str]:
    """Return the contents of the two vocabulary files without special tokens, byte for byte as in OpenAI's release.

    Hugging Face calls these files `vocab.json` and `merges.txt`.
    """
    model = json.loads(tokenizer.backend.to_str())["model"]
    special = {tokenizer.pad, tokenizer.bos, tokenizer.sep, tokenizer.eos}
    ids = {token: i for token, i in sorted(model["vocab"].items(), key=lambda item: item[1]) if i not in special}
    ids[UNK_TOKEN] = ids.pop(UNK_TOKEN)  # the last entry in OpenAI's file, regardless of its id
    merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
    return json.dumps(ids), f"#version: 0.2\n{merges}"


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
