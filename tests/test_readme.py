"""The README is true, and says the same in both languages. Run: pytest tests/test_readme.py

Its commands parse, its sessions print lines of this form, its tree is the repository's, its links lead on. The
commands of docs/usage.md parse too, and those of `make demo` are the ones of the Makefile.
"""

from __future__ import annotations

import csv
import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from gpt1 import api
from gpt1.cli import main
from gpt1.config.recipes import recipe
from gpt1.tasks.dataset import load_data

ROOT = Path(__file__).parents[1]
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")}
USAGE = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SESSIONS = [text for kind, text in BLOCK.findall(PAGES["README.md"]) if kind == "console"]
TREE = re.compile(r"^```\nsrc/gpt1/\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d(?:[\d.,]*\d)?")


def prose(page: str) -> str:
    return BLOCK.sub("", page)


def commands(text: str) -> list[str]:
    """Return the lines of blocks that call gpt1, with continued lines joined."""
    lines = "\n".join(block for _, block in BLOCK.findall(text)).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if re.match(r"(\$ )?(gpt1|torchrun|msrun) ", line)]


def session(text: str) -> list[tuple[str, list[str]]]:
    """Return [(command, lines below it)]."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        else:
            found[-1][1].append(line)
    return found


# ---- commands


@pytest.mark.parametrize(
    "command", dict.fromkeys(itertools.chain.from_iterable(map(commands, (*PAGES.values(), USAGE, CONTRIBUTING))))
)
def test_a_command_is_understood(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def stub(*args: Any, **flags: Any) -> dict[str, Any]:
        ran.append(args)
        return {"rows": [], "tokens": [{"token": "a", "probability": 1.0}]}

    for name in api.__all__:
        monkeypatch.setattr(api, name, stub)
    for name in ("print_some", "print_lines"):  # results are not what is tested here
        for module in ("inference", "tools"):
            monkeypatch.setattr(f"gpt1.cli.{module}.{name}", lambda *_: None, raising=False)
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command, comments=True)
    words = words[: next((i for i, word in enumerate(words) if word in (">", "|")), len(words))]
    assert main(words[words.index("gpt1") + 1 :]) == 0, capsys.readouterr().err
    assert len(ran) == 1


def test_the_demo_of_the_makefile_is_the_one_that_is_shown() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe_of_demo = re.search(r"^demo: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]  # type: ignore[index]
    run = [line.partition("gpt1 ")[2] for line in recipe_of_demo.replace("$(DEMO)", "runs/demo").splitlines()]
    shown = USAGE[USAGE.index("## What `make demo` runs") : USAGE.index("## Your own data")]
    there = [command.removeprefix("gpt1 ") for command in commands(shown)]
    assert [command for command in run if command] == [command for command in there if "--json" not in command]
    for page in PAGES.values():
        assert "make demo" in page and "make test" in page


# ---- what the sessions print


def form(line: str) -> str:
    """Return what remains of a line where numbers, bars, labels and the machine are left out."""
    line = line.replace("random:tiny", "mini")
    line = re.sub(r"cpu( \(\d+ threads?\))?, (bfloat16|float32)", "DEVICE", line)
    line = re.sub(r"; --dtype .*", "", line)  # a remark of machines that compute bfloat16 fast
    line = re.sub(r"\b(positive|negative)\b", "LABEL", line)
    line = re.sub(r"[-+]?\d(?:[\d.,]*\d)?(e-\d+)?%?", "#", line)
    return re.sub(r"[█─\s]+|\(best\)", " ", line).strip()


QUICK = ["--model", "random:tiny", "--tokenizer", "mini", "--max-steps", "2"]


def printed(command: str, capfd: pytest.CaptureFixture[str], *more: str) -> list[str]:
    capfd.readouterr()
    assert main([*shlex.split(command)[1:], *more]) == 0, capfd.readouterr().err
    return "\n".join(capfd.readouterr()).splitlines()


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def missing(lines: list[str], said: list[str]) -> list[str]:
    """Return the lines of a page that have the form of none that were printed."""
    forms = {form(line) for line in said}
    return [line for line in lines if line not in ("", "…") and form(line) not in forms]


def test_the_sessions_of_your_csv_and_of_looking_inside_print_lines_of_this_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With two steps of a tiny model; what mini expects and writes is compared to the letter."""
    pytest.importorskip("torch", reason="the page was printed by PyTorch")
    monkeypatch.chdir(tmp_path)
    for split, examples in load_data(recipe("quickstart", data="reviews")).splits.items():
        rows: list[list[object]] = [[example.parts[0], example.label] for example in examples]
        write_csv(tmp_path / "my" / f"{split}.csv", ["review", "sentiment"], rows)
    new = [[1, "Warm, funny and over far too soon."], [2, "The handle broke on the second day."]]
    write_csv(tmp_path / "new.csv", ["id", "review"], new)
    for command, lines in (*session(SESSIONS[0]), *session(SESSIONS[2])):
        if command.startswith("cat "):
            assert missing(lines, Path(command.split()[1]).read_text(encoding="utf-8").splitlines()) == []
            continue
        if "convert" in command:
            pytest.importorskip("onnxruntime")
        more = QUICK if " finetune " in command else []
        said = printed(command, capfd, *more)
        if command.split()[2] == "mini":
            assert [line for line in lines if not re.match(r"\d+ tokens in ", line)] == [
                line for line in said if line in lines
            ]
        assert missing(lines, said) == [], command


def test_the_imdb_session_is_the_lessons_and_has_lines_of_this_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    lesson = (ROOT / "docs" / "mindspore.md").read_text(encoding="utf-8").splitlines()
    [(command, lines)] = session(SESSIONS[1])
    assert [line for line in lines if line not in lesson] == []
    assert f"$ {command}" in lesson
    pytest.importorskip("torch", reason="a run on PyTorch is quick to start")
    monkeypatch.chdir(tmp_path)
    long = "a fine film " * 300
    for split in ("train", "test"):
        rows: list[list[object]] = [
            [f"{'good' if i % 2 else 'bad'} {i} {long if i % 4 < 2 else ''}", i % 2] for i in range(200)
        ]
        rows += [["the same words", 0]] * 10 * (split == "test")
        write_csv(tmp_path / "data" / "imdb" / f"{split}.csv", ["text", "label"], rows)
    said = printed(command.replace("--backend mindspore", ""), capfd, *QUICK)
    assert missing([line for line in lines if not line.startswith("MindSpore compiled")], said) == []


# ---- the tree, the links


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_the_map_names_every_entry_of_the_package(page: str) -> None:
    lines = TREE.search(page)[1].splitlines()  # type: ignore[index]
    shown = {line.split()[0].rstrip("/") for line in lines}
    entries = {path.name for path in (ROOT / "src" / "gpt1").iterdir()}
    assert shown == entries - {"__init__.py", "__main__.py", "__pycache__", "py.typed"}


@pytest.mark.parametrize("name", [*PAGES, "CONTRIBUTING.md", "docs/usage.md"])
def test_links_lead_somewhere(name: str) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", prose(page)) if not link.startswith("http")]
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, link


# ---- both languages


def outline(page: str) -> list[str]:
    """The level of each heading, and each row of a table as its number of cells."""
    lines = [line for line in prose(page).splitlines() if line.startswith(("#", "|"))]
    return [line.split()[0] if line.startswith("#") else str(line.count("|")) for line in lines]


def test_both_languages_say_the_same() -> None:
    """Sections, commands, outputs, numbers, names and links are equal; words differ, and the comments of the tree."""
    english, chinese = PAGES.values()
    blocks, zh_blocks = ([text for _, text in BLOCK.findall(page)] for page in PAGES.values())
    assert [text for text in blocks if not text.startswith("src/")] == [
        text for text in zh_blocks if not text.startswith("src/")
    ]
    tree, zh_tree = ([line.split()[0] for line in TREE.search(page)[1].splitlines()] for page in PAGES.values())  # type: ignore[index]
    assert tree == zh_tree
    assert outline(english) == outline(chinese)
    assert sorted(re.findall(r"`([^`\n]+)`", prose(english))) == sorted(re.findall(r"`([^`\n]+)`", prose(chinese)))
    numbers = [sorted(NUMBER.findall(re.sub(r"\]\([^)]*\)", "]", prose(page)))) for page in PAGES.values()]
    assert numbers[0] == numbers[1]
    links = [
        [link.replace(".zh-CN.md", ".md") for link in re.findall(r"\]\(([^)]+)\)", prose(page))]
        for page in PAGES.values()
    ]
    assert sorted(links[0]) == sorted(links[1])
