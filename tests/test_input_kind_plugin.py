"""Input kinds of other packages, with their tasks. Run: pytest tests/test_input_kind_plugin.py

The package is the example of CONTRIBUTING.md under "Add an input kind as a plugin".
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import gpt1
from gpt1.cli import main
from gpt1.config import DeviceConfig, ServeConfig
from gpt1.data.input_kinds import InputKind, TextField
from gpt1.data.paper_kinds import CHOICES
from gpt1.errors import UserError
from gpt1.serve.server import guarded_app
from gpt1.serve.service import Service

pytest.importorskip("torch", reason="one backend is enough here: MindSpore compiles for each of many short runs")

GUIDE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
CODE = next(
    code for code in re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL) if "ARTICLE" in code
)
ARTICLE = {"title": "rain again", "body": "it was a wet day"}
SUMMARY = {"summary": "rain"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder on sys.path with the package of the guide, and a run of its task on articles with summaries."""
    folder = tmp_path_factory.mktemp("articles")
    (folder / "articles.py").write_text(CODE, encoding="utf-8")
    metadata = folder / "articles-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: articles\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[gpt1.tasks]\ntopic = articles:Topic\n")
    write_articles(folder / "news.csv", summary=True)
    command = ["finetune", "--data", str(folder / "news.csv"), "--out", str(folder / "run"), "--task", "topic"]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        assert main([*command, "--model", "random:tiny", "--max-steps", "2", "--segments"]) == 0
        yield folder
    sys.modules.pop("articles", None)


def write_articles(path: Path, *, summary: bool) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["headline", "body", *(["summary"] if summary else []), "label"])
        for i in range(40):
            topic = "sun" if i % 2 else "rain"
            rows.writerow([f"{topic} again {i}", f"it was a day {i}", *([topic] if summary else []), topic])


@pytest.fixture
def client(trained: Path) -> Iterator[TestClient]:
    service = Service.open(trained / "run", ServeConfig(), DeviceConfig(device="cpu"))
    with TestClient(guarded_app(service), raise_server_exceptions=False) as client:
        yield client


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_all_texts_of_an_example_are_in_its_sequence(trained: Path) -> None:
    model = gpt1.load(trained / "run").require_classifier()
    tokenizer = model.model.tokenizer
    [sequence] = model.encode([model.example(["rain again", "a wet day", "rain"])]).sequences
    title, body, summary = tokenizer.encode_batch(["rain again", "a wet day", "rain"])
    assert sequence.tolist() == [tokenizer.bos, *title, tokenizer.sep, *body, *summary, tokenizer.eos]
    assert model.model.config.n_segments == 2


def test_texts_of_a_command_line_make_one_example(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(trained / "run"), "rain again", "a wet day", "--json"]) == 0
    assert main(["predict", str(trained / "run"), "rain again", "a wet day", "rain", "--json"]) == 0
    without, with_summary = lines(capsys.readouterr().out)
    assert set(without["scores"]) == {"rain", "sun"}
    assert without["scores"] != with_summary["scores"]


def test_too_few_texts_are_refused_with_the_names_of_the_fields(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(trained / "run"), "rain again"]) == 2
    takes = "it takes an example with title, body and summary (optional) (TITLE BODY [SUMMARY]), 1 given"
    assert takes in capsys.readouterr().err


@pytest.mark.parametrize("summary", [True, False])
def test_rows_of_a_file_are_predicted_with_and_without_the_optional_column(
    trained: Path, tmp_path: Path, summary: bool
) -> None:
    source, output = tmp_path / "rows.csv", tmp_path / "out.jsonl"
    write_articles(source, summary=summary)
    assert main(["predict", str(trained / "run"), "--input", str(source), "--output", str(output)]) == 0
    found = lines(output.read_text(encoding="utf-8"))
    texts = ("rain again 0", "it was a day 0", *(["rain"] if summary else []))
    [expected] = gpt1.load(trained / "run", device="cpu", dtype="float32").predict([texts])
    assert len(found) == 40
    assert found[0]["scores"] == pytest.approx(
        expected["scores"], abs=1e-2
    )  # files are predicted in the default dtype of the device


def test_a_missing_column_is_named_without_a_flag(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("title,text\nrain,wet\n", encoding="utf-8")
    assert main(["predict", str(trained / "run"), "--input", str(source)]) == 2
    assert "rows.csv: no column for body (usual names: body)" in (error := capsys.readouterr().err)
    assert "--body" not in error
    assert main(["predict", str(trained / "run"), "--input", str(source), "--text-a", "title"]) == 2
    assert "--text-a does not apply to this task, which reads title, body and summary" in capsys.readouterr().err


def test_python_takes_tuples_and_refuses_other_kinds(trained: Path) -> None:
    model = gpt1.load(trained / "run")
    assert len(model.predict([("rain", "a wet day"), ("sun", "a dry day", "sun")])) == 2
    with pytest.raises(
        UserError, match=r"examples: found texts; this model's task is topic, which expects .*\(title, body, summary\)"
    ):
        model.predict(["rain"])


def test_scores_and_words_of_each_field_are_reported(trained: Path) -> None:
    results = json.loads((trained / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert "TF-IDF + logistic regression" in results["baseline"]
    for mistake in results["test"]["mistakes"]:
        assert list(mistake["words"]) == ["title", "body", "summary"]
    assert main(["report", str(trained / "run")]) == 0
    page = (trained / "run" / "report.html").read_text(encoding="utf-8")
    assert "macro" in page.lower() or "accuracy" in page.lower()
    if results["test"]["mistakes"]:
        assert ">title<" in page and ">summary<" in page


def test_the_server_describes_the_fields_and_answers(trained: Path, client: TestClient) -> None:
    schema = client.get("/openapi.json").json()["components"]["schemas"]["Article"]
    assert list(schema["properties"]) == ["title", "body", "summary"]
    assert schema["required"] == ["title", "body"]
    found = client.post("/v1/classify", json={"input": [ARTICLE, ARTICLE | SUMMARY]}).json()["data"]
    model = gpt1.load(trained / "run", device="cpu", dtype="float32")
    expected = model.predict([tuple(ARTICLE.values()), (*ARTICLE.values(), *SUMMARY.values())])
    for answer, offline in zip(found, expected, strict=True):
        assert answer["label"] == offline["label"]
        assert answer["scores"] == pytest.approx(offline["scores"], abs=1e-2)
    words = client.post("/v1/explain", json={"input": ARTICLE}).json()["texts"]
    assert [text["name"] for text in words] == ["title", "body"]
    assert client.get("/v1/models").json()["data"][0]["gpt1"]["kind"] == "article"
    # a string is not an example for a model whose examples are objects
    assert "heads" in client.post("/v1/attention", json={"input": "rain"}).json()
    assert "heads" in client.post("/v1/attention", json={"input": ARTICLE}).json()


def test_an_input_of_another_form_is_refused_with_the_expected_one(client: TestClient) -> None:
    error = client.post("/v1/classify", json={"input": "rain"}).json()["error"]["message"]
    assert 'expected: an object with "title" and "body"' in error


def test_the_estimator_trains_a_task_of_another_package(trained: Path) -> None:
    wet, dry = [("rain again", f"wet {i}") for i in range(4)], [("sun", f"dry {i}", "sun") for i in range(4)]
    classifier = gpt1.GPT1Classifier("random:tiny", task="topic", epochs=1)
    assert classifier.fit(wet + dry, ["wet"] * 4 + ["dry"] * 4).predict(wet[:1]).tolist()[0] in {"wet", "dry"}


def test_an_optional_field_before_a_required_one_is_refused() -> None:
    with pytest.raises(ValueError, match="only the last one optional"):
        InputKind("odd", (TextField("title", required=False), TextField("body")))


@pytest.mark.parametrize(("value", "matches"), [
    (("c", ["a", "b"]), True), (("c", "q", ["a", "b"]), True), (("c", ["a"]), False), (("c", "ab"), False),
    ("c", False), ((["a", "b"],), False),
])  # fmt: skip
def test_choices_are_recognised_by_the_list_at_their_end(value: Any, matches: bool) -> None:
    assert CHOICES.matches(value) is matches
