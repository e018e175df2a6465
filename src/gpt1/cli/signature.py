"""The flags of a command, read from the signature of its function."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from tyro import MISSING
from tyro.conf import PositionalRequiredArgs, UseAppendAction, arg

from gpt1.cli.flags import METAVARS, Help
from gpt1.config.overrides import alternatives, choices

ARGUMENTS, GENERAL = "Arguments", "Flags"
"""Groups of the positional arguments, and of the flags that belong to no smaller group of settings."""

_Conf = type(arg())
_METAVARS_OF_TYPES = {float: "NUMBER", Path: "PATH", str: "TEXT"}


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag or a positional argument of a command."""

    key: str
    """Name of the parameter or setting: `max_length`."""
    name: str
    """Spelling on the command line: `--max-length`; of a positional argument its metavar."""
    kind: Any
    """Type of the value."""
    default: Any
    """Default value; `tyro.MISSING` where the flag is required."""
    help: str
    metavar: str
    group: str
    """Heading of the group that help lists it in."""
    several: bool = False
    """Whether it takes any number of values."""
    positional: bool = False
    not_empty: bool = False
    """Whether the command refuses the default, an empty list."""

    @property
    def required(self) -> bool:
        """Whether a command line without it is refused."""
        return self.default is MISSING or self.not_empty

    @property
    def choices(self) -> tuple[str, ...]:
        """Permitted values; none where any value of the type is."""
        return choices(self.kind)

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every form that the parser accepts; none for a positional argument."""
        if self.positional:
            return ()
        return (self.name, f"--no-{self.name.removeprefix('--')}") if self.kind is bool else (self.name,)

    @property
    def usage(self) -> str:
        """The flag and its value, as help shows them."""
        if self.kind is bool:
            return ", ".join(self.spellings) if self.default is True else self.name
        value = f"{self.metavar} ..." if self.several else self.metavar
        return value if self.positional else f"{self.name} {value}"


def flags_of(command: Callable[..., None]) -> list[Flag]:
    """Return the flags of a command; a dataclass parameter contributes one for each of its settings."""
    hints = get_type_hints(command, include_extras=True)
    found: list[Flag] = []
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        kind, *annotations = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        default = MISSING if parameter.default is parameter.empty else parameter.default
        shown = next((item for item in annotations if isinstance(item, Help)), Help())
        if dataclasses.is_dataclass(kind):
            group = GENERAL if parameter.name == "config" else _heading(kind)
            texts = dict(shown.texts)
            for flag in _settings(kind, default, group, repeatable=UseAppendAction in annotations):
                flag = dataclasses.replace(flag, help=texts.get(flag.key, flag.help))
                if flag.required and PositionalRequiredArgs in annotations:
                    flag = dataclasses.replace(flag, name=flag.metavar, positional=True)
                found.append(flag)
            continue
        conf: Any = next((item for item in annotations if isinstance(item, _Conf)), arg())
        name = conf.name or parameter.name
        metavar = conf.metavar or _metavar(name, kind)
        positional = parameter.kind is parameter.POSITIONAL_ONLY
        spelling = metavar if positional else _spelling(name)
        several = get_origin(kind) is tuple
        found.append(
            Flag(
                parameter.name, spelling, kind, default, conf.help or "", metavar, GENERAL, several, positional,
                shown.required,
            )
        )  # fmt: skip
    return found


def _settings(cls: Any, instance: Any, group: str, *, repeatable: bool = False) -> Iterator[Flag]:
    """Yield the flags of a settings class, whose defaults are the values of `instance` (MISSING: the class's own).

    A flag of a list takes several values or, with `repeatable`, is given once for each.
    """
    hints, texts = get_type_hints(cls), _field_docstrings(cls)
    for item in dataclasses.fields(cls):
        default = getattr(instance, item.name) if instance is not MISSING else _default(item)
        kind = hints[item.name]
        if dataclasses.is_dataclass(kind):
            yield from _settings(kind, default, _heading(kind))
        else:
            several = get_origin(kind) is tuple and not repeatable
            text, metavar = texts.get(item.name, ""), _metavar(item.name, kind)
            yield Flag(item.name, _spelling(item.name), kind, default, text, metavar, group, several)


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return MISSING if item.default is dataclasses.MISSING else item.default


def _spelling(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _metavar(name: str, kind: Any) -> str:
    kind = alternatives(kind)[0]
    if get_origin(kind) is tuple:
        return _metavar(name, get_args(kind)[0])
    if get_origin(kind) is Literal:
        return name.upper().replace("_", "-")
    return "N" if kind is int else METAVARS.get(name, _METAVARS_OF_TYPES.get(kind, ""))


def _heading(cls: Any) -> str:
    """Return the first line of a settings class's docstring without its full stop."""
    return inspect.cleandoc(cls.__doc__ or cls.__name__).partition("\n")[0].rstrip(".")


@cache
def _field_docstrings(cls: type) -> dict[str, str]:
    """Return {field: the docstring below it} of a dataclass and its bases, each in one line."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for statement, below in pairwise(tree.body):
            match statement, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found
