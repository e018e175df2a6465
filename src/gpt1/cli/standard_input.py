"""Standard input as texts, as a prompt, or as a table: the argument `-`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gpt1 import console
from gpt1.data.header import NotFound
from gpt1.errors import UserError

STDIN = "-"


def with_lines(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the texts with the lines of standard input, without blank ones, in place of `-`.

    Raises:
        UserError: `-` occurs twice, or standard input is closed, not UTF-8 or has no text.
    """
    if STDIN not in texts:
        return tuple(texts)
    if list(texts).count(STDIN) > 1:
        raise UserError("- (standard input) is given twice; it can be read only once")
    at = list(texts).index(STDIN)
    lines = [line for line in read_all("Texts, one a line").splitlines() if line.strip()]
    if not lines:
        raise UserError("- (standard input) has no text; expected one text a line")
    return (*texts[:at], *lines, *texts[at + 1 :])


def read_all(what: str) -> str:
    """Return the content of standard input; `what` is expected if it is a terminal."""
    try:
        return _stream(what).read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
        raise UserError(f"- (standard input): {at} is not UTF-8; convert it, for example with iconv") from None


def prompt_of(prompt: str) -> str:
    """Return the prompt, or in place of `-` standard input without its last line break.

    Raises:
        UserError: standard input is closed, not UTF-8 or has no text.
    """
    if prompt != STDIN:
        return prompt
    text = read_all("A prompt").removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise UserError("- (standard input) has no text; expected a prompt")
    return text


@contextmanager
def as_table(source: Path, for_lines: str) -> Iterator[Path]:
    """Return a file with the content of standard input if `source` is `-`, else `source`.

    A table that begins with `{` is read as .jsonl, with `[` as .json, any other as .csv with a header. If it has no
    column of texts, the error adds `for_lines`, the command that reads one text a line.

    Raises:
        UserError: standard input is closed or has no text.
    """
    if str(source) != STDIN:
        yield source
        return
    stream = _stream("A table, .csv or .jsonl")
    start = stream.read(3)
    while not start.removeprefix(b"\xef\xbb\xbf").strip() and (more := stream.read(1)):
        start += more
    first = start.removeprefix(b"\xef\xbb\xbf").strip()[:1]
    if not first:
        raise UserError("- (standard input) has no text; expected a table, .csv or .jsonl")
    suffix = {b"{": ".jsonl", b"[": ".json"}.get(first, ".csv")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"stdin{suffix}")
        with path.open("wb") as file:
            file.write(start)
            shutil.copyfileobj(stream, file)
        console.say(f"Standard input: read as {suffix}.")
        try:
            yield path
        except NotFound as error:
            raise UserError(f"{error}; for plain lines, one text each, use {for_lines}") from None


def _stream(what: str) -> BinaryIO:
    if sys.stdin is None or sys.stdin.closed:
        raise UserError("- (standard input) is closed")
    if sys.stdin.isatty():
        console.say(f"{what}, from standard input; end with Ctrl-D (Windows: Ctrl-Z, Enter).")
    return sys.stdin.buffer
