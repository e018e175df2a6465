"""Model directories and resumable run state on disk: safetensors and JSON, written whole or not at all, checksummed.

A model directory has Hugging Face's layout (`config.json`, `model.safetensors`, the tokenizer's files) and `gpt1.json`
for what Hugging Face has no word for. A checkpoint is a directory `step-N` with `state.safetensors` (weights and
moments), `progress.json` and `manifest.json`, the sha256 of both.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1 import params as names
from gpt1.config import Cut, DropoutConfig, Head, ModelConfig
from gpt1.errors import UserError
from gpt1.params import INIT_STD, Params, initialise, shapes
from gpt1.runlog import to_json
from gpt1.text.bpe import Tokenizer

FORMAT = 1
"""Version of `gpt1.json`."""

WEIGHTS = "model.safetensors"
DETAILS = "gpt1.json"
STATE_FILES = ("state.safetensors", "progress.json")


class CorruptFile(UserError):
    """A file does not hold what its checksum says."""


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
    cut: Cut = "longest"
    """How a sequence of two parts that was too long was cut (`config.DataConfig.cut`)."""


# ---- model directories


def save_model(directory: Path, model: Model, dropout: DropoutConfig | None = None) -> None:
    """Write a model directory in place of what stood there, whole or not at all."""

    def write(folder: Path) -> None:
        model.tokenizer.save(folder, max_length=model.max_length, n_segments=model.config.n_segments)
        write_tensors(folder / WEIGHTS, {names.to_huggingface(name): value for name, value in model.params.items()})
        _write_json(folder / "config.json", _huggingface_config(model, dropout or DropoutConfig()))
        details = {
            "format": FORMAT,
            "model": asdict(model.config),
            "labels": list(model.label_names),
            "words": model.tokenizer.words,
            "template": "<bos> a <eos> | <bos> a <sep> b <eos>",
            "max_length": model.max_length,
            "cut": model.cut,
            "huggingface_exact": not huggingface_differences(model),
            "huggingface_differences": huggingface_differences(model),
            "provenance": model.provenance,
            "sha256": {WEIGHTS: sha256(folder / WEIGHTS), "tokenizer.json": sha256(folder / "tokenizer.json")},
        }
        _write_json(folder / DETAILS, details)

    replace_directory(directory, write)


def huggingface_differences(model: Model) -> list[str]:
    """Return what `transformers` will compute otherwise than gpt1 from this model's directory, in words."""
    differences = []
    head = model.config.head
    if head and head.bias:
        differences.append("the head has a bias, score.bias, which transformers ignores")
    if head and head.task != "classification" and model.cut == "half":
        differences.append("each part of a long text is cut by itself, while transformers cuts the longest first")
    return differences


def load_model(directory: Path, *, seed: int = 0) -> Model:
    """Read a model directory of ours, or one of Hugging Face's openai-gpt (which gets the missing special tokens).

    Rows that a foreign embedding lacks are drawn from `seed`.

    Raises:
        UserError: what lies there is not a GPT-1's. CorruptFile: a file is missing, cut off, or has another checksum.
    """
    if not (directory / DETAILS).exists():
        return _load_huggingface(directory, seed)
    _check(directory / WEIGHTS, _details(directory))
    return load_model_with(directory, read_weights(directory / WEIGHTS))


def load_model_with(directory: Path, found: Mapping[str, NDArray[np.float32]]) -> Model:
    """Return the model of one of our directories with the weights `found` (which may hold more than it needs).

    Raises:
        UserError: a parameter is missing or has the wrong shape. CorruptFile: a file other than the weights is damaged.
    """
    details = _details(directory)
    _check(directory / "tokenizer.json", details)
    config = ModelConfig.from_dict(details["model"])
    params: Params = {}
    for name, shape in shapes(config).items():
        if name not in found:
            raise UserError(f"{directory}: parameter {name} is missing from the weights")
        if found[name].shape != shape:
            raise UserError(f"{directory}: {name} has shape {found[name].shape} in the weights, {shape} expected")
        params[name] = found[name]
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


def _load_huggingface(directory: Path, seed: int) -> Model:
    path = directory / "config.json"
    if not path.exists():
        raise UserError(f"{directory}: no model directory (config.json or {DETAILS} is missing)")
    given = read_json(path)
    if given.get("model_type") != "openai-gpt":
        raise UserError(f"{path}: model_type {given.get('model_type')!r} found, 'openai-gpt' expected")
    if given.get("afn", "gelu") != "gelu":
        raise UserError(f"{path}: afn {given['afn']!r} found; GPT-1 has 'gelu'")
    tokenizer = Tokenizer.load(directory)
    found = read_weights(directory / WEIGHTS)
    score = found.get("score.weight")
    head = None
    if score is not None:
        regression = given.get("problem_type") == "regression" or len(score) == 1
        head = Head("classification", len(score), regression)
    config = ModelConfig(
        n_layer=given["n_layer"], n_head=given["n_head"], n_embd=given["n_embd"],
        n_ctx=given.get("n_positions", given.get("n_ctx", 512)), vocab_size=tokenizer.vocab_size,
        layer_norm_epsilon=given.get("layer_norm_epsilon", 1e-5), head=head,
    )  # fmt: skip
    rows = len(found["tokens_embed.weight"])
    if rows > config.vocab_size:
        raise UserError(f"{directory}: {rows:,} rows in the embedding, {config.vocab_size:,} tokens in the vocabulary")
    for name in shapes(config):
        if name not in found:
            raise UserError(f"{directory}: parameter {name} is missing from the weights")
    labels = given.get("id2label") or {}
    label_names = tuple(labels[key] for key in sorted(labels, key=int)) if head and not head.regression else ()
    params = initialise(config, seed, found)
    return Model(config, params, tokenizer, label_names, config.n_ctx, {"from": directory.name})


def read_weights(path: Path) -> Params:
    """Return the parameters of a safetensors file under our names."""
    if not path.exists():
        raise UserError(f"{path}: missing; gpt1 reads safetensors only")
    found: Params = {}
    for name, value in read_tensors(path).items():
        ours = names.from_huggingface(name)
        if ours is not None:
            found[ours] = value
    if "tokens_embed.weight" not in found:
        raise UserError(f"{path}: parameter tokens_embed.weight is missing; this is no GPT-1")
    return found


def _huggingface_config(model: Model, dropout: DropoutConfig) -> dict[str, Any]:
    config, head = model.config, model.config.head
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
        "pad_token_id": model.tokenizer.pad,
        "bos_token_id": model.tokenizer.bos,
        "eos_token_id": model.tokenizer.eos,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }
    if head:
        labels = model.label_names or tuple(f"LABEL_{index}" for index in range(head.n_labels))
        values |= {
            "id2label": {str(index): label for index, label in enumerate(labels)},
            "label2id": {label: index for index, label in enumerate(labels)},
            "problem_type": "single_label_classification" if model.label_names else "regression",
        }
    return values


# ---- checkpoints of a run


@dataclass
class Progress:
    """Where a run stands; with the weights and moments it is all that resuming needs."""

    step: int = 0
    """Optimiser steps done."""
    evaluated: int = 0
    """The step after which the last evaluation was."""
    best: float | None = None
    """Best value of the selection criterion so far."""
    best_step: int = 0
    without_gain: int = 0
    """Evaluations since then."""
    seconds: float = 0.0
    """Wall-clock time spent training so far."""
    tokens: int = 0
    """Tokens trained on so far, without padding."""
    unlogged: list[dict[str, float]] = field(default_factory=list)
    """The losses of each step since the last line of the log, whose means the next line will give."""


class Checkpoints:
    """The newest few checkpoints of a run, `step-N` directories of one folder."""

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = folder, keep

    def save(self, tensors: Mapping[str, NDArray[np.float32]], progress: Progress) -> Path:
        """Write a checkpoint and drop those that are too old."""
        target = self.folder / f"step-{progress.step}"

        def write(folder: Path) -> None:
            write_tensors(folder / "state.safetensors", tensors)
            _write_json(folder / "progress.json", asdict(progress))
            _write_json(folder / "manifest.json", {file: sha256(folder / file) for file in STATE_FILES})

        replace_directory(target, write)
        leftovers = self.folder.glob(".step-*")  # of a crash while another checkpoint was written
        for old in (*self.paths()[self.keep :], *leftovers):
            shutil.rmtree(old)
        return target

    def paths(self) -> list[Path]:
        """Return the checkpoints, the newest first."""
        found = [path for path in self.folder.glob("step-*") if path.name[5:].isdigit()]
        return sorted(found, key=lambda path: -int(path.name[5:]))

    def load_newest(self, say: Callable[[str], None]) -> tuple[Params, Progress] | None:
        """Return the tensors and progress of the newest intact checkpoint; each damaged one is named through `say`.

        `None` when there is none at all. Raises UserError when all are damaged.
        """
        paths = self.paths()
        for path in paths:
            try:
                manifest = read_json(path / "manifest.json")
                for file in STATE_FILES:
                    if sha256(path / file) != manifest.get(file):
                        raise CorruptFile(f"{path / file}: its sha256 is not the one in manifest.json")
                progress = Progress(**read_json(path / "progress.json"))
                return read_tensors(path / "state.safetensors"), progress
            except (UserError, OSError, TypeError) as error:
                say(f"{error}; checkpoint {path.name} is left aside, the one before is used")
        if paths:
            raise UserError(f"{self.folder}: all {len(paths)} checkpoints are damaged; start again with another --out")
        return None


# ---- files


def write_tensors(path: Path, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Write float32 arrays as safetensors, marked as `transformers` wants it."""
    from safetensors.numpy import save_file

    save_file({name: np.asarray(value, order="C") for name, value in tensors.items()}, path, {"format": "pt"})
    umask = os.umask(0)  # safetensors makes a file that only its owner may read, and there is no way to read the umask
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def read_tensors(path: Path) -> Params:
    """Read a safetensors file as float32 arrays; float16 and bfloat16 are widened (exactly)."""
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise CorruptFile(f"{path}: not a whole safetensors file ({error})") from None
    return {name: _array(path, name, entry).reshape(entry["shape"]) for name, entry in entries}


def _array(path: Path, name: str, entry: Mapping[str, Any]) -> NDArray[np.float32]:
    match entry["dtype"]:
        case "F32":
            return np.frombuffer(entry["data"], np.float32).copy()
        case "F16":
            return np.frombuffer(entry["data"], np.float16).astype(np.float32)
        case "BF16":  # the upper half of a float32
            return (np.frombuffer(entry["data"], np.uint16).astype(np.uint32) << 16).view(np.float32)
        case other:
            raise UserError(f"{path}: tensor {name} has dtype {other}; F32, F16 or BF16 expected")


def sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises UserError where the file is missing or holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptFile(f"{path}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise CorruptFile(f"{path}: a JSON object expected, {type(value).__name__} found")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    _write_json(partial, value)
    _sync(partial)
    partial.replace(path)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(to_json(value, indent=2) + "\n", encoding="utf-8")


def replace_directory(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new directory and put it in the place of `target`; a crash leaves the old or the new one."""
    partial, old = (target.with_name(f".{target.name}.{state}") for state in ("partial", "old"))
    recover_directory(target)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    for path in (*partial.iterdir(), partial):
        _sync(path)
    if target.exists():
        target.replace(old)
    partial.replace(target)
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover_directory(target: Path) -> None:
    """Undo a replacement that a crash stopped between its two renames."""
    old = target.with_name(f".{target.name}.old")
    if old.exists():
        if target.exists():
            shutil.rmtree(old)
        else:
            old.replace(target)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows has no directory handles to flush
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
