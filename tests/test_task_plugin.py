"""Tasks of other packages, registered by an entry point. Run: pytest tests/test_task_plugin.py

The package is the example of CONTRIBUTING.md, written with its metadata to a folder on sys.path.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt1.cli import main
from gpt1.config import PAPER_TASKS
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.inference.classifier import Classifier
from gpt1.inference.explainer import Explainer
from gpt1.tasks import GROUP, TASKS, find_task

pytest.importorskip("torch", reason="one backend is enough here: MindSpore compiles for each of many short runs")

CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
SHOWN = re.findall(r"^```(python|toml)\n(.*?)^```$", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
CODE = next(text for kind, text in SHOWN if kind == "python" and "sequences" in text)
PROJECT = tomllib.loads(next(text for kind, text in SHOWN if kind == "toml" and GROUP in text))
[(NAME, TARGET)] = PROJECT["project"]["entry-points"][GROUP].items()
[MODULE] = PROJECT["tool"]["setuptools"]["py-modules"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on sys.path."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder on sys.path with the package of the guide, and a run of its task."""
    folder = tmp_path_factory.mktemp("guide")
    install(folder, CODE, MODULE, f"{NAME} = {TARGET}")
    write_headlines(folder / "news.csv")
    run = ["--data", str(folder / "news.csv"), "--out", str(folder / "run"), "--model", "random:tiny"]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        assert main(["finetune", *run, "--task", NAME, "--max-steps", "2", "--no-baseline"]) == 0
        yield folder


def install(site: Path, code: str, module: str, entry: str, package: str = "headlines") -> None:
    """Write the files of an installed package of one module."""
    sys.modules.pop(module, None)
    (site / f"{module}.py").write_text(code, encoding="utf-8")
    metadata = site / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{entry}\n")


def write_headlines(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text_a", "text_b", "label"])
        for i in range(40):
            good = i % 2
            rows.writerow([f"{'sun' if good else 'rain'} again {i}", f"it was a day {i}", "good" if good else "bad"])


def test_the_task_of_the_guide_trains_and_labels_and_explains(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    details = json.loads((trained / "run" / "model" / "gpt1.json").read_text(encoding="utf-8"))
    assert details["model"]["head"]["task"] == NAME
    said = f"gpt1 builds the input sequences by the task {NAME} of another package"
    assert details["huggingface_differences"] == [said]
    assert main(["explain", str(trained / "run"), "sun again", "it was a day", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [[word["text"] for word in text["words"]] for text in found["texts"]] == [
        ["sun", "again"],
        ["it", "was", "a", "day"],
    ]
    assert not found["truncated"]


def test_its_sequence_is_what_the_guide_says(trained: Path) -> None:
    assert find_task(NAME).sequences(Example(("head", "body"))) == [[("headline:", "head"), ("body",)]]
    assert find_task(NAME) is find_task(NAME)


def test_a_text_of_the_tasks_own_does_not_shift_the_words(trained: Path) -> None:
    """Attributions belong to the texts of the example, which follow the text of the task."""
    model = Classifier.open(trained / "run")
    example = model.example(["sun again", "it was a day"])
    [sequence] = model.encode([example]).sequences
    tokenizer = model.model.tokenizer
    texts = Explainer(model)._texts(example)
    for text, words in zip(texts, example.parts, strict=True):
        [(_, start, length)] = text.spans
        assert [*sequence[start : start + length]] == tokenizer.encode(words)


def test_the_papers_tasks_are_those_of_the_settings() -> None:
    assert tuple(TASKS) == PAPER_TASKS


def test_a_model_of_a_task_whose_package_is_gone_says_so(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(trained)])
    assert main(["predict", str(trained / "run"), "a", "b"]) == 2
    assert f"this model's task {NAME}: unknown task; expected one of classification, " in capsys.readouterr().err


GOOD = """
from gpt1.tasks import CHOICES, SINGLE, Task
class Mine(Task):
    name = "mine"
    input_kind = SINGLE
    def sequences(self, example):
        return [[example.parts]]
"""
BROKEN = {
    "no import": ("import no_such_module", r"cannot be loaded \(ModuleNotFoundError: "),
    "no class": ("", r"cannot be loaded \(AttributeError: "),
    "another name": (GOOD.replace('"mine"', '"yours"'), "its name is 'yours', expected 'mine' as in the entry point"),
    "choices": (GOOD.replace("= SINGLE", "= CHOICES"), "its input_kind choices has choices, which the class"),
    "no input kind": (
        GOOD.replace("input_kind = SINGLE", ""),
        "its input_kind is None, expected SINGLE, PAIR or an InputKind",
    ),
    "a kind by name": (
        GOOD.replace("= SINGLE", '= "single"'),
        "its input_kind is 'single', expected SINGLE, PAIR or an Input",
    ),
    "no task": (GOOD.replace("(Task)", ""), "expected a subclass of gpt1.tasks.Task"),
    "two sequences": (
        GOOD.replace("[[example.parts]]", "[[example.parts]] * 2"),
        "expected one sequence of at most",
    ),
    "a text changed": (GOOD.replace("[[example.parts]]", '[[("TEXT",)]]'), "that contain each text unchanged"),
    "no sequences": (GOOD.replace("def sequences", "def order"), "abstract method '?sequences"),
    "fails": (GOOD.replace("return", "raise ValueError('off')\n        return"), r"\(ValueError: off\)"),
}


@pytest.mark.parametrize(("code", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_task_is_named_with_its_package(site: Path, code: str, said: str) -> None:
    install(site, code, "broken", "mine = broken:Mine")
    with pytest.raises(UserError, match=f"--task mine: broken:Mine of headlines.*{said}"):
        find_task("mine")


def test_two_packages_of_one_name_are_refused(site: Path) -> None:
    install(site, GOOD, "first", "mine = first:Mine", "one")
    install(site, GOOD, "second", "mine = second:Mine", "two")
    with pytest.raises(UserError, match=r"--task mine: registered by both (one and two|two and one)"):
        find_task("mine")


def test_an_unknown_task_names_the_papers_and_the_added(site: Path) -> None:
    install(site, GOOD, "first", "mine = first:Mine")
    with pytest.raises(
        UserError,
        match=r"--task mien: unknown task; expected one of .*classification, .*multiple-choice, regression, mine, or",
    ):
        find_task("mien")
