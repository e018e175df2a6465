"""Commands, links, tables and the Python reference of the pages are real. Run: pytest tests/test_docs.py"""

from __future__ import annotations

import ast
import dataclasses
import doctest
import importlib.util
import inspect
import itertools
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gpt1
from gpt1 import api, config
from gpt1.checkpoint.loading import open_model
from gpt1.cli import main
from gpt1.inference.loaded_model import LoadedModel
from gpt1.tokenization.tokenizer import Tokenizer
from support.pages import PAGES, READMES, ROOT, anchors, blocks, commands, prose, read, section

# ---- commands


@pytest.mark.parametrize(
    "command", dict.fromkeys(itertools.chain.from_iterable(commands(read(page)) for page in PAGES))
)
def test_a_command_is_understood(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def stub(*args: Any, **flags: Any) -> dict[str, Any]:
        ran.append(args)
        return {"rows": [], "problems": [], "tokens": [{"token": "a", "probability": 1.0}]}

    for name in api.__all__:
        monkeypatch.setattr(api, name, stub)
    monkeypatch.setattr(
        "gpt1.training.defaults.open_model", lambda *_, **__: open_model("mini")
    )  # the page's may not exist
    for name in ("print_some", "print_predictions", "print_lines"):  # results are not what is tested here
        for module in ("inference", "tools"):
            monkeypatch.setattr(f"gpt1.cli.{module}.{name}", lambda *_: None, raising=False)
    monkeypatch.setattr("gpt1.cli.checking.show", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command, comments=True)
    words = words[: next((i for i, word in enumerate(words) if word in (">", "|")), len(words))]
    assert main(words[words.index("gpt1") + 1 :]) == 0, capsys.readouterr().err
    assert len(ran) == 1


def test_the_demo_of_the_makefile_is_the_one_that_is_shown() -> None:
    makefile = read("Makefile")
    recipe_of_demo = re.search(r"^demo: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]  # type: ignore[index]
    run = [line.partition("gpt1 ")[2] for line in recipe_of_demo.replace("$(DEMO)", "runs/demo").splitlines()]
    shown = section(read("docs/installing.md"), "What `make demo` runs")
    there = [command.removeprefix("gpt1 ") for command in commands(shown)]
    assert [command for command in run if command] == [command for command in there if "--json" not in command]
    for name in READMES:
        assert "make demo" in read(name)
        assert "make test" in read(name)


# ---- links and tables


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_existing_files_and_headings(name: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", prose(read(name))):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_the_index_has_every_page() -> None:
    index = read("docs/index.md")
    missing = [name for name in PAGES if name.startswith("docs/") and f"]({name.removeprefix('docs/')})" not in index]
    assert missing == ["docs/index.md"]


def test_the_architecture_page_names_every_entry_of_the_package() -> None:
    [tree] = [text for _, text in blocks(read("docs/architecture.md")) if text.startswith("src/gpt1/\n")]
    shown = {line.split()[0].rstrip("/") for line in tree.splitlines()[1:]}
    entries = {path.name for path in (ROOT / "src" / "gpt1").iterdir()}
    assert shown == entries - {"__init__.py", "__main__.py", "__pycache__", "py.typed"}


@pytest.mark.parametrize("heading", ["Where to find", "Where a change goes"])
def test_the_architecture_page_names_existing_files(heading: str) -> None:
    table = section(read("docs/architecture.md"), heading)
    names = re.findall(r"`([\w/*-]+(?:/|\.py|\.js|\.json|\.md|\.toml))`", table)
    assert len(names) > 10
    for name in names:
        assert [*(ROOT / "src" / "gpt1").glob(f"**/{name}"), *ROOT.glob(name)], name


# ---- the Python reference

REFERENCE = read("docs/python.md")
SIGNATURE = re.compile(r"^([\w.]+)(\(.*?)(?=^[\w.]+\(|\Z)", re.MULTILINE | re.DOTALL)
SHOWN = {
    name: rest
    for kind, text in blocks(REFERENCE)
    if kind == "python" and not text.startswith((">>>", "import"))
    for name, rest in SIGNATURE.findall(text)
}
"""Name -> its signature as it stands on the page, from the bracket on."""


def public_object(name: str) -> Any:
    head, _, inner = name.removeprefix("gpt1.").partition(".")
    classes = {"LoadedModel": LoadedModel, "Tokenizer": Tokenizer}
    owner = classes.get(head) or getattr(gpt1 if name.startswith("gpt1.") or inner else config, head)
    return getattr(owner, inner) if inner else owner


def normalised(rest: str) -> str:
    """Return a signature in one layout, with its annotations as they are written in the source."""
    tree = ast.parse(f"def f{rest.strip()}: ...")
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if argument is not None and isinstance(argument.annotation, ast.Constant):
            argument.annotation = ast.parse(argument.annotation.value, mode="eval").body
    if isinstance(function.returns, ast.Constant) and function.returns.value:
        function.returns = ast.parse(function.returns.value, mode="eval").body
    return ast.unparse(function)


def signature(name: str) -> str:
    found = public_object(name)
    signed = inspect.signature(found)
    parameters = [parameter for parameter in signed.parameters.values() if parameter.name != "self"]
    returns = inspect.Signature.empty if inspect.isclass(found) else signed.return_annotation
    text = str(inspect.Signature(parameters, return_annotation=returns))
    return normalised(text.replace("<factory>", "...").replace("PosixPath(", "Path(").replace("WindowsPath(", "Path("))


@pytest.mark.parametrize("name", SHOWN)
def test_a_shown_signature_is_the_functions(name: str) -> None:
    assert normalised(SHOWN[name]) == signature(name)


def test_every_public_name_has_a_section() -> None:
    headings = re.findall(r"^## gpt1\.(\w+)$", REFERENCE, re.MULTILINE)
    assert sorted(headings) == sorted(gpt1.__all__)
    assert {f"gpt1.{name}" for name in gpt1.__all__} - SHOWN.keys() == {"gpt1.UserError"}


@pytest.mark.parametrize("owner", [LoadedModel, Tokenizer, gpt1.GPT1Classifier, gpt1.GPT1Regressor])
def test_every_public_method_is_shown(owner: type) -> None:
    for name, method in inspect.getmembers(owner, callable):
        if not name.startswith("_") and method.__module__.startswith("gpt1.") and inspect.isroutine(method):
            assert f"{owner.__name__}.{name}" in SHOWN


def test_every_settings_class_is_shown() -> None:
    parts = [item.default_factory for item in dataclasses.fields(config.FinetuneConfig)]
    named = [part.__name__ for part in parts if dataclasses.is_dataclass(part)]
    assert {"FinetuneConfig", "GenerateConfig", "ModelConfig", "Head", *named} <= SHOWN.keys()


def test_the_examples_of_the_reference_print_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="a run on PyTorch is quick to start")
    monkeypatch.chdir(tmp_path)
    examples = "\n".join(text for kind, text in blocks(REFERENCE) if kind == "python" and text.startswith(">>>"))
    test = doctest.DocTestParser().get_doctest(examples, {}, "docs/python.md", None, 0)
    failed = doctest.DocTestRunner().run(test)
    assert failed.attempted > 15
    assert not failed.failed


# ---- the comparison of languages


@pytest.fixture(scope="module")
def comparison() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_languages", ROOT / "docs" / "compare_languages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ENGLISH = """# Title

117 million of 1,750 in [a table](table.md#part): `--flag`.

| a | b |
|---|---|

```
gpt1 next mini    # bars
```
"""
CHINESE = """# 标题

1,750 条里有 1.17 亿，见[表](table.md#part)：`--flag`。

| 甲 | 乙 |
|---|---|

```
gpt1 next mini    # 条形
```
"""


def test_equal_pages_have_no_differences(comparison: ModuleType) -> None:
    assert [*comparison.differences(ENGLISH, CHINESE)] == []


@pytest.mark.parametrize(
    ("there", "instead", "line"),
    [
        ("1.17 亿", "1.18 亿", "number only in English: 117000000"),
        ("next mini", "next tiny", "code block 1: -gpt1 next mini"),
        ("# 标题", "## 标题", "headings and tables: -#"),
        ("| 甲 | 乙 |", "| 甲 |", "headings and tables: -row of 2 cells"),
        ("#part", "#teil", "link only in Chinese: table.md#teil"),
        ("--flag", "--flags", "name only in Chinese: --flags"),
    ],
)
def test_a_difference_is_printed_and_is_the_exit_code(
    there: str, instead: str, line: str, comparison: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.md").write_text(ENGLISH, encoding="utf-8")
    (tmp_path / "page.zh-CN.md").write_text(CHINESE.replace(there, instead), encoding="utf-8")
    assert comparison.main([str(tmp_path / "page.md")]) == 1
    assert f"page.md: {line}" in capsys.readouterr().out


def test_all_pages_with_a_chinese_version_are_compared(comparison: ModuleType) -> None:
    assert [page.name for page in comparison.pages()] == ["README.md", "mindspore.md"]
