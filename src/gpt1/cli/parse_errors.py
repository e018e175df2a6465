"""One-line messages for command lines that cannot be parsed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import NoneType
from typing import get_args, get_origin

from tyro import _errors as tyro_errors

from gpt1.cli.signature import Flag, flags_of
from gpt1.config.overrides import alternatives, did_you_mean, expected
from gpt1.errors import UserError


@contextmanager
def one_line_errors(prog: str, command: Callable[..., None], example: str) -> Iterator[None]:
    """Raise UserError where tyro would print a box about the command line of `command` and exit."""

    def refuse(event: tyro_errors.ParseErrorEvent) -> None:
        raise UserError(_message(event, prog, flags_of(command), example))

    with tyro_errors.on_parse_error(refuse):
        yield


def _message(event: tyro_errors.ParseErrorEvent, prog: str, flags: Sequence[Flag], example: str) -> str:
    by_key = {flag.key: flag for flag in flags}
    see = f"; see {prog} --help"
    match event:
        case tyro_errors.MissingArgs() if not event.unrecognized_tokens:
            missing = [by_key[item.arg.field.intern_name].name for item in event.missing_arguments]
            return f"missing {' and '.join(missing)}; example: {example}{see}"
        case tyro_errors.MissingArgs():
            return _unknown(event.unrecognized_tokens, prog, flags)
        case tyro_errors.UnrecognizedArgs():
            return _unknown(event.tokens, prog, flags)
        case tyro_errors.InvalidChoice():
            return _bad_value(by_key[event.argument.field.intern_name], event.value)
        case tyro_errors.BadValue():
            return _bad_value(by_key[event.argument.field.intern_name], event.offending_value) + see
        case tyro_errors.InstantiationFailure():
            first = event.message.partition("\n")[0].rstrip(".")
            if event.argument is None:  # a settings class refused a value; its message names the flag
                return first + see
            found = re.search("'(.*)'", first)
            return _bad_value(by_key[event.argument.field.intern_name], found and found[1]) + see
    return f"this command line cannot be parsed ({type(event).__name__}){see}"


def _bad_value(flag: Flag, value: str | None) -> str:
    kinds = [get_args(kind)[0] if get_origin(kind) is tuple else kind for kind in alternatives(flag.kind)]
    wanted = " or ".join(expected(kind) for kind in kinds if kind is not NoneType)
    if value is None:
        return f"{flag.name}: the value is missing; expected {wanted}"
    return f"{flag.name} {value}: expected {wanted}{did_you_mean(value, flag.choices)}"


def _unknown(tokens: Sequence[str], prog: str, flags: Sequence[Flag]) -> str:
    """Return the message about the first unknown flag or, without one, the first word that no argument takes."""
    token = next((token for token in tokens if token.startswith("-")), tokens[0])
    if not token.startswith("-"):
        return f"{token!r}: unexpected argument; see {prog} --help"
    name = token.partition("=")[0]
    negated = name.startswith("--no-")
    known = [spelling for flag in flags for spelling in flag.spellings if spelling.startswith("--no-") == negated]
    return f"{name}: unknown flag{did_you_mean(name, known)} ({prog} --help-all lists every flag)"
