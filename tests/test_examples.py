"""The example is short, stands on public functions alone, and runs on each backend.

Run: pytest tests/test_examples.py
"""

from __future__ import annotations

import ast
import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import gpt1
from support.shared_data import SHARED_DATA

EXAMPLE = Path(__file__).parents[1] / "examples" / "imdb_finetune.py"
IMDB = SHARED_DATA / "imdb"

LINES = 60
"""What a person reads in one sitting."""

WORDS = ("warm", "dull", "funny", "long", "clever", "flat", "bright", "slow")


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A folder of 200 training and 40 test reviews, sorted by label as the original files are."""
    folder = tmp_path / "reviews"
    folder.mkdir()
    for split, count in (("train", 200), ("test", 40)):
        rows = [
            {"text": f"a {WORDS[i % 4 * 2 + label]} film number {i} .", "label": label}
            for label in (0, 1)
            for i in range(count // 2)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: Sequence[object]) -> list[str]:
    """Return what the example prints."""
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *map(str, words)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_the_example_goes_from_rows_to_predictions(
    backend: str, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    said = run(
        monkeypatch, capsys, ["--data", reviews, "--model", "random:tiny", "--backend", backend, "--out", out]
    )  # fmt: skip
    assert said[:3] == [  # a tenth of the file in equal shares, not its beginning
        "train: 14 reviews, {0: 7, 1: 7}", "valid: 6 reviews, {0: 3, 1: 3}", "test: 40 reviews, {0: 20, 1: 20}",
    ]  # fmt: skip
    results = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert (
        f"test accuracy {results['test']['accuracy']:.3f}, worst recall {results['test']['worst_recall']:.3f}" in said
    )
    assert f"40 test reviews again: accuracy {results['test']['accuracy']:.3f}" in said, (
        "the model of the run, once more"
    )
    assert said[-1].split()[0] in ("0", "1")
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["config"]["recipe"] == "mindspore-imdb"


@pytest.mark.slow
@pytest.mark.skipif(not IMDB.exists(), reason="needs the reviews of ../shared/data/imdb")
def test_the_example_runs_on_200_reviews_of_imdb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", IMDB, "--model", "random:tiny", "--max-examples", 200, "--out", tmp_path / "run"]
    assert run(monkeypatch, capsys, words)[0].startswith("train: 200 reviews")


def test_the_example_is_short_and_stands_on_public_functions_alone() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    tree = ast.parse(text)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= {"gpt1", "__future__", *sys.stdlib_module_names}
    assert not {name for name in imported if name.startswith("gpt1.")}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "gpt1"
    }
    assert used == {"recipe", "load_data", "starting_model", "finetune", "evaluate", "predict"} <= set(gpt1.__all__)
