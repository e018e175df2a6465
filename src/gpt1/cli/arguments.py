"""Arguments that are written in more than one way: repeated column flags, and `--data` of `gpt1 check`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gpt1.cli.signature import flags_of
from gpt1.errors import UserError

REPEATABLE = ("--text", "--label")
"""Column flags that may be repeated."""


def in_one_form(argv: Sequence[str], command: Callable[..., None]) -> list[str]:
    """Return the arguments of a command in the form that the parser knows.

    Raises:
        UserError: the data set is given twice.
    """
    return _data_in_front(_joined_columns(argv, command), command)


def _joined_columns(argv: Sequence[str], command: Callable[..., None]) -> list[str]:
    """Return the arguments with repeated column flags joined by commas: `--text title --text body` is `title,body`."""
    columns = {flag.name for flag in flags_of(command) if flag.metavar == "COLUMN"}
    words: list[str] = []
    places: dict[str, int] = {}
    rest = iter(argv)
    for word in rest:
        name, equals, value = word.partition("=")
        if name not in REPEATABLE or name not in columns or (not equals and (value := next(rest, "")) == ""):
            words.append(word)
        elif name in places:
            words[places[name]] += f",{value}"
        else:
            places[name] = len(words)
            words.append(f"{name}={value}")
    return words


def _data_in_front(argv: Sequence[str], command: Callable[..., None]) -> list[str]:
    """Return the arguments with the data set in front, where it is positional: `gpt1 check --data my.csv`."""
    if not any(flag.positional and flag.key == "data" for flag in flags_of(command)):
        return [*argv]
    found: list[str] = []
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        name, equals, value = word.partition("=")
        if name == "--data" and (equals or (value := next(rest, ""))):
            found.append(value)
        else:
            words.append(word)
    if found and (others := [*found[1:], *(word for word in words[:1] if not word.startswith("-"))]):
        raise UserError(f"--data {found[0]}: DATA is given, too ({others[0]}); give one of them")
    return found + words
