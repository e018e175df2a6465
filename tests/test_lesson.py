"""The lesson is true in both languages: its Python prints what stands below it, its commands parse, its links lead on.

Run: pytest tests/test_lesson.py
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

import gpt1
from gpt1 import api
from gpt1.cli import main
from gpt1.config import FinetuneConfig
from gpt1.config.overrides import setting_holders

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = ROOT / "docs" / "mindspore.md", ROOT / "docs" / "mindspore.zh-CN.md"
PAGES = {"en": ENGLISH.read_text(encoding="utf-8"), "zh-CN": CHINESE.read_text(encoding="utf-8")}

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, text) of each block of code, in order."""
    return BLOCK.findall(page)


def prose(page: str) -> str:
    return BLOCK.sub("", COMMENT.sub("", page))


def spans(page: str) -> list[str]:
    """What stands in backticks in a line."""
    return re.findall(r"`([^`\n]+)`", prose(page))


FOUND = blocks(PAGES["en"])
SNIPPETS = [(code, said) for (kind, code), (_, said) in pairwise(FOUND) if kind == "python"]
COMMANDS = [
    line.removeprefix("$ ")
    for kind, text in FOUND
    if kind == "console"
    for line in text.splitlines()
    if line.startswith("$ ")
]


@pytest.mark.parametrize(("code", "said"), SNIPPETS, ids=range(1, len(SNIPPETS) + 1))
def test_a_snippet_prints_what_stands_below_it(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "mindspore" in code.replace("mindspore-imdb", ""):
        importlib.import_module("gpt1.backends.mindspore")  # keeps MindSpore's warnings away
        pytest.importorskip("mindspore")
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "the lesson", "exec"), {"__name__": "lesson"})
    assert out.getvalue() == said


def test_every_snippet_has_its_output() -> None:
    after = [after for (kind, _), (after, _) in zip(FOUND, [*FOUND[1:], ("", "")], strict=True) if kind == "python"]
    assert after == ["text"] * len(SNIPPETS)
    assert len(SNIPPETS) > 8


@pytest.mark.parametrize("command", [command for command in COMMANDS if "gpt1" in command.split()])
def test_a_command_is_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    for name in api.__all__:
        monkeypatch.setattr(api, name, lambda *args, **flags: ran.append(args) or {})
    words = shlex.split(command)
    assert main(words[words.index("gpt1") + 1 :]) == 0  # msrun's words stand before it
    assert len(ran) == 1


def test_the_example_has_the_flags_that_the_lesson_gives_it() -> None:
    [command] = [command for command in COMMANDS if command.startswith("python examples/")]
    script, *words = shlex.split(command)[1:]
    text = (ROOT / script).read_text(encoding="utf-8")
    flags = [word for word in words if word.startswith("--")]
    assert flags
    assert all(f'"{flag}"' in text for flag in flags)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_what_the_lesson_names_is_there(page: str) -> None:
    folder = ROOT / "src" / "gpt1" / "backends" / "mindspore"
    files = [folder / f"{name}.py" for name in ("model", "functional", "losses")]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    there = {node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    table = page[page.index("| `GPT1` |") : page.index("### 2.1")]
    rows = [row for row in table.splitlines() if row.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named >= {"GPT1", "Block", "Attention", "Attend", "Gelu", "Affine", "Normalise", "LmLoss"}
    assert named <= there
    settings = setting_holders(FinetuneConfig())
    for span in spans(page):
        if re.fullmatch(r"[a-z_]+=[-\d.e]+", span):
            assert span.partition("=")[0] in settings, span
        for name in re.findall(r"\bgpt1\.(\w+)\(", span):
            assert name in gpt1.__all__, span
        if "gpt1." in span and "(" in span:
            for call in (node for node in ast.walk(ast.parse(span)) if isinstance(node, ast.Call)):
                known = {"metric"} if ast.unparse(call.func) == "gpt1.finetune" else set(settings)
                assert {keyword.arg for keyword in call.keywords} <= known, span
        if span.startswith("--"):
            assert span.split()[0].removeprefix("--").replace("-", "_") in settings, span


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_its_links_lead_somewhere(page: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", prose(page)) if not link.startswith("http")]
    assert len(links) >= 4
    for link in links:
        assert (ENGLISH.parent / link.partition("#")[0]).exists(), link


def test_both_languages_say_the_same() -> None:
    """Code, outputs, places to fill, headings, tables and names are equal; only the words differ."""
    english, chinese = PAGES.values()
    assert blocks(english) == blocks(chinese)
    assert COMMENT.findall(english) == COMMENT.findall(chinese)
    assert _outline(english) == _outline(chinese)
    assert sorted(spans(english)) == sorted(spans(chinese))


def _outline(page: str) -> list[str]:
    """The level and number of each heading, and each row of a table as its number of cells."""
    lines = prose(page).splitlines()
    return [
        re.match(r"#+ ?[\d.]*", line)[0].strip() if line.startswith("#") else str(line.count("|"))
        for line in lines
        if line.startswith(("#", "|"))
    ]
