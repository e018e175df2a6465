"""The sessions of the pages print lines of the form shown. Run: pytest tests/test_readme.py

Commands, links and tables of all pages: tests/test_docs.py; the lesson's Python: tests/test_lesson.py.
"""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from gpt1.cli import main
from gpt1.config.recipes import recipe
from gpt1.tasks.dataset import load_data
from support.pages import read, sessions


def form(line: str) -> str:
    """Return what remains of a line where numbers, bars, labels and the machine are left out."""
    line = line.replace("random:tiny", "mini")
    line = re.sub(r"cpu( \(\d+ threads?\))?, (bfloat16|float32)", "DEVICE", line)
    line = re.sub(r"about [\d.]+( to [\d.]+)? (s|min|h) for", "TIME", line)
    line = re.sub(r"; --dtype .*", "", line)  # a remark of machines that compute bfloat16 fast
    line = re.sub(r"\b(positive|negative)\b", "LABEL", line)
    line = re.sub(r"[-+]?\d(?:(?:[\d.,]|e-\d)*\d)?%?", "#", line)
    return re.sub(r"[█─\s]+|\(best\)", " ", line).strip()


QUICK = ["--model", "random:tiny", "--tokenizer", "mini", "--max-steps", "2"]


def printed(command: str, capfd: pytest.CaptureFixture[str], *more: str, code: int = 0) -> list[str]:
    capfd.readouterr()
    assert main([*shlex.split(command)[1:], *more]) == code, capfd.readouterr().err
    return "\n".join(capfd.readouterr()).splitlines()


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def missing(lines: list[str], said: list[str]) -> list[str]:
    """Return the lines of a page that have the form of none that were printed."""
    forms = {form(line) for line in said}
    return [line for line in lines if line not in ("", "…") and form(line) not in forms]


PAGES = [
    "README.md",
    *(f"docs/{name}.md" for name in ("classify", "installing", "tasks", "evaluate", "predict", "generate", "pretrain")),
]
LESSON = "--recipe mindspore-imdb"
LESSONS_RUN = "gpt1 finetune --recipe mindspore-imdb --data data/imdb --backend mindspore --out runs/imdb"


@pytest.fixture(scope="module")
def working_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the data that the sessions read, and `runs/demo`, two steps of a tiny model."""
    pytest.importorskip("torch", reason="the pages were printed by PyTorch")
    folder = tmp_path_factory.mktemp("sessions")
    for split, examples in load_data(recipe("quickstart", data="reviews")).splits.items():
        rows: list[list[object]] = [[example.parts[0], example.label] for example in examples]
        write_csv(folder / "my" / f"{split}.csv", ["review", "sentiment"], rows)
    new = [[1, "Warm, funny and over far too soon."], [2, "The handle broke on the second day."]]
    write_csv(folder / "new.csv", ["id", "review"], new)
    bad = "text,label\nfunny,positive\n,negative\nwarm,positive\ndull,\nlong, too long,negative\n"
    (folder / "my.csv").write_text(bad, encoding="utf-8")
    (folder / "multi.jsonl").write_text(
        '{"text": "a", "label": ["x", "y"]}\n{"text": "b", "label": ["x"]}\n', encoding="utf-8"
    )
    demo = ["finetune", "--data", "reviews", "--out", str(folder / "runs" / "demo"), *QUICK]
    assert main(demo) == 0
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_the_sessions_of_a_page_print_lines_of_this_form(
    page: str, working_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """With two steps of a tiny model; the output of mini is compared to the letter."""
    shutil.copytree(working_directory, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for command, lines in [each for session in sessions(read(page)) for each in session]:
        if LESSON in command or (" --to onnx" in command and not find_spec("onnxruntime")):
            continue
        if command.startswith("cat "):
            assert missing(lines, Path(command.split()[1]).read_text(encoding="utf-8").splitlines()) == []
            continue
        if not command.startswith("gpt1 "):
            subprocess.run(["bash", "-c", command], check=True)
            continue
        if " finetune " in command:
            shutil.rmtree(shlex.split(command.partition("--out ")[2])[0], ignore_errors=True)
        said = printed(
            command,
            capfd,
            *(QUICK if " finetune " in command and "multi.jsonl" not in command else []),
            code=2 if any(line.startswith("gpt1: ") for line in lines) else 0,
        )
        if command.split()[2] == "mini":  # nothing in it depends on the training
            assert [line for line in lines if line not in said and "; cpu (" not in line] == []
        assert missing(lines, said) == [], command


def test_the_lessons_run_has_lines_of_this_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On PyTorch, with two steps of a tiny model. The README shows the same run, if any."""
    lines = dict(each for session in sessions(read("docs/mindspore.md")) for each in session)[LESSONS_RUN]
    for again, its_lines in [each for session in sessions(read("README.md")) for each in session]:
        if LESSON in again:
            assert (again, its_lines) == (LESSONS_RUN, lines)
    pytest.importorskip("torch", reason="a run on PyTorch is quick to start")
    monkeypatch.chdir(tmp_path)
    long = "a fine film " * 300
    for split in ("train", "test"):
        rows: list[list[object]] = [
            [f"{'good' if i % 2 else 'bad'} {i} {long if i % 4 < 2 else ''}", i % 2] for i in range(200)
        ]
        rows += [["the same words", 0]] * 10 * (split == "test")
        write_csv(tmp_path / "data" / "imdb" / f"{split}.csv", ["text", "label"], rows)
    said = printed(LESSONS_RUN.replace("--backend mindspore", ""), capfd, *QUICK)
    assert missing([line for line in lines if not line.startswith("MindSpore compiled")], said) == []
