"""Bad data, flags, names and hardware: one line, exit code 2, nothing written.

Run: pytest tests/test_cli_bad_input.py
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from support.command_line import assert_refused, gpt1
from support.sample_runs import QUICK, TINY, file_digests

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("in_world")


BAD_DATA = {
    "missing file": (["--data", "gone.csv"], "--data gone.csv: no such file or folder"),
    "unknown data set": (
        ["--data", "imbd"],
        "--data imbd: no such file or folder; expected a path, a data set",
    ),
    "empty file": (["--data", "empty.csv"], "empty.csv is empty (0 bytes)"),
    "header alone": (["--data", "header.csv"], "header.csv has no rows below its header line"),
    "wrong columns": (["--data", "columns.csv"], "columns.csv: no column for text (usual names: text, sentence"),
    "missing label": (["--data", "columns.csv", "--text", "first"], "columns.csv: no column for label"),
    "unknown column": (["--data", "reviews.csv", "--text", "body"], "--text body: no such column in reviews.csv"),
    "columns of another task": (["--data", "reviews.csv", "--task", "entailment"], "no column for text_a and text_b"),
    "empty text": (["--data", "blank.csv"], "blank.csv row 7 (line 8): 'text' is empty"),
    "one label": (
        ["--data", "one-label.csv"],
        ": every training example has the label 'good', expected at least two labels",
    ),
    "all different": (
        ["--data", "all-different.csv"],
        " is one of 32 different labels in 32 training examples: this column does not contain labels",
    ),
    "unseen label": (
        ["--data", "unseen"],
        "test.csv row 2 (line 3): label 'mixed' (1 row) does not occur in the training split (known: bad, good)",
    ),
    "not UTF-8": (["--data", "latin.csv", "--encoding", "utf-8"], "latin.csv row 1 (line 2): byte e9 in"),
    "malformed JSON": (["--data", "broken.jsonl"], "broken.jsonl row 2: not JSON"),
    "short row": (["--data", "short.csv"], "short.csv row 5 (line 6): cells: 1, expected 2 (text, label)"),
    "NaN label": (["--data", "nan.jsonl"], "nan.jsonl row 2: no label in column 'label' (found nan)"),
    "mixed choices": (["--data", "mixed.jsonl"], "mixed.jsonl row 2: 3 choices, expected 2 as in the previous rows"),
    "no data": (["--data", ""], "--data is missing: a folder, a table"),
}

BAD_VALUES = {
    "unknown flag": (
        ["--learning-rate", "1"],
        "--learning-rate: unknown flag; did you mean --lr? (gpt1 finetune --help-all lists",
    ),
    "stray word": (["quickly"], "'quickly': unexpected argument; see gpt1 finetune --help"),
    "unknown recipe": (["--recipe", "bert"], "--recipe bert: unknown; expected one of paper-finetune, "),
    "unknown choice": (["--schedule", "step"], "--schedule step: expected one of linear, cosine, constant"),
    "unknown task": (
        ["--task", "ranking"],
        "--task ranking: unknown task; expected one of classification, entailment, similarity, ",
    ),
    "no number": (["--lr", "abc"], "--lr abc: expected a number; see gpt1 finetune --help"),
    "no whole number": (["--batch-size", "2.5"], "--batch-size 2.5: expected a whole number"),
    "no value": (["--lr"], "--lr: the value is missing; expected a number"),
    "epochs": (["--epochs", "0"], "--epochs 0.0: expected a positive number"),
    "rate": (["--lr", "-1"], "--lr -1.0: expected a positive number"),
    "rate nan": (["--lr", "nan"], "--lr nan: expected a positive number"),
    "batch size": (["--batch-size", "-1"], "--batch-size -1: expected 1 or more"),
    "dropout": (["--attn-pdrop", "1"], "--attn-pdrop 1.0: expected a probability in [0, 1)"),
    "lambda": (["--lm-coef", "-1"], "--lm-coef -1.0: expected zero or more"),
    "seed": (["--seed", "-1"], "--seed -1: expected 0 to 4,294,967,295"),
    "LM mean": (["--lm-mean", "text"], "--lm-mean text: expected one of token, sequence"),
    "truncation": (["--truncation", "third"], "--truncation third: expected one of longest, half"),
    "max_examples": (["--max-examples", "1"], "--max-examples 1: expected 2 or more"),
    "short": (["--max-length", "3"], "--max-length 3: expected 8 or more"),
    "fraction": (["--valid-fraction", "1.5"], "--valid-fraction 1.5: expected a number in (0, 1)"),
    "no out": (["--out", "."], "--out is missing: the directory of the run"),
    "metric without function": (["--metric", "mine"], "--metric mine: expected package.module:function"),
    "metric without module": (["--metric", "no.such:f"], "--metric no.such:f: importing no.such failed"),
    "unknown metric": (["--metric", "math:foo"], "--metric math:foo: module math has no function 'foo'"),
    "revision of local files": (["--data", "reviews.csv@v1"], "--data reviews.csv@v1: reviews.csv is a local path"),
}

BAD_MODELS = {
    "unknown size": (
        ["--model", "random:huge"],
        "--model random:huge: unknown size; there are random:gpt1, random:mini",
    ),
    "unknown model": (["--model", "bert"], "--model bert: no such directory"),
    "no model": (["--model", "unseen"], "unseen: not a model directory"),
    "no whole batch": (
        ["--drop-last", "--batch-size", "64"],
        "--drop-last: 32 training examples do not fill one batch of 64",
    ),
    "long": (["--max-length", "4000"], "--max-length 4000: the model's context has 512 tokens"),
    "vocabulary": (["--vocab-size", "3"], "--vocab-size 3: expected at least"),
    "vocabulary of a model": (["--model", "run", "--vocab-size", "90"], "--vocab-size 90: run has its own vocabulary"),
    "two vocabularies": (["--tokenizer", "run/tokenizer", "--vocab-size", "90"], "--vocab-size 90: --tokenizer has"),
    "no tokenizer": (["--tokenizer", "unseen"], "unseen"),
    "metric that fails": (["--metric", "math:isqrt"], "--metric math:isqrt: TypeError"),
    "metric of a known name": (
        ["--metric", "metrics_of_mine:accuracy"],
        "--metric accuracy: this is the name of a built-in metric",
    ),
    "out is a file": (["--out", "reviews.csv"], "reviews.csv"),
    "out below a file": (["--out", "reviews.csv/run"], "reviews.csv/run"),
    "out holds files": (
        ["--out", "unseen"],
        "--out unseen: contains test.csv and is not a run; choose a new directory",
    ),
}


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new"


@pytest.mark.parametrize(("flags", "said"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_is_one_line_before_anything_is_written(new: Path, flags: list[str], said: str) -> None:
    before = file_digests(Path())
    assert_refused(gpt1("finetune", "--out", new, *TINY, *flags), said, notices=flags == ["--data", "unseen"])
    assert file_digests(Path()) == before
    assert not new.exists()


@pytest.mark.parametrize(("flags", "said"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_a_bad_flag_is_one_line_before_anything_is_read(new: Path, flags: list[str], said: str) -> None:
    assert_refused(gpt1("finetune", "--data", "reviews.csv", "--out", new, *TINY, *flags), said)
    assert not new.exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model", "bert"], "--model bert: no such directory"),
        (["--model", "random:huge"], "--model random:huge: unknown size"),
        (["--tokenizer", "gone"], "--tokenizer gone: no such directory"),
        (["--model", "run", "--tokenizer", "run"], "--tokenizer run: run has its own vocabulary"),
    ],
)
def test_the_name_of_a_model_is_checked_before_the_data_are_read(new: Path, flags: list[str], said: str) -> None:
    assert_refused(gpt1("finetune", "--data", "gone.csv", "--out", new, *TINY, *flags), said)


@pytest.mark.parametrize(("flags", "said"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_a_bad_model_or_place_is_one_line_before_anything_is_written(new: Path, flags: list[str], said: str) -> None:
    before = file_digests(Path())
    assert_refused(gpt1("finetune", "--data", "reviews.csv", "--out", new, *TINY, *flags), said, notices=True)
    assert file_digests(Path()) == before
    assert not new.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("finetun", "'finetun': unknown command; did you mean finetune? (gpt1 --help lists all commands)"),
        ("--verbose", "'--verbose': unknown command (gpt1 --help"),
        ("tokenizer learn", "'learn': unknown command (gpt1 tokenizer --help lists all commands)"),
        ("evaluate run", "missing --data; example: gpt1 evaluate runs/demo --data reviews; see gpt1 evaluate --help"),
        ("evaluate", "missing RUN and --data; example: gpt1 evaluate "),
        ("predict", "missing RUN; example: gpt1 predict "),
        ("tokenizer decode", "missing MODEL; example: gpt1 tokenizer decode mini 17 42; see "),
        ("predict run fine --dtype float8", "--dtype float8: expected one of auto, float32, bfloat16, float16"),
        ("predict run fine --device tpu", "--device tpu: expected one of"),
        ("score run fine --backend jax", "--backend jax: expected one of auto, torch, mindspore"),
        ("evaluate run --data reviews.csv --max-examples x", "--max-examples x: expected a whole number; see "),
        ("tokenizer decode run one", "ID one: expected a whole number"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_line(words: str, said: str) -> None:
    assert_refused(gpt1(*words.split()), said)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--device", "ascend"], "--device ascend: needs --backend mindspore"),
        (["--device", "cpu", "--dtype", "float16"], "--dtype float16: not supported on --device cpu; use"),
        (["--device", "cpu", "--compile"], "--compile: only on --device cuda"),
        pytest.param(
            ["--device", "cuda:7"], "--device cuda:7: PyTorch finds no CUDA device; use --device cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here"),
        ),
        pytest.param(
            ["--device", "mps"], "--device mps: PyTorch finds no MPS device; use --device cpu",
            marks=pytest.mark.skipif(torch.backends.mps.is_available(), reason="MPS is here"),
        ),
        pytest.param(
            ["--device", "cuda"], "--device cuda: PyTorch finds no CUDA device; use --device cpu",
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
    assert_refused(outcome, "--dtype bfloat16: Tesla T4 has compute capability 7.5; 8.0 or newer is required")


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
    assert outcome.err.rstrip().endswith(" needs no network")
    assert not new.exists()


@pytest.mark.usefixtures("_no_network")
def test_a_path_that_is_wrong_in_its_last_part_is_not_taken_for_a_name_of_the_hub(tmp_path: Path) -> None:
    Path("runs").mkdir()
    assert_refused(gpt1("predict", "runs/gone", "fine"), "runs/gone: not in the folder runs; as a model on the hub")


def test_a_directory_of_another_run_is_left_as_it_is() -> None:
    before = file_digests(Path("run"))
    words = ["finetune", "--data", "reviews.csv", "--out", "run", *QUICK, "--baseline"]
    assert_refused(
        gpt1(*words, "--epochs", "3"),
        "--out run: contains a different run",
        "epochs is 2.0, not 3.0",
        notices=True,
    )
    other = gpt1(
        "finetune", "--data", "other-names.csv", "--text", "body", "--label", "verdict", "--out", "run", *QUICK
    )
    assert_refused(other, "--out run: contains a different run", notices=True)
    assert file_digests(Path("run")) == before
