"""Sample files, a finished run of each task, and copies of them to damage."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import shutil
from pathlib import Path

import pytest

from support.command_line import done

ROUNDING = 1e-6
"""Probabilities of a text in float32 depend on the other texts only by the order of sums."""

TINY = ["--model", "random:tiny", "--dtype", "float32"]
QUICK = [*TINY, "--batch-size", "8", "--epochs", "1", "--no-baseline"]

GOOD = ("a warm and funny story", "lovely light and lovely people", "what a delight to read it")
BAD = ("a dull and noisy story", "cold dirty rooms and rude people", "what a waste of my time")


def labelled(count: int = 40) -> list[tuple[str, str]]:
    return [(f"{(BAD, GOOD)[i % 2][i // 2 % 3]}, said number {i}", ("bad", "good")[i % 2]) for i in range(count)]


def csv_text(*rows: tuple[str, ...], header: str = "text,label") -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return f"{header}\n{text.getvalue()}"


def json_lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


FILES: dict[str, str | bytes] = {
    "reviews.csv": csv_text(*labelled()),
    "new.csv": csv_text(*((text, "") for text, _ in labelled(23)[::-1])),
    "pairs.jsonl": json_lines(
        *(
            {"text_a": a, "text_b": b, "label": (len(a) * 7 + i) % 50 / 10}
            for i, (a, b) in enumerate(zip(GOOD * 8, BAD * 8, strict=True))
        )
    ),
    "choices.jsonl": json_lines(
        *(
            {"context": a, "choices": [b, a], "label": i % 2}
            for i, (a, b) in enumerate(zip(GOOD * 8, BAD * 8, strict=True))
        )
    ),
    "other-names.csv": csv_text(*labelled(), header="body,verdict"),
    "empty.csv": "",
    "header.csv": "text,label\n",
    "columns.csv": csv_text(("1", "2"), header="first,second"),
    "blank.csv": csv_text(*labelled(6), ("   ", "good")),
    "one-label.csv": csv_text(*((text, "good") for text, _ in labelled())),
    "all-different.csv": csv_text(*((text, f"label {i}") for i, (text, _) in enumerate(labelled()))),
    "latin.csv": b"text,label\na fine caf\xe9,good\n",
    "broken.jsonl": '{"text": "fine", "label": 1}\n{"text": "fine", "label"\n',
    "short.csv": csv_text(*labelled(4)) + "a text alone\n",
    "nan.jsonl": '{"text": "fine", "label": 0.5}\n{"text": "fine", "label": NaN}\n',
    "mixed.jsonl": json_lines(
        {"context": "a", "choices": ["b", "c"], "label": 0}, {"context": "a", "choices": ["b", "c", "d"], "label": 0}
    ),
    "unseen/train.csv": csv_text(*labelled(20)),
    "unseen/test.csv": csv_text(("fine", "good"), ("so-so", "mixed")),
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


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files and a finished run of each task."""
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


@pytest.fixture
def in_world(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `world` the working directory."""
    monkeypatch.chdir(world)


def file_digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def run_copy(in_world: None, tmp_path: Path) -> Path:
    """A copy of a run, to be damaged."""
    return Path(shutil.copytree("run", tmp_path / "copy"))
