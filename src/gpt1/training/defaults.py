"""Defaults of a fine-tuning that an existing run has recorded: recipe (else by the model's size), version of splits."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpt1 import console
from gpt1.backends.parameters import count
from gpt1.checkpoint.catalog import MODEL_NAMES
from gpt1.checkpoint.loading import open_model, random_shape
from gpt1.checkpoint.run_dir import RunDirectory, runs_in
from gpt1.config import SIZES, SPLIT_VERSION, FinetuneConfig, ModelConfig, recipes
from gpt1.config.overrides import named_as_in_python, with_overrides


def recipe(name: str | None = None, /, **settings: Any) -> FinetuneConfig:
    """Return the settings of a fine-tuning recipe, with single settings replaced by keyword arguments.

    `recipe("mindspore-imdb", data="imdb", out="runs/imdb", lr=1e-5)` are the settings of `gpt1 finetune --recipe
    mindspore-imdb --data imdb --out runs/imdb --lr 1e-5`; either can resume a run of the other. Without a name, the
    recipe is that of the existing run in `out`, else `paper-finetune` for a `model` of 60 M parameters or more and
    `quickstart` for a smaller one.

    Raises:
        UserError: the recipe, the model or a setting is unknown, or a value is invalid.
    """
    with named_as_in_python():
        base = recipe_or_default(name, settings.get("model"), settings.get("out"))
    return with_overrides(base, settings)


def recipe_or_default(
    name: str | None, model: str | os.PathLike[str] | None, out: str | os.PathLike[str] | None
) -> FinetuneConfig:
    """Return the settings of the recipe `name`; without a name, of the default recipe (`default_recipe`).

    Raises:
        UserError: the recipe or the model does not exist, or the run's `config.json` is damaged.
    """
    name = name or default_recipe(model or FinetuneConfig.model, out)
    return recipes.recipe(name) if name else FinetuneConfig()


def default_recipe(model: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> str | None:
    """Return the recipe of a fine-tuning for which none is named; None if the run in `out` was started without one.

    Raises:
        UserError: the model does not exist, or the run's `config.json` is damaged.
    """
    if out and (recorded := _recorded(Path(out))) is not None:
        return recorded.get("recipe")
    return recipes.recipe_for(count(_shape(os.fspath(model))))


def with_split_version(config: FinetuneConfig, out: Path) -> FinetuneConfig:
    """Return the settings with a version of the splits: that of an existing run in `out`, else the current one.

    Raises:
        UserError: the run's `config.json` is damaged.
    """
    if config.split.split_version is not None:
        return config
    recorded = (_recorded(out) or {}).get("split", {}).get("split_version")
    return replace(config, split=replace(config.split, split_version=recorded or SPLIT_VERSION))


def _recorded(out: Path) -> dict[str, Any] | None:
    """Return the settings of the fine-tuning in `out`, or of the first of a series; None if there is none."""
    for path in (out, *runs_in(out)):
        run = RunDirectory(path)
        settings = run.settings() if run.started else {}
        if settings.get("command") in ("finetune", "fit", "sweep"):
            recorded: dict[str, Any] = settings["config"].get("finetune", settings["config"])
            return recorded
    return None


def _shape(model: str) -> ModelConfig:
    if model.partition("@")[0] in MODEL_NAMES and not os.path.exists(model):  # not downloaded only to learn its size
        return SIZES["gpt1"]
    if shape := random_shape(model, flag="--model"):
        return shape
    with console.muted(True):  # fine-tuning opens the model again
        return open_model(model, flag="--model", random=True).config
