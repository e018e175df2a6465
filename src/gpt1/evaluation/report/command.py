"""The command line that repeats a run: its recipe, and each flag that differs from the recipe."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from gpt1.config import SPLIT_VERSION, FinetuneConfig, PretrainConfig
from gpt1.config.recipes import pretraining, recipe
from gpt1.errors import UserError
from gpt1.evaluation.report.record import Record


def command_line(record: Record, out: Path | None = None) -> str:
    """Return `gpt1 finetune … --out OUT`, quoted for a shell, with the flags that differ from the recipe's settings.

    `out` defaults to the directory of the run.
    """
    return shlex.join(["gpt1", record.command, *_flags(record), "--out", str(out or record.path)])


def _flags(record: Record) -> Iterator[str]:
    kind = FinetuneConfig if record.command == "finetune" else PretrainConfig
    try:
        yield from flags(kind.from_dict(record.config))
    except UserError:  # settings of another version, which cannot be written as flags
        if name := record.config.get("recipe"):
            yield from ("--recipe", name)


def flags(config: FinetuneConfig | PretrainConfig, *, named: bool = True) -> list[str]:
    """Return the flags of a command: --recipe, if it is to be `named`, and what differs from it, --out excepted."""
    name = config.recipe
    default: FinetuneConfig | PretrainConfig
    if isinstance(config, FinetuneConfig):
        name = name or "paper-finetune"  # whose values are the defaults of FinetuneConfig
        default = recipe(name)
    else:
        default = pretraining(name) if name else PretrainConfig()
    return [*(("--recipe", name) if name and named else ()), *_differences(config, default)]


def _differences(config: Any, default: Any) -> Iterator[str]:
    for item in fields(config):
        value, base = getattr(config, item.name), getattr(default, item.name)
        flag = f"--{item.name.replace('_', '-')}"
        if is_dataclass(value):
            yield from _differences(value, base)
        elif value == base or item.name in ("out", "recipe") or (item.name, value) == ("split_version", SPLIT_VERSION):
            continue
        elif isinstance(value, bool):
            yield flag if value else f"--no-{flag[2:]}"
        else:
            yield flag
            yield from map(_word, value if isinstance(value, tuple) else (value,))


def _word(value: Any) -> str:
    return str(without_point(value))


def without_point(value: Any) -> Any:
    """Return an integral float as an int, so that 5.0 and 5 are the same setting."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
