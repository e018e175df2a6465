"""Format of run directories: the format number in `config.json`, and conversion of older formats.

`CHANGED` lists all renamed settings; other modules read runs through `upgrade_settings` and `upgrade_progress`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from gpt1.checkpoint.catalog import BUNDLED, BUNDLED_MODELS
from gpt1.errors import UserError

FORMAT = 3
"""Current value of "format" in `config.json`; runs without one have format 1."""

Move = Callable[[dict[str, Any], Any], None]
"""Function (settings, value) that stores the value of a removed setting at its new place."""


def _pin_names(settings: dict[str, Any], revision: str | None) -> None:
    """Append the value of the former --revision to names on the hub, as NAME@REVISION."""
    for key in ("data", "model"):
        name = settings.get(key)
        if not revision or not name or name in BUNDLED or name in BUNDLED_MODELS:
            continue
        if not name.startswith("random:") and not os.path.exists(name):
            settings[key] = f"{name}@{revision}"


CHANGED: dict[str, dict[str, str | Move]] = {
    "config": {
        "lm_coef": "loss.lm_coef",
        "revision": _pin_names,
        "optim.clip": "optim.max_grad_norm",
        "split.cut": "split.truncation",
        "split.draw": "split.split_strategy",
        "split.limit": "split.max_examples",
    },
    "progress": {
        "evaluated": "last_eval_step",
        "without_gain": "evals_without_improvement",
    },
}
"""Renamed settings, old -> new, of `config.json` ("config") and of a checkpoint's `progress.json` ("progress").

Names are dotted paths. A function is used where renaming is not sufficient.
"""


def upgrade(recorded: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Convert the content of `config.json`, read from `path`, to the current format.

    Content that does not belong to a run is returned unchanged.

    Raises:
        UserError: the format is unknown to this version.
    """
    record = deepcopy(dict(recorded))
    if "command" not in record:
        return record
    number = record.get("format", 1)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise UserError(f"{path}: format {number!r} found, a whole number up to {FORMAT} expected; the file is damaged")
    if number > FORMAT:
        raise UserError(
            f"{path}: format {number} found, {FORMAT} at most expected; a newer gpt1 wrote it: upgrade gpt1"
        )
    if number < FORMAT and isinstance(config := record.get("config"), dict):
        if isinstance(config.get("finetune"), dict):  # of a sweep
            config["finetune"] = upgrade_settings(config["finetune"])
        else:
            record["config"] = upgrade_settings(config)
    return {"format": FORMAT} | {name: value for name, value in record.items() if name != "format"}


def upgrade_settings(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Convert recorded settings (as of `dataclasses.asdict`) to the current format.

    Settings of formats 1 and 2 have no version of the splits; it is 1.
    """
    settings = _moved(recorded, CHANGED["config"])
    if "split" in settings:
        settings["split"] = {"split_version": 1} | settings["split"]
    return settings


def upgrade_progress(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the fields of a checkpoint's `progress.json` to the names of the current format."""
    return _moved(recorded, CHANGED["progress"])


def _moved(recorded: Mapping[str, Any], changes: Mapping[str, str | Move]) -> dict[str, Any]:
    values = deepcopy(dict(recorded))
    for old, new in changes.items():
        *parts, name = old.split(".")
        holder: Any = values
        for part in parts:
            holder = holder.get(part) if isinstance(holder, dict) else None
        if not isinstance(holder, dict) or name not in holder:
            continue
        value = holder.pop(name)
        if callable(new):
            new(values, value)
            continue
        *parts, name = new.split(".")
        holder = values
        for part in parts:
            holder = holder.setdefault(part, {})
        holder[name] = value
    return values
