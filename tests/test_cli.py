"""Every command and every bad input, as a person types them. Run: pytest tests/test_cli.py"""

from __future__ import annotations

import contextlib
import csv
import errno
import gzip
import hashlib
import io
import json
import math
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt1 import api
from gpt1.backends.parameters import initialise
from gpt1.checkpoint import event_log
from gpt1.checkpoint.model_dir import Model, load_model, save_model
from gpt1.cli import main
from gpt1.config import FinetuneConfig, LoopConfig, ModelConfig
from gpt1.data.dataset import Columns
from gpt1.inference import batch_prediction

torch = pytest.importorskip("torch")

ROUNDING = 1e-6
"""Probabilities of one text in float32 do not depend on its neighbours, but for the order of sums."""
WINDOW_ROUNDING = 1e-5
"""The same for log-probabilities, which are larger."""

TINY = ["--model", "random:tiny", "--dtype", "float32"]
QUICK = [*TINY, "--batch-size", "8", "--epochs", "1", "--no-baseline"]

GOOD = ("a warm and funny story", "lovely light and lovely people", "what a delight to read it")
BAD = ("a dull and noisy story", "cold dirty rooms and rude people", "what a waste of my time")


def labelled(count: int = 40) -> list[tuple[str, str]]:
    return [(f"{(BAD, GOOD)[i % 2][i // 2 % 3]}, said number {i}", ("bad", "good")[i % 2]) for i in range(count)]


def table(*rows: tuple[str, ...], header: str = "text,label") -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return f"{header}\n{text.getvalue()}"


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        [line] = self.out.splitlines()
        return json.loads(line, parse_constant=pytest.fail)

    @property
    def rows(self) -> list[Any]:
        return [json.loads(line, parse_constant=pytest.fail) for line in self.out.splitlines()]


def gpt1(*words: object) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Outcome(code, out.getvalue(), err.getvalue())


def done(*words: object) -> Outcome:
    outcome = gpt1(*words)
    assert outcome.code == 0, outcome.err
    return outcome


NOTICE = re.compile(
    r"(valid|test): [\d,]+ of [\d,]+ rows drawn|Columns not used|.*: all of its rows are scored"
    r"|.*: the run was trained on this file|[\d,]+ examples; cpu|.*: cpu \(\d+ threads?\)|classification \(2 labels\)"
    r"|random:tiny: 0.1 M parameters|(train|valid|test): [\d,]+ (of [\d,]+ )?examples (repeat|also stand)|step 1  valid"
)
"""What a person may have been told before the line about the input."""


def assert_refused(outcome: Outcome, *said: str, notices: bool = False) -> None:
    """One clear line, the last one; exit code 2; nothing on stdout."""
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    *before, last = outcome.err.splitlines()
    assert last.startswith("gpt1: ")
    for words in said:
        assert words in last
    assert [line for line in before if not (notices and NOTICE.match(line))] == []


FILES: dict[str, str | bytes] = {
    "reviews.csv": table(*labelled()),
    "new.csv": table(*((text, "") for text, _ in labelled(23)[::-1])),
    "pairs.jsonl": lines(
        *(
            {"text_a": a, "text_b": b, "label": (len(a) * 7 + i) % 50 / 10}
            for i, (a, b) in enumerate(zip(GOOD * 8, BAD * 8, strict=True))
        )
    ),
    "choices.jsonl": lines(
        *(
            {"context": a, "choices": [b, a], "label": i % 2}
            for i, (a, b) in enumerate(zip(GOOD * 8, BAD * 8, strict=True))
        )
    ),
    "other-names.csv": table(*labelled(), header="body,verdict"),
    "empty.csv": "",
    "header.csv": "text,label\n",
    "columns.csv": table(("1", "2"), header="first,second"),
    "blank.csv": table(*labelled(6), ("   ", "good")),
    "one-label.csv": table(*((text, "good") for text, _ in labelled())),
    "all-different.csv": table(*((text, f"label {i}") for i, (text, _) in enumerate(labelled()))),
    "latin.csv": b"text,label\na fine caf\xe9,good\n",
    "broken.jsonl": '{"text": "fine", "label": 1}\n{"text": "fine", "label"\n',
    "short.csv": table(*labelled(4)) + "a text alone\n",
    "nan.jsonl": '{"text": "fine", "label": 0.5}\n{"text": "fine", "label": NaN}\n',
    "mixed.jsonl": lines(
        {"context": "a", "choices": ["b", "c"], "label": 0}, {"context": "a", "choices": ["b", "c", "d"], "label": 0}
    ),
    "unseen/train.csv": table(*labelled(20)),
    "unseen/test.csv": table(("fine", "good"), ("so-so", "mixed")),
    "notes.txt": "\n".join(text for text, _ in labelled()) + "\n",
    "metrics_of_mine.py": (
        "import signal\n"
        "calls = 0\n"
        "def share(labels, predictions):\n"
        "    return float((labels == predictions).mean())\n"
        "accuracy = share\n"
        "def not_a_number(labels, predictions):\n"
        "    return float('nan')\n"
        "def stop_in_training(labels, predictions):\n"
        "    global calls\n"
        "    calls += 1\n"
        "    if calls == 2:  # the first call is the check before the training\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    return 1.0\n"
    ),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files, and a finished run of each kind of task."""
    folder = tmp_path_factory.mktemp("world")
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with contextlib.chdir(folder):
        done("finetune", "--data", "reviews.csv", "--out", "run", *QUICK, "--epochs", "2", "--baseline")
        done("finetune", "--data", "pairs.jsonl", "--out", "grades", *QUICK)
        done("finetune", "--data", "choices.jsonl", "--out", "endings", *QUICK)
    return folder


@pytest.fixture(autouse=True)
def _here(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)


def content(folder: Path) -> dict[str, str]:
    """The digest of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# ---- finetune


def test_a_run_leaves_model_scores_log_curves_and_report() -> None:
    run = Path("run")
    assert {path.name for path in run.iterdir()} == {
        "config.json", "log.jsonl", "checkpoints", "tokenizer", "model", "metrics.json", "curves.svg", "report.html",
    }  # fmt: skip
    results = json.loads((run / "metrics.json").read_text())
    assert set(results) == {"valid", "test", "baseline", "baseline_split"}
    figures = {"loss", "accuracy", "f1", "matthews", "examples", "interval", "confusion_matrix", "mistakes"}
    assert figures <= set(results["test"])
    assert set(results["baseline"]) == {"TF-IDF + logistic regression", "majority class"}
    assert all({"accuracy", "interval"} <= set(row) for row in results["baseline"].values())


def test_a_finished_run_shows_its_results_again_and_trains_no_more() -> None:
    before = content(Path("run"))
    words = ["finetune", "--data", "reviews.csv", "--out", "run", *QUICK, "--epochs", "2", "--baseline"]
    again = done(*words, "--json")
    assert again.json == json.loads(Path("run/metrics.json").read_text())
    assert "run is finished; its results:" in again.err
    assert "GPT-1" in again.err
    assert "majority class" in again.err
    silent = done(*words)
    assert silent.out == ""
    assert content(Path("run")) == before


def test_what_is_printed_is_one_json_document_and_it_is_metrics_json(tmp_path: Path) -> None:
    """A nan, which JSON has no word for, is null there."""
    metric = "metrics_of_mine:not_a_number"
    outcome = done("finetune", "--data", "reviews.csv", "--out", tmp_path / "run", *QUICK, "--metric", metric, "--json")
    assert outcome.json["test"]["not_a_number"] is None
    assert outcome.json["test"]["interval"]["not_a_number"] == [None, None]
    assert outcome.json["baseline"] == {}
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
    assert stopped.err.splitlines()[-1] == "gpt1: stopped; the same command goes on from here"
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
    words = ["finetune", "--data", "reviews.csv", "--out", tmp_path / "run", *QUICK, "--lr", "1e30", "--clip", "0"]
    assert_refused(gpt1(*words), " at step ", "no checkpoint had been written yet. Try a lower --lr", notices=True)


def test_a_run_goes_on_from_the_model_of_another(tmp_path: Path) -> None:
    words = ["finetune", "--data", "reviews.csv", "--out", tmp_path / "run", *QUICK, "--model", "run"]
    assert "run: 0.1 M parameters" in done(*words).err
    assert content(tmp_path / "run" / "tokenizer").items() <= content(Path("run/model")).items()


# ---- bad data, flags and names


BAD_DATA = {
    "missing file": (["--data", "gone.csv"], "--data gone.csv: there is no such file or folder"),
    "unknown data set": (
        ["--data", "imbd"],
        "--data imbd: there is no such file or folder; expected a path, a data set",
    ),
    "empty file": (["--data", "empty.csv"], "empty.csv is empty (0 bytes)"),
    "header alone": (["--data", "header.csv"], "header.csv has no rows below its header line"),
    "wrong columns": (["--data", "columns.csv"], "columns.csv: no column for text (usual names: text, sentence"),
    "missing label": (["--data", "columns.csv", "--text", "first"], "columns.csv: no column for label"),
    "unknown column": (["--data", "reviews.csv", "--text", "body"], "--text body: no such column in reviews.csv"),
    "columns of another task": (["--data", "reviews.csv", "--task", "entailment"], "no column for text_a and text_b"),
    "empty text": (["--data", "blank.csv"], "blank.csv row 7 (line 8): 'text' is empty"),
    "one label": (["--data", "one-label.csv"], "every training example has the label 'good' (first: one-label.csv row"),
    "all different": (["--data", "all-different.csv"], "32 different labels in 32 training examples"),
    "unseen label": (
        ["--data", "unseen"],
        "test.csv row 2 (line 3): label 'mixed' does not occur in the training split",
    ),
    "not UTF-8": (["--data", "latin.csv"], "latin.csv row 1 (line 2): byte 0xe9 at offset 21 is not UTF-8"),
    "malformed JSON": (["--data", "broken.jsonl"], "broken.jsonl row 2: not JSON"),
    "short row": (["--data", "short.csv"], "short.csv row 5 (line 6): cells: 1, expected 2 (text, label)"),
    "NaN label": (["--data", "nan.jsonl"], "nan.jsonl row 2: no label in column 'label' (found nan)"),
    "mixed choices": (["--data", "mixed.jsonl"], "mixed.jsonl row 2: 3 choices, expected 2 as in the rows before"),
    "no data": ([], "--data is missing: a folder, a file"),
}

BAD_VALUES = {
    "unknown flag": (["--learning-rate", "1"], "unknown: --learning-rate 1; see gpt1 finetune --help"),
    "stray word": (["quickly"], "unknown: quickly"),
    "unknown recipe": (["--recipe", "bert"], "--recipe bert: unknown; there are paper-finetune, "),
    "unknown choice": (["--schedule", "step"], "--schedule step: expected one of constant, cosine, linear"),
    "unknown task": (
        ["--task", "ranking"],
        "--task ranking: no such task; there are classification, entailment, similarity, ",
    ),
    "no number": (["--lr", "abc"], "--lr: could not convert string to float: 'abc'; see gpt1 finetune --help"),
    "no whole number": (["--batch-size", "2.5"], "--batch-size: invalid literal for int() with base 10: '2.5'"),
    "no value": (["--lr"], "--lr: a value is missing"),
    "epochs": (["--epochs", "0"], "--epochs 0.0: expected a positive number"),
    "rate": (["--lr", "-1"], "--lr -1.0: expected a positive number"),
    "rate nan": (["--lr", "nan"], "--lr nan: expected a positive number"),
    "batch size": (["--batch-size", "-1"], "--batch-size -1: expected 1 or more"),
    "dropout": (["--attn-pdrop", "1"], "--attn-pdrop 1.0: expected a probability in [0, 1)"),
    "lambda": (["--lm-coef", "-1"], "--lm-coef -1.0: expected zero or more"),
    "seed": (["--seed", "-1"], "--seed -1: expected 0 to 4,294,967,295"),
    "LM mean": (["--lm-mean", "text"], "--lm-mean text: expected one of sequence, token"),
    "cut": (["--cut", "third"], "--cut third: expected one of half, longest"),
    "limit": (["--limit", "1"], "--limit 1: expected 2 or more"),
    "short": (["--max-length", "3"], "--max-length 3: expected 8 or more"),
    "fraction": (["--valid-fraction", "1.5"], "--valid-fraction 1.5: expected a number in (0, 1)"),
    "no out": (["--out", "."], "--out is missing: the directory of the run"),
    "metric without function": (["--metric", "mine"], "--metric mine: expected package.module:function"),
    "metric without module": (["--metric", "no.such:f"], "--metric no.such:f: importing no.such failed"),
    "unknown metric": (["--metric", "math:foo"], "--metric math:foo: module math has no function 'foo'"),
    "revision of local files": (["--revision", "v1"], "--revision v1: neither --model nor --data is a name of the hub"),
}

BAD_MODELS = {
    "unknown size": (
        ["--model", "random:huge"],
        "--model random:huge: unknown size; there are random:gpt1, random:mini",
    ),
    "unknown model": (["--model", "bert"], "--model bert: there is no such directory"),
    "no model": (["--model", "unseen"], "unseen: no model directory"),
    "no whole batch": (
        ["--drop-last", "--batch-size", "64"],
        "--drop-last: 32 training examples make no whole batch of 64",
    ),
    "long": (["--max-length", "4000"], "--max-length 4000: the model's context has 512 tokens"),
    "vocabulary": (["--vocab-size", "3"], "--vocab-size 3: expected at least"),
    "vocabulary of a model": (["--model", "run", "--vocab-size", "90"], "--vocab-size 90: run has its own vocabulary"),
    "two vocabularies": (["--tokenizer", "run/tokenizer", "--vocab-size", "90"], "--vocab-size 90: --tokenizer brings"),
    "no tokenizer": (["--tokenizer", "unseen"], "unseen"),
    "metric that fails": (["--metric", "math:isqrt"], "--metric math:isqrt: TypeError"),
    "metric of a known name": (
        ["--metric", "metrics_of_mine:accuracy"],
        "--metric accuracy: the name of a built-in metric",
    ),
    "out is a file": (["--out", "reviews.csv"], "reviews.csv"),
    "out below a file": (["--out", "reviews.csv/run"], "reviews.csv/run"),
    "out holds files": (["--out", "unseen"], "--out unseen: holds test.csv and is no run; choose a new directory"),
}


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new"


@pytest.mark.parametrize(("flags", "said"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_is_one_line_before_anything_is_written(new: Path, flags: list[str], said: str) -> None:
    before = content(Path())
    assert_refused(gpt1("finetune", "--out", new, *TINY, *flags), said, notices=flags == ["--data", "unseen"])
    assert content(Path()) == before
    assert not new.exists()


@pytest.mark.parametrize(("flags", "said"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_a_bad_flag_is_one_line_before_anything_is_read(new: Path, flags: list[str], said: str) -> None:
    assert_refused(gpt1("finetune", "--data", "reviews.csv", "--out", new, *TINY, *flags), said)
    assert not new.exists()


@pytest.mark.parametrize(("flags", "said"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_a_bad_model_or_place_is_one_line_before_anything_is_written(new: Path, flags: list[str], said: str) -> None:
    before = content(Path())
    assert_refused(gpt1("finetune", "--data", "reviews.csv", "--out", new, *TINY, *flags), said, notices=True)
    assert content(Path()) == before
    assert not new.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "finetun",
            "'finetun' is no command; there are finetune, pretrain, sweep, prepare, evaluate, predict, explain, "
            "score, ",
        ),
        ("--verbose", "'--verbose' is no command"),
        ("tokenizer learn", "'learn' is no command; there are train, encode, decode; see gpt1 tokenizer --help"),
        ("evaluate run", "missing: --data; see gpt1 evaluate --help"),
        ("evaluate", "missing: "),
        ("predict", "missing: "),
        ("tokenizer decode", "missing: "),
        ("predict run fine --dtype float8", "--dtype float8: expected one of auto, bfloat16, float16, float32"),
        ("predict run fine --device tpu", "--device tpu: expected one of"),
        ("score run fine --backend jax", "--backend jax: expected one of auto, mindspore, torch"),
        ("evaluate run --data reviews.csv --limit x", "--limit: no type matching {None}|INT could be instantiated"),
        ("tokenizer decode run one", "ids: "),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_line(words: str, said: str) -> None:
    assert_refused(gpt1(*words.split()), said)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--device", "ascend"], "--device ascend: needs the MindSpore backend"),
        (["--device", "cpu", "--dtype", "float16"], "--dtype float16: only for inference on --device cuda"),
        (["--device", "cpu", "--compile"], "--compile: works on --device cuda"),
        pytest.param(
            ["--device", "cuda"], "--device cuda: PyTorch sees no CUDA device; use --device cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here"),
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "words",
    [
        ["finetune", "--data", "reviews.csv", *QUICK],
        ["predict", "run", "fine"],
        ["evaluate", "run", "--data", "new.csv"],
    ],
    ids=lambda words: words[0],
)
def test_hardware_that_is_not_there_is_one_line(new: Path, words: list[str], flags: list[str], said: str) -> None:
    out = ["--out", new] if words[0] == "finetune" else []
    assert_refused(gpt1(*words, *out, *flags), said, notices=True)


def test_bfloat16_on_an_old_gpu_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    outcome = gpt1("predict", "run", "fine", "--device", "cuda", "--dtype", "bfloat16")
    assert_refused(outcome, "--dtype bfloat16: Tesla T4 has compute capability 7.5, 8.0 or newer is needed")


@pytest.fixture
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    for variable in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.usefixtures("_no_network")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["finetune", "--data", "sst2"], "--data sst2"),
        (["finetune", "--data", "reviews.csv", "--model", "openai-gpt"], "--model openai-gpt"),
        (["evaluate", "run", "--data", "imdb"], "--data imdb"),
    ],
)
def test_a_hub_name_without_a_network_says_the_command_that_works(new: Path, words: list[str], said: str) -> None:
    outcome = gpt1(*words, *(["--out", new] if words[0] == "finetune" else []))
    assert_refused(outcome, f"{said}: no such path, not in the cache, and http", "run `hf download ", notices=True)
    assert not new.exists()


def test_a_directory_of_another_run_is_left_as_it_is() -> None:
    before = content(Path("run"))
    words = ["finetune", "--data", "reviews.csv", "--out", "run", *QUICK, "--baseline"]
    assert_refused(
        gpt1(*words, "--epochs", "3"),
        "--out run: holds a different run",
        "epochs 2.0 there, 3.0 asked for",
        notices=True,
    )
    other = gpt1(
        "finetune", "--data", "other-names.csv", "--text", "body", "--label", "verdict", "--out", "run", *QUICK
    )
    assert_refused(other, "--out run: holds a different run", notices=True)
    assert content(Path("run")) == before


# ---- damaged files


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A run of one's own to damage."""
    return Path(shutil.copytree("run", tmp_path / "copy"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize(
    "words", [["predict", "{}", "fine"], ["score", "{}", "fine story"]], ids=lambda words: words[0]
)
def test_damaged_weights_of_a_run_are_replaced_by_its_checkpoint_and_it_is_said(
    copy: Path, damage: Callable[[Path], None], words: list[str]
) -> None:
    damage(copy / "model" / "model.safetensors")
    outcome = done(*(word.format(copy) for word in words))
    assert "model.safetensors: its sha256 is not the one in gpt1.json; the file is damaged or cut off" in outcome.err
    assert "Using the weights of the checkpoint at step 8 instead." in outcome.err
    assert outcome.out


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_damaged_model_directory_is_refused(copy: Path, damage: Callable[[Path], None], file: str) -> None:
    damage(copy / "model" / file)
    said = f"{file}: its sha256 is not the one in gpt1.json; the file is damaged or cut off"
    assert_refused(gpt1("predict", copy / "model", "fine"), said)
    words = ["finetune", "--data", "reviews.csv", "--out", copy.parent / "new", *QUICK, "--model", copy / "model"]
    assert_refused(gpt1(*words), said, notices=True)


@pytest.mark.parametrize("file", ["model/gpt1.json", "config.json"])
def test_settings_that_are_cut_off_are_refused(copy: Path, file: str) -> None:
    (copy / file).write_text('{"format": 1, ')
    assert_refused(gpt1("evaluate", copy, "--data", "reviews.csv"), f"{file}: not JSON", notices=True)


def test_a_run_that_has_no_model_yet_says_how_it_goes_on(copy: Path) -> None:
    shutil.rmtree(copy / "model")
    for words in (["predict", copy, "fine"], ["score", copy, "fine"], ["evaluate", copy, "--data", "reviews.csv"]):
        assert_refused(
            gpt1(*words), "this run has no model yet; run the same gpt1 finetune command again", notices=True
        )


@pytest.mark.parametrize("command", [["predict"], ["explain"], ["score"], ["evaluate", "--data", "reviews.csv"]])
def test_a_place_without_a_model_is_refused(command: list[str]) -> None:
    name, *flags = command
    texts = [] if flags else ["fine"]
    assert_refused(gpt1(name, "nowhere", *texts, *flags), "nowhere: no such directory; expected a run (--out of")
    assert_refused(gpt1(name, "unseen", *texts, *flags), "unseen: no model directory")


def test_a_language_model_without_a_task_is_refused_where_a_task_is_needed(tmp_path: Path) -> None:
    tokenizer = load_model(Path("run/model")).tokenizer
    shape = ModelConfig(n_layer=1, n_head=1, n_embd=8, n_ctx=16, vocab_size=tokenizer.vocab_size)
    save_model(tmp_path / "lm", Model(shape, initialise(shape, 0), tokenizer))
    assert_refused(gpt1("predict", tmp_path / "lm", "fine"), "is a language model without a task; fine-tune it first")
    assert done("score", tmp_path / "lm", "a fine story", "--json").json["perplexity"] > 1


# ---- evaluate


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
        assert f"{split} rows are drawn as they were then" in found.err


def test_all_rows_of_another_file_are_scored_and_a_folder_by_its_split(tmp_path: Path) -> None:
    shutil.copy("reviews.csv", tmp_path / "test.csv")
    for data in (tmp_path / "test.csv", tmp_path):
        found = done("evaluate", "run", "--data", data, "--no-baseline", "--json").json
        assert found["test"]["examples"] == 40
        assert found["baseline"] == {}
    assert_refused(gpt1("evaluate", "run", "--data", tmp_path, "--split", "valid"), "--split valid: ", "has test")


def test_a_model_directory_is_evaluated_like_its_run() -> None:
    flags = ["--data", "other-names.csv", "--text", "body", "--label", "verdict", "--dtype", "float32", "--json"]
    scored = [done("evaluate", path, *flags).json["test"] for path in ("run", "run/model")]
    assert scored[0] == scored[1]


def test_other_runs_stand_beside_it_on_the_same_rows() -> None:
    flags = ["--data", "other-names.csv", "--text", "body", "--label", "verdict", "--dtype", "float32", "--json"]
    alone = done("evaluate", "run", *flags).json
    found = done("evaluate", "run", *flags, "--beside", "run/model")
    assert found.json["beside"] == {"run/model": alone["test"]}
    assert found.json["baseline"].keys() == alone["baseline"].keys()
    names = [line.strip().split("  ")[0] for line in found.err.splitlines() if re.search(r"\[\d", line)]
    assert names == ["run", "run/model", *alone["baseline"]]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--beside", "grades"],
            "--beside grades: similarity (no label names) found, classification (bad, good) as in run expected",
        ),
        (["--beside", "gone"], "gone: no such directory"),
        (["--beside", "run", "--zero-shot"], "--beside run: goes with fine-tuned models, not with --zero-shot"),
    ],
)
def test_a_run_of_another_kind_cannot_stand_beside(flags: list[str], said: str) -> None:
    assert_refused(gpt1("evaluate", "run", "--data", "reviews.csv", *flags), said)


def test_a_sample_of_the_rows_can_be_scored_by_an_own_metric() -> None:
    words = ["evaluate", "run", "--data", "reviews.csv", "--split", "train", "--limit", "10", "--no-baseline"]
    found = done(*words, "--metric", "metrics_of_mine:share", "--json").json["train"]
    assert found["examples"] == 10
    assert found["share"] == found["accuracy"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data", "gone.csv"], "--data gone.csv: there is no such file or folder"),
        (["--data", "blank.csv"], "blank.csv row 7 (line 8): 'text' is empty"),
        (["--data", "new.csv"], "new.csv row 1 (line 2): no label in column 'label'"),
        (["--data", "unseen"], "test.csv row 2 (line 3): label 'mixed' does not occur in the training split"),
        (["--data", "reviews.csv", "--limit", "0"], "--limit 0: expected 2 or more"),
        (["--data", "reviews.csv", "--limit", "-3"], "--limit -3: expected 2 or more"),
        (
            ["--data", "reviews.csv", "--text", "body"],
            "reviews.csv: the run was trained on this file, by columns of its own",
        ),
        (["--data", "reviews.csv", "--revision", "v1"], "--revision v1: "),
        (["--data", "reviews.csv", "--split", "dev"], "--split dev: expected one of test, train, valid"),
        (["--data", "reviews.csv", "--metric", "math:foo"], "--metric math:foo: module math has no function"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(flags: list[str], said: str) -> None:
    assert_refused(gpt1("evaluate", "run", *flags), said, notices=True)


# ---- predict


def test_a_text_gets_a_label_with_the_probability_of_each() -> None:
    found = done("predict", "run", "a funny story", "--json").json
    assert set(found) == {"label", "score", "scores"}
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
        (["run", ""], "an empty text was given"),
        (["run", "fine", " \n "], "an empty text was given"),
        (["grades", "alone"], "this model's task is similarity: it takes two texts, 1 given"),
        (["grades", "a", "b", "c"], "this model's task is similarity: it takes two texts, 1 given"),
        (["endings", "a", "b"], "multiple-choice: it takes a context and at least two choices, 2 given"),
        (["run", "fine", "--input", "new.csv"], "--input: give either a file or texts, not both"),
        (["run", "fine", "--text", "review"], "--text review: goes with --input FILE"),
        (["run", "fine", "--output", "out.csv"], "--output: goes with --input FILE"),
        (["run", "--output", "out.csv"], "--output: goes with --input FILE"),
        (["run", "--input", "gone.csv"], "gone.csv: no such file"),
        (["run", "--input", "unseen"], "unseen is a folder; expected a file"),
        (["run", "--input", "notes.txt"], "notes.txt: the format is told by the name"),
        (["run", "--input", "blank.csv"], "blank.csv row 7 (line 8): 'text' is empty"),
        (["run", "--input", "new.csv", "--text", "body"], "--text body: no such column in new.csv"),
        (["run", "--input", "new.csv", "--text-a", "text"], "--text-a does not fit this task"),
        (
            ["run", "--input", "new.csv", "--output", "out.xlsx"],
            "--output out.xlsx: .jsonl, .csv, .tsv, .parquet expected",
        ),
        (["run", "--input", "new.csv", "--output", "new.csv/out.csv"], "new.csv: "),
    ],
)
def test_what_cannot_be_predicted_is_one_line_and_writes_nothing(words: list[str], said: str) -> None:
    before = content(Path())
    assert_refused(gpt1("predict", *words), said, notices=True)
    assert content(Path()) == before


def test_the_rows_of_a_file_are_predicted_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_prediction, "TOKENS_A_ROW", 200)  # 5 rows
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
    assert header == ["label", "score", "probability of bad", "probability of good"]
    assert rows == [[row["label"], *map(str, (row["score"], *row["scores"].values()))] for row in expected]


def test_an_output_file_appears_when_it_is_complete_and_never_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_prediction, "TOKENS_A_ROW", 512)  # 2 rows
    output = tmp_path / "out.jsonl"
    words = ["predict", "run", "--input", "blank.csv", "--output", output]
    assert_refused(gpt1(*words), "blank.csv row 7", notices=True)
    assert list(tmp_path.iterdir()) == []


# ---- explain


def test_an_explanation_has_a_weight_for_every_word_of_the_text() -> None:
    text = "A warm, funny story"
    found = done("explain", "run", text, "--json").json
    predicted = done("predict", "run", text, "--json").json
    assert found["label"] == predicted["label"]
    assert found["scores"] == pytest.approx(predicted["scores"], abs=ROUNDING)
    assert found["explained"] == found["label"]
    [told] = found["texts"]
    assert (told["name"], told["text"]) == ("text", text)
    assert [word["text"] for word in told["words"]] == ["A", "warm", ",", "funny", "story"]
    assert {word["occlusion"] for word in told["words"]} == {None}
    against = done("explain", "run", text, "--json", "--label", "bad", "--occlusion").json
    sign = 1 if found["label"] == "bad" else -1
    assert [word["weight"] for word in against["texts"][0]["words"]] == pytest.approx(
        [sign * word["weight"] for word in told["words"]], abs=ROUNDING
    )
    assert all(isinstance(word["occlusion"], float) for word in against["texts"][0]["words"])
    plain = done("explain", "run", text).out
    assert plain.startswith(f"{found['label']}  {found['score']:.4f}: words for {found['label']}")
    assert "\x1b" not in plain


def test_pairs_and_choices_are_explained_text_by_text() -> None:
    pair = done("explain", "grades", "a story", "the story", "--json").json
    assert (pair["label"], pair["explained"]) == (None, None)
    assert [text["name"] for text in pair["texts"]] == ["text_a", "text_b"]
    choices = done("explain", "endings", "a story", "was warm", "was cold", "--label", "1", "--json").json
    assert choices["explained"] == 1
    assert [text["name"] for text in choices["texts"]] == ["context", "choice 0", "choice 1"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_words_are_coloured_on_a_terminal_that_wants_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", variable)
        with contextlib.redirect_stdout(Terminal()) as out:
            assert main(["explain", "run", "a warm story"]) == 0
        assert ("\x1b[" in out.getvalue()) == coloured


def test_attention_is_shown_by_layer_and_head() -> None:
    found = done("explain", "run", "a warm story", "--attention", "1", "--json").json["attention"]
    assert (found["layer"], found["tokens"][0], found["tokens"][-1]) == (1, "<bos>", "<eos>")
    assert len(found["heads"]) > 1
    one = done("explain", "run", "a warm story", "--attention", "1.0", "--json").json["attention"]
    assert one["head"] == 0
    assert one["heads"] == found["heads"][:1]
    assert "layer 1, head 0: each token and what it looks at" in done(
        "explain", "run", "a warm story", "--attention", "1.0"
    ).out  # fmt: skip


def test_a_page_has_every_example(tmp_path: Path) -> None:
    outcome = done("explain", "run", "a warm <story>", "a dull one", "--html", tmp_path / "page.html", "--json")
    assert len(outcome.json) == 2
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert text.count("<article>") == 2
    assert "<story>" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], 'nothing to explain: give a text, as in gpt1 explain RUN "a text"'),
        (["run", " "], "an empty text was given"),
        (["grades", "alone"], "this model's task is similarity: it takes two texts, 1 given"),
        (["mini", "fine"], "is a language model without a task; fine-tune it first"),
        (["run", "fine", "--label", "great"], "--label great: unknown; expected one of bad, good"),
        (["grades", "a", "b", "--label", "1"], "--label 1: this model gives a value"),
        (["run", "fine", "--attention", "9"], "--attention 9: expected LAYER or LAYER.HEAD, of the layers 0 to 1"),
        (["run", "fine", "--attention", "0.x"], "--attention 0.x: expected LAYER or LAYER.HEAD"),
        (
            ["run", "fine", "--html", "nowhere/page.html"],
            "--html nowhere/page.html: expected a file in a directory that exists",
        ),
        (["run", "fine", "--html", "unseen"], "--html unseen: expected a file in a directory"),
    ],
)
def test_what_cannot_be_explained_is_one_line(words: list[str], said: str) -> None:
    before = content(Path())
    assert_refused(gpt1("explain", *words), said)
    assert content(Path()) == before


def test_mistakes_have_the_words_that_spoke_for_them_in_results_and_log(copy: Path) -> None:
    mistakes = json.loads(Path("grades/metrics.json").read_text())["test"]["mistakes"]  # no prediction is exact
    assert [list(mistake["words"]) for mistake in mistakes] == [["text_a", "text_b"]] * len(mistakes) != []
    [event] = [event for event in event_log.read(Path("grades/log.jsonl")) if event["event"] == "mistakes"]
    assert (event["split"], event["mistakes"]) == ("test", mistakes)
    events = [event for event in event_log.read(copy / "log.jsonl") if event["event"] == "mistakes"]
    flipped = copy / "flipped.csv"
    flipped.write_text(table(*((text, {"good": "bad", "bad": "good"}[label]) for text, label in labelled(8))))
    found = done("evaluate", copy, "--data", flipped, "--no-baseline", "--json").json["test"]["mistakes"]
    for mistake in found:
        assert list(mistake["words"]) == ["text"]
        for word in mistake["words"]["text"]:
            assert mistake["texts"][0][word["start"] : word["end"]] == word["text"]
    assert found
    [last] = [event for event in event_log.read(copy / "log.jsonl") if event["event"] == "mistakes"][len(events) :]
    assert last["mistakes"] == found
    assert last["data"] == str(flipped)


# ---- score


def test_a_score_has_a_log_probability_for_each_token_but_the_first() -> None:
    found = done("score", "run", "A warm\nand “funny” story", "--json").json
    assert list(found) == ["text", "ids", "tokens", "logprobs", "perplexity", "bits_per_byte", "unknown_share"]
    assert found["text"] == "A warm\nand “funny” story"
    assert len(found["ids"]) == len(found["tokens"]) == len(found["logprobs"])
    assert found["tokens"][:4] == ["a</w>", "warm</w>", "\n</w>", "and</w>"]
    first, *rest = found["logprobs"]
    assert first is None
    assert all(value < 0 for value in rest)
    assert found["perplexity"] == pytest.approx(math.exp(-sum(rest) / len(rest)))
    n_bytes = len(" warm\nand “funny” story".encode())
    assert found["bits_per_byte"] == pytest.approx(-sum(rest) / math.log(2) / n_bytes)


def test_a_score_says_what_share_of_the_bytes_the_vocabulary_lacks() -> None:
    assert done("score", "run", "a warm story", "--json").json["unknown_share"] == 0
    found = done("score", "run", "a “warm” \U0001f319 story", "--json").json
    assert found["tokens"].count("<unk>") == 3
    assert found["unknown_share"] == pytest.approx((3 + 3 + 4) / len(found["text"].encode()))


def test_people_read_a_token_a_line() -> None:
    *tokens, summary = done("score", "run", "a warm story").out.splitlines()
    assert [line.split()[-1] for line in tokens] == ["a", "warm", "story"]
    assert re.fullmatch(r"perplexity \d+\.\d\d, \d+\.\d\d\d bits per byte, 0\.0% of the bytes unknown", summary)


@pytest.mark.parametrize("text", ["story", "<br />"])
def test_a_text_of_one_token_or_none_has_no_perplexity(text: str) -> None:
    found = done("score", "run", text, "--json").json
    assert found["logprobs"] == [None] * len(found["ids"])
    assert (found["perplexity"], found["bits_per_byte"]) == (None, None)
    done("score", "run", text)


def test_text_that_is_not_unicode_is_scored_as_the_tokenizer_reads_it() -> None:
    """Bytes of a command line that are not UTF-8 arrive as lone surrogates."""
    assert done("score", "run", "a \udcff story", "--json").json["text"] == "a \ufffd story"
    assert done("predict", "run", "a \udcff story", "--json").json["label"] in ("bad", "good")


def test_a_text_longer_than_the_context_is_scored_in_windows_that_overlap_by_half() -> None:
    words = [word for word in " ".join(GOOD + BAD).split() if len(api.encode(Path("run"), [word])[0]["ids"]) == 1]
    text = [words[i * i % 53 % len(words)] for i in range(1_100)]

    def logprobs(start: int, end: int) -> list[float]:
        return done("score", "run", " ".join(text[start:end]), "--json").json["logprobs"]

    found = logprobs(0, 1_100)
    assert len(found) == 1_100
    first, second, third = logprobs(0, 512), logprobs(256, 768), logprobs(512, 1_024)
    last = logprobs(768, 1_100)
    expected = [*first, *second[256:], *third[256:], *last[256:]]
    assert found[0] is None
    np.testing.assert_allclose(found[1:], expected[1:], atol=WINDOW_ROUNDING)
    exact = logprobs(0, 513)
    np.testing.assert_allclose(exact[1:512], first[1:], atol=WINDOW_ROUNDING)
    np.testing.assert_allclose(exact[512], logprobs(256, 513)[-1], atol=WINDOW_ROUNDING)


def test_the_rows_of_a_file_are_scored_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "EXAMPLES_AT_ONCE", 7)
    found = done("score", "run", "--input", "reviews.csv", "--json").rows
    assert [row["text"] for row in found] == [text for text, _ in labelled()]
    alone = done("score", "run", found[11]["text"], "--json").json
    assert found[11]["perplexity"] == pytest.approx(alone["perplexity"], rel=WINDOW_ROUNDING)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "nothing to score: give texts"),
        (["run", ""], "an empty text was given; there is nothing to score"),
        (["run", "fine", "--input", "new.csv"], "--input: give either a file or texts, not both"),
        (["run", "fine", "--text", "review"], "--text review: goes with --input FILE"),
        (["run", "--input", "blank.csv"], "blank.csv row 7 (line 8): 'text' is empty"),
        (["run", "--input", "pairs.jsonl"], "pairs.jsonl: no column for text"),
    ],
)
def test_what_cannot_be_scored_is_one_line(words: list[str], said: str) -> None:
    assert_refused(gpt1("score", *words), said)


# ---- generate, next


WRITE = ["--temperature", "0", "--max-tokens", "6"]


def test_a_text_goes_on_from_its_prompt_also_by_a_fine_tuned_model() -> None:
    found = done("generate", "run", "A warm", *WRITE, "--json").json
    assert list(found) == ["prompt", "text", "finish_reason", "tokens"]
    assert (found["prompt"], found["finish_reason"], len(found["tokens"])) == ("A warm", "length", 6)
    shown = done("generate", "run", "A warm ", *WRITE)
    assert shown.out == f"A warm{found['text']}\n"
    assert re.fullmatch(
        r"6 tokens in [\d.]+ s, prompt included: [\d,]+ tokens/s; cpu \(\d+ threads?\), float32\n", shown.err
    )


def test_the_line_about_the_speed_begins_after_the_text() -> None:
    """On a terminal, which shows both streams."""
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        assert main(["generate", "run", "A warm", *WRITE]) == 0
    assert re.search(r"^6 tokens in ", screen.getvalue(), re.MULTILINE)


def test_samples_are_a_list_in_json_and_paragraphs_for_people() -> None:
    words = ["generate", "run", "A warm", "--max-tokens", "6", "--n", "3", "--seed", "5"]
    found = done(*words, "--json").json
    assert len({row["text"] for row in found}) == 3
    assert done(*words).out == "".join(f"A warm{row['text']}\n\n" for row in found)
    alone = done("generate", "run", "A warm", "--max-tokens", "6", "--seed", "5", "--json").json
    assert alone == found[0]


def test_stop_strings_are_given_one_by_one() -> None:
    text = done("generate", "run", "A warm", *WRITE, "--json").json["text"]
    found = done("generate", "run", "--stop", "nowhere", "--stop", text[4:6], "A warm", *WRITE, "--json").json
    assert (found["text"], found["finish_reason"]) == (text[: text.index(text[4:6])], "stop")


def test_without_a_prompt_a_text_begins_as_after_bos() -> None:
    assert done("generate", "run", *WRITE, "--json").json == done("generate", "run", "", *WRITE, "--json").json
    assert done("next", "run", "--json").json == done("next", "run", "", "--json").json


def test_the_next_tokens_are_bars_for_people() -> None:
    found = done("next", "run", "A warm", "--top", "4", "--json").json
    assert list(found) == ["tokens"]
    assert [list(row) for row in found["tokens"]] == [["token", "id", "probability"]] * 4
    lines = done("next", "run", "A warm", "--top", "4").out.splitlines()
    for line, row in zip(lines, found["tokens"], strict=True):
        name, share, bar = line.split()
        assert name == row["token"].removesuffix("</w>") + "…" * (row["token"][-1] != ">")
        assert share == f"{row['probability']:.2%}"
        assert bar == "█" * round(40 * row["probability"] / found["tokens"][0]["probability"])


def test_an_untrained_eos_is_never_written(tmp_path: Path) -> None:
    """Its row was drawn when a foreign model was loaded: it may be as likely as any word."""
    model = load_model(Path("run/model"))
    loud = {**model.params, "tokens_embed.weight": model.params["tokens_embed.weight"].copy()}
    eos = model.tokenizer.eos
    likely = done("next", "run", "A warm", "--top", "1", "--json").json["tokens"][0]["id"]
    loud["tokens_embed.weight"][eos] = 2 * loud["tokens_embed.weight"][likely]
    for drawn, reason in (([], "stop"), (["<eos>"], "length")):
        provenance = {"drawn": {"tokens": drawn, "seed": 0}} if drawn else {}
        save_model(tmp_path / reason, replace(model, params=loud, provenance=provenance))
        assert done("generate", tmp_path / reason, "A warm", *WRITE, "--json").json["finish_reason"] == reason


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["generate", "run", "fine", "--max-tokens", "0"], "--max-tokens 0: expected 1 or more"),
        (["generate", "run", "fine", "--temperature", "-1"], "--temperature -1.0: expected zero or more"),
        (["generate", "run", "fine", "--temperature", "nan"], "--temperature nan: expected zero or more"),
        (["generate", "run", "fine", "--top-p", "0"], "--top-p 0.0: expected a number in (0, 1]"),
        (["generate", "run", "fine", "--top-k", "0"], "--top-k 0: expected 1 or more"),
        (["generate", "run", "fine", "--repetition-penalty", "0"], "--repetition-penalty 0.0: expected a positive"),
        (["generate", "run", "fine", "--n", "65"], "--n 65: expected 1 to 64"),
        (["generate", "run", "fine", "--stop", ""], "--stop '': expected a text that is not empty"),
        (["generate", "run", "fine", "--seed", "-1"], "--seed -1: expected 0 to 4,294,967,295"),
        (["generate", "run", "fine", "--device", "cpu", "--compile"], "--compile: "),
        (["generate", "nowhere", "fine"], "nowhere: no such directory"),
        (["generate", "run", "one", "two"], "unknown: two"),
        (["generate"], "missing: "),
        (["next", "run", "fine", "--top", "0"], "--top 0: expected 1 or more"),
        (["next", "unseen", "fine"], "unseen: no model directory"),
    ],
)
def test_what_cannot_be_written_is_one_line(words: list[str], said: str) -> None:
    assert_refused(gpt1(*words), said)


# ---- tokenizer


def test_a_vocabulary_is_learned_from_text_or_tables_and_used_for_a_run(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "more.txt.gz", "wt", encoding="utf-8") as file:
        file.write(str(FILES["notes.txt"]))
    sources = ["notes.txt", "pairs.jsonl", "reviews.csv", tmp_path / "more.txt.gz"]
    learned = done("tokenizer", "train", "--input", *sources, "--vocab-size", "90", "--out", tmp_path / "bpe", "--json")
    assert learned.json == {"out": str(tmp_path / "bpe"), "vocab_size": 90}
    found = done("tokenizer", "encode", tmp_path / "bpe", "a warm story", "--json").json
    assert set(found) == {"ids", "tokens"}
    assert len(found["ids"]) == len(found["tokens"]) > 3
    assert done("tokenizer", "decode", tmp_path / "bpe", *found["ids"], "--json").json == {"text": "a warm story"}
    run = tmp_path / "run"
    done("finetune", "--data", "reviews.csv", "--out", run, *QUICK, "--tokenizer", tmp_path / "bpe", "--max-steps", "1")
    assert done("tokenizer", "encode", run, "a warm story", "--json").json == found


def test_a_small_text_gives_the_vocabulary_that_it_supports(tmp_path: Path) -> None:
    outcome = done("tokenizer", "train", "--input", "notes.txt", "--out", tmp_path / "bpe", "--json")
    assert f"The text supports {outcome.json['vocab_size']:,} tokens, not 40,482." in outcome.err


def test_people_read_tokens_and_texts_a_line_each() -> None:
    assert done("tokenizer", "encode", "run", "A warm", "story").out == "a</w> warm</w>\nstory</w>\n"
    ids = api.encode(Path("run"), ["a warm, funny story"])[0]["ids"]
    assert done("tokenizer", "decode", "run", *ids).out == "a warm, funny story\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["decode", "run", "1", "100000"], "token id 100000: expected 0 to "),
        (["decode", "run", "-1"], "token id -1: expected 0 to "),
        (["decode", "run"], "nothing to decode: give token ids"),
        (["decode", "nowhere", "1"], "nowhere: no such directory"),
        (["encode", "run"], "nothing to encode: give texts"),
        (["encode", "nowhere", "fine"], "nowhere: no such directory"),
        (["train", "--input", "gone.txt", "--out", "bpe"], "gone.txt: no such file"),
        (["train", "--input", "latin.csv", "--out", "bpe"], "latin.csv row 1 (line 2): byte 0xe9"),
        (["train", "--input", "empty.csv", "--out", "bpe"], "empty.csv is empty"),
        (["train", "--input", "notes.txt", "--vocab-size", "3", "--out", "bpe"], "--vocab-size 3: expected at least"),
        (["train", "--input", "notes.txt", "--out", "run/model"], "--out run/model: holds a model"),
        (["train", "--input", "notes.txt"], "missing: --out; see gpt1 tokenizer train --help"),
    ],
)
def test_what_the_tokenizer_cannot_do_is_one_line(words: list[str], said: str) -> None:
    before = content(Path())
    assert_refused(gpt1("tokenizer", *words), said)
    assert content(Path()) == before


# ---- the rest


def test_doctor_reports_packages_and_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt1.backends.torch.device.matmul_speed", lambda device, dtype: 12.0)
    outcome = done("doctor", "--json")
    assert {"python", "platform", "packages", "backends"} == set(outcome.json)
    assert outcome.json["packages"]["torch"]
    [device, *_] = outcome.json["backends"]["torch"]["devices"]
    assert device["gflops"] == {"float32": 12, "bfloat16": 12}
    assert "GFLOP/s" in outcome.err
    assert done("doctor").out == ""


@pytest.mark.parametrize("words", [[], ["--help"], ["tokenizer"], ["predict", "--help"]])
def test_help_is_for_stdout(words: list[str]) -> None:
    outcome = done(*words)
    assert "usage: gpt1" in outcome.out
    assert outcome.err == ""


def test_the_version_is_the_packages() -> None:
    assert re.fullmatch(r"gpt1 \d+\.\d+\.\d+\n", done("--version").out)


def test_flags_of_the_hub_data_sets_columns_win_over_the_catalogues(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from gpt1.checkpoint import hub
    from gpt1.tasks.dataset import hub_columns

    found = hub.DatasetFiles(
        {"test": [Path("other-names.csv").resolve()]},
        "classification",
        {"text": "body", "label": "label"},
        None,
        "here",
    )
    assert hub_columns(found, Columns(label="verdict")) == Columns(text="body", label="verdict")
    monkeypatch.setattr(hub, "resolve_dataset", lambda name, revision=None: found)
    flags = ["--data", "catalogued", "--no-baseline", "--json"]
    assert done("evaluate", "run", *flags, "--label", "verdict").json["test"]["examples"] == 40
    assert_refused(gpt1("evaluate", "run", *flags), "label", notices=True)


def test_output_that_nobody_reads_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `gpt1 predict RUN --input FILE | head`."""

    def gone(*args: object, **kwargs: object) -> Iterator[dict[str, Any]]:
        raise BrokenPipeError
        yield

    monkeypatch.setattr(api, "predict_file", gone)
    monkeypatch.setattr("os.dup2", lambda *args: None)
    with Path("new.csv").open() as stdout, contextlib.redirect_stdout(stdout):
        assert main(["predict", "run", "--input", "new.csv"]) == 0


@pytest.mark.parametrize("filename", ["runs/x/state.safetensors", None])
def test_full_disk_is_one_line_that_says_how_to_go_on(
    filename: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", *([filename] if filename else []))

    monkeypatch.setattr(api, "doctor", full)
    assert main(["doctor"]) == 2
    named = f"{filename}: " if filename else ""
    expected = (
        f"gpt1: {named}No space left on device; what was whole stays: make room, and run the same command again\n"
    )
    assert capsys.readouterr().err == expected
