"""`gpt1 finetune`: files of a run, interruptions, starting from the model of another run.

Run: pytest tests/test_cli_finetune.py
"""

from __future__ import annotations

import contextlib
import io
import json
from html import escape
from pathlib import Path
from typing import Any

import pytest

from gpt1 import api
from gpt1.checkpoint import event_log
from gpt1.config import FinetuneConfig, LoopConfig
from support.command_line import Outcome, assert_refused, done, gpt1
from support.sample_runs import QUICK, file_digests

pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("in_world")


def test_a_run_leaves_model_scores_log_curves_and_report() -> None:
    run = Path("run")
    assert {path.name for path in run.iterdir()} == {
        "config.json", "rows.safetensors", "log.jsonl", "checkpoints", "tokenizer", "model", "metrics.json",
        "curves.svg", "report.html",
    }  # fmt: skip
    results = json.loads((run / "metrics.json").read_text())
    assert set(results) == {"valid", "test", "baseline", "baseline_split", "notes", "verdict"}
    figures = {"loss", "accuracy", "f1", "matthews", "examples", "interval", "confusion_matrix", "mistakes"}
    assert figures <= set(results["test"])
    assert set(results["baseline"]) == {"TF-IDF + logistic regression", "majority class"}
    assert all({"accuracy", "interval"} <= set(row) for row in results["baseline"].values())


def test_a_finished_run_shows_its_results_again_and_trains_no_more() -> None:
    before = file_digests(Path("run"))
    words = ["finetune", "--data", "reviews.csv", "--out", "run", *QUICK, "--epochs", "2", "--baseline"]
    again = done(*words, "--json")
    assert again.json == json.loads(Path("run/metrics.json").read_text())
    assert "run is already finished; results with recipe quickstart:" in again.err
    assert "GPT-1" in again.err
    assert "majority class" in again.err
    verdict = again.json["verdict"]
    assert verdict.startswith("Never predicted: bad (2 examples). No better than always predicting the majority class")
    assert " Try a pretrained model (--model mini, for English), " in verdict
    assert f"\n\n{verdict}\n\n" in again.err
    assert escape(verdict) in Path("run/report.html").read_text(encoding="utf-8")
    assert again.err.splitlines()[-2:] == [
        "Model: run/model   scores: run/metrics.json   report: run/report.html",
        "Next: gpt1 predict run TEXT",
    ]
    silent = done(*words)
    assert silent.out == ""
    assert file_digests(Path("run")) == before


def test_what_is_printed_is_one_json_document_and_it_is_metrics_json(tmp_path: Path) -> None:
    """A nan, which JSON does not have, becomes null."""
    metric = "metrics_of_mine:not_a_number"
    outcome = done("finetune", "--data", "reviews.csv", "--out", tmp_path / "run", *QUICK, "--metric", metric, "--json")
    assert outcome.json["test"]["not_a_number"] is None
    assert outcome.json["test"]["interval"]["not_a_number"] == [None, None]
    assert outcome.json["baseline"] == {} and outcome.json["verdict"].startswith(
        "Never predicted: bad (2 examples). Try "
    )
    written = (tmp_path / "run" / "metrics.json").read_text()
    assert outcome.json == json.loads(written, parse_constant=lambda name: None)


def test_an_own_metric_is_reported_and_selects_the_best_model(tmp_path: Path) -> None:
    words = ["finetune", "--data", "reviews.csv", *QUICK]
    by_flag = done(*words, "--out", tmp_path / "flag", "--metric", "metrics_of_mine:share", "--json").json
    assert by_flag["test"]["share"] == by_flag["test"]["accuracy"]
    low, high = by_flag["test"]["interval"]["share"]
    assert low <= by_flag["test"]["share"] <= high
    events = event_log.read(tmp_path / "flag" / "log.jsonl")
    assert {event["metric"] for event in events if event["event"] == "evaluate"} == {"share"}

    def exact(labels: Any, predictions: Any) -> float:
        return float((labels == predictions).all())

    config = FinetuneConfig(
        data="reviews.csv", out=tmp_path / "call", model="random:tiny", baseline=False,
        loop=LoopConfig(epochs=1, batch_size=8),
    )  # fmt: skip
    with contextlib.redirect_stderr(io.StringIO()):
        assert api.finetune(config, metric=exact)["test"]["exact"] in (0.0, 1.0)


def test_an_interrupted_run_exits_with_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    words = ["finetune", "--data", "reviews.csv", "--out", tmp_path / "run", *QUICK, "--epochs", "2"]
    words += ["--metric", "metrics_of_mine:stop_in_training"]
    stopped = gpt1(*words)
    assert (stopped.code, stopped.out) == (130, "")
    assert stopped.err.splitlines()[-1] == "gpt1: stopped; run the same command again to resume"
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-4"]
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert "Resuming after step 4." in done(*words).err


def test_a_second_interrupt_exits_with_130_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "doctor", interrupted)
    assert gpt1("doctor") == Outcome(130, "", "gpt1: interrupted\n")


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(api, "doctor", broken)
    with pytest.raises(ValueError, match="a bug"):
        gpt1("doctor")


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    words = [
        "finetune",
        "--data",
        "reviews.csv",
        "--out",
        tmp_path / "run",
        *QUICK,
        "--lr",
        "1e30",
        "--max-grad-norm",
        "0",
    ]
    assert_refused(gpt1(*words), " at step ", "no checkpoint had been written yet. Try a lower --lr", notices=True)


def test_a_run_goes_on_from_the_model_of_another(tmp_path: Path) -> None:
    words = ["finetune", "--data", "reviews.csv", "--out", tmp_path / "run", *QUICK, "--model", "run"]
    assert "run: 0.1 M parameters" in done(*words).err
    assert file_digests(tmp_path / "run" / "tokenizer").items() <= file_digests(Path("run/model")).items()
