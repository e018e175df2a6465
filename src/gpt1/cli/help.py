"""The text of --help and --help-all."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tyro import MISSING

from gpt1.cli.signature import ARGUMENTS, GENERAL, Flag, flags_of
from gpt1.config.overrides import setting_holders, value_of
from gpt1.config.recipes import DEFAULT_FOR

MIN_COLUMNS, MAX_COLUMNS = 40, 100
"""Bounds of the width that help is laid out for."""

FLAG_COLUMNS = 24
"""Columns of the flags, to the left of their descriptions."""

NO_BREAK = "\N{NO-BREAK SPACE}"
"""Blank at which a line is not broken; printed as an ordinary one."""


@dataclass(frozen=True)
class Page:
    """What a command's help shows besides its flags."""

    group: str
    """Heading in `gpt1 --help`."""
    examples: tuple[str, ...]
    """Command lines that work; an error about a missing flag shows the first."""
    common: str = ""
    """Flags that --help shows, in order, separated by blanks; "" for all."""
    recipes: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    """Recipes whose values help lists."""


def command_help(prog: str, command: Callable[..., None], page: Page, *, everything: bool) -> str:
    """Return the help of a command: its common flags, or `everything`."""
    flags = flags_of(command)
    names = page.common.split()
    short = bool(names) and not everything
    by_name = {flag.name: flag for flag in flags}
    shown = [by_name[name] for name in names] if short else flags
    summary, _, details = inspect.cleandoc(command.__doc__ or "").partition("\n\n")
    differ = _keys_that_differ(page.recipes)
    recipe = next((flag.default for flag in flags if flag.key == "recipe"), None)
    blocks = [_usage(prog, flags), _wrapped(summary)]
    if details and not short:
        blocks.append(_wrapped(details))
    for group in dict.fromkeys(_group(flag, short) for flag in shown):
        members = [flag for flag in shown if _group(flag, short) == group]
        rows = [(flag.usage, _description(flag, differ, recipe)) for flag in members]
        column = max(len(usage) for usage, _ in rows if len(usage) <= FLAG_COLUMNS - 4) + 4 if short else FLAG_COLUMNS
        blocks.append(_section(group, rows, column))
    if page.recipes:
        title = "Recipes (--recipe RECIPE sets these values; a flag overrides one)"
        column = max(map(len, page.recipes)) + 4
        blocks.append(_section(title, _recipe_rows(page.recipes, names), column))
    blocks.append("\n".join([f"Example{'s' * (len(page.examples) > 1)}:", *(f"  {line}" for line in page.examples)]))
    if short:
        blocks.append(_wrapped(f"{prog} --help-all shows every flag."))
    return "\n\n".join(blocks)


def overview(
    prog: str,
    description: str,
    commands: Mapping[str, Callable[..., None]],
    pages: Mapping[str, Page],
    examples: Sequence[str] = (),
) -> str:
    """Return the help of a program with commands: their names by group, each with the first line of its docstring."""
    blocks = [f"usage: {prog} COMMAND ...", _wrapped(description)]
    column = max(map(len, commands)) + 4
    for group in dict.fromkeys(page.group for name, page in pages.items() if name in commands):
        members = {name: command for name, command in commands.items() if pages[name].group == group}
        rows = [(name, (command.__doc__ or "").partition("\n")[0]) for name, command in members.items()]
        blocks.append(_section(group, rows, column))
    if examples:
        blocks.append("\n".join(["Examples:", *(f"  {line}" for line in examples)]))
    blocks.append(_wrapped(f"{prog} COMMAND --help shows the flags of a command."))
    return "\n\n".join(blocks)


def _group(flag: Flag, short: bool) -> str:
    """Return the heading that a flag is listed under; --help has one for all flags."""
    return ARGUMENTS if flag.positional else GENERAL if short else flag.group


def _usage(prog: str, flags: Sequence[Flag]) -> str:
    """Return the usage line: positional arguments and required flags."""
    words = [flag.usage if flag.required else f"[{flag.usage}]" for flag in flags if flag.positional]
    words += [flag.usage for flag in flags if flag.required and not flag.positional]
    return textwrap.fill(" ".join(["usage:", prog, *words, "[flags]"]), width(), subsequent_indent=" " * 7)


def _description(flag: Flag, differ: Sequence[str], recipe: str | None) -> str:
    """Return a flag's help text with its choices and its default (or "required") added to the first sentence.

    A default that is None is described by the text itself, as "(default: …)". `differ` are the settings whose values
    depend on the recipe.
    """
    first, stop, rest = flag.help.partition(". ")
    first, _, default = first.removesuffix(".").partition(" (default: ")
    default = default.removesuffix(")")
    if flag.default is False:
        default = "off" if flag.key in differ else ""
    elif flag.default not in (None, (), "", Path(), MISSING):
        default = _shown(flag.default)
    if default and flag.key in differ and (flag.default is not None or not recipe):
        default += f", from {recipe}" if recipe else ", or the recipe's"
    note = "required" if flag.required else f"default: {default}" if default else ""
    choices = f": {', '.join(flag.choices)}" if flag.choices else ""
    return f"{first}{choices}{f' ({note})' if note else ''}.{stop and ' '}{rest}"


def _shown(value: Any) -> str:
    """Return a value as a person would type it: 6.25e-5, 0.1, a name."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, float):
        return re.sub(r"\.?0*e-0?", "e-", f"{value:e}") if 0 < abs(value) < 1e-3 else f"{value:.10g}"
    return str(value)


def _keys_that_differ(recipes: Mapping[str, Callable[[], Any]]) -> list[str]:
    """Return the settings for which recipes have different values."""
    configs = [make() for make in recipes.values()]
    keys = setting_holders(configs[0]) if configs else {}
    return [key for key in keys if len({value_of(config, key) for config in configs}) > 1]


def _recipe_rows(recipes: Mapping[str, Callable[[], Any]], common: Sequence[str]) -> list[tuple[str, str]]:
    """Return (recipe, what it sets): the common flags in their order, then other values that are not the defaults."""
    keys = [flag.removeprefix("--").replace("-", "_") for flag in common]
    differ = _keys_that_differ(recipes)
    rows = []
    for name, make in recipes.items():
        config = make()
        default = type(config)()
        default_for = f" ({DEFAULT_FOR[name]})" if name in DEFAULT_FOR else ""
        shown = [key for key in keys if key in differ and value_of(config, key) is not None]
        shown += [key for key in differ if key not in keys and value_of(config, key) != value_of(default, key)]
        values = ", ".join(_assignment(key, value_of(config, key)) for key in shown)
        rows.append((name, f"{values}{default_for}"))
    return rows


def _assignment(key: str, value: Any) -> str:
    """Return a setting as the flag that sets it, without the dashes in front."""
    name = key.replace("_", "-")
    if isinstance(value, bool):
        return name if value else f"no-{name}"
    return f"{name}{NO_BREAK}{_shown(value)}"


def _section(title: str, rows: Sequence[tuple[str, str]], column: int) -> str:
    """Return a heading and its rows, with the descriptions aligned in a column."""
    column = min(column, width() // 3)
    lines = [_wrapped(f"{title}:")]
    for name, text in rows:
        wrapped = _Wrapper(width() - column, break_on_hyphens=False).wrap(text)
        start = f"  {name}"
        if wrapped and len(start) + 2 <= column:
            start = start.ljust(column) + wrapped.pop(0)
        lines += [start, *(" " * column + line for line in wrapped)]
    return "\n".join(lines).replace(NO_BREAK, " ")


class _Wrapper(textwrap.TextWrapper):
    """Breaks a word longer than the line after its commas, as a list of settings."""

    def _split(self, text: str) -> list[str]:
        words = super()._split(text)
        return [part for word in words for part in (re.split(r"(?<=,)", word) if len(word) > self.width else [word])]


def _wrapped(text: str) -> str:
    return "\n\n".join(textwrap.fill(" ".join(part.split()), width()) for part in text.split("\n\n"))


def width() -> int:
    """Return the columns for which text is laid out: those of the terminal, within bounds."""
    return min(max(shutil.get_terminal_size().columns, MIN_COLUMNS), MAX_COLUMNS)
