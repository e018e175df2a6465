"""The result of `gpt1 check` as text."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt1 import console
from gpt1.cli.help import NO_BREAK, width
from gpt1.config import FinetuneConfig
from gpt1.config.recipes import recipe_for
from gpt1.system.files import unused

UNITS = {3600: "h", 60: "min"}
"""Seconds of the units of a long time."""


def show(facts: Mapping[str, Any], config: FinetuneConfig) -> None:
    """Print files, columns, model and time, a table of the splits, notes, and the command that trains."""
    from gpt1.evaluation.report import data

    rows = [*data.sources(facts), *_run(facts)]
    longest = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        console.say(_wrapped(f"  {name:<{longest}}  ", text))
    if facts["splits"]:
        console.say()
        console.table(*data.splits(facts))
        if config.table.on_bad_row != "skip" and (refused := facts["bad_rows"]["rows"]):
            console.say(f"\nThe table is without the {console.counted(refused, 'row')} that cannot be used.")
    if facts["notes"]:
        console.say()
        for note in facts["notes"]:
            console.say(_bulleted(note))
    console.say("" if facts["problems"] else f"\nNext: {_next(facts, config)}")


def one_message(problems: Sequence[str], *, wrapped: bool = True) -> str:
    """Return the messages of a check as that of one error, broken at the width of the terminal if `wrapped`."""
    if len(problems) == 1:
        return _item("gpt1: ", problems[0]).removeprefix("gpt1: ") if wrapped else problems[0]
    items = map(_bulleted, problems) if wrapped else (f"- {problem}" for problem in problems)
    return "\n".join([f"{len(problems)} problems:", *items])


def _run(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name, description) of the task, the model, the device and the estimated time."""
    if facts["task"]:
        labels = len(facts["splits"]["train"]["labels"])
        yield "task", facts["task"] + (f", {labels:,} labels" if labels else "")
    if model := facts["model"]:
        yield "model", f"{model['name']}: {model['parameters'] / 1e6:.1f} M parameters, {model['max_length']} tokens"
    if estimate := facts["estimate"]:
        yield "device", f"{estimate['device']}, {estimate['dtype']}"
        steps, measured = console.counted(estimate["steps"], "step"), estimate["measured"]
        yield "time", f"{_range(estimate['seconds'])} for {steps}, from {measured} measured"


def _range(seconds: Sequence[float]) -> str:
    """Return a range of seconds with two digits, in hours, minutes or seconds: 3 to 5 min."""
    size, unit = next(((size, unit) for size, unit in UNITS.items() if seconds[1] >= 2 * size), (1, "s"))
    ends = dict.fromkeys(f"{float(f'{value / size:.2g}'):g}" for value in seconds)
    return f"about {' to '.join(ends)} {unit}"


def _next(facts: Mapping[str, Any], config: FinetuneConfig) -> str:
    """Return the command that trains with these settings."""
    from gpt1.evaluation.report.command import flags

    default = config.recipe == recipe_for(facts["model"]["parameters"])
    name = re.sub(r"[^\w-]+", "-", Path(config.data).name.partition(".")[0]).strip("-") or "first"
    out = config.out if config.out != Path() else unused(Path("runs", name))
    return shlex.join(["gpt1", "finetune", *flags(config, named=not default), "--out", out.as_posix()])


def _bulleted(text: str) -> str:
    """Return a text as an item of a list."""
    return _item("- ", text, indent="  ")


def _item(start: str, text: str, *, indent: str = "") -> str:
    """Return a text behind its start, the lines after the first indented; each of its lines is broken by itself."""
    first, *others = text.splitlines()
    starts = [indent + re.match(" *", line)[0] for line in others]  # type: ignore[index]
    below = [_wrapped(blanks, line.strip(), f"{blanks}  ") for blanks, line in zip(starts, others, strict=True)]
    return "\n".join([_wrapped(start, first, "  "), *below])


def _wrapped(start: str, text: str, below: str = "") -> str:
    """Return a text broken at the width of the terminal, but not between a number and its unit.

    The lines after the first begin with `below` or, without it, under the first word.
    """
    filled = textwrap.fill(
        re.sub(r"(?<=\d) (?=[A-Za-z%])", NO_BREAK, text), width(), initial_indent=start,
        subsequent_indent=below or " " * len(start), break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip
    return filled.replace(NO_BREAK, " ")
