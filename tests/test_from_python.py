"""gpt1.finetune and gpt1.evaluate on data in memory, beside the command. Run: pytest tests/test_from_python.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import gpt1
from gpt1 import api
from gpt1.backends.dist import ProcessRank
from gpt1.checkpoint.run_dir import RunDirectory
from gpt1.config import Columns
from gpt1.config.overrides import named_as_in_python
from gpt1.errors import UserError
from gpt1.training import from_python
from support.labelled_files import error_of
from support.sample_runs import file_digests, labelled

pytest.importorskip("torch", reason="data and settings do not depend on the backend")

FRAME = pl.DataFrame(labelled(60), ["review", "verdict"], orient="row")
COLUMNS: dict[str, Any] = {"text": "review", "label": "verdict"}
TINY: dict[str, Any] = {"model": "random:tiny", "dtype": "float32", "max_steps": 4, "baseline": False}
FILE = "reviews.csv"
VOLATILE = {"origin", "seconds"}


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def weights(run: str) -> bytes:
    return Path(run, "model", "model.safetensors").read_bytes()


def scores(results: Any) -> Any:
    """Return the results without what names the file or the time."""
    if isinstance(results, dict):
        return {key: scores(value) for key, value in results.items() if key not in VOLATILE}
    return [scores(each) for each in results] if isinstance(results, list) else str(results).replace("data.jsonl", FILE)


def test_a_dataframe_gives_the_run_of_the_command_on_its_file() -> None:
    FRAME.write_csv(FILE)
    config = gpt1.recipe("quickstart", data=FILE, out="file", **COLUMNS, **TINY)
    of_file = api.finetune(config)
    of_frame = gpt1.finetune(FRAME, recipe="quickstart", out="frame", **COLUMNS, **TINY)
    assert scores(of_frame) == scores(of_file)
    assert weights("frame") == weights("file")
    assert {path.name for path in Path("frame").iterdir()} - {path.name for path in Path("file").iterdir()} == {
        "data.jsonl"
    }


def test_the_command_resumes_the_run_from_its_saved_data() -> None:
    gpt1.finetune(FRAME, out="run", **COLUMNS, **TINY)
    settings = gpt1.recipe(data="run/data.jsonl", out="run", **COLUMNS, **TINY)
    RunDirectory(Path("run")).require_same("finetune", settings)
    assert api.finetune(settings)["test"]["examples"] == 6


def test_an_interrupted_run_is_resumed_by_the_same_call() -> None:
    class Killed(Exception):
        pass

    def kill(event: dict[str, Any]) -> None:
        if event["event"] == "evaluate":
            raise Killed

    settings = COLUMNS | TINY | {"eval_every": 2}
    with pytest.raises(Killed):
        gpt1.finetune(FRAME, out="run", on_event=kill, **settings)
    gpt1.finetune(FRAME, out="run", **settings)
    gpt1.finetune(FRAME, out="uninterrupted", **settings)
    assert weights("run") == weights("uninterrupted")


def test_other_data_is_refused_and_the_run_stays_as_it_was() -> None:
    gpt1.finetune(FRAME, out="run", **COLUMNS, **TINY)
    before = file_digests(Path("run"))
    for data, labels in ((FRAME.head(50), None), (FRAME["review"], FRAME["verdict"])):
        message = error_of(lambda: gpt1.finetune(data, labels, out="run", **COLUMNS, **TINY))  # noqa: B023
        assert message.startswith("out=run: contains data.jsonl, which differs from the data given; choose a new")
    splits = {"train": FRAME, "test": FRAME.head(9)}
    assert error_of(lambda: gpt1.finetune(splits, out="run", **COLUMNS, **TINY)).startswith("out=run: contains a diff")
    assert file_digests(Path("run")) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": "fast"}, "lr='fast': expected a number"),
        ({"lr": -1}, "lr=-1.0: expected a positive number"),
        ({"epochs": [3]}, "epochs=[3]: expected a number or None"),
        ({"learning_rate": 1e-4}, "learning_rate: unknown setting; did you mean lr?"),
        ({"dtype": "fp16"}, "dtype='fp16': expected one of auto, float32, bfloat16, float16; did you mean float16?"),
        ({"label": 3}, "label=3: expected a string or None"),
        ({"label": "verdikt"}, "label=verdikt: no such column in data.jsonl; its columns are review, verdict; did you"),
        ({"label_map": {"nice": "good"}}, "label_map: no row has the label nice"),
        ({"text": None, "text_a": "review"}, "text_a and text_b must be set together"),
        ({"recipe": "quick"}, "recipe=quick: unknown; expected one of paper-finetune, "),
        ({"model": "nothing/here/at/all"}, "model=nothing/here/at/all: "),
        ({"out": "file.txt"}, "out=file.txt: is a file; choose a new directory"),
        ({"out": "folder"}, "out=folder: contains mine.txt and is not a run; choose a new directory"),
    ],
)
def test_invalid_input_is_one_line_and_writes_nothing(settings: dict[str, Any], message: str) -> None:
    Path("file.txt").write_text("mine")
    Path("folder").mkdir()
    Path("folder", "mine.txt").write_text("mine")
    before = file_digests(Path())
    given = COLUMNS | TINY | {"tokenizer": "mini", "out": "run"} | settings
    assert message in error_of(lambda: gpt1.finetune(FRAME, **given))
    assert file_digests(Path()) == before
    assert not Path("run").exists()


def test_the_directory_is_required_and_labels_belong_to_lists() -> None:
    assert error_of(lambda: gpt1.finetune(FRAME)) == (
        'out is missing: the directory of the run, for example out="runs/first"'
    )
    Path("runs", "first").mkdir(parents=True)
    assert error_of(lambda: gpt1.finetune(FRAME)).endswith('for example out="runs/first-2"')
    assert error_of(lambda: gpt1.finetune("reviews", ["a"], out="run")).startswith("labels: not used with 'reviews'")


def test_several_columns_are_a_list_new_labels_a_dict_and_numbers_may_be_numpys() -> None:
    frame = FRAME.with_columns(title=pl.lit("A title"))
    results = gpt1.finetune(
        frame, text=["title", "review"], label="verdict", label_map={"bad": "poor"}, out="run",
        **TINY | {"max_steps": np.int64(2), "lr": np.float32(0.5)},
    )  # fmt: skip
    assert results["test"]["labels"] == ["good", "poor"]
    config = RunDirectory(Path("run")).settings()["config"]
    assert (config["columns"]["text"], config["columns"]["label_map"]) == ("title,review", "bad=poor")
    assert (config["loop"]["max_steps"], config["optim"]["lr"]) == (2, 0.5)


def test_all_settings_can_be_given_as_data_or_as_recipe() -> None:
    config = gpt1.recipe("quickstart", out="run", **COLUMNS, **TINY)
    assert gpt1.finetune(FRAME, recipe=config, seed=3)["test"]["examples"] == 6
    assert RunDirectory(Path("run")).settings()["config"]["loop"]["seed"] == 3
    bundled = gpt1.recipe("quickstart", data="reviews", tokenizer="mini", max_examples=20, out="bundled", **TINY)
    assert gpt1.finetune(bundled)["test"]["examples"] == 20


def test_a_metric_is_a_function_or_its_name() -> None:
    def share(labels: Any, predictions: Any) -> float:
        return float((labels == predictions).mean())

    results = gpt1.finetune(FRAME, metric=share, out="function", **COLUMNS, **TINY)
    assert results["test"]["share"] == results["test"]["accuracy"]
    assert "no_such_module" in error_of(lambda: gpt1.finetune(FRAME, metric="no_such_module:f", out="name", **COLUMNS))


def test_a_model_is_scored_on_data_in_memory_by_the_columns_of_its_run() -> None:
    gpt1.finetune(FRAME, out="run", **COLUMNS, **TINY)
    FRAME.head(20).write_csv("new.csv")
    expected = gpt1.evaluate("run", "new.csv")
    of_lists = gpt1.evaluate("run", FRAME["review"].head(20).to_list(), FRAME["verdict"].head(20))
    for results in (gpt1.evaluate("run", FRAME.head(20)), of_lists):
        assert scores(results["test"]) == scores(expected["test"])
    logged = [json.loads(line) for line in Path("run", "log.jsonl").read_text().splitlines()]
    assert [event["data"] for event in logged if event["event"] != "start" and "data" in event] == [
        "new.csv",
        "data in memory",
        "data in memory",
    ]
    assert error_of(lambda: gpt1.evaluate("run", FRAME["review"])).startswith("data is a Series without labels")


def test_settings_of_the_data_are_keywords_of_evaluate_and_messages_name_them() -> None:
    gpt1.finetune(FRAME, out="run", **COLUMNS, **TINY)
    frame = FRAME.head(20).rename({"verdict": "stars"}).with_columns(stars=(pl.col("stars") == "good").cast(int))
    frame.write_csv("new.csv")
    advice = error_of(lambda: gpt1.evaluate("run", "new.csv", label="stars")).rpartition("for example ")[2]
    assert advice == 'label_map="0=bad,1=good"'
    found = gpt1.evaluate("run", "new.csv", label="stars", label_map={"0": "bad", "1": "good"}, on_bad_row="skip")
    assert scores(found) == scores(gpt1.evaluate("run", FRAME.head(20)))
    with_columns = gpt1.evaluate("run", frame, columns=Columns(label="stars"), label_map="0=bad,1=good")
    assert scores(with_columns) == scores(found)
    assert error_of(lambda: gpt1.evaluate("run", frame, labell="x")).startswith(
        "labell: unknown setting; did you mean l"
    )


@pytest.mark.parametrize(
    ("message", "in_python"),
    [
        ("--label-map: no row has the label x", "label_map: no row has the label x"),
        ("rename, as in --label-map '0=not good'", 'rename, as in label_map="0=not good"'),
        ("did you mean --text body --label stars?", 'did you mean text="body", label="stars"?'),
        ("select one with --label, or --text-a", "select one with label, or text_a"),
        ("--fold-labels merges them, --no-header --text 2", 'fold_labels=True merges them, header=False, text="2"'),
        ("set another --delimiter or --quoting", "set another delimiter or quoting"),
        ("a text with --text-column b", "a text with --text-column b"),
    ],
)
def test_flags_in_messages_are_arguments_in_python(message: str, in_python: str) -> None:
    def fail() -> None:
        with named_as_in_python():
            raise UserError(message)

    assert error_of(fail) == in_python


def test_two_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_python, "process_rank", lambda: ProcessRank(1, 2, launcher="torchrun"))
    message = error_of(lambda: gpt1.finetune(FRAME, out="run", **COLUMNS, **TINY))
    assert message == "data in memory: torchrun started 2 processes; save it to a file and give its path"
    assert not Path("run").exists()
