"""Run directories: validation of settings, the log, and bit-exact resuming of a killed `gpt1 finetune`."""

from __future__ import annotations

import json
import math
import os
import random
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt1 import backends, cli
from gpt1.backends.parameters import Params, initialise
from gpt1.checkpoint import event_log
from gpt1.checkpoint.event_log import RunLog
from gpt1.checkpoint.model_dir import Model, save_model
from gpt1.checkpoint.run_dir import RunDirectory, versions
from gpt1.checkpoint.train_state import Progress
from gpt1.config import FinetuneConfig, Head, LoopConfig, LossConfig, ModelConfig, OptimConfig
from gpt1.errors import UserError
from gpt1.system.files import CorruptFile, read_json
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.training.finetune import finetune
from support.run_outcome import PATIENCE, RunCommand, assert_same_outcome, outcome

# ---- whose directory it is


@dataclass(frozen=True)
class Settings:
    out: Path
    lr: float = 0.1
    model: str = "random:tiny"
    hardware: str = "cpu"
    loop: LoopConfig = field(default_factory=LoopConfig)


SINCE = {
    "": ["head_bias"],
    "optim": ["decay_with_correction", "eps_outside_correction"],
    "dropout": ["embd_matrix", "clf_shared"],
    "loop": ["drop_last"],
    "split": ["truncation", "split_strategy"],
}
"""Settings that are missing in old runs."""

FACTS = {"data_sha256": {"train": "aaaa", "valid": "bbbb"}}


@pytest.fixture
def opened(tmp_path: Path) -> tuple[RunDirectory, Settings]:
    settings = Settings(tmp_path / "run")
    run = RunDirectory(settings.out)
    run.open("finetune", settings, FACTS)
    return run, settings


def test_new_run_writes_its_settings_the_versions_and_the_datas_digest(opened: tuple[RunDirectory, Settings]) -> None:
    run, _ = opened
    found = run.settings()
    assert found["command"] == "finetune"
    assert found["config"]["lr"] == 0.1
    assert found["config"]["loop"]["batch_size"] == LoopConfig().batch_size
    assert found["facts"] == FACTS
    assert found["versions"] == versions()
    assert {"python", "numpy", "tokenizers", "safetensors"} <= found["versions"].keys()
    assert run.started
    assert not run.finished


def test_same_run_may_go_on_elsewhere_and_on_other_hardware(opened: tuple[RunDirectory, Settings]) -> None:
    run, settings = opened
    moved = run.path.rename(run.path.with_name("moved"))
    RunDirectory(moved).open("finetune", replace(settings, out=moved, hardware="cuda"), FACTS)


@pytest.mark.parametrize(
    ("command", "changes", "facts", "difference"),
    [
        ("pretrain", {}, FACTS, "command is finetune, not pretrain"),
        ("finetune", {"lr": 0.2}, FACTS, r"--lr is 0\.1, not 0\.2"),
        ("finetune", {"model": "mini"}, FACTS, r"--model is random:tiny, not mini"),
        ("finetune", {"loop": LoopConfig(seed=1)}, FACTS, r"--seed is 0, not 1"),
        ("finetune", {"loop": LoopConfig(patience=2)}, FACTS, r"--patience is unset, not 2"),
        ("finetune", {}, {"data_sha256": {"train": "aaaa", "valid": "cccc"}}, "its valid data differs"),
        ("finetune", {}, {"data_sha256": {"train": "aaaa"}}, "its valid data differs"),
    ],
)
def test_another_run_is_refused_with_the_difference(
    opened: tuple[RunDirectory, Settings], command: str, changes: dict[str, Any], facts: dict[str, Any], difference: str
) -> None:
    run, settings = opened
    before = run.config_path.read_bytes()
    with pytest.raises(UserError, match=f"--out .*{difference}"):
        run.open(command, replace(settings, **changes), facts)
    assert run.config_path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("thesis.tex", "", "contains thesis.tex and is not a run"),
        ("config.json", '{"model_type": "openai-gpt"}', r"its config\.json does not belong to a run"),
        ("config.json", '{"command": "fine', r"config\.json: not JSON"),
    ],
)
def test_directory_that_is_no_run_is_refused_and_left_alone(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        RunDirectory(tmp_path).open("finetune", Settings(tmp_path), FACTS)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, content)]


def test_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        RunDirectory(tmp_path / "run").open("finetune", Settings(tmp_path), FACTS)


def test_run_from_before_a_setting_came_goes_on_with_its_default(tmp_path: Path) -> None:
    """The settings of the loss used to be one top-level setting."""
    config = FinetuneConfig(data="reviews", out=tmp_path / "run", loss=LossConfig(lm_coef=0.25))
    run = RunDirectory(config.out)
    run.open("finetune", config, FACTS)
    written = run.settings()
    del written["format"]
    recorded = written["config"]
    recorded["lm_coef"] = recorded.pop("loss")["lm_coef"]
    for part, names in SINCE.items():
        for name in names:
            del (recorded[part] if part else recorded)[name]
    run.config_path.write_text(json.dumps(written))
    assert FinetuneConfig.from_dict(run.settings()["config"]) == replace(config, out=Path())
    run.open("finetune", config, FACTS)
    with pytest.raises(UserError, match=r"--lm-coef is 0\.25, not 0\.5"):
        run.open("finetune", replace(config, loss=LossConfig()), FACTS)
    with pytest.raises(UserError, match=r"--drop-last is False, not True"):
        run.open("finetune", replace(config, loop=LoopConfig(drop_last=True)), FACTS)


def test_run_of_a_later_version_is_refused_with_what_it_has_more(tmp_path: Path) -> None:
    config = FinetuneConfig(data="reviews", out=tmp_path / "run")
    run = RunDirectory(config.out)
    run.open("finetune", config, FACTS)
    written = run.settings()
    written["config"]["optim"]["lookahead"] = 5
    run.config_path.write_text(json.dumps(written))
    with pytest.raises(
        UserError, match=r"--out .*run: .* another version \(OptimConfig: unknown setting 'lookahead'\)"
    ):
        run.open("finetune", config, FACTS)


@pytest.mark.parametrize("name", [".DS_Store", ".config.json.partial"])
def test_hidden_files_do_not_make_a_directory_anothers(tmp_path: Path, name: str) -> None:
    """Files of a file browser, and leftovers of a crash."""
    (tmp_path / name).write_text("")
    run = RunDirectory(tmp_path)
    run.open("finetune", Settings(tmp_path), FACTS)
    assert run.started


# ---- the best model of a run

TOKENIZER = Tokenizer.from_vocab({"<unk>": 0, "a": 1, "b": 2, "a</w>": 3, "b</w>": 4, "\n</w>": 5}, [])
SHAPE = ModelConfig(
    n_layer=1, n_head=2, n_embd=8, n_ctx=16, vocab_size=TOKENIZER.vocab_size, head=Head("classification", 2)
)


def params(seed: int) -> Params:
    return initialise(SHAPE, seed)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Return a run whose best model has seed 1, and whose checkpoints of steps 4 and 8 have seeds 4 and 8."""
    run = RunDirectory(tmp_path)
    save_model(run.model, Model(SHAPE, params(1), TOKENIZER, ("no", "yes")))
    for step in (4, 8):
        moments = {f"{moment}.{name}": value for name, value in params(0).items() for moment in ("first", "second")}
        run.checkpoints.save(params(step) | moments, Progress(step=step))
    return run


def assert_seed(model: Model, seed: int) -> None:
    for name, value in params(seed).items():
        assert np.array_equal(model.params[name], value), name


def cut_weights(run: RunDirectory) -> None:
    os.truncate(run.model / "model.safetensors", 1_000)


def test_best_model_is_the_one_that_was_kept(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert_seed(run.load_model(), 1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", [cut_weights, lambda run: (run.model / "model.safetensors").unlink()])
def test_damaged_best_weights_are_replaced_by_the_newest_checkpoints(
    run: RunDirectory, damage: Callable[[RunDirectory], None], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run)
    loaded = run.load_model()
    assert_seed(loaded, 8)
    assert loaded.params.keys() == params(8).keys()
    assert loaded.label_names == ("no", "yes")
    said = capsys.readouterr().err
    assert "model.safetensors" in said
    assert "checkpoint at step 8" in said


def test_damaged_best_weights_and_newest_checkpoint_leave_the_one_before(run: RunDirectory) -> None:
    cut_weights(run)
    os.truncate(run.checkpoints.folder / "step-8" / "state.safetensors", 100)
    assert_seed(run.load_model(), 4)


def test_damaged_best_weights_without_a_checkpoint_are_an_error(run: RunDirectory) -> None:
    cut_weights(run)
    run.checkpoints.folder.rename(run.path / "elsewhere")
    with pytest.raises(CorruptFile, match=r"model\.safetensors: its sha256"):
        run.load_model()


@pytest.mark.parametrize("file", ["gpt1.json", "tokenizer.json"])
def test_no_checkpoint_stands_in_for_the_rest_of_the_model(
    run: RunDirectory, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (run.model / file).read_text()
    (run.model / file).write_text(content[:-20])
    with pytest.raises(CorruptFile, match=file):
        run.load_model()
    assert "Using the weights" not in capsys.readouterr().err


def test_crash_between_the_two_renames_of_the_best_model_is_undone(run: RunDirectory) -> None:
    run.model.rename(run.path / ".model.old")
    assert_seed(run.load_model(), 1)
    assert not (run.path / ".model.old").exists()


# ---- the log


def test_log_gives_back_what_was_written_in_any_alphabet(tmp_path: Path) -> None:
    """U+2028 is a line end for `str.splitlines`; lone surrogates occur in file names that are not UTF-8."""
    values = {
        "note": "Prüfung \u2028 \u0085 检验\n",
        "name": "caf\udce9",
        "loss": 0.1,
        "deep": {"steps": [1, 2.5, None]},
    }
    log = RunLog(tmp_path / "log.jsonl")
    log.write("start", values)
    log.write("end", {})
    first, last = event_log.read(log.path)
    assert {name: value for name, value in first.items() if name != "time"} == {"event": "start", **values}
    assert last["event"] == "end"


def test_log_stays_json_where_a_number_is_none(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.write("train", {"loss": math.nan, "interval": (-math.inf, 1.0), "metrics": {"pearson": math.inf}})
    (event,) = [json.loads(line, parse_constant=pytest.fail) for line in log.path.read_text().splitlines()]
    assert (event["loss"], event["interval"], event["metrics"]) == (None, [None, 1.0], {"pearson": None})


def test_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    for step in range(3):
        log.write("train", {"step": step})
    log.path.write_bytes(log.path.read_bytes()[:-9])
    assert [event["step"] for event in event_log.read(log.path)] == [0, 1]
    assert event_log.read_with_gaps(log.path)[1] == [3]
    log.write("train", {"step": 3})
    assert [event["step"] for event in event_log.read(log.path)] == [0, 1, 3], "the next event is on a new line"


# ---- gpt1 finetune

STEPS = 48
FLAGS = [
    "--model", "random:tiny", "--vocab-size", "64", "--max-length", "16", "--epochs", "4", "--batch-size", "4",
    "--micro-batch-size", "3", "--lr", "0.003", "--eval-every", "5", "--save-every", "3", "--log-every", "2",
    "--no-baseline", "--json",
]  # fmt: skip
WORDS = {"good": "bright calm kind warm", "bad": "bleak cold harsh grim", "": "the a room film day was and it very so"}


def write_data(folder: Path, *, seed: int = 0) -> Path:
    """Texts of random words, some of which are correlated with the label."""
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    for split, size in (("train", 48), ("valid", 16), ("test", 16)):
        rows = []
        for number in range(size):
            label = ("good", "bad")[number % 2]
            words = WORDS[label].split() + WORDS[""].split() * 2
            rows.append({"text": " ".join(draw.choices(words, k=draw.randint(3, 18))), "label": label})
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@dataclass
class Command(RunCommand):
    """Command `gpt1 finetune` with its own output directory."""

    data: Path
    out: Path
    dtype: str = "float32"

    def __post_init__(self) -> None:
        self.argv = ["finetune", "--data", str(self.data), "--out", str(self.out), "--dtype", self.dtype, *FLAGS]
        self.run = RunDirectory(self.out)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Command, Any]:
    """An uninterrupted run and its results."""
    if not backends.installed():
        pytest.skip("no framework is installed")
    folder = tmp_path_factory.mktemp("finished")
    command = Command(write_data(folder / "data"), folder / "run")
    return command, command.here()


def test_killed_run_goes_on_bit_for_bit(finished: tuple[Command, Any], tmp_path: Path) -> None:
    """The run is killed at a random time, which is printed if the test fails."""
    uninterrupted, results = finished
    command = Command(uninterrupted.data, tmp_path / "run")
    step, pause = random.randint(4, STEPS // 2), random.uniform(0.0, 0.02)
    process = command.process()
    command.wait_for_step(process, step)
    time.sleep(pause)
    process.kill()
    process.communicate()
    checkpoints = [path.name for path in command.run.checkpoints.paths()]
    print(f"killed {pause:.4f} s after step {step} was logged; checkpoints: {checkpoints}")
    assert not command.run.finished
    assert command.here() == results
    assert [f"step-{step}" for step in command.resumed()] == checkpoints[:1]
    assert_same_outcome(outcome(command.run), outcome(uninterrupted.run))


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot stop a process for a while")
def test_a_run_that_another_process_is_at_is_left_alone(
    finished: tuple[Command, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uninterrupted, results = finished
    command = Command(uninterrupted.data, tmp_path / "run")
    process = command.process()
    command.wait_for_step(process, 4)
    process.send_signal(signal.SIGSTOP)
    assert cli.main(command.argv) == 2
    assert f"--out {command.out}: another process is writing to it" in capsys.readouterr().err
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=PATIENCE)
    assert read_json(command.run.metrics_path) == results
    assert command.here() == results, "any number of processes can read a finished run"


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send Ctrl-C to one process")
def test_ctrl_c_saves_exits_with_130_and_the_same_command_goes_on(
    finished: tuple[Command, Any], tmp_path: Path
) -> None:
    uninterrupted, results = finished
    command = Command(uninterrupted.data, tmp_path / "run")
    process = command.process()
    command.wait_for_step(process, 7)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    assert "run the same command again to resume" in said
    assert "Traceback" not in said
    last_step = max(event.get("step", 0) for event in event_log.read(command.run.log.path))
    assert command.run.checkpoints.paths()[0].name == f"step-{last_step}"
    assert command.here() == results
    assert command.resumed() == [last_step]
    assert_same_outcome(outcome(command.run), outcome(uninterrupted.run))


def test_finished_run_is_not_trained_again_and_gives_the_same_results(
    finished: tuple[Command, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    command, results = finished
    before = outcome(command.run)
    monkeypatch.setattr(backends, "get", lambda *args, **kwargs: pytest.fail("an engine was asked for"))
    assert command.here() == results == read_json(command.run.metrics_path)
    assert_same_outcome(outcome(command.run), before)


def test_best_model_is_the_one_that_is_scored(finished: tuple[Command, Any]) -> None:
    command, results = finished
    evaluations = [event for event in event_log.read(command.run.log.path) if event["event"] == "evaluate"]
    best = max(evaluations, key=lambda event: event["accuracy"])
    assert [event["step"] for event in evaluations] == sorted({*range(5, STEPS, 5), *range(12, STEPS + 1, 12)})
    assert results["valid"]["accuracy"] == best["accuracy"]
    assert read_json(command.run.model / "gpt1.json")["provenance"]["step"] == best["step"]
    assert {split: results[split]["examples"] for split in ("valid", "test")} == {"valid": 16, "test": 16}


@pytest.mark.parametrize(
    ("flags", "difference"),
    [
        (["--lr", "0.004"], r"--lr is 0\.003, not 0\.004"),
        (["--batch-size", "8"], r"--batch-size is 4, not 8"),
        (["--seed", "1"], "seed is 0, not 1"),
    ],
)
def test_other_settings_are_refused_and_lose_nothing(
    finished: tuple[Command, Any], flags: list[str], difference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command, _ = finished
    before = outcome(command.run)
    assert cli.main([*command.argv, *flags]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gpt1: ")]
    assert "contains a different run" in line
    assert re.search(difference, line)
    assert_same_outcome(outcome(command.run), before)


def test_changed_data_is_refused_and_loses_nothing(
    finished: tuple[Command, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, _ = finished
    before = outcome(command.run)
    train = command.data / "train.jsonl"
    content = train.read_text()
    train.write_text(content.replace('"good"', '"bad"', 1))
    try:
        assert cli.main(command.argv) == 2
    finally:
        train.write_text(content)
    assert "its train data differs" in capsys.readouterr().err
    assert_same_outcome(outcome(command.run), before)


def test_own_metric_chooses_the_best_model(finished: tuple[Command, Any], tmp_path: Path) -> None:
    """Decreases with every call, so that the first evaluation is the best (larger is better)."""
    calls = count()

    def falling(labels: Any, predictions: Any) -> float:
        return -float(next(calls))

    config = FinetuneConfig(
        data=str(finished[0].data), out=tmp_path / "run", model="random:tiny", vocab_size=64, baseline=False,
        loop=LoopConfig(max_steps=5, batch_size=4, eval_every=2), optim=OptimConfig(lr=0.003),
    )  # fmt: skip
    results = finetune(config, falling)
    run = RunDirectory(config.out)
    evaluations = [event for event in event_log.read(run.log.path) if event["event"] == "evaluate"]
    assert [(event["step"], event["metric"]) for event in evaluations] == [(step, "falling") for step in (2, 4, 5)]
    provenance = read_json(run.model / "gpt1.json")["provenance"]
    assert (provenance["step"], provenance["validation"]) == (2, evaluations[0]["falling"])
    assert results["test"]["falling"] < evaluations[-1]["falling"]
