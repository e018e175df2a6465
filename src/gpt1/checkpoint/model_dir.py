"""Model directories and resumable run state on disk: safetensors and JSON, written whole or not at all, checksummed.

A model directory has Hugging Face's layout (`config.json`, `model.safetensors`, the tokenizer's files) and `gpt1.json`
for what Hugging Face has no word for. With the weights in `mindspore.ckpt` it has MindNLP's layout. A checkpoint is a
directory `step-N` with `state.safetensors` (weights and moments), `progress.json` and `manifest.json`, the sha256 of
both.
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
"""Beside tokenizer.json, which has a checksum."""


@dataclass(frozen=True)
class Model:
    """What a model directory holds."""

    config: ModelConfig
    params: Params
    tokenizer: Tokenizer
    label_names: tuple[str, ...] = ()
    """Names of the label ids; empty where the head has none (regression, multiple choice, language model)."""
    max_length: int = 512
    """Most tokens a sequence had in training."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where the weights come from: for people."""
    truncation: Truncation = "longest"
    """How a sequence of two parts that was too long was cut (`config.DataConfig.truncation`)."""


# ---- model directories


def save_model(
    directory: Path, model: Model, dropout: DropoutConfig | None = None, dtype: Stored = "float32",
    weights: str = WEIGHTS, write_weights: Callable[[Path], None] | None = None,
) -> None:  # fmt: skip
    """Write a model directory in place of what stood there, whole or not at all; `dtype` is that of the weights.

    `weights` is the file they go to, `model.safetensors` or `mindspore.ckpt`; or one that `write_weights` fills.

    Raises:
        UserError: a weight is beyond the range of `dtype`; MindSpore is not installed, and has to write.
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
    """Write the results of a finished run into the card of its model."""
    write_text(directory / CARD, _card(_details(directory), results))


def model_files(directory: Path) -> list[Path]:
    """Return the files of one of our model directories, all that `save_model` wrote, whole.

    Raises:
        UserError: it is none of ours. CorruptFile: a file is missing, cut off, or has another checksum.
    """
    if not (directory / DETAILS).exists():
        raise UserError(f"{directory}: no model directory of gpt1 ({DETAILS} is missing); gpt1 convert makes one")
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
    """Return what `transformers` will compute otherwise than gpt1 from this model's directory, in words."""
    differences = []
    if model.tokenizer.pretokenizer == "openai":
        differences.append(
            "the words: tokenizer.json holds the nearest to ftfy and spaCy that such a file can, which gives "
            f"{OPENAI_AGREEMENT:.0%} of reference texts all ids of OpenAI's code; gpt1.tokenizer(DIR) gives them to all"
        )
    head = model.config.head
    if head and head.task not in PAPER_TASKS:
        differences.append(f"the input: gpt1 arranges it as the task {head.task} of another package says")
    if head and head.bias:
        differences.append("the head has a bias, score.bias, which transformers ignores")
    if head and head.task != "classification" and model.truncation == "half":
        differences.append("each part of a long text is cut by itself, while transformers cuts the longest first")
    if weights == ONNX:
        differences.append(f"the weights: {ONNX} is for ONNX Runtime; transformers does not read it")
    elif weights == CKPT:
        differences.append(f"the weights: {CKPT} is MindSpore's, which transformers does not read; gpt1 convert does")
    elif dtype != "float32":
        differences.append(
            f"the arithmetic: transformers computes in {dtype}, as the weights are stored; "
            'from_pretrained(DIR, dtype="float32") gives gpt1\'s answers'
        )
    return differences


def load_model(directory: Path, *, seed: int = 0) -> Model:
    """Read a model directory of ours, an openai-gpt of Hugging Face's or MindNLP's, or a folder of OpenAI's release.

    The others' lack special tokens: their rows of the embedding are drawn from `seed`.

    Raises:
        UserError: what lies there is not a GPT-1's. CorruptFile: a file is missing, cut off, or has another checksum.
    """
    if not (directory / DETAILS).exists():
        return _load_foreign(directory, seed)
    details = _details(directory)
    if ONNX in details["sha256"]:
        raise UserError(
            f"{directory}: holds {ONNX}, a graph for ONNX Runtime; gpt1 reads the model that it was made of"
        )
    weights = directory / (CKPT if CKPT in details["sha256"] else WEIGHTS)
    _check(weights, details)
    return load_model_with(directory, huggingface.read_weights(weights))


def load_model_with(directory: Path, weights: Mapping[str, NDArray[np.float32]]) -> Model:
    """Return the model of one of our directories with `weights` (which may hold more than it needs).

    Raises:
        UserError: a parameter is missing or has the wrong shape. CorruptFile: a file other than the weights is damaged.
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
        details.get("cut", "longest"),  # older directories know no other
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
        raise CorruptFile(f"{path}: its sha256 is not the one in {DETAILS}; the file is damaged or cut off")


def _load_foreign(directory: Path, seed: int) -> Model:
    label_names: tuple[str, ...] = ()
    match openai_release.lies_in(directory), (directory / huggingface.CONFIG).exists():
        case True, True:
            raise UserError(
                f"{directory}: holds {huggingface.CONFIG} and files of OpenAI's release; give each its own directory"
            )
        case True, False:
            config, params = openai_release.read(directory)
        case False, True:
            config, params, label_names = huggingface.read(directory)
        case _:
            needed = f"{huggingface.CONFIG}, {DETAILS} or {openai_release.SHAPES}"
            raise UserError(f"{directory}: no model directory ({needed} is missing)")
    tokenizer = Tokenizer.load(directory)
    drawn = _tokens_without_rows(directory, len(params["tokens_embed.weight"]), tokenizer)
    config = replace(config, vocab_size=tokenizer.vocab_size)
    origin: dict[str, Any] = {"from": directory.name}
    if drawn:
        origin["drawn"] = {"tokens": drawn, "seed": seed}
    return Model(config, initialise(config, seed, params), tokenizer, label_names, config.n_ctx, origin)


def _tokens_without_rows(directory: Path, rows: int, tokenizer: Tokenizer) -> list[str]:
    """Return the special tokens that come after the `rows` of an embedding, which has all others."""
    own = len(read_vocab(directory)[0])  # without the special tokens that were added to it
    if rows > own:
        raise UserError(f"{directory}: {rows:,} rows in the embedding, {own:,} tokens in the vocabulary")
    beyond = tokenizer.tokens(range(rows, tokenizer.vocab_size))
    if without := [token for token in beyond if token not in SPECIAL_TOKENS]:
        raise UserError(
            f"{directory}: {rows:,} rows in the embedding, {tokenizer.vocab_size:,} tokens in the vocabulary "
            f"(special ones included): {without[0]!r} has none"
        )
    return beyond


# ---- checkpoints of a run
