"""The lesson's Python prints what the page shows, in both languages, and the names on the page exist.

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
from gpt1.config import FinetuneConfig
from gpt1.config.overrides import setting_holders
from support.pages import ROOT, blocks, prose, read

PAGES = {"en": read("docs/mindspore.md"), "zh-CN": read("docs/mindspore.zh-CN.md")}


def spans(page: str) -> list[str]:
    """Return the text of each pair of backticks in a line."""
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
