"""Settings by name, for Python: `with_overrides(FinetuneConfig(), {"lr": 2e-5})`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from gpt1.config.data import Columns, TableFormat
from gpt1.errors import UserError

Config = TypeVar("Config")

FLAG = re.compile(r"^--([\w-]+)(?:(?P<value> )(?=.*:)|(?=:))")
"""Start of an error message that names a flag, `--top 0: …` or `--top: …`."""

_SWITCHES = {"--fold-labels": "fold_labels=True", "--no-header": "header=False"}
_DATA_FLAG = re.compile(
    rf"(?P<switch>{'|'.join(_SWITCHES)})(?![\w-])|"
    rf"--(?P<name>{'|'.join(each.name.replace('_', '-') for kind in (Columns, TableFormat) for each in fields(kind))})"
    r"""(?![\w-])(?: (?!(?:and|for|if|is|must|or)\b)(?:"(?P<a>[^"]+)"|'(?P<b>[^']+)'|(?P<c>[\w.,=/-]*\w)))?"""
)
"""Flag of columns or of the format of a table in a message, with its value if one follows."""

SYNONYMS = {
    "learning_rate": "lr",
    "output_dir": "out",
    "num_train_epochs": "epochs",
    "gpu": "cuda",
    "nvidia": "cuda",
    "npu": "ascend",
    "metal": "mps",
    "pytorch": "torch",
    "fp32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "half": "float16",
}
"""Other names of frequent settings and values, which spelling alone does not find."""

SIMILARITY = 0.6
"""Least similarity (difflib's ratio) of a name that is suggested for an unknown one."""


def setting_holders(config: Any) -> dict[str, str]:
    """Return {setting: the part of `config` that holds it, "" for `config` itself}.

    A setting's name is that of its flag with underscores: `max_length` for --max-length.
    """
    holders: dict[str, str] = {}
    for item in fields(config):
        part = getattr(config, item.name)
        holders |= {inner.name: item.name for inner in fields(part)} if is_dataclass(part) else {item.name: ""}
    return holders


def value_of(config: Any, name: str) -> Any:
    """Return the value of a setting, which `config` or one of its parts holds."""
    holder = setting_holders(config)[name]
    return getattr(getattr(config, holder) if holder else config, name)


def with_overrides(config: Config, settings: Mapping[str, Any], command: str = "finetune") -> Config:
    """Return the dataclass `config` with new values for `settings`, which it or its parts hold.

    `command` is the command whose flags the settings are, for error messages.

    Raises:
        UserError: a setting is unknown (the message lists similar names), or a value has the wrong type.
    """
    holders = setting_holders(config)
    values: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        if name not in holders:
            raise UserError(
                f"{name}: unknown setting{did_you_mean(name, holders)} (gpt1 {command} --help-all lists all as flags)"
            )
        holder = holders[name]
        hints = get_type_hints(type(getattr(config, holder) if holder else config))
        if holder == "columns":
            value = _as_flag(value)
        values.setdefault(holder, {})[name] = _fitting(name, value, hints[name])
    own = values.pop("", {})
    with named_as_in_python():
        parts = {holder: replace(getattr(config, holder), **some) for holder, some in values.items()}
        return replace(config, **own, **parts)  # type: ignore[type-var]


@contextmanager
def named_as_in_python() -> Iterator[None]:
    """Replace flags in an error with arguments.

    At its start, `--top 0: …` with `top=0: …`; anywhere, those of columns and tables: `--label stars` with
    `label="stars"`.
    """
    try:
        yield
    except UserError as error:
        in_python = FLAG.sub(lambda flag: flag[1].replace("-", "_") + ("=" if flag["value"] else ""), str(error))
        in_python = _DATA_FLAG.sub(_argument, in_python)
        raise UserError(re.sub(r'(=[^\s,]+) (?=\w+=")', r"\1, ", in_python)) from None


def _argument(flag: re.Match[str]) -> str:
    if flag["switch"]:
        return _SWITCHES[flag["switch"]]
    name, value = flag["name"].replace("-", "_"), flag["a"] or flag["b"] or flag["c"]
    return name if value is None else f'{name}="{value}"'


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?" with the names nearest to `name`; "" if none is similar.

    Dashes in front, the case, and the difference between - and _ do not count.
    """
    by_word = {_word(item): item for item in known}
    word = _word(name)
    words = [item for item in (word, SYNONYMS.get(word)) if item in by_word]
    near = [by_word[item] for item in words or difflib.get_close_matches(word, by_word, 2, SIMILARITY)]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _word(name: str) -> str:
    return name.lstrip("-").replace("-", "_").lower()


def _as_flag(value: Any) -> Any:
    """Return a list of columns, or a dict of labels, as the value of the flag: `title,body` or `0=no,1=yes`."""
    if isinstance(value, Mapping):
        return ",".join(f"{old}={new}" for old, new in value.items())
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return value


def _fitting(name: str, value: Any, hint: Any) -> Any:
    """Return `value` as type `hint`: str and `Path` are converted to each other, int to float, list to tuple.

    A NumPy scalar is converted to the Python number.
    """
    if getattr(value, "shape", None) == ():
        value = value.item()
    for kind in alternatives(hint):
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
    near = did_you_mean(value, choices(hint)) if isinstance(value, str) else ""
    raise UserError(f"{name}={value!r}: expected {expected(hint)}{near}")


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union; any other type alone."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def choices(hint: Any) -> tuple[str, ...]:
    """Return the permitted values of a Literal type or an optional one; none for another type."""
    kind = alternatives(hint)[0]
    return get_args(kind) if get_origin(kind) is Literal else ()


def expected(hint: Any) -> str:
    """Describe the values of a type, for error messages."""
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if len(kinds := alternatives(hint)) > 1:
        return " or ".join(map(expected, kinds))
    if get_origin(hint) is tuple:
        return f"a list, each item {expected(get_args(hint)[0])}"
    words = {float: "a number", int: "a whole number", bool: "True or False", NoneType: "None", Path: "a path"}
    return words.get(hint, "a string")
