"""Standard input in place of texts, a prompt or a table. Run: pytest tests/test_standard_input.py"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from gpt1.cli.standard_input import as_table, prompt_of, with_lines
from gpt1.data.examples import stream_examples
from gpt1.data.readers.table import read_rows
from support.labelled_files import error_of


def give(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


@pytest.mark.parametrize(("data", "name"), [('{"text": "a"}', "stdin.jsonl"), ("text\na\n", "stdin.csv")])
def test_standard_input_is_a_table(monkeypatch: pytest.MonkeyPatch, data: str, name: str) -> None:
    for mark in ("", "\ufeff", " \n" * (data[0] == "{")):
        give(monkeypatch, mark + data)
        with as_table(Path("-"), "gpt1 predict RUN -") as path:
            assert path.name == name and [row.cells for row in read_rows(path)] == [{"text": "a"}]


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, "one\n\ntwö\n")
    assert with_lines(["zero", "-"]) == ("zero", "one", "twö")
    assert "given twice" in error_of(lambda: with_lines(["-", "-"]))


@pytest.mark.parametrize("text", ["good film\n\nbad film\n", "It is a good film.\nIt is a bad film.\n"])
def test_plain_lines_in_place_of_a_table_are_referred_to_the_command_that_reads_them(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def read(text: str) -> None:
        give(monkeypatch, text)
        with as_table(Path("-"), "gpt1 predict RUN -") as path:
            list(stream_examples(path))

    assert error_of(lambda: read(text)).endswith("; for plain lines, one text each, use gpt1 predict RUN -")
    assert "plain lines" not in error_of(lambda: read("text\na,b\n")), "the column was found"


@pytest.mark.parametrize("text", ["", "\n", " \n\n"])
def test_standard_input_without_text_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    give(monkeypatch, text)
    assert "has no text; expected one text a line" in error_of(lambda: with_lines(["-"]))
    give(monkeypatch, text)
    assert "has no text; expected a prompt" in error_of(lambda: prompt_of("-"))
    give(monkeypatch, text)
    assert "has no text; expected a table" in error_of(lambda: as_table(Path("-"), "").__enter__())


def test_a_prompt_loses_its_last_line_break_only(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, "once\nupon \r\n")
    assert (prompt_of("-"), prompt_of("")) == ("once\nupon ", "")
