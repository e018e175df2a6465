"""Errors for labels that are not valid Unicode, with file and row. Run: pytest tests/test_unicode_labels.py"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpt1.cli import main
from gpt1.data.examples import read_examples
from gpt1.errors import UserError

HALF = "label' contains half of a character (\\ud800 alone)"


def test_a_lone_surrogate_in_a_label_names_file_and_row(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_text("".join(json.dumps({"text": "a story", "label": label}) + "\n" for label in ("good", "\ud800")))
    with pytest.raises(UserError) as refused:
        read_examples(path)
    assert str(refused.value).startswith(f"reviews.jsonl row 2: '{HALF}; ")


def test_finetune_refuses_it_in_one_line_before_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reviews.jsonl").write_text(json.dumps({"text": "a story", "label": "\ud800"}) + "\n")
    assert main(["finetune", "--data", "reviews.jsonl", "--out", "run", "--model", "random:tiny"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines()[-1] == f"gpt1: reviews.jsonl row 1: '{HALF}"
    assert not Path("run").exists()


def test_a_label_from_python_is_named_by_its_index() -> None:
    pytest.importorskip("torch")
    from gpt1 import GPT1Classifier

    with pytest.raises(UserError, match=r"y\[1\]: contains half of a character \(\\ud800 alone\)"):
        GPT1Classifier("random:tiny").fit(["one", "two"], ["a", "\ud800"])
