"""Sweeps: search space, trials, several processes, interruptions. Run: pytest tests/test_sweep.py"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gpt1 import cli
from gpt1.checkpoint import event_log
from gpt1.config import FinetuneConfig, SweepConfig
from gpt1.config.overrides import with_overrides
from gpt1.config.recipes import RECIPES, recipe
from gpt1.config.sweeping import READY_SEARCH
from gpt1.errors import Interrupted, UserError
from gpt1.evaluation import report
from gpt1.system.files import read_json
from gpt1.training import sweep
from gpt1.training.sweep.space import Dimension, parse, require_disjoint, searchable, with_values
from gpt1.training.sweep.study import HEARTBEAT_TIMEOUT, Study, directory

pytest.importorskip("torch", reason="one backend is enough here: MindSpore compiles for each of many short runs")

SEARCH = "lr=1e-4..1e-2:log,batch_size=5|10"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "valid", "test"):
        rows = [
            {"text": f"{word} {split} {i}", "label": n} for i in range(10) for n, word in enumerate(("bad", "good"))
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def words(command: str, data: Path, out: Path, *flags: str) -> list[str]:
    start = [command, "--data", str(data), "--out", str(out), "--model", "random:tiny", "--device", "cpu"]
    return [*start, "--epochs", "2", "--log-every", "1", "--no-baseline", *flags]


def swept(data: Path, out: Path, *flags: str) -> int:
    return cli.main(words("sweep", data, out, "--search", SEARCH, "--trials", "3", *flags))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("sweep") / "out"
    assert swept(data, out) == 0
    return out, read_json(out / "sweep.json")


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the plots, which take longer than the trials; the sweep of `finished` draws them."""
    monkeypatch.setattr(sweep.display, "plot", lambda study, out, metric: [])


@pytest.fixture
def copied(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    shutil.copytree(finished[0], tmp_path / "out")
    return tmp_path / "out"


# ---- search space


def test_dimensions_have_the_types_of_the_settings() -> None:
    found = parse(
        "lr=1e-5..1e-3:log, epochs=2|3 ,batch-size=8..16,bucketing=true|false,patience=none|2", FinetuneConfig()
    )
    assert found == (
        Dimension("lr", (1e-5, 1e-3), choices=False, log=True),
        Dimension("epochs", (2.0, 3.0), choices=True),
        Dimension("batch_size", (8, 16), choices=False),
        Dimension("bucketing", (True, False), choices=True),
        Dimension("patience", (None, 2), choices=True),
    )


def test_dropout_is_all_four_at_once() -> None:
    dropout = with_values(FinetuneConfig(), {"dropout": 0.25}).dropout
    assert (dropout.embd_pdrop, dropout.resid_pdrop, dropout.attn_pdrop, dropout.clf_pdrop) == (0.25,) * 4


@pytest.mark.parametrize("name", RECIPES)
def test_the_ready_search_fits_each_recipe(name: str) -> None:
    found = parse(READY_SEARCH, RECIPES[name]())
    assert [dimension.name for dimension in found] == ["lr", "lm_coef", "batch_size", "dropout"]


def test_what_is_scored_cannot_be_searched() -> None:
    assert not {"data", "out", "task", "max_examples", "split_seed", "metric", "select_by", "text"} & {
        *searchable(FinetuneConfig())
    }


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ("learning_rate=1|2", r"--search learning_rate: unknown.*; there are dropout, attn_pdrop, .*, lr, "),
        ("lrr=1|2", r"--search lrr: unknown \(did you mean lr\?\)"),
        ("", r"--search '': nothing to search; write --search lr="),
        ("lr=1e-4", "--search 'lr=1e-4': nothing to search"),
        ("lr", "--search lr: no values"),
        ("lr=", "--search lr=: no values"),
        ("lr=1..2,lr=1|2", "--search lr: named twice"),
        ("dropout=0|0.1,clf_pdrop=0|0.1", "--search clf_pdrop: named twice, by itself and by dropout"),
        ("lr=1e-3..1e-5", "expected the lower bound first"),
        ("lm_coef=0..1:log", "a log scale needs a lower bound above 0"),
        ("lr=1..2:exp", "unknown scale exp"),
        ("lr=fast|slow", "--search lr: 'fast' is not a valid value"),
        ("epochs=0..3", "--search epochs=0..3: epochs=0.0: expected a positive number"),
        ("dropout=0..1", "--search dropout=0..1: embd_pdrop=1.0: expected a probability"),
        (
            "schedule=linear|square",
            r"--search schedule=linear\|square: schedule='square': expected one of linear, cosine, constant",
        ),
        ("schedule=a..b", "not a range of numbers; write schedule=A"),
    ],
)
def test_a_search_that_cannot_be_used_is_refused(search: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(search, FinetuneConfig())


def test_a_setting_is_searched_or_given(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`seed` may be both: it seeds the splits and the sampler."""
    for flags, said in (
        (["--lr", "1e-3"], "--lr 0.001: is also in --search"),
        (["--search", "dropout=0|0.1", "--attn-pdrop", "0.2"], "--attn-pdrop 0.2: is also in --search"),
    ):
        assert swept(data, tmp_path / "out", *flags) == 2
        assert said in capsys.readouterr().err.splitlines()[-1]
    require_disjoint(with_overrides(FinetuneConfig(), {"seed": 7}), parse("seed=0|1", FinetuneConfig()))
    require_disjoint(recipe("quickstart"), parse("lr=1e-5..1e-3", FinetuneConfig()))


# ---- trials and the best run


def test_trials_are_runs_that_never_see_the_test_split(finished: tuple[Path, dict[str, Any]]) -> None:
    out, table = finished
    assert [row["run"] for row in table["trials"]] == ["trial-0", "trial-1", "trial-2"]
    for row in table["trials"]:
        assert not (out / row["run"] / "metrics.json").exists()
        events = event_log.read(out / row["run"] / "log.jsonl")
        assert {event.get("split") for event in events} == {None, "valid"}
        assert not (out / row["run"] / "checkpoints").exists()
        best = max(event["accuracy"] for event in events if event["event"] == "evaluate")
        assert row["value"] == best
        recorded = read_json(out / row["run"] / "config.json")["config"]
        assert row["settings"] == {"lr": recorded["optim"]["lr"], "batch_size": recorded["loop"]["batch_size"]}


def test_the_best_run_is_the_run_that_its_settings_give(
    data: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Bit for bit: OUT/best is completed from the trial's checkpoint."""
    out, table = finished
    best = table["best"]
    assert best["value"] == max(row["value"] for row in table["trials"])
    flags = [
        "--lr",
        str(best["settings"]["lr"]),
        "--batch-size",
        str(best["settings"]["batch_size"]),
        "--split-seed",
        "0",
    ]
    assert cli.main(words("finetune", data, tmp_path / "run", *flags)) == 0
    assert read_json(tmp_path / "run/metrics.json") == read_json(out / "best/metrics.json")
    assert best["test"]["accuracy"] == read_json(out / "best/metrics.json")["test"]["accuracy"]


def test_the_best_run_is_an_ordinary_run(data: Path, finished: tuple[Path, dict[str, Any]]) -> None:
    best = finished[0] / "best"
    assert cli.main(["evaluate", str(best), "--data", str(data), "--no-baseline", "--device", "cpu"]) == 0
    assert cli.main(["predict", str(best), "good"]) == 0


def test_plots_are_drawn(finished: tuple[Path, dict[str, Any]]) -> None:
    for name in ("sweep-history.svg", "sweep-importances.svg"):
        assert "<svg" in (finished[0] / name).read_text()


def test_a_finished_sweep_is_read_and_more_trials_go_on(
    data: Path, copied: Path, finished: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ran: list[Path] = []
    real = sweep.finetune
    monkeypatch.setattr(sweep, "finetune", lambda config, **words: ran.append(config.out) or real(config, **words))
    assert swept(data, copied, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trials"] == finished[1]["trials"]
    assert [path.name for path in ran] == ["best"], "which is finished, and read"
    assert swept(data, copied, "--trials", "4") == 0
    assert [path.name for path in ran][1:] == ["trial-3", "best"]


def test_the_report_of_the_best_run_shows_the_search(finished: tuple[Path, dict[str, Any]]) -> None:
    out, table = finished
    page = (out / "best" / "report.html").read_text(encoding="utf-8")
    assert "<h2>Sweep</h2>" in page and "data:image/svg+xml;base64," in page
    for row in table["trials"]:
        assert f'<th scope="row">{row["run"]}</th>' in page
        report.write([out / row["run"]])
        assert "<h2>Sweep</h2>" not in (out / row["run"] / "report.html").read_text(encoding="utf-8")


def test_a_sweep_without_its_best_trials_checkpoint_scores_the_same_model(data: Path, copied: Path) -> None:
    """The best trial is trained again."""
    before = read_json(copied / "best/metrics.json")
    shutil.rmtree(copied / "best")
    assert swept(data, copied) == 0
    assert read_json(copied / "best/metrics.json")["test"] == before["test"]


# ---- kills and interrupts

KILLED = """
import os, sys
from gpt1 import cli
from gpt1.training import sweep
real = sweep._TrialReporter.__call__
def die(self, event):
    real(self, event)
    if event["event"] == "checkpoint" and event["step"] == 4:
        os._exit(9)
sweep._TrialReporter.__call__ = die
cli.main(sys.argv[1:])
"""


def assert_finetunes(command: str, swept: Path) -> None:
    """Assert that `command` is one that repeats the best settings with other seeds in another directory."""
    program, name, *flags = shlex.split(command)
    best = read_json(swept / "best/config.json")["config"]
    given = dict(pairwise(flags))
    assert (program, name, flags[-2:]) == ("gpt1", "finetune", ["--seeds", "5"])
    assert given["--out"] == f"{swept}-seeds" and float(given["--lr"]) == best["optim"]["lr"]
    assert given["--data"] == best["data"]


def test_a_trial_that_was_killed_goes_on_in_its_directory(
    data: Path, tmp_path: Path, finished: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    command = words("sweep", data, tmp_path, "--search", SEARCH, "--trials", "3", "--save-every", "1")
    killed = subprocess.run([sys.executable, "-c", KILLED, *command], capture_output=True, check=False)
    assert killed.returncode == 9
    assert cli.main(command) == 0
    said = capsys.readouterr().err
    assert "trial-0  was interrupted; resuming from its checkpoint" in said
    assert_finetunes(said.split("Next, other seeds: ")[1].splitlines()[0], tmp_path)
    table = read_json(tmp_path / "sweep.json")
    first = table["trials"][0]
    assert (first["run"], first["value"]) == ("trial-0", finished[1]["trials"][0]["value"])
    assert first["settings"] == finished[1]["trials"][0]["settings"]
    assert [row["run"] for row in table["trials"]] == ["trial-0", "trial-1", "trial-2"]
    log = event_log.read(tmp_path / "trial-0/log.jsonl")
    assert next(event["step"] for event in log if event["event"] == "resume") >= 1
    assert not list((tmp_path / ".alive").iterdir())


def test_an_interrupted_sweep_goes_on_with_the_same_trial(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(config: FinetuneConfig, **words: Any) -> Any:
        raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(sweep, "finetune", stop)
        assert swept(data, tmp_path) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "gpt1: stopped; run the same command again to resume"
    assert swept(data, tmp_path) == 0
    assert [row["run"] for row in read_json(tmp_path / "sweep.json")["trials"]] == ["trial-0", "trial-1", "trial-2"]


# ---- several processes


def study(folder: Path, trials: int = 4) -> Study:
    """Open the study as another process would."""
    return Study(folder, "accuracy", trials, seed=0, prune=True)


def test_two_processes_share_the_trials(tmp_path: Path) -> None:
    one, other = study(tmp_path), study(tmp_path)
    begun = [trial for each in (one, other, other, one, one, other) if (trial := each.ask())]
    assert sorted(trial.number for trial in begun) == [0, 1, 2, 3]
    assert one.running_elsewhere() == ["trial-0", "trial-1", "trial-2", "trial-3"]


def test_of_two_processes_that_ask_in_the_same_moment_one_gets_the_last_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = study(tmp_path, 1), study(tmp_path, 1)
    real = one.optuna.ask

    def late() -> Any:
        assert other.ask()
        return real()

    monkeypatch.setattr(one.optuna, "ask", late)
    assert one.ask() is None
    assert one.running_elsewhere() == ["trial-0"]
    assert [trial.number for trial in one.counted()] == [0]


def test_who_ended_the_last_trial_finishes_the_best_run(tmp_path: Path) -> None:
    one, other = study(tmp_path, 2), study(tmp_path, 2)
    first, second = one.ask(), other.ask()
    assert first and second
    one.end(first, "COMPLETE", 0.5)
    assert not one.is_mine_to_finish(), "the other one still runs"
    other.end(second, "COMPLETE", 0.75)
    assert (one.is_mine_to_finish(), other.is_mine_to_finish()) == (False, True)
    assert study(tmp_path, 2).is_mine_to_finish(), "one that comes later and has nothing to run"
    assert one.best() is not None and directory(one.best()) == "trial-1"


def test_a_trial_of_a_silent_machine_is_put_in_line_again(tmp_path: Path) -> None:
    one, other = study(tmp_path, 1), study(tmp_path, 1)
    trial = one.ask()
    assert trial
    value = trial.suggest_float("lr", 0.0, 1.0)
    with one.heartbeat(trial):
        sign = tmp_path / ".alive" / "0"
        sign.write_text("another-machine 1\n")
        assert other.ask() is None, "it has just been alive"
        os.utime(sign, (os.stat(sign).st_mtime - HEARTBEAT_TIMEOUT - 1,) * 2)
        again = other.ask()
    assert again
    assert (again.number, directory(again), again.suggest_float("lr", 0.0, 1.0)) == (1, "trial-0", value)


def test_a_sweep_draws_other_values_for_each_trial_and_the_same_again(tmp_path: Path) -> None:
    def drawn(folder: Path) -> list[float]:
        folder.mkdir()
        return [trial.suggest_float("lr", 0.0, 1.0) for _ in range(4) if (trial := study(folder).ask())]

    first = drawn(tmp_path / "a")
    assert len({*first}) == 4
    assert drawn(tmp_path / "b") == first


# ---- pruning and failures


class AlwaysWorse:
    """A fake trial that Optuna would prune immediately."""

    def __init__(self) -> None:
        self.reported: list[tuple[float, int]] = []

    def report(self, value: float, step: int) -> None:
        self.reported.append((value, step))

    def should_prune(self) -> bool:
        return True


def test_a_bad_trial_is_pruned_at_an_evaluation_but_not_at_its_last(tmp_path: Path) -> None:
    from optuna import TrialPruned

    trial = AlwaysWorse()
    config = FinetuneConfig(out=tmp_path)
    reports = sweep._TrialReporter(trial, config)  # type: ignore[arg-type]
    event = {"event": "evaluate", "metric": "accuracy", "accuracy": 0.5}
    reports({"event": "start", "steps": 30})
    with pytest.raises(TrialPruned):
        reports(event | {"epoch": 0.5, "step": 5})
    reports(event | {"epoch": 0.5, "step": 5})
    reports(event | {"epoch": 3.0, "step": 30})
    reports({"event": "train", "epoch": 1.0, "step": 10})
    assert trial.reported == [(0.5, 50), (0.5, 300)]


def test_a_pruned_trial_is_in_the_table_and_is_never_the_best(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    monkeypatch.setattr(optuna.pruners.MedianPruner, "prune", lambda self, study, trial: trial.number == 1)
    assert swept(data, tmp_path) == 0
    table = read_json(tmp_path / "sweep.json")
    assert [(row["state"], row["epochs_seen"]) for row in table["trials"]] == [
        ("complete", 2.0), ("pruned", 1.0), ("complete", 2.0),
    ]  # fmt: skip
    assert table["trials"][1]["value"] is None and table["best"]["run"] != "trial-1"
    assert not (tmp_path / "trial-1/checkpoints").exists()


def test_a_trial_that_diverges_does_not_end_the_sweep(data: Path, tmp_path: Path) -> None:
    search = ["--search", "lr=1e38|1e-3", "--max-grad-norm", "0", "--trials", "4", "--batch-size", "2"]
    assert swept(data, tmp_path, *search) == 0
    table = read_json(tmp_path / "sweep.json")
    failed = [row for row in table["trials"] if row["state"] == "failed"]
    assert failed and all("Try a lower --lr" in row["error"] and row["settings"]["lr"] == 1e38 for row in failed)
    assert len(table["trials"]) == 4 and table["best"]["settings"] == {"lr": 1e-3}


def test_a_fault_that_all_trials_have_ends_the_sweep(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        swept(data, tmp_path, "--search", "lr=1e38|2e38", "--max-grad-norm", "0", "--trials", "9", "--batch-size", "2")
        == 2
    )
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("gpt1: ") and "Try a lower --lr" in last


# ---- refused


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--search", "lr=1|2"], "contains a different run (--search "),
        (
            ["--weight-decay", "0.5"],
            "contains a different run (--weight-decay is 0.01, not 0.5)",
        ),
        (["--trials", "0"], "--trials 0: expected 1 or more"),
        (["--timeout", "-1"], "--timeout -1.0: expected a positive number of seconds"),
    ],
)
def test_other_settings_in_the_same_directory_are_refused(
    data: Path, finished: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert swept(data, finished[0], *flags) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_another_data_set_in_the_same_directory_is_refused(
    data: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(data, other)
    assert swept(other, finished[0]) == 2
    assert "contains a different run (--data" in capsys.readouterr().err.splitlines()[-1]
    changed = data / "train.jsonl"
    before = changed.read_text()
    try:
        changed.write_text(before.replace("good", "nice"))
        assert swept(data, finished[0]) == 2
    finally:
        changed.write_text(before)
    assert "contains a different run (its data differs" in capsys.readouterr().err.splitlines()[-1]


def test_without_optuna_the_command_to_install_it_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert swept(data, tmp_path / "out") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == 'gpt1: gpt1 sweep: Optuna is not installed; run: pip install "optuna>=4"'
    assert not (tmp_path / "out").exists()


def test_a_sweep_stops_beginning_trials_when_its_time_is_up(data: Path, tmp_path: Path) -> None:
    config = recipe("paper-finetune", data=str(data), out=tmp_path / "out", model="random:tiny", device="cpu", epochs=1)
    with pytest.raises(UserError, match="no trial completed"):
        sweep.sweep(config, SweepConfig(timeout=1e-9, search=SEARCH))
