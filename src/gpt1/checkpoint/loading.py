"""Loading of models and tokenizers by name or path; all names of models are resolved here."""

from __future__ import annotations

import os
from pathlib import Path

from gpt1 import console
from gpt1.checkpoint import hub
from gpt1.checkpoint.catalog import BUNDLED_MODELS, MODEL_NAMES
from gpt1.checkpoint.model_dir import Model, load_model
from gpt1.checkpoint.run_dir import RunDirectory, require_single
from gpt1.config import SIZES, ModelConfig
from gpt1.errors import UserError
from gpt1.tokenization.tokenizer import Tokenizer

RANDOM = "random:"
"""Prefix of names such as `random:tiny`: a randomly initialized model, accepted by `finetune` and the estimators."""


def require_model_name(name: str, *, flag: str, random: bool = False) -> None:
    """Raise UserError if the name is neither an existing directory nor that of a bundled model or one on the hub.

    The hub is not asked, so that the check is fast. The arguments are those of `resolve_model`.
    """
    _find(name, _shown(name, flag), random)


def resolve_model(name_or_path: str | Path, *, flag: str = "", random: bool = False, weights: bool = True) -> Path:
    """Return the directory of a model.

    An existing directory takes precedence: a run, a model directory, or a folder in the layout of OpenAI's release or
    MindNLP. Other names are `mini`, which is bundled with gpt1, and models on the hub, which are downloaded unless they
    are cached: `openai-gpt` and OWNER/NAME, optionally with @REVISION (a commit, tag or branch).

    Args:
        name_or_path: Name or path of the model.
        flag: Flag by which the name was given (`--model`), for errors; "" for a positional argument.
        random: Whether the caller also accepts `random:SIZE`, for errors.
        weights: Whether to download the weights of a model on the hub; otherwise only the tokenizer's files.

    Raises:
        UserError: the model or revision does not exist, or the hub is unreachable or denies access.
    """
    asked = os.fspath(name_or_path)
    found = _find(asked, _shown(asked, flag), random)
    return (
        found if isinstance(found, Path) else hub.fetch_model(asked, *found, shown=_shown(asked, flag), weights=weights)
    )


def _shown(asked: str, flag: str) -> str:
    """Return the name as errors show it."""
    return f"{flag} {asked}" if flag else asked or "''"


def _find(asked: str, shown: str, random: bool) -> Path | tuple[str, str | None]:
    """Return the directory of a local or bundled model, or the repository and revision of one on the hub."""
    if os.path.isdir(asked):
        return Path(asked)
    names = (*BUNDLED_MODELS, *((f"{RANDOM}SIZE",) if random else ()), *MODEL_NAMES)
    expected = (
        f"expected a run, a model directory, a folder of OpenAI's release or of MindNLP, {', '.join(names)}, or a "
        "model on the hub as OWNER/NAME or OWNER/NAME@REVISION"
    )
    if os.path.exists(asked):
        raise UserError(f"{shown}: is a file; {expected}")
    base = asked.partition("@")[0]
    if base != asked and (os.path.exists(base) or base in BUNDLED_MODELS):
        origin = "is a local path" if os.path.exists(base) else "is bundled with gpt1"
        raise UserError(f"{shown}: {base} {origin} and has no revisions; give {base}")
    if asked in BUNDLED_MODELS:
        return _bundled(asked, shown)
    if asked.startswith(RANDOM):
        raise UserError(
            f"{shown}: random weights are only available for training: gpt1 finetune --model {RANDOM}SIZE, or "
            f"gpt1 pretrain --size SIZE; {expected}"
        )
    repository = hub.model_repository(asked, shown)
    if repository is None:
        raise UserError(f"{shown}: no such directory; {expected}")
    return repository


def _bundled(name: str, shown: str) -> Path:
    folder = BUNDLED_MODELS[name]
    if not (folder / "model.safetensors").exists():
        raise UserError(
            f"{shown}: this installation of gpt1 lacks the bundled model ({folder / 'model.safetensors'} is "
            f"missing); pass a model directory, or start from random weights with gpt1 finetune --model {RANDOM}{name}"
        )
    return folder


def random_shape(name: str, *, flag: str) -> ModelConfig | None:
    """Return the shape of the model `random:SIZE`; None for other names, or if a path of that name exists.

    Raises:
        UserError: there is no such size.
    """
    if not name.startswith(RANDOM) or os.path.exists(name):
        return None
    size = name.removeprefix(RANDOM)
    if size not in SIZES:
        raise UserError(f"{flag} {name}: unknown size; there are {', '.join(RANDOM + each for each in SIZES)}")
    return SIZES[size]


def open_model(name_or_path: str | Path, *, flag: str = "", random: bool = False) -> Model:
    """Load the best model of a run, or a model by any name that `resolve_model` accepts.

    For an unfinished run the best model so far is loaded and a notice is printed.

    Raises:
        UserError: the model does not exist, its files are damaged, or the directory contains several runs.
    """
    path = resolve_model(name_or_path, flag=flag, random=random)
    if (path / "model").is_dir() or (path / "log.jsonl").exists():
        run = RunDirectory(path)
        if not run.model.exists():
            raise UserError(f"{path}: this run has no model yet; rerun the same gpt1 finetune command to resume it")
        model = run.load_model()
        if not run.finished:
            step = model.provenance.get("step")
            console.say(f"{path} is not finished; using its best model so far{f' (step {step:,})' if step else ''}.")
        return model
    require_single(path)
    return load_model(path)


def open_tokenizer(name_or_path: str | Path, *, flag: str = "") -> Tokenizer:
    """Load the tokenizer of a tokenizer directory, or of any model that `resolve_model` accepts.

    Its methods are `encode`, `encode_batch`, `decode` and `tokens`: `tokenizer("mini").encode("Don't panic")` returns
    ids. The weights of a model on the hub are not downloaded.

    Raises:
        UserError: no tokenizer is found.
    """
    directory = resolve_model(name_or_path, flag=flag, weights=False)
    inner = (folder for name in ("model", "tokenizer") if (folder := directory / name).is_dir())
    return Tokenizer.load(next(inner, directory))
