"""`gpt1 finetune --seeds N`: ordinary runs, their median and spread. Run: pytest tests/test_seeds.py"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from gpt1 import cli
from gpt1.config.recipes import recipe
from gpt1.evaluation.diagnostics import pack, unpack
from gpt1.system.files import read_json
from gpt1.tasks.dataset import load_data
from gpt1.training import seeds

pytest.importorskip("torch", reason="one backend is enough here: MindSpore compiles for each of many short runs")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file, which is split at random."""
    path = tmp_path_factory.mktemp("data") / "all.jsonl"
    rows = [{"text": f"{word} {i}", "label": n} for i in range(40) for n, word in enumerate(("bad", "good"))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def finetuned(data: Path, out: Path, *flags: str) -> int:
    start = ["finetune", "--data", str(data), "--out", str(out), "--model", "random:tiny", "--device", "cpu"]
    return cli.main([*start, "--epochs", "1", "--test-fraction", "0.25", *flags])


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("seeds") / "out"
    assert finetuned(data, out, "--seeds", "3") == 0
    return out


def test_each_figure_is_the_median_and_spread_of_ordinary_runs(finished: Path) -> None:
    table = read_json(finished / "metrics.json")
    assert (table["seeds"], table["split"], table["examples"]) == ([0, 1, 2], "test", 20)
    for split in ("valid", "test"):
        runs = [read_json(finished / f"seed-{seed}/metrics.json")[split] for seed in table["seeds"]]
        for name in ("loss", "accuracy", "f1", "matthews"):
            values = [run[name] for run in runs]
            expected = {"median": median(values), "min": min(values), "max": max(values), "values": values}
            assert table[split][name] == expected
    assert len({*table["test"]["loss"]["values"]}) == 3, "the seeds make a difference"


def test_all_seeds_have_the_same_splits_and_one_baseline(finished: Path) -> None:
    facts = [read_json(finished / f"seed-{seed}/config.json") for seed in (0, 1, 2)]
    assert [fact["config"]["loop"]["seed"] for fact in facts] == [0, 1, 2]
    assert {fact["config"]["split"]["split_seed"] for fact in facts} == {0}
    assert [fact["config"]["baseline"] for fact in facts] == [True, False, False]
    table = read_json(finished / "metrics.json")
    assert table["baseline"] == read_json(finished / "seed-0/metrics.json")["baseline"] != {}


@pytest.mark.parametrize("middle", [0, 1, 2])
def test_the_verdict_is_that_of_the_run_with_the_median_score(
    middle: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = [read_json(finished / f"seed-{seed}/metrics.json") for seed in range(3)]
    assert all("baseline" not in (run["verdict"] or "") for run in stored[1:])  # they have none
    scores = [0.1, 0.9]
    for seed, run in enumerate(stored):
        answers = run["test"]["answers"]
        truth = unpack(answers["truth"])
        run["test"]["accuracy"] = 0.5 if seed == middle else scores.pop()
        answers["predicted"] = pack(1 - truth if seed == middle else truth)
    monkeypatch.setattr(seeds, "run_once", lambda *_, **__: stored.pop(0))
    table = seeds.finetune_seeds(recipe("quickstart", data="any", out=str(tmp_path / "out")), 3)
    assert table["verdict"].startswith("No better than always predicting the majority class: accuracy 0.000 against 0.")
    assert " Try --adapt 3 " in table["verdict"]
    assert read_json(tmp_path / "out/metrics.json")["verdict"] == table["verdict"]


def test_the_split_seed_draws_the_splits_and_without_it_the_seed_does(data: Path) -> None:
    def test_rows(**settings: Any) -> list[str]:
        config = recipe("paper-finetune", data=str(data), out="none", **settings)
        return [example.parts[0] for example in load_data(config).splits["test"]]

    assert test_rows(seed=5) == test_rows(seed=0, split_seed=5) != test_rows(seed=0)


def test_people_see_the_spread_and_the_same_command_reads_it(
    data: Path, finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_no_more(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished run was run again")

    monkeypatch.setattr(seeds, "finetune", train_no_more)
    assert finetuned(data, finished, "--seeds", "3", "--json") == 0
    stdout, stderr = capsys.readouterr()
    assert json.loads(stdout) == read_json(finished / "metrics.json")
    told = [line.split("  ") for line in stderr.splitlines()]
    assert any(line[1:2] == ["GPT-1, median of 3"] for line in told)
    assert "test, 20 examples, seeds 0 to 2" in stderr
    runs = [str(finished / f"seed-{seed}") for seed in range(3)]
    assert f"table: {finished / 'metrics.json'}" in stderr and f"gpt1 report {' '.join(runs)}" in stderr
    assert f"\n\n{json.loads(stdout)['verdict']}\n\nRuns: " in stderr
    assert not list(finished.glob("seed-*/checkpoints"))


def test_other_settings_and_a_single_run_are_refused(
    data: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetuned(data, finished, "--seeds", "3", "--lr", "1e-3") == 2
    assert "seed-0: contains a different run (--lr" in capsys.readouterr().err.splitlines()[-1]
    assert finetuned(data, finished) == 2
    assert "contains console and is not a run" in capsys.readouterr().err.splitlines()[-1]
    assert finetuned(data, tmp_path / "run") == 0
    assert finetuned(data, tmp_path / "run", "--seeds", "2") == 2
    assert "holds a single run, not runs of several seeds" in capsys.readouterr().err.splitlines()[-1]
    assert finetuned(data, tmp_path / "none", "--seeds", "0") == 2
    assert "--seeds 0: expected 1 or more" in capsys.readouterr().err.splitlines()[-1]
