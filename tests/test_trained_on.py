"""`gpt1 evaluate` counts the examples that the run was trained on, and notices that the run's file has changed.

Run: pytest tests/test_trained_on.py
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from gpt1.checkpoint.run_dir import RunDirectory
from gpt1.data.duplicates import keys
from gpt1.data.example import Example
from support.command_line import Outcome, assert_refused, done, gpt1
from support.sample_runs import QUICK, csv_text, labelled

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run on 40 rows: 32 train, 4 valid, 4 test."""
    folder = tmp_path_factory.mktemp("trained-on")
    (folder / "reviews.csv").write_text(csv_text(*labelled()))
    done("finetune", "--data", folder / "reviews.csv", "--out", folder / "run", *QUICK)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The run, in a copy of its folder at the same place, whose file may be changed."""
    kept = tmp_path / "kept.csv"
    shutil.copy(finished / "reviews.csv", kept)
    monkeypatch.chdir(finished)
    yield Path("run")
    shutil.copy(kept, "reviews.csv")
    shutil.rmtree(tmp_path)


def evaluated(run: Path, *flags: object) -> Outcome:
    return done("evaluate", run, "--data", "reviews.csv", "--no-baseline", "--json", *flags)


def test_the_rows_of_a_run_are_recorded_beside_its_model_as_digests(run: Path) -> None:
    recorded = load_file(run / "rows.safetensors")
    assert {split: (rows.dtype, rows.shape) for split, rows in recorded.items()} == {
        "train": (np.uint8, (32, 16)), "valid": (np.uint8, (4, 16)), "test": (np.uint8, (4, 16)),
    }  # fmt: skip
    rows = RunDirectory(run).load_rows()
    assert rows is not None
    assert sorted(chain(*rows.values())) == sorted(keys(Example((text,)) for text, _ in labelled()))
    assert not list((run / "model").glob("rows*"))


def test_the_test_split_of_an_unchanged_file_was_not_trained_on(run: Path) -> None:
    found = evaluated(run)
    assert (found.json["test"]["examples"], found.json["test"]["trained_on"]) == (4, 0)
    assert "reviews.csv: the run was trained on this file; using the test split of that run." in found.err
    assert "run was trained on 0 of these examples.\n" in found.err
    assert evaluated(run, "--split", "train").json["train"]["trained_on"] == 32


@pytest.mark.parametrize("change", ["a row less", "a row more", "another text", "another order", "labels"])
def test_a_file_that_has_changed_has_no_test_split_of_then(run: Path, change: str) -> None:
    """A changed file would be split differently: most rows of its test split would be those of training."""
    rows = labelled()
    match change:
        case "a row less":
            del rows[7]
        case "a row more":
            rows.append(("a new text", "good"))
        case "another text":
            test = RunDirectory(run).load_rows()["test"]  # type: ignore[index]
            row = keys(Example((text,)) for text, _ in rows).index(test[0])
            rows[row] = ("another text in the test split alone", rows[row][1])
        case "another order":
            rows = rows[::-1]
        case "labels":
            rows = [(text, "good") for text, _ in rows]
    Path("reviews.csv").write_text(csv_text(*rows))
    found = evaluated(run)
    assert "reviews.csv: has changed since the run was trained on it; all rows are used." in found.err
    assert "split of that run" not in found.err
    assert found.json["test"]["examples"] == len(rows)
    trained = found.json["test"]["trained_on"]
    assert 31 <= trained <= 32
    assert f"run was trained on {trained} of these examples, so the scores are not those on new texts." in found.err


def test_rows_of_another_file_are_counted_whatever_their_spelling(run: Path, tmp_path: Path) -> None:
    texts = [f"{text.upper()} " for text, _ in labelled()]
    (tmp_path / "other.csv").write_text(csv_text(*((text, "good") for text in [*texts, "new"])))
    found = done("evaluate", run, "--data", tmp_path / "other.csv", "--json").json["test"]
    assert (found["examples"], found["trained_on"]) == (41, 32)


def test_baselines_are_not_fitted_on_training_rows_that_have_changed(run: Path) -> None:
    Path("reviews.csv").write_text(csv_text(*labelled()[1:]))
    found = done("evaluate", run, "--data", "reviews.csv", "--json")
    assert found.json["baseline"] == {}
    assert "Baselines skipped: the run's training data has changed since." in found.err


def test_a_bare_model_says_that_it_cannot_know(run: Path) -> None:
    found = evaluated(run / "model")
    assert found.json["test"]["trained_on"] is None
    assert "model has no record of its training examples; it may have been trained on some of these." in found.err
    assert "split of that run" not in found.err


def test_a_run_without_a_record_does_not_claim_the_test_split(run: Path, tmp_path: Path) -> None:
    """Runs of former versions have none."""
    shutil.copytree(run, tmp_path / "copy", ignore=lambda *_: ["rows.safetensors"])
    found = evaluated(tmp_path / "copy")
    assert "using the test split drawn as in that run, which does not record its rows." in found.err
    assert found.json["test"]["trained_on"] is None


def test_a_damaged_record_is_one_line(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / "rows.safetensors").write_bytes(b"no tensors")
    assert_refused(gpt1("evaluate", copy, "--data", "reviews.csv"), "rows.safetensors: damaged", notices=True)
