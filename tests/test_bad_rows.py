"""Rows without a text or label and malformed rows: listed together, or left out and counted.

Run: pytest tests/test_bad_rows.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt1.config import Columns, TableFormat
from gpt1.data.bad_rows import LISTED_ROWS
from gpt1.data.corpus.texts import read_texts
from gpt1.data.dataset import Dataset, load_dataset, read_examples, stream_examples
from gpt1.errors import UserError
from support.command_line import done, gpt1
from support.labelled_files import error_of, labels_of, reviews, write, write_jsonl
from support.sample_runs import TINY, csv_text, labelled

SKIP = TableFormat(on_bad_row="skip")
WAY_ON = "Correct these rows, or leave them out: --on-bad-row skip"
BAD_LINES = [",good", '" ",bad', "a film,", "a film,NaN", "one cell", "a,b,c"]
"""Lines of a .csv that cannot be used."""
BAD_OBJECTS: list[dict[str, Any]] = [
    {"label": 0}, {"text": None, "label": 0}, {"text": float("nan"), "label": 0}, {"text": 7, "label": 0},
    {"text": "a\ud800", "label": 0}, {"text": "a"}, {"text": "a", "label": None}, {"text": "a", "label": float("nan")},
    {"text": "a", "label": float("inf")}, {"text": "a", "label": [0, 1]},
]  # fmt: skip


def table(path: Path, bad: list[str], good: int = 20) -> Path:
    """Write a .csv whose bad rows stand between good ones."""
    lines = [f"review {i},{('good', 'bad')[i % 2]}" for i in range(good)]
    return write(path, "\n".join(["text,label", *lines[:2], *bad, *lines[2:], ""]))


def list_of(call: Callable[[], Any]) -> list[str]:
    """Return the lines of the error that a call raises."""
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value).splitlines()


def parts_of(data: Dataset) -> dict[str, list[tuple[str, ...]]]:
    return {split: [example.parts for example in examples] for split, examples in data.splits.items()}


def test_the_bad_rows_of_all_files_are_listed_at_once(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", BAD_LINES)
    table(tmp_path / "valid.csv", ["mild,"])
    first, *rows, last = list_of(lambda: load_dataset(tmp_path))
    kinds = "empty text (2), empty label (2), wrong number of cells (2), label NaN (1)"
    assert first == f"7 of 47 rows cannot be used: {kinds}"
    assert [row.strip().partition(": ")[0] for row in rows] == [
        *(f"train.csv row {i} (line {i + 1})" for i in range(3, 9)),
        "valid.csv row 3 (line 4)",
    ]
    for row, said in zip(rows[2:5], ["(found '')", "(found 'NaN')", "cells: 1, expected 2 (text, label)"], strict=True):
        assert row.endswith(said)
    assert last == WAY_ON


def test_no_more_than_20_rows_are_listed(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", [",good"] * (LISTED_ROWS - 1))
    table(tmp_path / "valid.csv", [",good"] * 4)
    first, *rows, more, last = list_of(lambda: load_dataset(tmp_path))
    assert first == "23 of 63 rows cannot be used: empty text"
    assert (len(rows), more, last) == (20, "  and 3 more", WAY_ON)


def test_a_single_bad_row_is_one_line(tmp_path: Path) -> None:
    found = error_of(lambda: read_examples(table(tmp_path / "x.csv", [",good"])))
    assert found == "x.csv row 3 (line 4): 'text' is empty; correct the row, or leave it out: --on-bad-row skip"


def test_rows_that_are_all_bad_are_one_line(tmp_path: Path) -> None:
    """A wrong column, not bad rows; there is nothing that could be skipped."""
    path = write_jsonl(tmp_path / "x.jsonl", [{"text": i, "label": i % 2} for i in range(30)])
    for format in (TableFormat(), SKIP):
        found = error_of(lambda: read_examples(path, table=format))  # noqa: B023
        assert found == "x.jsonl row 1: 'text' is 0 (int), expected a text; none of the 30 rows can be used"
        assert error_of(lambda: load_dataset(path, table=format)) == found  # noqa: B023


def test_skipped_rows_leave_the_data_of_the_other_rows(tmp_path: Path) -> None:
    clean = load_dataset(table(tmp_path / "clean.csv", []), seed=3)
    data = load_dataset(table(tmp_path / "x.csv", BAD_LINES), table=SKIP, seed=3)
    assert parts_of(data) == parts_of(clean)
    kinds = "empty text (2), wrong number of cells (2), empty label (1), label NaN (1)"
    assert f"6 of 26 rows were left out: {kinds}." in data.notes


@pytest.mark.parametrize("bad", BAD_OBJECTS, ids=map(repr, BAD_OBJECTS))
def test_every_kind_of_unusable_value_is_skipped(tmp_path: Path, bad: dict[str, Any]) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [*reviews(3), bad])
    assert len(read_examples(path, table=SKIP)) == 3
    assert error_of(lambda: read_examples(path)).startswith("x.jsonl row 4: ")


def test_weights_and_choices_are_skipped_too(tmp_path: Path) -> None:
    choice = {"context": "c", "choices": ["x", "y"], "label": 0, "weight": 1}
    bad = [{"weight": -1}, {"choices": ["x"]}, {"choices": ["x", "y", "z"]}, {"choices": "x"}, {"label": 2}]
    path = write_jsonl(tmp_path / "x.jsonl", [choice, *(choice | each for each in bad)])
    assert len(read_examples(path, Columns(weight="weight"), table=SKIP)) == 1
    assert len(list_of(lambda: read_examples(path, Columns(weight="weight")))) == len(bad) + 2


@pytest.mark.parametrize("line", ["not JSON", "[1, 2]", "{", "1" * 5000, "[" * 200_000], ids=lambda line: line[:9])
def test_lines_that_are_not_objects_are_skipped(tmp_path: Path, line: str) -> None:
    rows = [json.dumps(row) for row in reviews(4)]
    path = write(tmp_path / "x.jsonl", "\n".join([*rows[:2], line, *rows[2:], ""]))
    assert len(read_examples(path, table=SKIP)) == 4
    assert error_of(lambda: read_examples(path)).startswith("x.jsonl row 3: ")


def test_a_malformed_first_row_does_not_set_the_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", "\n".join(["{", *map(json.dumps, reviews(4))]))
    assert len(read_examples(path, table=SKIP)) == 4


def test_a_text_file_in_another_encoding_is_skipped(tmp_path: Path) -> None:
    for i, label in enumerate(["pos", "neg"] * 3):
        (tmp_path / label).mkdir(exist_ok=True)
        write(tmp_path / label / f"{i}.txt", f"reviéw {i}")
    (tmp_path / "pos" / "2.txt").write_bytes("reviéw".encode() + b"\xff\xfe")
    data = read_examples(tmp_path, table=TableFormat(encoding="utf-8", on_bad_row="skip"))
    assert len(data) == 5
    assert "2.txt: line 1: byte ff" in error_of(lambda: read_examples(tmp_path, table=TableFormat(encoding="utf-8")))


@pytest.mark.parametrize("format", [TableFormat(), SKIP])
def test_a_file_of_mostly_malformed_rows_is_refused(tmp_path: Path, format: TableFormat) -> None:
    """It is the wrong file or delimiter."""
    path = table(tmp_path / "x.csv", ["one cell"] * 8, good=7)
    found = error_of(lambda: read_examples(path, table=format))
    assert found.startswith("x.csv row 3 (line 4): cells: 1, expected 2 (text, label); 8 of the first 15 rows are malf")


def test_a_large_file_of_malformed_rows_is_refused_at_its_start(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", "not JSON\n" * 1_000)
    found = error_of(lambda: stream_examples(path, table=SKIP))
    assert found.endswith("100 of the first 100 rows are malformed")


def test_a_split_without_labels_is_no_bad_row_but_a_partly_labelled_one_is(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", reviews(20))
    write_jsonl(tmp_path / "test.jsonl", [{"text": "a", "label": None}] * 3)
    assert "test: skipped, because none of its 3 rows has a label." in load_dataset(tmp_path).notes
    write_jsonl(tmp_path / "test.jsonl", [{"text": "a", "label": None}, *reviews(2), {"text": "b", "label": ""}])
    first, *_ = list_of(lambda: load_dataset(tmp_path))
    assert first == "2 of 24 rows cannot be used: empty label"
    assert labels_of(load_dataset(tmp_path, table=SKIP).splits["test"]) == [0, 1]


def test_streamed_examples_end_at_a_bad_row_or_skip_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path / "x.csv", [",good"])
    assert error_of(lambda: list(stream_examples(path))).startswith("x.csv row 3 (line 4): 'text' is empty")
    assert len(list(stream_examples(path, table=SKIP))) == 20
    assert "x.csv: 1 of 21 rows were left out: empty text." in capsys.readouterr().err


def test_texts_of_tables_of_any_format_are_skipped(tmp_path: Path) -> None:
    """For `gpt1 tokenizer train` and --unlabelled."""
    write_jsonl(tmp_path / "x.jsonl", [{"text": ""}, *reviews(2)])
    files = [table(tmp_path / "y.csv", [","], good=4), tmp_path / "x.jsonl"]
    assert len(list(read_texts(files, Columns(), "", table=SKIP))) == 6


def test_the_setting_is_validated() -> None:
    assert error_of(lambda: TableFormat(on_bad_row="ignore")).startswith(  # type: ignore[arg-type]
        "--on-bad-row ignore: expected one of error, skip"
    )


# ---- commands


def test_a_run_skips_rows_says_so_and_scores_the_same_rows_later(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    data, run = tmp_path / "x.csv", tmp_path / "run"
    data.write_text(csv_text(*labelled(40), ("  ", "good"), ("a film", "")), encoding="utf-8")
    words = ["finetune", "--data", data, "--out", run, *TINY]
    outcome = gpt1(*words)
    assert (outcome.code, run.exists()) == (2, False)
    assert outcome.err.splitlines()[-1] == WAY_ON
    note = "2 of 42 rows were left out: empty text (1), empty label (1)."
    assert note in done(*words, "--on-bad-row", "skip").err
    assert note in json.loads((run / "metrics.json").read_text())["notes"]
    assert note in (run / "report.html").read_text(encoding="utf-8")
    assert "already finished" in done(*words, "--on-bad-row", "skip").err
    assert done("evaluate", run, "--data", data, "--json").json["test"]["examples"] == 4


def test_evaluate_skips_rows(in_world: None, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(csv_text(*labelled(6), ("  ", "good"), ("a film", "")), encoding="utf-8")
    outcome = gpt1("evaluate", "run", "--data", path)
    assert outcome.code == 2
    assert "2 of 8 rows cannot be used: empty text (1), empty label (1)" in outcome.err
    outcome = done("evaluate", "run", "--data", path, "--on-bad-row", "skip", "--json")
    assert outcome.json["test"]["examples"] == 6
    assert "2 of 8 rows were left out: empty text (1), empty label (1)." in outcome.err
    found = done("evaluate", "run", "--data", "reviews.csv", "--on-bad-row", "skip").err
    assert "the run was trained on this file" in found
