"""`gpt1 predict`: texts, pairs, choices, and whole files.

Run: pytest tests/test_cli_predict.py
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import polars
import pytest

from gpt1 import api
from gpt1.inference import batch_prediction
from support.command_line import assert_refused, done, gpt1
from support.sample_runs import ROUNDING, file_digests, json_lines, labelled

pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("in_world")


def set_chunk_rows(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Set the number of rows of a chunk."""
    monkeypatch.setattr(batch_prediction, "MIN_CHUNK_ROWS", rows)
    monkeypatch.setattr(batch_prediction, "TOKENS_PER_ROW", 1 << 30)


def test_a_text_gets_a_label_with_the_probability_of_each() -> None:
    found = done("predict", "run", "a funny story", "--json").json
    assert set(found) == {"label", "score", "scores", "unknown_share"}
    assert set(found["scores"]) == {"bad", "good"}
    assert sum(found["scores"].values()) == pytest.approx(1.0)
    assert found["score"] == max(found["scores"].values()) == found["scores"][found["label"]]
    plain = done("predict", "run", "a funny story")
    assert plain.out == f"{found['label']}  {found['score']:.4f}\n"


def test_several_texts_are_one_document_in_their_order() -> None:
    texts = ["a funny story", "-1 stars, no more", "<br />", "café ‘déjà vu’ 日本"]
    found = done("predict", "run", *texts, "--json").json
    alone = [done("predict", "run", text, "--json").json for text in texts]
    assert [row["label"] for row in found] == [row["label"] for row in alone]
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in alone], abs=ROUNDING)


def test_labels_and_probabilities_of_several_texts_are_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [{"label": "good", "score": 0.75}, {"label": "excellent", "score": 0.5}]
    monkeypatch.setattr(api, "predict_texts", lambda *_, **__: results)
    assert done("predict", "run", "one", "two").out == "good       0.7500\nexcellent  0.5000\n"


def test_a_regression_gives_a_value_and_choices_give_an_index() -> None:
    [first, second] = done("predict", "grades", "a story", "the story", "warm", "cold", "--json").json
    assert first["label"] is None
    assert first["scores"] == {}
    assert isinstance(second["score"], float)
    assert done("predict", "grades", "a story", "the story").out == f"{first['score']:.4f}\n"
    found = done("predict", "endings", "a story", "was warm", "was cold", "--json").json
    assert found["label"] in (0, 1)
    assert set(found["scores"]) == {"0", "1"}
    assert found["scores"][str(found["label"])] == found["score"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "nothing to predict: give texts"),
        (["run", ""], "text '' is empty"),
        (["run", "fine", " \n "], "text ' \\n ' is empty"),
        (["grades", "alone"], "this model's task is similarity: it takes a pair of texts (TEXT_A TEXT_B), 1 given"),
        (
            ["grades", "a", "b", "c"],
            "this model's task is similarity: it takes a pair of texts (TEXT_A TEXT_B), 1 given",
        ),
        (["endings", "a", "b"], "multiple-choice: it takes a context with choices (CONTEXT CHOICE CHOICE …), 2 given"),
        (["run", "fine", "--input", "new.csv"], "--input: give either a file or texts, not both"),
        (["run", "fine", "--text", "review"], "--text review: requires --input FILE"),
        (["run", "fine", "--output", "out.csv"], "--output: requires --input FILE"),
        (["run", "--output", "out.csv"], "--output: requires --input FILE"),
        (["run", "--input", "new.csv", "--output", "-"], "--output -: predictions are printed on standard output"),
        (["run", "--input", "gone.csv"], "gone.csv: no such file"),
        (["run", "--input", "unseen"], "unseen is a folder; expected a table"),
        (["run", "--input", "run/report.html"], "report.html: unknown format"),
        (["run", "--input", "blank.csv", "--on-bad-row", "error"], "blank.csv row 7 (line 8): 'text' is empty"),
        (["run", "--input", "new.csv", "--text", "body"], "--text body: no such column in new.csv"),
        (["run", "--input", "new.csv", "--text-a", "text"], "--text-a does not apply to this task"),
        (
            ["run", "--input", "new.csv", "--output", "out.xlsx"],
            "--output out.xlsx: expected one of .jsonl, .csv, .tsv, .parquet",
        ),
        (["run", "--input", "new.csv", "--output", "new.csv/out.csv"], "new.csv: "),
    ],
)
def test_what_cannot_be_predicted_is_one_line_and_writes_nothing(words: list[str], said: str) -> None:
    before = file_digests(Path())
    assert_refused(gpt1("predict", *words), said, notices=True)
    assert file_digests(Path()) == before


@pytest.mark.parametrize("name", ["gone.csv", "unseen", "run/report.html"])
def test_a_file_that_cannot_be_read_is_refused_before_the_model_is_loaded(name: str) -> None:
    for command in ("predict", "score"):
        outcome = gpt1(command, "run", "--input", name)
        assert outcome.err.count("\n") == 1 and name in outcome.err


def test_the_rows_of_a_file_are_predicted_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    set_chunk_rows(monkeypatch, 5)
    texts = [text for text, _ in labelled(23)[::-1]]
    expected = done("predict", "run", *texts, "--json").json
    found = done("predict", "run", "--input", "new.csv", "--dtype", "float32", "--json").rows
    assert [row["label"] for row in found] == [row["label"] for row in expected]
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in expected], abs=ROUNDING)
    plain = done("predict", "run", "--input", "new.csv", "--dtype", "float32").out.splitlines()
    assert plain == [f"{row['label']}  {row['score']:.4f}" for row in found]


def test_predictions_go_to_a_file_of_either_kind(tmp_path: Path) -> None:
    words = ["predict", "run", "--input", "new.csv", "--dtype", "float32"]
    expected = done(*words, "--json").rows
    for name in ("new folder/out.jsonl", "OUT.CSV"):
        outcome = done(*words, "--output", tmp_path / name, "--json")
        assert outcome.out == ""
        assert "23 predictions in " in outcome.err
    assert [json.loads(line) for line in (tmp_path / "new folder/out.jsonl").read_text().splitlines()] == expected
    with (tmp_path / "OUT.CSV").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["label", "score", "probability of bad", "probability of good", "unknown_share", "error"]
    assert rows == [
        [row["label"], *map(str, (row["score"], *row["scores"].values(), row["unknown_share"], ""))] for row in expected
    ]


def test_an_output_file_appears_when_it_is_complete_and_never_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk_rows(monkeypatch, 2)
    output = tmp_path / "out.jsonl"
    words = ["predict", "run", "--input", "blank.csv", "--on-bad-row", "error", "--output", output]
    assert_refused(gpt1(*words), "blank.csv row 7", notices=True)
    assert list(tmp_path.iterdir()) == []


def test_a_row_without_a_text_gets_an_empty_prediction_and_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bad label does not matter."""
    set_chunk_rows(monkeypatch, 3)
    source = tmp_path / "x.csv"
    source.write_text('text,label\n" ",a\na,b,c\nfine,\n,NaN\na story,NaN\nfine,a\n', encoding="utf-8")
    outcome = done("predict", "run", "--input", source, "--json")
    reasons = [
        "'text' is empty",
        "cells: 3, expected 2 (text, label); a cell that contains the separator must be quoted",
    ]
    found = [row["error"] for row in outcome.rows]
    assert found == [*reasons, None, reasons[0], None, None]
    names = done("predict", "run", "fine", "--json").json["scores"]
    nothing = {"label": None, "score": None, "scores": dict.fromkeys(names), "unknown_share": None}
    assert outcome.rows[0] == nothing | {"error": reasons[0]}
    assert outcome.rows[2] == done("predict", "run", "fine", "--json").json | {"error": None}
    assert "3 of 6 rows have no prediction: empty text (2), wrong number of cells (1)." in outcome.err
    lines = done("predict", "run", "--input", source).out.splitlines()
    assert lines[0] == "no prediction: 'text' is empty"
    assert len(lines) == 6
    for action, end in (([], "6 rows in {}, 3 with a prediction"), (["--on-bad-row", "skip"], "3 predictions in {}")):
        output = tmp_path / f"out{len(action)}.csv"
        outcome = done("predict", "run", "--input", source, "--output", output, *action)
        assert outcome.err.splitlines()[-1] == end.format(output)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_of_predictions_has_the_columns_of_every_row(suffix: str, tmp_path: Path) -> None:
    """Also if the first row has no prediction, or all rows have one."""
    for name, first in (("good", "fine"), ("bad", " ")):
        source, output = tmp_path / f"{name}.csv", tmp_path / f"{name}-out{suffix}"
        source.write_text(f"id,text\n1,{first}\n2,fine\n", encoding="utf-8")
        done("predict", "run", "--input", source, "--output", output, "--with-input")
    read = polars.read_csv if suffix == ".csv" else polars.read_parquet
    good, bad = read(tmp_path / f"good-out{suffix}"), read(tmp_path / f"bad-out{suffix}")
    assert good.columns == bad.columns
    assert suffix == ".csv" or good.schema == bad.schema
    assert bad.row(0)[:2] == (1, " ") if suffix == ".csv" else ("1", " ")
    assert bad.row(0)[2:] == (None, None, None, None, None, "'text' is empty")


def test_bad_rows_may_stop_predict_or_be_left_out(tmp_path: Path) -> None:
    source = tmp_path / "x.csv"
    source.write_text('text,id\n" ",1\nfine,2\n,3\nfine,4\n', encoding="utf-8")
    words = ["predict", "run", "--input", source, "--output", tmp_path / "out.csv", "--on-bad-row"]
    refused = gpt1(*words, "error")
    assert (refused.code, (tmp_path / "out.csv").exists()) == (2, False)
    assert "gpt1: 2 of 4 rows cannot be used: empty text\n  x.csv row 1 (line 2): 'text' is empty\n" in refused.err
    assert "2 of 4 rows were left out: empty text." in done(*words, "skip").err
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 3
    source.write_text("text,id\n ,1\n,3\n", encoding="utf-8")
    for flags in ([], ["--on-bad-row", "skip"]):
        assert_refused(
            gpt1("predict", "run", "--input", source, *flags),
            "'text' is empty; none of the 2 rows can be used",
            notices=True,
        )
    assert gpt1("predict", "run", "fine", "--on-bad-row", "skip").code == 2


def test_choices_have_their_columns_if_the_first_row_has_no_prediction(tmp_path: Path) -> None:
    source, output = tmp_path / "x.jsonl", tmp_path / "out.csv"
    rows = [{"context": " ", "choices": ["a", "b"]}, {"context": "a story", "choices": ["warm", "cold"]}]
    source.write_text(json_lines(*rows), encoding="utf-8")
    done("predict", "endings", "--input", source, "--output", output)
    header, empty, _ = output.read_text(encoding="utf-8").splitlines()
    assert header == "label,score,probability of 0,probability of 1,unknown_share,error"
    assert empty == ",,,,,'context' is empty"


def test_the_columns_are_named_though_the_first_row_is_malformed(tmp_path: Path) -> None:
    source = tmp_path / "x.jsonl"
    source.write_text("{\n" + json_lines({"review": "fine"}), encoding="utf-8")
    assert "x.jsonl: Columns: --text review." in done("predict", "run", "--input", source).err
