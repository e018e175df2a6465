"""Runs in older formats are read, and are resumed bit for bit. Run: pytest tests/test_run_formats.py"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from gpt1 import cli
from gpt1.checkpoint import run_formats
from gpt1.checkpoint.event_log import RunLog
from gpt1.checkpoint.run_dir import RunDirectory
from gpt1.checkpoint.run_formats import CHANGED, FORMAT, upgrade, upgrade_settings
from gpt1.checkpoint.train_state import Progress
from gpt1.config import DataConfig, FinetuneConfig, LossConfig, OptimConfig
from gpt1.config.overrides import setting_holders
from gpt1.errors import Interrupted, UserError
from gpt1.estimator.base import _params_of
from gpt1.system.files import read_json, sha256
from support.run_outcome import assert_same_outcome, outcome

FORMER_SETTINGS = {
    "optim": {"max_grad_norm": "clip"},
    "split": {"truncation": "cut", "split_strategy": "draw", "max_examples": "limit"},
}
"""Part of the settings -> current name -> name in format 1; listed independently of the code, to detect omissions."""
FORMER_PROGRESS = {"last_eval_step": "evaluated", "evals_without_improvement": "without_gain"}


def renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in values.items()}


def as_format_1(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run with the names of format 1."""
    return {name: renamed(value, FORMER_SETTINGS.get(name, {})) if isinstance(value, dict) else value
            for name, value in settings.items()}  # fmt: skip


def downgrade(run: RunDirectory) -> None:
    """Rewrite the files of a run in format 1."""
    record = read_json(run.config_path)
    del record["format"]
    run.config_path.write_text(json.dumps(record | {"config": as_format_1(record["config"])}))
    for checkpoint in run.checkpoints.paths():
        path = checkpoint / "progress.json"
        path.write_text(json.dumps(renamed(read_json(path), FORMER_PROGRESS)))
        digests = read_json(checkpoint / "manifest.json") | {"progress.json": sha256(path)}
        (checkpoint / "manifest.json").write_text(json.dumps(digests))


# ---- resuming

LOOP = ["--batch-size", "4", "--epochs", "3", "--eval-every", "4", "--save-every", "5", "--log-every", "3"]
COMMANDS: dict[str, list[str]] = {
    "finetune": [
        "--data", "pairs.jsonl", "--task", "similarity", "--model", "random:tiny", "--vocab-size", "64",
        "--max-length", "16", "--truncation", "half", "--max-examples", "24", "--patience", "9", "--no-baseline",
    ],
    "pretrain": [
        "--corpus", "book.txt", "--size", "tiny", "--vocab-size", "60", "--context", "16", "--valid", "valid.txt",
    ],
}  # fmt: skip
STOP_AT = 10


def write_data() -> None:
    texts = ["a warm day", "the film was bleak and cold", "a kind room, so very calm", "it was grim"]
    rows = [
        {"text_a": texts[n % 4], "text_b": f"{texts[(n * 3 + n // 4) % 4]} {texts[n // 2 % 4]}", "label": n % 5 / 2}
        for n in range(60)
    ]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = [f"{row['text_a']} . {row['text_b']}" for row in rows]
    Path("book.txt").write_text("\n".join(lines))
    Path("valid.txt").write_text("\n".join(lines[:9]))


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    write_data()
    return [request.param, *COMMANDS[request.param], "--max-grad-norm", "0.5", "--lr", "0.003", *LOOP]


def interrupt(command: list[str], out: str) -> RunDirectory:
    """Stop the run in `out` immediately after its checkpoint of step `STOP_AT`."""
    write = RunLog.write

    def stopping(self: RunLog, event: str, values: Mapping[str, Any]) -> None:
        write(self, event, values)
        if event == "checkpoint" and values["step"] == STOP_AT:
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "write", stopping)
        assert cli.main([*command, "--out", out]) == 130
    return RunDirectory(Path(out))


def test_run_of_format_1_resumes_bit_for_bit(command: list[str]) -> None:
    assert cli.main([*command, "--out", "whole"]) == 0
    run = interrupt(command, "half")
    downgrade(run)
    recorded = run.config_path.read_text()
    assert '"clip": 0.5' in recorded
    assert '"format"' not in recorded
    assert read_json(run.checkpoints.paths()[0] / "progress.json")["evaluated"] == 8

    assert cli.main([*command, "--out", "half"]) == 0
    assert [event["step"] for event in map(json.loads, run.log.path.open()) if event["event"] == "resume"] == [STOP_AT]
    assert_same_outcome(outcome(run), outcome(RunDirectory(Path("whole"))))
    assert read_json(run.config_path) == read_json(Path("whole/config.json")), (
        "the run has been upgraded to the current format"
    )


@pytest.mark.parametrize("command", ["finetune"], indirect=True)
def test_run_of_format_2_keeps_its_splits_that_were_drawn_row_by_row(command: list[str]) -> None:
    """The data have identical examples, which are drawn into the same split since format 3."""
    assert cli.main([*command, "--out", "whole", "--split-version", "1"]) == 0
    run = interrupt([*command, "--split-version", "1"], "half")
    record = read_json(run.config_path) | {"format": 2}
    del record["config"]["split"]["split_version"]
    run.config_path.write_text(json.dumps(record))

    assert cli.main([*command, "--out", "half"]) == 0
    assert_same_outcome(outcome(run), outcome(RunDirectory(Path("whole"))))
    assert cli.main([*command, "--out", "half", "--split-version", "2"]) == 2
    assert cli.main([*command, "--out", "new"]) == 0
    drawn = [RunDirectory(Path(name)).load_rows() for name in ("half", "whole", "new")]
    assert drawn[0] == drawn[1] != drawn[2]


def test_run_of_format_1_with_another_value_is_refused_under_the_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = FinetuneConfig(data="reviews", out=Path("run"), split=DataConfig(max_examples=24))
    run = RunDirectory(config.out)
    run.open("finetune", config, {})
    downgrade(run)
    before = run.config_path.read_bytes()
    assert cli.main(["finetune", "--data", "reviews", "--out", "run", "--max-examples", "23"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert "contains a different run (--max-examples is 24, not 23)" in line
    assert run.config_path.read_bytes() == before


# ---- reading


@pytest.fixture
def opened(tmp_path: Path) -> tuple[RunDirectory, FinetuneConfig]:
    config = FinetuneConfig(
        data="reviews", out=tmp_path / "run", optim=OptimConfig(max_grad_norm=0.25), loss=LossConfig(lm_coef=0.125),
        split=DataConfig(truncation="half", split_strategy="openai", max_examples=7),
    )  # fmt: skip
    run = RunDirectory(config.out)
    run.open("finetune", config, {})
    return run, config


def test_new_run_carries_the_number_of_its_format(opened: tuple[RunDirectory, FinetuneConfig]) -> None:
    assert next(iter(read_json(opened[0].config_path).items())) == ("format", FORMAT)


def test_settings_of_format_1_are_read_and_the_file_is_left_alone(opened: tuple[RunDirectory, FinetuneConfig]) -> None:
    run, config = opened
    downgrade(run)
    before = run.config_path.read_bytes()
    assert FinetuneConfig.from_dict(run.settings()["config"]) == replace(config, out=Path())
    run.open("finetune", config, {})
    assert run.config_path.read_bytes() == before


def test_run_that_is_held_gets_the_present_format(opened: tuple[RunDirectory, FinetuneConfig]) -> None:
    run, _ = opened
    written = read_json(run.config_path)
    downgrade(run)
    run.hold()
    run.close()
    assert read_json(run.config_path) == written


def test_settings_of_a_sweep_and_of_an_estimator_are_read_too(opened: tuple[RunDirectory, FinetuneConfig]) -> None:
    config = replace(opened[1], out=Path())
    former = as_format_1(json.loads(json.dumps(asdict(config), default=str)))
    sweep = {"command": "sweep", "config": {"finetune": dict(former), "search": "lr=1e-4|1e-3"}}
    for part in ("hardware", "tracking", "out"):
        sweep["config"]["finetune"].pop(part)  # type: ignore[index]
    upgraded = upgrade(sweep, Path("config.json"))["config"]
    assert FinetuneConfig.from_dict(upgraded["finetune"]) == config
    assert upgraded["search"] == "lr=1e-4|1e-3"
    former.pop("out")
    assert _params_of({"params": {"recipe": former}})["recipe"] == config


@pytest.mark.parametrize("part", CHANGED)
def test_every_old_name_leads_to_a_present_one(part: str) -> None:
    holders = setting_holders(FinetuneConfig())
    settings = {f"{holder}.{name}" if holder else name for name, holder in holders.items()}
    present = settings if part == "config" else set(asdict(Progress()))
    for old, new in CHANGED[part].items():
        assert old not in present
        assert callable(new) or new in present


def test_setting_that_becomes_part_of_another_is_moved_by_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def pin(settings: dict[str, Any], value: Any) -> None:
        settings["model"] += f"@{value}"

    monkeypatch.setitem(run_formats.CHANGED["config"], "commit", pin)
    assert upgrade_settings({"model": "openai-gpt", "commit": "main"}) == {"model": "openai-gpt@main"}


# ---- what is refused


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (FORMAT + 1, rf"config\.json: format {FORMAT + 1} found, {FORMAT} at most .* upgrade gpt1"),
        (0, r"config\.json: format 0 found, a whole number"),
        ("two", r"config\.json: format 'two' found, a whole number"),
        (True, r"config\.json: format True found, a whole number"),
    ],
)
@pytest.mark.parametrize(
    "read",
    [
        lambda run, config: run.open("finetune", config, {}),
        lambda run, config: run.require_same("finetune", config),
        lambda run, config: run.settings(),
    ],
    ids=["open", "require_same", "settings"],
)
def test_unknown_format_is_refused(
    opened: tuple[RunDirectory, FinetuneConfig], number: Any, message: str, read: Callable[..., object]
) -> None:
    run, config = opened
    run.config_path.write_text(json.dumps(read_json(run.config_path) | {"format": number}))
    before = run.config_path.read_bytes()
    with pytest.raises(UserError, match=message):
        read(run, config)
    assert run.config_path.read_bytes() == before


@pytest.mark.parametrize("words", [["report"], ["finetune", "--data", "reviews", "--model", "random:tiny", "--out"]])
def test_run_of_a_newer_version_is_one_line(
    opened: tuple[RunDirectory, FinetuneConfig], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = opened
    run.config_path.write_text(json.dumps(read_json(run.config_path) | {"format": FORMAT + 1}))
    assert cli.main([*words, str(run.path)]) == 2
    assert "a newer gpt1 wrote it: upgrade gpt1" in capsys.readouterr().err.splitlines()[-1]


def test_config_that_is_no_runs_is_left_as_it_is() -> None:
    """Model directories also contain a `config.json`, in Hugging Face's format."""
    assert upgrade({"model_type": "openai-gpt", "format": "pt"}, Path("config.json")) == {
        "model_type": "openai-gpt", "format": "pt",
    }  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "finetune --cut half", "finetune --draw openai", "finetune --limit 8", "finetune --clip 1",
        "sweep --clip 1", "pretrain --clip 1", "reproduce --data-root . --limit 8",
        "evaluate run --data reviews --limit 8", "evaluate run --data reviews --beside run",
        "evaluate run --data reviews --zero-shot --words a,b", "evaluate run --data reviews --zero-shot --append so",
        "serve mini --texts-at-once 2", "serve mini --drain 2", "serve mini --max-work 20", "serve mini --queue 64",
    ],
)  # fmt: skip
def test_flags_of_format_1_are_unknown(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(line.split()) == 2
    flag = next(word for word in reversed(line.split()) if word.startswith("--"))
    assert f"{flag}: unknown flag" in capsys.readouterr().err
