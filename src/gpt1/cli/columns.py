"""Column flags that are given several times: `--text title --text body` is `--text title,body`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gpt1.cli.signature import flags_of

REPEATABLE = ("--text", "--label")
"""Column flags that may be repeated."""


def joined_columns(argv: Sequence[str], command: Callable[..., None]) -> list[str]:
    """Return the arguments of a command with repeated column flags joined by commas, at the place of the first."""
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
