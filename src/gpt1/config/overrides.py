"""Settings by the names of their flags, for Python: `with_overrides(FinetuneConfig(), {"lr": 2e-5})`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from gpt1.errors import UserError

Config = TypeVar("Config")

FLAG = re.compile(r"^--([\w-]+) ")
"""How the command line's errors begin."""


def setting_holders(config: Any) -> dict[str, str]:
    """Return {setting: the field of `config` that holds it, "" for `config` itself}; a setting is a flag with `_`."""
    holders: dict[str, str] = {}
    for item in fields(config):
        part = getattr(config, item.name)
        holders |= {inner.name: item.name for inner in fields(part)} if is_dataclass(part) else {item.name: ""}
    return holders


def value_of(config: Any, name: str) -> Any:
    """Return what `config`, or whichever of its parts holds it, has for a setting."""
    holder = setting_holders(config)[name]
    return getattr(getattr(config, holder) if holder else config, name)


def with_overrides(config: Config, settings: Mapping[str, Any], command: str = "finetune") -> Config:
    """Return the dataclass `config` with other values for `settings`, whichever of its parts holds them.

    `command` is the one whose flags they are.

    Raises:
        UserError: there is no such setting (the message lists similar names), or its value is of another kind.
    """
    holders = setting_holders(config)
    values: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        if name not in holders:
            near = difflib.get_close_matches(name, holders, 3, 0.6)
            raise UserError(f"{name}: no setting of this name; {_near(near)}all are flags of gpt1 {command} --help")
        holder = holders[name]
        hints = get_type_hints(type(getattr(config, holder) if holder else config))
        values.setdefault(holder, {})[name] = _fitting(name, value, hints[name])
    own = values.pop("", {})
    with named_as_in_python():
        parts = {holder: replace(getattr(config, holder), **some) for holder, some in values.items()}
        return replace(config, **own, **parts)  # type: ignore[type-var]


@contextmanager
def named_as_in_python() -> Iterator[None]:
    """Let an error that begins with a flag, `--top 0: …`, begin with the argument: `top=0: …`."""
    try:
        yield
    except UserError as error:
        raise UserError(FLAG.sub(lambda flag: f"{flag[1].replace('-', '_')}=", str(error))) from None


def _near(names: list[str]) -> str:
    return f"near it: {', '.join(names)}; " if names else ""


def _fitting(name: str, value: Any, hint: Any) -> Any:
    """Return `value` as a field of type `hint` holds it: a str of a path as a `Path`, and the other way round."""
    for kind in _kinds(hint):
        if get_origin(kind) is Literal:
            if value in get_args(kind):
                return value
        elif get_origin(kind) is tuple:
            if isinstance(value, list | tuple):
                return tuple(_fitting(name, item, get_args(kind)[0]) for item in value)
        elif kind in (Path, str):
            if isinstance(value, str | Path):
                return kind(value)
        elif kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
    raise UserError(f"{name}={value!r}: expected {_expected(hint)}")


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _expected(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if len(kinds := _kinds(hint)) > 1:
        return " or ".join(map(_expected, kinds))
    if get_origin(hint) is tuple:
        return f"a list, of each {_expected(get_args(hint)[0])}"
    words = {float: "a number", int: "a whole number", bool: "True or False", NoneType: "None", Path: "a path"}
    return words.get(hint, "a text")
