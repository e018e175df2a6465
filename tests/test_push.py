"""The model card, in the format of the hub, and its upload by `gpt1 push`. Run: pytest tests/test_push.py"""

from __future__ import annotations

import ast
import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from gpt1 import api
from gpt1.checkpoint.hub import repository
from gpt1.checkpoint.model_card import EXAMPLES, Results, model_card
from gpt1.cli import main
from gpt1.config import SIZES, Head
from gpt1.config.recipes import recipe
from gpt1.inference.classifier import Classifier
from gpt1.tasks import TASKS
from support.fake_hub import FakeHub

huggingface_hub = pytest.importorskip("huggingface_hub")

REPO = "someone/reviews"
FILES = {
    "README.md", "config.json", "gpt1.json", "merges.txt", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json", "vocab.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "reviews"
    api.finetune(recipe("quickstart", data="reviews", out=str(out), model="random:tiny", max_examples=40, max_steps=2))
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A local hub with a valid token."""
    for variable in ("HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # it uses other servers
    with FakeHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server


def published(hub: FakeHub, branch: str = "main") -> dict[str, bytes]:
    repo = hub.repos["model", REPO]
    return {name: content for name, content in repo.commits[repo.refs[branch]].items() if name != ".gitattributes"}


def metadata(text: str) -> Any:
    return huggingface_hub.ModelCard(text, ignore_metadata_errors=False).data


# ---- the card


def test_the_cards_numbers_are_those_of_the_run(run: Path) -> None:
    text = (run / "model" / "README.md").read_text(encoding="utf-8")
    scores = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    data = metadata(text)
    assert {result.metric_name: result.metric_value for result in data.eval_results} == {
        name: scores["test"][name] for name in ("accuracy", "f1", "matthews")
    }
    assert {(result.dataset_name, result.dataset_split, result.task_type) for result in data.eval_results} == {
        ("reviews", "test", "text-classification")
    }
    assert (data.library_name, data.pipeline_tag, data.tags) == (
        "transformers", "text-classification", ["openai-gpt", "gpt1"]
    )  # fmt: skip
    low, high = scores["test"]["interval"]["accuracy"]
    assert f"| GPT-1 | {scores['test']['accuracy']:.3f} [{low:.3f}, {high:.3f}] |" in text
    assert "| TF-IDF + logistic regression |" in text
    assert "reviews, test split, 40 examples (in brackets: 95 % bootstrap interval):" in text


def test_it_claims_no_licence_language_or_hub_data_that_gpt1_does_not_know(run: Path) -> None:
    data = metadata((run / "model" / "README.md").read_text(encoding="utf-8")).to_dict()
    assert not {"license", "language", "datasets", "base_model"} & data.keys()


def test_results_do_not_touch_what_the_model_is(run: Path) -> None:
    """Weights, gpt1.json and checksums stay those of the best evaluation."""
    assert Classifier.open(run).predict(Classifier.open(run).examples(["fine"]))[0]["label"] in ("negative", "positive")


def test_a_run_on_the_hubs_data_names_it() -> None:
    config = replace(SIZES["tiny"], head=Head("classification", 2))
    scores = {"test": {"accuracy": 0.9, "loss": 0.1, "examples": 5}, "baseline_split": "test"}
    results = Results(scores, "imdb", "stanfordnlp/imdb", "openai-community/openai-gpt")
    text = model_card(
        config, pretokenizer="fast", labels=("no", "yes"), max_length=8, provenance={}, differences=(), results=results
    )
    data = metadata(text)
    assert data.datasets == ["stanfordnlp/imdb"]
    assert data.base_model == "openai-community/openai-gpt"
    assert [(each.metric_type, each.metric_value) for each in data.eval_results] == [("accuracy", 0.9)]
    assert "| GPT-1 | 0.900 |" in text


def test_a_language_models_card_has_its_perplexity() -> None:
    scores = {"valid": {"loss": 1.0, "perplexity": 2.72, "bits_per_byte": 1.5, "tokens": 1000, "bytes": 4000}}
    text = model_card(
        SIZES["tiny"], pretokenizer="fast", labels=(), max_length=8, provenance={}, differences=(),
        results=Results(scores, "novels"),
    )  # fmt: skip
    assert [(each.metric_type, each.metric_value) for each in metadata(text).eval_results] == [
        ("perplexity", 2.72),
        ("bits_per_byte", 1.5),
    ]
    assert "novels, valid split, 1,000 tokens:" in text


@pytest.mark.parametrize(
    ("head", "lines"),
    [
        (None, ['gpt1 generate DIR "a prompt"', 'print(model.generate("a prompt"))']),
        (
            Head("classification", 2),
            ['gpt1 predict DIR "a text"', 'print(pipeline("text-classification", "DIR")("a text"))'],
        ),
        (
            Head("entailment", 3),
            ['gpt1 predict DIR "a premise" "a hypothesis"', 'print(model.predict([("a premise", "a hypothesis")]))'],
        ),
        (Head("similarity", 1, regression=True), ['gpt1 predict DIR "a text" "another text"']),
        (
            Head("multiple-choice", 1),
            ['print(model.predict([("a context", ["a choice", "another choice"])]))', "## Limitations"],
        ),
    ],
    ids=lambda value: value.task if isinstance(value, Head) else "",
)
def test_the_card_has_an_example_of_its_task(head: Head | None, lines: list[str]) -> None:
    text = model_card(
        replace(SIZES["tiny"], head=head), pretokenizer="fast", labels=(), max_length=8, provenance={}, differences=()
    )
    assert set(lines) <= set(text.splitlines())


def test_the_cards_examples_are_valid_for_their_tasks() -> None:
    """Both the command-line arguments and the Python values."""
    for name, task in TASKS.items():
        arguments, values = EXAMPLES[name]
        [example] = task.examples(ast.literal_eval(values), "values")
        given = task.input_kind.from_arguments(shlex.split(arguments), "arguments")
        assert given and (given.parts, given.choices) == (example.parts, example.choices)


@pytest.mark.parametrize("name", ["no", "x: y", "日本", "- a", "#1", "", '"', "1.5", "null", "a\nb", "plain"])
def test_a_name_survives_the_yaml(name: str) -> None:
    config = replace(SIZES["tiny"], head=Head("classification", 2))
    scores = {"test": {"accuracy": 0.5, "examples": 5}, "baseline_split": "test"}
    text = model_card(
        config,
        pretokenizer="fast",
        labels=(),
        max_length=8,
        provenance={},
        differences=(),
        results=Results(scores, name),
    )
    assert metadata(text).to_dict()["model-index"][0]["results"][0]["dataset"]["name"] == name


def test_only_names_of_the_hub_are_repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert repository("imdb", "dataset") == "stanfordnlp/imdb"
    assert repository("owner/name:part", "dataset") == "owner/name"
    assert repository("openai-gpt", "model") == "openai-community/openai-gpt"
    assert repository("reviews", "dataset") is repository("mini", "model") is None
    (tmp_path / "imdb").mkdir()
    assert repository("imdb", "dataset") is None


# ---- push


def test_push_uploads_the_model_and_never_a_checkpoint(
    run: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "report.html").write_text("<p>report</p>")
    (run / "model" / "notes.txt").write_text("mine")
    assert main(["push", str(run), REPO, "--json"]) == 0
    captured = capsys.readouterr()
    assert published(hub).keys() == FILES | {"report.html"}
    for name in FILES:
        assert published(hub)[name] == (run / "model" / name).read_bytes()
    told = json.loads(captured.out)
    assert told["url"] == f"{hub.url}/{REPO}"
    assert told["commit"] in hub.repos["model", REPO].commits
    assert "Not uploaded, because gpt1 did not write them: notes.txt" in captured.err
    assert not hub.repos["model", REPO].private


def test_what_was_pushed_is_a_model_of_gpt1(run: Path, hub: FakeHub, tmp_path: Path) -> None:
    assert main(["push", str(run), REPO]) == 0
    for name, content in published(hub).items():
        (tmp_path / "back").mkdir(exist_ok=True)
        (tmp_path / "back" / name).write_bytes(content)
    texts = ["Warm, funny and over far too soon."]
    assert api.predict_texts(tmp_path / "back", texts) == api.predict_texts(run, texts)


def test_a_bare_model_directory_is_pushed_to_a_private_repository_and_a_branch(run: Path, hub: FakeHub) -> None:
    assert main(["push", str(run / "model"), REPO, "--private", "--revision", "second"]) == 0
    assert hub.repos["model", REPO].private
    assert published(hub, "second").keys() == FILES
    assert published(hub, "main") == {}


def test_licence_and_language_go_into_the_card(run: Path, hub: FakeHub) -> None:
    assert main(["push", str(run), REPO, "--license", "cc-by-4.0", "--language", "en"]) == 0
    text = published(hub)["README.md"].decode()
    local = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert (metadata(text).license, metadata(text).language) == ("cc-by-4.0", "en")
    assert metadata(text).eval_results == metadata(local).eval_results
    assert text.partition("\n# ")[2] == local.partition("\n# ")[2]


def test_pushing_again_is_another_commit(run: Path, hub: FakeHub) -> None:
    assert main(["push", str(run), REPO]) == main(["push", str(run), REPO]) == 0
    assert len(hub.repos["model", REPO].commits) == 3


def test_a_public_repository_is_not_taken_for_a_private_one(
    run: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.commit(REPO, {})
    assert main(["push", str(run), REPO, "--private"]) == 2
    assert f"--private: {hub.url}/{REPO} already exists and is public" in capsys.readouterr().err
    assert published(hub) == {}


def test_an_unfinished_run_is_pushed_without_results(
    run: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "metrics.json").unlink()
    assert main(["push", str(run), REPO]) == 0
    assert "is not finished: the model card has no results" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (
            lambda run, hub, env: env.delenv("HF_TOKEN"),
            "no token for the Hugging Face hub: create one with write access",
        ),
        (lambda run, hub, env: env.setenv("HF_TOKEN", "hf_wrong"), "rejected the token (401): run `hf auth login`"),
        (lambda run, hub, env: env.setenv("HF_TOKEN", hub.reader), f"the token cannot write to {REPO} (403)"),
        (lambda run, hub, env: hub.stop(), "cannot be reached (ConnectError: "),
        (lambda run, hub, env: setattr(hub, "down", HTTPStatus.BAD_GATEWAY), "responded with status 502"),
        (lambda run, hub, env: shutil.rmtree(run / "model"), "this run has no model yet"),
        (lambda run, hub, env: (run / "model" / "vocab.json").unlink(), "vocab.json: missing; the directory is incomp"),
        (
            lambda run, hub, env: (run / "model" / "model.safetensors").write_bytes(b"cut"),
            "model.safetensors: its sha256 is not the one in gpt1.json",
        ),
        (lambda run, hub, env: (run / "model" / "gpt1.json").unlink(), "not a model directory of gpt1 (gpt1.json is"),
    ],
    ids=[
        "no token",
        "wrong token",
        "reader",
        "no network",
        "hub down",
        "no model",
        "no vocabulary",
        "damaged",
        "foreign",
    ],
)
def test_what_keeps_a_model_from_the_hub_is_one_line(
    break_it: Any, said: str, run: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    break_it(run, hub, monkeypatch)
    assert main(["push", str(run), REPO]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gpt1: ")]
    assert said in line
    assert ("model", REPO) not in hub.repos


def test_a_name_that_is_no_repository_is_refused(run: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a/b/c", "mine", "mine/"):
        assert main(["push", str(run), name]) == 2
        assert f"{name}: expected OWNER/NAME, where OWNER is your user or organization" in capsys.readouterr().err


def test_mini_is_no_directory_to_push(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", "mini", REPO]) == 2
    assert "mini (bundled with gpt1): not a run or model directory" in capsys.readouterr().err
