"""All commands accept the same names of models and reject others in one line. Run: pytest tests/test_model_names.py"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gpt1
from gpt1.backends.parameters import initialise
from gpt1.checkpoint.loading import open_model, open_tokenizer, resolve_model
from gpt1.checkpoint.model_dir import Model, load_model, save_model
from gpt1.checkpoint.run_formats import upgrade_settings
from gpt1.cli import main
from gpt1.config import FinetuneConfig, Head, ModelConfig, PretrainConfig, ServeConfig
from gpt1.errors import UserError
from gpt1.serve.service import Service
from gpt1.tokenization.trainer import train
from support.fake_hub import FakeHub

pytest.importorskip("huggingface_hub")

AT_ONCE_S = 5.0
"""Maximum seconds until the error without a network (measured: 0.1 s; with retries and back-off it would be 23 s)."""

REPO = "me/reviews"
TEXTS = ("the sun rises in the east", "the old house stood on the hill", "a warm and funny story")
TRAINING = ("--batch-size", "8", "--epochs", "1", "--dtype", "float32", "--out", "new")
CORPUS = ("--corpus", "text.txt", "--valid", "text.txt", "--sample-tokens", "0")

ANSWERS = [
    ["predict", "MODEL", TEXTS[0]],
    ["predict", "MODEL", "--input", "rows.jsonl"],
    ["explain", "MODEL", TEXTS[0]],
    ["evaluate", "MODEL", "--data", "rows.jsonl", "--split", "train"],
    ["score", "MODEL", TEXTS[0]],
    ["generate", "MODEL", "the sun", "--max-tokens", "3"],
    ["next", "MODEL", "the sun"],
    ["tokenizer", "encode", "MODEL", TEXTS[0]],
    ["tokenizer", "decode", "MODEL", "5", "6"],
]
OTHERS = [
    ["convert", "MODEL", "new"],
    ["prepare", "--corpus", "text.txt", "--tokenizer", "MODEL", "--out", "new"],
    ["finetune", "--data", "rows.jsonl", "--model", "MODEL", "--no-baseline", *TRAINING],
    ["finetune", "--data", "rows.jsonl", "--model", "random:tiny", "--tokenizer", "MODEL", "--no-baseline", *TRAINING],
    ["pretrain", *CORPUS, "--model", "MODEL", *TRAINING],
    ["pretrain", *CORPUS, "--size", "tiny", "--tokenizer", "MODEL", *TRAINING],
]
SERVE = ["serve", "MODEL", "--port", "0"]
COMPARE = ["evaluate", "good", "--data", "rows.jsonl", "--compare", "MODEL"]


def called(words: list[str]) -> str:
    """Return a command's name in a test's id: the words before MODEL."""
    return " ".join(word for word in words[: words.index("MODEL")] if not word.endswith((".jsonl", ".txt")))


def with_model(words: list[str], name: str) -> list[str]:
    return [name if word == "MODEL" else word for word in words]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two fine-tuned models with the same configuration and different weights."""
    tokenizer = train(TEXTS * 4, 80)
    config = ModelConfig(1, 1, 16, 32, tokenizer.vocab_size, head=Head("classification", 2))
    folders = [tmp_path_factory.mktemp("models") / f"seed-{seed}" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        params = initialise(config, seed)
        params["score.weight"] *= 30  # to get different probabilities
        save_model(folder, Model(config, params, tokenizer, ("0", "1"), 32))
    return folders


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    rows = [{"text": TEXTS[i % 3], "label": str(i % 2)} for i in range(40)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("text.txt").write_text("\n".join(TEXTS * 40))


@pytest.fixture
def hub(models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with the first model as tag v1 of `me/reviews`, and the second on its main branch."""
    for variable in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    with FakeHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        for folder, revision in zip(models, ("v1", "main"), strict=True):
            server.commit(REPO, files(folder), revision=revision)
        yield server


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_download_prints_no_progress_bar_where_stderr_is_no_terminal(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled

    assert not are_progress_bars_disabled()
    assert main(["tokenizer", "encode", REPO, TEXTS[0]]) == 0
    assert downloads(hub)
    assert capsys.readouterr().err == ""
    assert not are_progress_bars_disabled()


def downloads(hub: FakeHub) -> set[str]:
    return {request.rpartition("/")[2] for request in hub.requests if re.match(r"GET .*/resolve/", request)}


def printed(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """Return the JSON output of a command."""
    capsys.readouterr()
    assert main([*words, "--json"]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """Return the error line of a command with invalid input, which must not leave any files."""
    before = sorted(Path().rglob("*"))
    capsys.readouterr()
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    *notices, line = captured.err.splitlines()
    assert line.startswith("gpt1: ") and not any(notice.startswith("gpt1: ") for notice in notices)
    assert "Traceback" not in captured.err and sorted(Path().rglob("*")) == before
    return line.removeprefix("gpt1: ")


# ---- names that work


@pytest.mark.parametrize("words", ANSWERS, ids=called)
def test_a_model_of_the_hub_answers_as_its_copy_does(
    words: list[str], hub: FakeHub, models: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, copy in ((f"{REPO}@v1", models[0]), (REPO, models[1])):
        assert printed(capsys, with_model(words, name)) == printed(capsys, with_model(words, str(copy)))


@pytest.mark.parametrize("words", OTHERS, ids=called)
def test_a_model_of_the_hub_is_trained_converted_and_lends_its_vocabulary(
    words: list[str], hub: FakeHub, models: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    printed(capsys, with_model(words, f"{REPO}@v1"))
    if words[0] == "convert":
        assert files(Path("new"))["model.safetensors"] == files(models[0])["model.safetensors"]
    elif words[0] != "prepare":
        model = load_model(Path("new/model"))
        assert model.tokenizer.encode(TEXTS[0]) == open_tokenizer(models[0]).encode(TEXTS[0])
        origins = {"finetune": "fine-tuned from", "pretrain": "pretrained from"}
        if "--tokenizer" not in words:
            assert model.provenance[origins[words[0]]] == f"{REPO}@v1"


def test_a_model_of_the_hub_is_served_under_its_name(hub: FakeHub, models: list[Path]) -> None:
    service = Service.open(f"{REPO}@v1", ServeConfig())
    assert service.described()["id"] == "reviews"
    assert (service.model.params["score.weight"] == load_model(models[0]).params["score.weight"]).all()


def test_python_takes_the_names_of_the_commands(hub: FakeHub, models: list[Path]) -> None:
    name, texts = f"{REPO}@v1", [TEXTS[0]]
    expected = gpt1.load(models[0]).predict(texts)
    assert gpt1.load(name).predict(texts) == gpt1.predict(name, texts) == expected
    assert gpt1.predict(REPO, texts) != expected
    assert gpt1.tokenizer(name).encode(TEXTS[0]) == gpt1.tokenizer(models[0]).encode(TEXTS[0])
    assert gpt1.evaluate(name, "rows.jsonl", split="train")["train"]["examples"] == 32 + 8
    loaded = gpt1.GPT1Classifier.load(name)
    assert loaded.predict(texts).tolist() == [expected[0]["label"]]
    fitted = gpt1.GPT1Classifier(name, epochs=1, max_length=16).fit(list(TEXTS) * 2, list("010101"))
    assert fitted.classes_.tolist() == ["0", "1"]


def test_other_runs_to_compare_are_named_alike(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", REPO, "--data", "rows.jsonl", "--compare", f"{REPO}@v1"]
    assert list(json.loads(printed(capsys, words))["compare"]) == [f"{REPO}@v1"]


def test_a_vocabulary_is_downloaded_without_the_weights(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, ["tokenizer", "encode", REPO, TEXTS[0]])
    assert "tokenizer.json" in downloads(hub) and "model.safetensors" not in downloads(hub)
    printed(capsys, ["score", REPO, TEXTS[0]])
    assert "model.safetensors" in downloads(hub)


def test_a_repository_without_a_vocabulary_is_refused(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.commit("me/bare", {"config.json": b"{}", "model.safetensors": b""})
    assert "me/bare: me/bare at main has no vocabulary; expected tokenizer.json" in refusal(
        capsys, ["tokenizer", "encode", "me/bare", "a text"]
    )


def test_model_and_data_set_are_pinned_independently(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    polars = pytest.importorskip("polars")

    def commit(count: int) -> str:
        polars.DataFrame({"text": TEXTS * count, "label": ["0", "1", "1"] * count}).write_parquet("train.parquet")
        return hub.commit("me/rows", {"train.parquet": Path("train.parquet").read_bytes()}, repo_type="dataset")

    first = commit(10)
    commit(20)
    names = ["--data", f"me/rows@{first}", "--model", f"{REPO}@v1"]
    printed(capsys, ["finetune", *names, "--no-baseline", *TRAINING])
    examples = json.loads(Path("new/log.jsonl").read_text().splitlines()[0])["examples"]
    assert sum(examples.values()) == 30
    assert load_model(Path("new/model")).provenance["data"] == f"rows@{first}"
    card = Path("new/model/README.md").read_text()
    assert f"base_model: {REPO}\n" in card and re.search(r"type: me/rows\n|- me/rows\n", card)
    printed(capsys, ["evaluate", "new", "--data", "me/rows", "--split", "train", "--no-baseline"])


def test_a_run_without_a_model_yet_lends_its_vocabulary(models: list[Path]) -> None:
    open_tokenizer(models[0]).save(Path("run/tokenizer"))
    assert open_tokenizer("run").encode(TEXTS[0]) == open_tokenizer(models[0]).encode(TEXTS[0])


# ---- an existing path wins


@pytest.fixture
def pinned_folder(models: list[Path], monkeypatch: pytest.MonkeyPatch) -> str:
    """The first model in a folder whose name looks like one on the hub; the hub is unreachable."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    Path("me").mkdir()
    Path(f"{REPO}@v1").symlink_to(models[0])
    return f"{REPO}@v1"


@pytest.mark.parametrize("words", ANSWERS, ids=called)
def test_a_path_with_an_at_sign_is_a_path(
    words: list[str], pinned_folder: str, models: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    answer = printed(capsys, with_model(words, pinned_folder))
    assert answer == printed(capsys, with_model(words, str(models[0])))


def test_data_and_models_to_train_may_have_an_at_sign(pinned_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.jsonl").rename("rows@v2.jsonl")
    printed(capsys, ["finetune", "--data", "rows@v2.jsonl", "--model", pinned_folder, "--no-baseline", *TRAINING])
    provenance = load_model(Path("new/model")).provenance
    assert (provenance["data"], provenance["fine-tuned from"]) == ("rows@v2.jsonl", pinned_folder)


def test_names_of_other_models_are_directories_first(models: list[Path]) -> None:
    for name in ("openai-gpt", "mini", "random:tiny"):
        Path(name).symlink_to(models[1])
        assert resolve_model(name) == Path(name)
        assert (open_model(name).params["score.weight"] == load_model(models[1]).params["score.weight"]).all()


# ---- names that do not


@pytest.mark.parametrize("words", [*ANSWERS, *OTHERS, SERVE, COMPARE], ids=called)
def test_an_unknown_repository_or_revision_is_one_line_in_every_command(
    words: list[str], hub: FakeHub, models: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("good").symlink_to(models[0])
    flag = words[words.index("MODEL") - 1]
    shown = f"{flag} " if flag.startswith("--") else ""
    for name, reason in (
        ("me/none", f"there is no public model {hub.url}/me/none (404), and no local path of this name"),
        (f"{REPO}@v9", f"v9 is not a branch, tag or full commit of {hub.url}/{REPO}"),
        (f"{REPO}@", "expected a commit, tag or branch after the @"),
    ):
        assert refusal(capsys, with_model(words, name)).startswith(f"{shown}{name}: {reason}")


@pytest.mark.parametrize("words", [*ANSWERS, *OTHERS, SERVE, COMPARE], ids=called)
def test_offline_every_command_says_at_once_what_works(
    words: list[str], hub: FakeHub, models: list[Path], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    Path("good").symlink_to(models[0])
    with monkeypatch.context() as offline:
        offline.setenv("HF_HUB_OFFLINE", "1")
        started = time.monotonic()
        line = refusal(capsys, with_model(words, f"{REPO}@v1"))
        assert time.monotonic() - started < AT_ONCE_S
    assert "not in the cache, and HF_HUB_OFFLINE is set" in line
    assert line.endswith(f"copy the folder here and pass ./reviews instead of {REPO}@v1; mini needs no network")
    if words not in ANSWERS[::4]:  # download and result of one command of each kind
        return
    command = re.search(r"`hf ([^`]+)`", line)
    assert command
    code = "import sys; from huggingface_hub.cli.hf import main; sys.argv[0] = 'hf'; main()"
    subprocess.run([sys.executable, "-c", code, *shlex.split(command[1])], check=True, capture_output=True)
    expected = printed(capsys, with_model(words, str(models[0])))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert printed(capsys, with_model(words, "./reviews")) == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mini@v1", "mini@v1: mini is bundled with gpt1 and has no revisions; give mini"),
        ("good@v1", "good@v1: good is a local path and has no revisions; give good"),
        (
            "random:tiny",
            "random:tiny: random weights are only available for training: gpt1 finetune --model random:SIZE",
        ),
        ("text.txt", "text.txt: is a file; expected a run, a model directory"),
        ("me/model:config", "me/model:config: no such directory; expected a run"),
        ("./me/reviews", "./me/reviews: no such directory; expected a run"),
        ("a\x00b", "a\x00b: no such directory; expected a run"),
        ("n" * 5_000, "n: no such directory; expected a run"),
        ("", "'': no such directory; expected a run"),
    ],
    ids=lambda value: value[:20].replace("\x00", "NUL"),
)
@pytest.mark.parametrize(
    "words", [["score", "MODEL", "a text"], ["tokenizer", "encode", "MODEL", "a text"]], ids=called
)
def test_a_name_that_cannot_be_is_one_line(
    words: list[str], name: str, said: str, models: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("good").symlink_to(models[0])
    assert said in refusal(capsys, with_model(words, name))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data", "reviews@v1"], "--data reviews@v1: reviews is bundled with gpt1 and has no revisions"),
        (["--data", "rows.jsonl@v1"], "--data rows.jsonl@v1: rows.jsonl is a local path and has no revisions"),
        (["--data", "imdb@"], "--data imdb@: expected a commit, tag or branch after the @"),
        (["--data", "imdb@v1"], "--data imdb@v1: there is no public dataset"),
        (["--data", "rows.jsonl", "--model", "random:tiny@v1"], "--model random:tiny@v1: unknown size"),
        (["--data", "rows.jsonl", "--revision", "v1"], "--revision: unknown flag"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_revision_that_cannot_be_is_one_line(
    flags: list[str], said: str, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refusal(capsys, ["finetune", *flags, "--out", "new"])


def test_python_says_it_in_one_line_too(hub: FakeHub) -> None:
    def fitted() -> Any:
        return gpt1.GPT1Classifier("me/none", epochs=1).fit(list(TEXTS), list("010"))

    for call in (
        lambda: gpt1.load("me/none"),
        lambda: gpt1.tokenizer("me/none"),
        lambda: gpt1.predict("me/none", ["a"]),
        lambda: gpt1.evaluate("me/none", "rows.jsonl"),
        lambda: gpt1.GPT1Classifier.load("me/none"),
        fitted,
    ):
        with pytest.raises(UserError, match="me/none: there is no public model") as caught:
            call()
        assert "\n" not in str(caught.value)


# ---- runs from before


def test_settings_of_a_run_with_a_revision_name_it_in_the_new_way() -> None:
    old = {"data": "imdb", "model": "openai-gpt", "revision": "v1"}
    config = FinetuneConfig.from_dict(upgrade_settings(old))
    assert (config.data, config.model) == ("imdb@v1", "openai-gpt@v1")
    local = FinetuneConfig.from_dict(upgrade_settings(old | {"data": "rows.jsonl", "model": "random:tiny"}))
    assert (local.data, local.model) == ("rows.jsonl", "random:tiny")
    assert FinetuneConfig.from_dict(upgrade_settings(old | {"revision": None})).data == "imdb"


def test_ways_to_write_the_path_of_a_tokenizer_are_one_setting() -> None:
    """A run that was started with `--tokenizer words/` has `words` in its config.json."""
    names = {PretrainConfig(tokenizer=name).tokenizer for name in ("words", "words/", "./words")}
    assert names == {"words"}
    assert PretrainConfig(tokenizer="me/words@refs/pr/1").tokenizer == "me/words@refs/pr/1"
