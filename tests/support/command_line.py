"""Commands run in this process, with their output and exit code."""

from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from gpt1.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        [line] = self.out.splitlines()
        return json.loads(line, parse_constant=pytest.fail)

    @property
    def rows(self) -> list[Any]:
        return [json.loads(line, parse_constant=pytest.fail) for line in self.out.splitlines()]


def gpt1(*words: object) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Outcome(code, out.getvalue(), err.getvalue())


def done(*words: object) -> Outcome:
    outcome = gpt1(*words)
    assert outcome.code == 0, outcome.err
    return outcome


NOTICE = re.compile(
    r"(valid|test): [\d,]+ of [\d,]+ rows drawn|Columns not used|.*: all rows are used"
    r"|.*: the run was trained on this file|[\d,]+ examples; cpu|.*: cpu \(\d+ threads?\)|classification \(2 labels\)"
    r"|random:tiny: 0.1 M parameters|step 1  valid|Recipe "
    r"|(train|valid|test): [\d,]+ (of [\d,]+ )?examples (are duplicates|also occur|were truncated)"
    r"|[\d.]+% of the bytes of the training texts are unknown"
)
"""Messages that may precede the error."""


def assert_refused(outcome: Outcome, *said: str, notices: bool = False) -> None:
    """Assert exit code 2, nothing on stdout, and one line of error on stderr, with `notices` after other messages."""
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    *before, last = outcome.err.splitlines()
    assert last.startswith("gpt1: ")
    for words in said:
        assert words in last
    assert [line for line in before if not (notices and NOTICE.match(line))] == []
