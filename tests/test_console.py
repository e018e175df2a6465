"""The logger `gpt1`: notices on stderr, in handlers, silenced; progress bars. Run: pytest tests/test_console.py"""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt1 import console
from gpt1.tokenization.trainer import train
from support import command_line
from support.corpora import prepared_corpus, story


class Collected(logging.Handler):
    """Keeps the records that it receives."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def found(self) -> list[tuple[str, str]]:
        return [(record.levelname, record.getMessage()) for record in self.records]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The logger, as it was before when the test is over."""
    logger = logging.getLogger("gpt1")
    before = logger.level, logger.handlers[:], logger.propagate
    yield logger
    logger.setLevel(before[0])
    logger.handlers[:], logger.propagate = before[1:]


@pytest.fixture
def collected(logger: logging.Logger) -> Collected:
    handler = Collected()
    logger.addHandler(handler)
    return handler


def test_a_handler_of_the_logger_gets_the_notices_in_place_of_stderr(
    collected: Collected, capsys: pytest.CaptureFixture[str]
) -> None:
    console.say("100% of the rows")
    console.say("Stopping.", urgent=True)
    assert collected.found == [("INFO", "100% of the rows"), ("WARNING", "Stopping.")]
    assert {record.filename for record in collected.records} == {"test_console.py"}
    assert capsys.readouterr().err == ""


def test_without_a_handler_notices_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("100% of the rows")
    console.say()
    console.table(["name", "value"], [["loss", "0.5"]])
    assert capsys.readouterr().err == "100% of the rows\n\n  name  value\n  ────  ─────\n  loss    0.5\n"


def test_the_columns_of_a_table_are_aligned_where_characters_take_two_columns_or_none() -> None:
    accent, selector, joiner = "e\N{COMBINING ACUTE ACCENT}", "☑\N{VARIATION SELECTOR-15}", "क\N{ZERO WIDTH JOINER}"
    assert [*console.table_lines(["", "n"], [["好评", 1], [accent, 2], [selector, 3], [joiner, 4]])] == [
        "        n",
        "  ────  ─",
        "  好评  1",
        f"  {accent}     2",
        f"  {selector}     3",
        f"  {joiner}     4",
    ]


def test_empty_lines_are_printed_but_are_no_records(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    def show() -> None:
        console.say("\ntest, 24 examples")
        console.say()
        console.say("Values are on the validation split.\n")

    show()
    assert capsys.readouterr().err == "\ntest, 24 examples\n\nValues are on the validation split.\n\n"
    logger.setLevel("WARNING")
    show()
    logger.setLevel("INFO")
    logger.addHandler(handler := Collected())
    show()
    assert [text for _, text in handler.found] == ["test, 24 examples", "Values are on the validation split."]
    assert {record.filename for record in handler.records} == {"test_console.py"}
    assert capsys.readouterr().err == ""


def test_a_noun_behind_a_number_is_singular_for_one_alone() -> None:
    assert [console.counted(number, "file") for number in (0, 1, 2_000)] == ["0 files", "1 file", "2,000 files"]


def test_level_warning_leaves_urgent_notices_alone(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logger.setLevel("WARNING")
    console.say("a notice")
    console.say("Stopping.", urgent=True)
    logger.setLevel("ERROR")
    console.say("Stopping.", urgent=True)
    assert capsys.readouterr().err == "Stopping.\n"


@pytest.mark.parametrize(("level", "shown"), [("INFO", True), ("WARNING", False)])
def test_progress_bars_are_shown_from_level_info_down(
    level: str, shown: bool, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    logger.setLevel(level)
    bar = console.Bar(3, "reading", " rows")
    bar.advance()
    bar.close()
    assert ("reading" in terminal.getvalue()) is shown


def test_handlers_of_the_root_logger_get_the_notices_of_functions_but_not_of_commands(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = Collected()
    logging.root.addHandler(handler)
    logger.propagate = True
    try:
        console.say("of a function")
        with console.command_line():
            console.say("of a command")
    finally:
        logging.root.removeHandler(handler)
    assert logger.propagate
    assert handler.found == [("INFO", "of a function")]
    assert capsys.readouterr().err == "of a command\n"


def test_a_command_prints_what_it_prints_where_another_library_configures_logging(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(story(1), encoding="utf-8")
    words = ["tokenizer", "train", "--input", tmp_path / "text.txt", "--vocab-size", "60"]
    alone = command_line.done(*words, "--out", tmp_path / "one")
    handler = Collected()
    logging.root.addHandler(handler)
    try:
        beside = command_line.done(*words, "--out", tmp_path / "two")
    finally:
        logging.root.removeHandler(handler)
    assert beside.err == alone.err.replace("one", "two")
    assert "51 tokens in" in alone.err
    assert not [record for record in handler.records if record.name == "gpt1"]


def test_errors_of_modules_are_printed_with_their_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("bad batch")
    except ValueError:
        logging.getLogger("gpt1.serve.worker").exception("a batch of 3 examples failed")
    err = capsys.readouterr().err
    assert err.startswith("a batch of 3 examples failed\nTraceback")
    assert err.endswith("ValueError: bad batch\n")


@pytest.mark.parametrize(
    ("setting", "printed"),
    [
        ("", "a notice\n"),
        ("logging.getLogger('gpt1').setLevel('WARNING')", ""),
        ("logging.basicConfig(format='%(levelname)s %(name)s: %(message)s')", "INFO gpt1: a notice\n"),
        ("logging.getLogger('gpt1').addHandler(logging.NullHandler())", ""),
    ],
)
def test_logging_may_be_configured_before_gpt1_is_imported(setting: str, printed: str) -> None:
    program = f"import logging\n{setting}\nfrom gpt1 import console\nconsole.say('a notice')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", printed)


def test_processes_that_encode_a_corpus_print_nothing_themselves(
    tmp_path: Path, logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    """They would not know the level and the handlers of this process."""
    (tmp_path / "texts").mkdir()
    for number in range(2):
        (tmp_path / "texts" / f"{number}.txt").write_text(story(number), encoding="utf-8")
    logger.setLevel("WARNING")
    prepared_corpus(tmp_path / "texts", train([story(0)], 60), tmp_path / "out", processes=2)
    assert capfd.readouterr() == ("", "")
