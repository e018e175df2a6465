"""Model directories: safetensors and JSON, written atomically, with checksums.

A model directory has Hugging Face's layout (`config.json`, `model.safetensors`, the tokenizer's files) and `gpt1.json`
for everything that this layout does not store. With the weights in `mindspore.ckpt` it has MindNLP's layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.parameters import Params, initialise, shapes
from gpt1.checkpoint import huggingface, openai_release
from gpt1.checkpoint.huggingface import CKPT, ONNX, WEIGHTS
from gpt1.checkpoint.model_card import Results, model_card
from gpt1.config import PAPER_TASKS, DropoutConfig, ModelConfig, Stored, Truncation
from gpt1.errors import UserError
from gpt1.system.files import CorruptFile, dump_json, read_json, replace_directory, sha256, write_text
from gpt1.tokenization.pretokenizers import OPENAI_AGREEMENT
from gpt1.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer
from gpt1.tokenization.vocab_files import read_vocab

FORMAT = 1
"""Version of `gpt1.json`."""

DETAILS = "gpt1.json"
CARD = "README.md"
TOKENIZER_FILES = ("tokenizer_config.json", "vocab.json", "merges.txt")
"""Files of the tokenizer besides tokenizer.json, which has a checksum."""


@dataclass(frozen=True)
class Model:
    """A model: configuration, parameters, tokenizer, labels and metadata."""

    config: ModelConfig
    params: Params
    tokenizer: Tokenizer
    label_names: tuple[str, ...] = ()
    """Label names in the order of their ids; empty for regression, multiple choice and language models."""
    max_length: int = 512
    """Maximum length of a sequence in training, in tokens."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Origin of the weights, for the model card."""
    truncation: Truncation = "longest"
    """Truncation of sequences with two parts (see `tasks.encode`)."""


# ---- model directories


def save_model(
    directory: Path, model: Model, dropout: DropoutConfig | None = None, dtype: Stored = "float32",
    weights: str = WEIGHTS, write_weights: Callable[[Path], None] | None = None,
) -> None:  # fmt: skip
    """Write a model directory atomically, replacing an existing one.

    Args:
        directory: Directory to write.
        model: The model.
        dropout: Dropout probabilities for `config.json`; None = the defaults.
        dtype: Data type of the weights.
        weights: Name of the file of weights: `model.safetensors`, `mindspore.ckpt`, or one that `write_weights` writes.
        write_weights: Function that writes the file of weights.

    Raises:
        UserError: a weight exceeds the range of `dtype`, or MindSpore is required and not installed.
    """

    def write(folder: Path) -> None:
        model.tokenizer.save(folder, max_length=model.max_length, n_segments=model.config.n_segments)
        if write_weights:
            write_weights(folder / weights)
        else:
            huggingface.write_weights(folder / weights, model.params, dtype)
        ids = {f"{token}_token_id": getattr(model.tokenizer, token) for token in ("pad", "bos", "eos")}
        config = huggingface.config_json(model.config, dropout or DropoutConfig(), ids, model.label_names, dtype)
        dump_json(folder / huggingface.CONFIG, config)
        differences = huggingface_differences(model, dtype, weights)
        details = {
            "format": FORMAT,
            "model": asdict(model.config),
            "labels": list(model.label_names),
            "words": model.tokenizer.pretokenizer,
            "template": "<bos> a <eos> | <bos> a <sep> b <eos>",
            "max_length": model.max_length,
            "cut": model.truncation,
            "huggingface_exact": not differences,
            "huggingface_differences": differences,
            "provenance": model.provenance,
            "sha256": {name: sha256(folder / name) for name in (weights, "tokenizer.json")},
        }
        dump_json(folder / DETAILS, details)
        (folder / CARD).write_text(_card(details), encoding="utf-8", newline="\n")

    replace_directory(directory, write)


def add_results(directory: Path, results: Results) -> None:
    """Add the results of a finished run to the model card."""
    write_text(directory / CARD, _card(_details(directory), results))


def model_files(directory: Path) -> list[Path]:
    """Return the files of a model directory that `save_model` has written, after verifying them.

    Raises:
        UserError: the directory was not written by gpt1.
        CorruptFile: a file is missing, truncated, or has the wrong checksum.
    """
    if not (directory / DETAILS).exists():
        raise UserError(f"{directory}: not a model directory of gpt1 ({DETAILS} is missing); gpt1 convert creates one")
    details = _details(directory)
    for name in details["sha256"]:
        _check(directory / name, details)
    names = (*details["sha256"], huggingface.CONFIG, DETAILS, CARD, *TOKENIZER_FILES)
    if missing := [name for name in names if not (directory / name).exists()]:
        raise CorruptFile(f"{directory / missing[0]}: missing; the directory is incomplete")
    return [directory / name for name in names]


def _card(details: Mapping[str, Any], results: Results | None = None) -> str:
    libraries = {CKPT: "mindspore", ONNX: "onnx"}
    return model_card(
        ModelConfig.from_dict(details["model"]), pretokenizer=details["words"], labels=details["labels"],
        max_length=details["max_length"], provenance=details["provenance"],
        differences=details["huggingface_differences"], results=results,
        library=next((libraries[name] for name in details["sha256"] if name in libraries), "transformers"),
    )  # fmt: skip


def huggingface_differences(model: Model, dtype: Stored = "float32", weights: str = WEIGHTS) -> list[str]:
    """Return descriptions of differences between `transformers` and gpt1 for this model's directory."""
    differences = []
    if model.tokenizer.pretokenizer == "openai":
        differences.append(
            "tokenizer.json approximates ftfy and spaCy, and tokenizes "
            f"{OPENAI_AGREEMENT:.0%} of reference texts exactly as OpenAI's code does; gpt1.tokenizer(DIR) is exact"
        )
    head = model.config.head
    if head and head.task not in PAPER_TASKS:
        differences.append(f"gpt1 builds the input sequences by the task {head.task} of another package")
    if head and head.bias:
        differences.append("the head has a bias, score.bias, which transformers ignores")
    if head and head.task != "classification" and model.truncation == "half":
        differences.append("gpt1 truncates each part of a long input separately, transformers the longest part first")
    if weights == ONNX:
        differences.append(f"{ONNX} is a graph for ONNX Runtime; transformers cannot read it")
    elif weights == CKPT:
        differences.append(f"{CKPT} is a MindSpore file, which transformers cannot read; gpt1 convert can")
    elif dtype != "float32":
        differences.append(
            f"transformers computes in {dtype}, the dtype of the stored weights; "
            'from_pretrained(DIR, dtype="float32") gives the results of gpt1'
        )
    return differences


def load_model(directory: Path, *, seed: int = 0) -> Model:
    """Load a model directory of gpt1, openai-gpt in the layout of Hugging Face or MindNLP, or OpenAI's release.

    If the source has no special tokens, their embeddings are initialized at random with `seed`.

    Raises:
        UserError: the directory does not contain a GPT-1.
        CorruptFile: a file is missing, truncated, or has the wrong checksum.
    """
    if not (directory / DETAILS).exists():
        return _load_foreign(directory, seed)
    details = _details(directory)
    if ONNX in details["sha256"]:
        raise UserError(f"{directory}: contains {ONNX}, a graph for ONNX Runtime; pass the model it was converted from")
    weights = directory / (CKPT if CKPT in details["sha256"] else WEIGHTS)
    _check(weights, details)
    return load_model_with(directory, huggingface.read_weights(weights))


def load_model_with(directory: Path, weights: Mapping[str, NDArray[np.float32]]) -> Model:
    """Load a model directory of gpt1 with other `weights`, which may contain additional tensors.

    Raises:
        UserError: a parameter is missing or has the wrong shape.
        CorruptFile: a file other than the weights is damaged.
    """
    details = _details(directory)
    _check(directory / "tokenizer.json", details)
    config = ModelConfig.from_dict(details["model"])
    params: Params = {}
    for name, shape in shapes(config).items():
        if name not in weights:
            raise UserError(f"{directory}: parameter {name} is missing from the weights")
        if weights[name].shape != shape:
            raise UserError(f"{directory}: {name} has shape {weights[name].shape} in the weights, {shape} expected")
        params[name] = weights[name]
    return Model(
        config,
        params,
        Tokenizer.load(directory),
        tuple(details["labels"]),
        details["max_length"],
        details["provenance"],
        details.get("cut", "longest"),  # missing in older directories
    )


def _details(directory: Path) -> dict[str, Any]:
    details = read_json(directory / DETAILS)
    if details.get("format") != FORMAT:
        raise UserError(f"{directory / DETAILS}: format {details.get('format')} found, {FORMAT} expected")
    return details


def _check(path: Path, details: Mapping[str, Any]) -> None:
    if not path.exists():
        raise CorruptFile(f"{path}: missing; the directory is incomplete")
    if sha256(path) != details["sha256"][path.name]:
        raise CorruptFile(f"{path}: its sha256 is not the one in {DETAILS}; the file is damaged or truncated")


def _load_foreign(directory: Path, seed: int) -> Model:
    label_names: tuple[str, ...] = ()
    match openai_release.is_release(directory), (directory / huggingface.CONFIG).exists():
        case True, True:
            raise UserError(
                f"{directory}: contains {huggingface.CONFIG} and files of OpenAI's release; use a directory for each"
            )
        case True, False:
            config, params = openai_release.read(directory)
        case False, True:
            config, params, label_names = huggingface.read(directory)
        case _:
            needed = f"{huggingface.CONFIG}, {DETAILS} or {openai_release.SHAPES}"
            raise UserError(f"{directory}: not a model directory ({needed} is missing)")
    tokenizer = Tokenizer.load(directory)
    drawn = _tokens_without_rows(directory, len(params["tokens_embed.weight"]), tokenizer)
    config = replace(config, vocab_size=tokenizer.vocab_size)
    origin: dict[str, Any] = {"from": directory.name}
    if drawn:
        origin["drawn"] = {"tokens": drawn, "seed": seed}
    return Model(config, initialise(config, seed, params), tokenizer, label_names, config.n_ctx, origin)


def _tokens_without_rows(directory: Path, rows: int, tokenizer: Tokenizer) -> list[str]:
    """Return the special tokens that have no row in an embedding of `rows` rows; all other tokens must have one."""
    own = len(read_vocab(directory)[0])  # without added special tokens
    if rows > own:
        raise UserError(f"{directory}: {rows:,} rows in the embedding, {own:,} tokens in the vocabulary")
    beyond = tokenizer.tokens(range(rows, tokenizer.vocab_size))
    if without := [token for token in beyond if token not in SPECIAL_TOKENS]:
        raise UserError(
            f"{directory}: {rows:,} rows in the embedding, {tokenizer.vocab_size:,} tokens in the vocabulary "
            f"(special ones included): {without[0]!r} has none"
        )
    return beyond
