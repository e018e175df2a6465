"""Names and paths to models and tokenizers: the one place that knows what a model may be called."""

from __future__ import annotations

import os
from pathlib import Path

from gpt1 import console
from gpt1.checkpoint import hub
from gpt1.checkpoint.catalog import BUNDLED_MODELS, MODEL_NAMES
from gpt1.checkpoint.model_dir import Model, load_model
from gpt1.checkpoint.run_dir import RunDirectory, require_single
from gpt1.errors import UserError
from gpt1.tokenization.tokenizer import Tokenizer

RANDOM = "random:"
"""Prefix of a size, `random:tiny`: a model with random weights, which `finetune` and the estimators start from."""


def resolve_model(name_or_path: str | Path, *, flag: str = "", random: bool = False, weights: bool = True) -> Path:
    """Return the directory that the name of a model stands for.

    A directory that exists wins: a run, a model directory, a folder of OpenAI's release or of MindNLP's. Other names
    are `mini`, which comes with gpt1, and models of the hub, downloaded where the cache lacks them: `openai-gpt` and
    OWNER/NAME, each also as NAME@REVISION (a commit, tag or branch).

    Args:
        name_or_path: the name.
        flag: flag in front of the name (`--model`), for errors; "" for an argument.
        random: whether `random:SIZE` is one of the caller's own names, for errors.
        weights: False: of a model on the hub only the tokenizer's files are downloaded.

    Raises:
        UserError: there is no such model or revision, or the hub refuses or is not reached. One line, with what to do.
    """
    asked = os.fspath(name_or_path)
    shown = f"{flag} {asked}" if flag else asked or "''"
    if os.path.isdir(asked):
        return Path(asked)
    names = (*BUNDLED_MODELS, *((f"{RANDOM}SIZE",) if random else ()), *MODEL_NAMES)
    expected = (
        f"expected a run, a model directory, a folder of OpenAI's release or of MindNLP's, {', '.join(names)}, or a "
        "model of the hub as OWNER/NAME or OWNER/NAME@REVISION"
    )
    if os.path.exists(asked):
        raise UserError(f"{shown}: that is a file; {expected}")
    base = asked.partition("@")[0]
    if base != asked and (os.path.exists(base) or base in BUNDLED_MODELS):
        origin = "is a local path" if os.path.exists(base) else "comes with gpt1"
        raise UserError(f"{shown}: {base} {origin} and has no revisions; give {base}")
    if asked in BUNDLED_MODELS:
        return _bundled(asked, shown)
    if asked.startswith(RANDOM):
        raise UserError(
            f"{shown}: random weights are only a start for training: gpt1 finetune --model {RANDOM}SIZE, or gpt1 "
            f"pretrain --size SIZE; {expected}"
        )
    repository = hub.model_repository(asked, shown)
    if repository is None:
        raise UserError(f"{shown}: no such directory; {expected}")
    return hub.fetch_model(asked, *repository, shown=shown, weights=weights)


def _bundled(name: str, shown: str) -> Path:
    folder = BUNDLED_MODELS[name]
    if not (folder / "model.safetensors").exists():
        raise UserError(
            f"{shown}: the model that comes with gpt1 is not in this copy of it ({folder / 'model.safetensors'} is "
            f"missing); give a model directory, or start from random weights with gpt1 finetune --model {RANDOM}{name}"
        )
    return folder


def random_size(name: str) -> str | None:
    """Return the SIZE of `random:SIZE`; None for any other name, and where a path of that name exists."""
    return name.removeprefix(RANDOM) if name.startswith(RANDOM) and not os.path.exists(name) else None


def open_model(name_or_path: str | Path, *, flag: str = "", random: bool = False) -> Model:
    """Load the best model of a run, or the model of any other name that `resolve_model` knows.

    For an unfinished run it is the best model so far, and a notice says so.

    Raises:
        UserError: there is no such model, its files are damaged, or the directory holds several runs.
    """
    path = resolve_model(name_or_path, flag=flag, random=random)
    if (path / "model").is_dir() or (path / "log.jsonl").exists():
        run = RunDirectory(path)
        if not run.model.exists():
            raise UserError(f"{path}: this run has no model yet; run the same gpt1 finetune command again to resume it")
        model = run.load_model()
        if not run.finished:
            step = model.provenance.get("step")
            console.say(f"{path} is not finished: its best model so far{f', of step {step:,}' if step else ''}.")
        return model
    require_single(path)
    return load_model(path)


def open_tokenizer(name_or_path: str | Path, *, flag: str = "") -> Tokenizer:
    """Load the tokenizer of a tokenizer directory, or of any model that `resolve_model` knows.

    `encode`, `encode_batch`, `decode` and `tokens` are its methods: `tokenizer("mini").encode("Don't panic")` gives
    ids. Of a model on the hub the weights are not downloaded.

    Raises:
        UserError: there is none.
    """
    directory = resolve_model(name_or_path, flag=flag, weights=False)
    inner = (folder for name in ("model", "tokenizer") if (folder := directory / name).is_dir())
    return Tokenizer.load(next(inner, directory))
