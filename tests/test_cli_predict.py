"""`gpt1 predict`: texts, pairs, choices, and whole files.

Run: pytest tests/test_cli_predict.py
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from gpt1 import api
from gpt1.inference import batch_prediction
from support.command_line import assert_refused, done, gpt1
from support.sample_runs import ROUNDING, file_digests, labelled

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
        (["run", "--input", "gone.csv"], "gone.csv: no such file"),
        (["run", "--input", "unseen"], "unseen is a folder; expected a table"),
        (["run", "--input", "run/report.html"], "report.html: unknown format"),
        (["run", "--input", "blank.csv"], "blank.csv row 7 (line 8): 'text' is empty"),
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
    assert header == ["label", "score", "probability of bad", "probability of good", "unknown_share"]
    assert rows == [
        [row["label"], *map(str, (row["score"], *row["scores"].values(), row["unknown_share"]))] for row in expected
    ]


def test_an_output_file_appears_when_it_is_complete_and_never_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk_rows(monkeypatch, 2)
    output = tmp_path / "out.jsonl"
    words = ["predict", "run", "--input", "blank.csv", "--output", output]
    assert_refused(gpt1(*words), "blank.csv row 7", notices=True)
    assert list(tmp_path.iterdir()) == []
