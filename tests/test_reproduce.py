"""Reproduction of the paper's table. Run: pytest tests/test_reproduce.py"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt1 import api, cli, console
from gpt1.config import FinetuneConfig
from gpt1.data.dataset import OPENAI_VALID_FRACTION
from gpt1.errors import Interrupted, UserError
from gpt1.system.files import read_json
from gpt1.training import reproduce, seeds
from gpt1.training.paper_results import EXPERIMENTS, Located, MissingDataError, locate

torch = pytest.importorskip("torch")

ROUNDED = 0.005
"""Scores in the table are percentages with two digits."""

EXPERIMENT = {experiment.name: experiment for experiment in EXPERIMENTS}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def pairs(count: int = 12) -> list[dict[str, Any]]:
    return [{"text_a": f"the {i} cats sleep", "text_b": "cats sleep", "label": i % 2} for i in range(count)]


def choices(count: int = 12, word: str = "tea") -> list[dict[str, Any]]:
    return [
        {"context": f"he made {i} cups of {word}", "choices": ["and drank", "and ran"], "label": i % 2}
        for i in range(count)
    ]


RACE = ("train-middle", "train-high-part", "train-high-rest", "dev-middle", "dev-high", "test-middle", "test-high")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name in ("rte/train", "rte/dev", "mnli/train", "mnli/dev_matched", "mnli/dev_mismatched", "mrpc/test"):
        write(root / f"{name}.jsonl", pairs())
    for name in RACE:
        write(root / f"race/{name}.jsonl", choices(8 if "test" in name else 4, name))
    return root


def reproduced(data: Path, out: Path, *flags: str) -> int:
    words = ["reproduce", "--data-root", str(data), "--out", str(out), "--model", "random:tiny", "--device", "cpu"]
    return cli.main([*words, "--max-steps", "1", "--seeds", "2", *flags])


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Runs with two seeds on all available data, and the table."""
    out = tmp_path_factory.mktemp("reproduce") / "out"
    assert reproduced(data, out) == 0
    return out, read_json(out / "results.json")


# ---- the files of the paper's experiments


def located(root: Path, name: str, *files: str) -> Located:
    for file in files:
        write(root / name / f"{file}.jsonl", pairs())
    return locate(EXPERIMENT[name], root)


def splits(found: Located) -> dict[str, list[str]]:
    return {split: [path.stem for path in paths] for split, paths in found.files.splits.items()}


@pytest.mark.parametrize(
    ("name", "files", "expected", "split_settings"),
    [
        ("rte", ["train", "dev"], {"train": ["train"], "valid": ["dev"]}, ()),
        ("qqp", ["train-000", "train-001", "valid"], {"train": ["train-000", "train-001"], "valid": ["valid"]}, ()),
        ("mnli", ["train", "dev_matched", "test_matched"], {"train": ["train"], "valid": ["dev_matched"]}, ()),
        ("mnli", ["train", "dev"], {"train": ["train"], "valid": ["dev"]}, ()),
        ("snli", ["train", "dev", "test"], {"train": ["train"], "valid": ["dev"], "test": ["test"]}, ()),
        ("snli", ["dev"], {"train": ["dev"]}, ("valid_fraction", "test_fraction")),
        ("storycloze", ["val", "test"], {"train": ["val"], "test": ["test"]}, ("split_strategy",)),
        ("storycloze", ["train", "test"], {"train": ["train"], "test": ["test"]}, ("split_strategy",)),
        ("storycloze", ["train", "valid", "test"], {"train": ["train"], "valid": ["valid"], "test": ["test"]}, ()),
        ("race", list(RACE), {"train": list(RACE[:3]), "valid": list(RACE[3:5]), "test": list(RACE[5:])}, ()),
        ("race", ["train", "dev", "test"], {"train": ["train"], "valid": ["dev"], "test": ["test"]}, ()),
    ],
)  # fmt: skip
def test_files_of_an_experiment_are_found_in_either_layout(
    tmp_path: Path, name: str, files: list[str], expected: dict[str, list[str]], split_settings: tuple[str, ...]
) -> None:
    found = located(tmp_path, name, *files)
    assert splits(found) == expected
    assert tuple(found.split_settings) == split_settings
    assert bool(found.note) == bool(split_settings)


@pytest.mark.parametrize(
    ("name", "files", "missing"),
    [
        ("cola", [], "no folder cola"),
        ("cola", ["dev"], "no train file in cola"),
        ("race", ["train-middle", "dev-middle", "test-middle"], r"no train-high\*, dev-high, test-high in race"),
        ("mnli", ["dev_mismatched"], "no train, dev_matched or validation_matched in mnli"),
        ("storycloze", ["val"], "no test in storycloze"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, name: str, files: list[str], missing: str) -> None:
    with pytest.raises(MissingDataError, match=missing):
        located(tmp_path, name, *files)


def test_a_result_has_files_of_its_own_where_they_are_there(tmp_path: Path) -> None:
    found = located(tmp_path, "race", *RACE).result_files
    assert {title: [path.stem for path in files] for title, files in found.items()} == {
        "RACE-m": ["test-middle"], "RACE-h": ["test-high"],
    }  # fmt: skip
    assert located(tmp_path / "plain", "mnli", "train", "dev").result_files == {"MNLI-mm": []}


def test_the_paper_trains_story_cloze_on_1497_rows_and_validates_on_374() -> None:
    """The validation file has 1,871 rows."""
    assert EXPERIMENT["storycloze"].split_settings == {"split_strategy": "openai"}, (
        "tests/test_splits.py holds which rows those are"
    )
    assert round(1_871 * OPENAI_VALID_FRACTION) == 374


def test_the_table_is_the_papers() -> None:
    """Tables 2 to 4, in percent: accuracy, F1, Pearson's or Matthews' coefficient."""
    table = {result.title: (e.metric, result.paper) for e in EXPERIMENTS for result in e.results}
    assert table == {
        "MNLI-m": ("accuracy", 82.1), "MNLI-mm": ("accuracy", 81.4), "SNLI": ("accuracy", 89.9),
        "SciTail": ("accuracy", 88.3), "QNLI": ("accuracy", 88.1), "RTE": ("accuracy", 56.0),
        "Story Cloze": ("accuracy", 86.5), "RACE-m": ("accuracy", 62.9), "RACE-h": ("accuracy", 57.4),
        "RACE": ("accuracy", 59.0), "CoLA": ("matthews", 45.4), "SST-2": ("accuracy", 91.3), "MRPC": ("f1", 82.3),
        "STS-B": ("pearson", 82.0), "QQP": ("f1", 70.3),
    }  # fmt: skip


# ---- the runs and the table


def rows(table: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["task"]: row for row in table["rows"]}


def test_each_row_is_the_median_and_spread_of_ordinary_runs(finished: tuple[Path, dict[str, Any]]) -> None:
    out, table = finished
    rte = rows(table)["RTE"]
    values = [read_json(out / f"rte/seed-{seed}/metrics.json")["valid"]["accuracy"] * 100 for seed in (0, 1)]
    assert rte["values"] == pytest.approx(values, abs=ROUNDED)
    assert [rte[name] for name in ("median", "min", "max")] == pytest.approx(
        [sum(values) / 2, min(values), max(values)], abs=ROUNDED
    )
    assert (rte["split"], rte["examples"], rte["paper"]) == ("valid", 12, 56.0)
    seeds = [read_json(out / f"rte/seed-{seed}/config.json")["config"]["loop"]["seed"] for seed in (0, 1)]
    assert seeds == [0, 1]


def test_one_model_of_race_fills_three_rows(finished: tuple[Path, dict[str, Any]]) -> None:
    """The paper trains on middle and high together."""
    out, table = finished
    m, h, both = (rows(table)[title] for title in ("RACE-m", "RACE-h", "RACE"))
    assert [row["examples"] for row in (m, h, both)] == [8, 8, 16]
    for seed in (0, 1):
        assert both["values"][seed] == pytest.approx((m["values"][seed] + h["values"][seed]) / 2, abs=2 * ROUNDED)
    assert sorted(path.name for path in (out / "race").glob("seed-*")) == ["seed-0", "seed-1"]


def test_a_finished_run_keeps_its_model_and_no_checkpoints(finished: tuple[Path, dict[str, Any]]) -> None:
    for seed in (0, 1):
        kept = {path.name for path in (finished[0] / f"race/seed-{seed}").iterdir()}
        assert {"model", "metrics.json", "metrics-test-middle.json", "metrics-test-high.json"} <= kept
        assert "checkpoints" not in kept


def test_matched_chooses_the_epoch_and_mismatched_is_scored(finished: tuple[Path, dict[str, Any]]) -> None:
    table = rows(finished[1])
    assert (table["MNLI-m"]["split"], table["MNLI-mm"]["split"]) == ("valid", "dev_mismatched")
    assert len(table["MNLI-mm"]["values"]) == 2


def test_rows_without_data_say_what_is_missing(finished: tuple[Path, dict[str, Any]]) -> None:
    table = rows(finished[1])
    assert table["CoLA"]["missing"] == "no folder cola"
    assert table["MRPC"]["missing"] == "no train file in mrpc"
    assert (table["CoLA"]["median"], table["CoLA"]["values"]) == (None, [])
    assert [row["task"] for row in finished[1]["rows"]] == [r.title for e in EXPERIMENTS for r in e.results]


def test_finished_runs_are_read_and_people_see_a_table(
    data: Path,
    finished: tuple[Path, dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, table = finished

    def train_no_more(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished run was run again")

    monkeypatch.setattr(seeds, "finetune", train_no_more)
    monkeypatch.setattr(reproduce, "score_split", train_no_more)
    assert reproduced(data, out, "--json") == 0
    stdout, stderr = capsys.readouterr()
    assert json.loads(stdout) == table
    told = [line.split() for line in stderr.splitlines()]
    assert ["RTE", "accuracy", "56.0"] in [line[:3] for line in told]
    assert [line for line in told if line[:3] == ["CoLA", "matthews", "45.4"]] == [
        ["CoLA", "matthews", "45.4", "–", "–", "0", "–", "no", "folder", "cola"]
    ]
    assert "valid also selected the epoch" in stderr
    assert stderr.splitlines()[-1] == f"Runs: {out}   table: {out / 'results.json'}"


def test_runs_of_other_settings_are_refused_before_anything_runs(
    data: Path, finished: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduced(data, finished[0], "--max-examples", "4") == 2
    stderr = capsys.readouterr().err.splitlines()
    assert len(stderr) == 1
    assert "mnli/seed-0: contains a different run (--max-examples is unset, not 4)" in stderr[0]


def test_what_a_run_says_stands_in_a_file_beside_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduced(data, tmp_path, "--tasks", "rte", "--seeds", "1") == 0
    stderr = capsys.readouterr().err
    notices = (tmp_path / "rte/console/seed-0.txt").read_text()
    assert "entailment (2 labels): 12 train, 12 valid examples" in notices
    assert "Best model: step 1" in notices
    assert "Best model" not in stderr
    assert [line.partition(" ")[0] for line in stderr.splitlines()][:2] == ["random:tiny,", "RTE"]


def test_a_row_that_fails_is_named_and_the_others_still_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    shutil.copytree(data / "rte", root / "rte")
    write(root / "qnli/train.jsonl", [{"text_a": f"a {i}", "text_b": "b", "label": 1} for i in range(12)])
    write(root / "qqp/train.jsonl", [{"text_a": "a", "text_b": " ", "label": 1}] * 12)
    write(root / "scitail/train.jsonl", pairs())
    (root / "scitail/train.csv").touch()
    assert reproduced(root, tmp_path / "out", "--json") == 2
    stdout, stderr = capsys.readouterr()
    table = rows(json.loads(stdout))
    assert "every training example has the label 1" in table["QNLI"]["error"]
    assert table["QQP"]["error"] == "train.jsonl row 1: 'text_b' is empty; none of the 12 rows can be used"
    assert "contains train more than once" in table["SciTail"]["error"]
    assert len(table["RTE"]["values"]) == 2
    assert all(table[title]["error"] in stderr for title in ("QNLI", "QQP", "SciTail"))
    assert stderr.splitlines()[-1] == "gpt1: 3 of 15 rows failed: SciTail, QNLI, QQP; the reasons are printed above"


def test_a_fault_of_the_settings_stops_all_at_its_second_time(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduced(data, tmp_path, "--model", "random:huge") == 2
    stderr = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in stderr[1:]] == ["mnli, seed 0", "gpt1"]
    assert "--model random:huge: unknown size" in stderr[-1]


def test_an_interrupt_keeps_the_finished_runs_and_the_same_command_goes_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Path] = []

    def run_or_stop(stop_at: int) -> Callable[..., Any]:
        def run(config: FinetuneConfig, **words: Any) -> Any:
            if len(ran) == stop_at:
                raise Interrupted
            ran.append(config.out)
            return api.finetune(config, **words)

        return run

    monkeypatch.setattr(seeds, "finetune", run_or_stop(1))
    assert reproduced(data, tmp_path, "--tasks", "rte") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "gpt1: stopped; run the same command again to resume"
    monkeypatch.setattr(seeds, "finetune", run_or_stop(-1))
    assert reproduced(data, tmp_path, "--tasks", "rte") == 0
    assert ran == [tmp_path / "rte/seed-0", tmp_path / "rte/seed-1"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--tasks", "imdb"], "--tasks imdb: unknown; there are mnli, snli, scitail"),
        (["--tasks", "cola"], "no data to run (no folder cola)"),
        (["--seeds", "0"], "--seeds 0: expected 1 or more"),
        (["--max-examples", "1"], "--max-examples 1: expected 2 or more"),
        (["--epochs", "0"], "--epochs 0.0: expected a positive number"),
        (["--recipe", "bert"], "--recipe bert: unknown"),
        (["--data-root", "nowhere"], "--data-root nowhere: no such folder"),
    ],
)
def test_bad_flags_are_one_line_and_leave_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert reproduced(data, tmp_path / "out", *flags) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


# ---- notices


def test_urgent_lines_are_seen_while_others_go_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        with console.notices_to(tmp_path / "folder" / "run.txt"):
            console.say("a notice")
            console.say("stopping", urgent=True)
            raise UserError("bad")

    with pytest.raises(UserError):
        run()
    console.say("afterwards")
    assert (tmp_path / "folder" / "run.txt").read_text() == "a notice\nstopping\n"
    assert capsys.readouterr().err == "stopping\nafterwards\n"
