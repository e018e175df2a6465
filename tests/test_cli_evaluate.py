"""`gpt1 evaluate`: data of the run and other data, comparisons, metrics.

Run: pytest tests/test_cli_evaluate.py
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from support.command_line import assert_refused, done, gpt1
from support.sample_runs import ROUNDING

pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("in_world")


def test_the_test_rows_of_the_runs_own_file_score_as_they_did_at_its_end() -> None:
    results = json.loads(Path("run/metrics.json").read_text())
    for split in ("valid", "test"):
        found = done("evaluate", "run", "--data", "reviews.csv", "--split", split, "--dtype", "float32", "--json")
        assert found.json[split].keys() == results[split].keys()
        assert found.json[split]["accuracy"] == results[split]["accuracy"]
        assert found.json[split]["loss"] == pytest.approx(results[split]["loss"], abs=ROUNDING)
        rows = ([mistake["origin"] for mistake in scored[split]["mistakes"]] for scored in (found.json, results))
        assert next(rows) == next(rows)
        assert found.json["baseline_split"] == split
        assert "majority class" in found.json["baseline"]
        assert f"using the {split} split of that run" in found.err
        assert found.json["verdict"] is None or f"\n{found.json['verdict']}\n" in found.err
    assert found.json["verdict"].partition(" Try ")[2] == results["verdict"].partition(" Try ")[2] != ""


def test_all_rows_of_another_file_are_scored_and_a_folder_by_its_split(tmp_path: Path) -> None:
    shutil.copy("reviews.csv", tmp_path / "test.csv")
    for data in (tmp_path / "test.csv", tmp_path):
        found = done("evaluate", "run", "--data", data, "--no-baseline", "--json").json
        assert found["test"]["examples"] == 40
        assert found["baseline"] == {} and found["verdict"].startswith("Never predicted: bad (20 examples). Try ")
    assert_refused(
        gpt1("evaluate", "run", "--data", tmp_path, "--split", "valid"), "--split valid: ", "expected one of test"
    )


def test_a_model_directory_is_evaluated_like_its_run() -> None:
    flags = ["--data", "other-names.csv", "--text", "body", "--label", "verdict", "--dtype", "float32", "--json"]
    run, model = (done("evaluate", path, *flags).json["test"] for path in ("run", "run/model"))
    assert run == model | {"trained_on": 32}, "only the run records its training rows"


def test_other_runs_stand_beside_it_on_the_same_rows() -> None:
    flags = ["--data", "other-names.csv", "--text", "body", "--label", "verdict", "--dtype", "float32", "--json"]
    alone = done("evaluate", "run", *flags).json
    found = done("evaluate", "run", *flags, "--compare", "run/model")
    assert found.json["compare"] == {"run/model": alone["test"] | {"trained_on": None}}
    assert found.json["baseline"].keys() == alone["baseline"].keys()
    names = [line.strip().split("  ")[0] for line in found.err.splitlines() if re.search(r"\[\d", line)]
    assert names == ["run", "run/model", *alone["baseline"]]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--compare", "grades"],
            "--compare grades: similarity (no label names) found, classification (bad, good) as in run expected",
        ),
        (["--compare", "gone"], "gone: no such directory"),
        (["--compare", "run", "--zero-shot"], "--compare run: cannot be combined with --zero-shot"),
    ],
)
def test_a_run_of_another_kind_cannot_stand_beside(flags: list[str], said: str) -> None:
    assert_refused(gpt1("evaluate", "run", "--data", "reviews.csv", *flags), said)


def test_a_sample_of_the_rows_can_be_scored_by_an_own_metric() -> None:
    words = ["evaluate", "run", "--data", "reviews.csv", "--split", "train", "--max-examples", "10", "--no-baseline"]
    found = done(*words, "--metric", "metrics_of_mine:share", "--json").json["train"]
    assert found["examples"] == 10
    assert found["share"] == found["accuracy"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data", "gone.csv"], "--data gone.csv: no such file or folder"),
        (["--data", "blank.csv"], "blank.csv row 7 (line 8): 'text' is empty"),
        (["--data", "new.csv"], "new.csv row 1 (line 2): no label in column 'label'"),
        (["--data", "unseen"], "test.csv row 2 (line 3): label 'mixed' (1 row) does not occur in the training split"),
        (["--data", "reviews.csv", "--max-examples", "0"], "--max-examples 0: expected 2 or more"),
        (["--data", "reviews.csv", "--max-examples", "-3"], "--max-examples -3: expected 2 or more"),
        (
            ["--data", "reviews.csv", "--text", "body"],
            "reviews.csv: the run was trained on this file with other columns",
        ),
        (["--data", "reviews.csv@v1"], "--data reviews.csv@v1: reviews.csv is a local path and has no revisions"),
        (["--data", "reviews.csv", "--split", "dev"], "--split dev: expected one of train, valid, test"),
        (["--data", "reviews.csv", "--metric", "math:foo"], "--metric math:foo: module math has no function"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(flags: list[str], said: str) -> None:
    assert_refused(gpt1("evaluate", "run", *flags), said, notices=True)
