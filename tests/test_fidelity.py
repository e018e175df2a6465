"""Every row of docs/fidelity.md names existing tests. Run: pytest tests/test_fidelity.py"""

from __future__ import annotations

import ast
import dataclasses
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gpt1.config import FinetuneConfig
from gpt1.config.recipes import recipe

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ["what", "paper", "OpenAI", "transformers", "gpt1", "test"]
TEST = re.compile(r"`(tests/test_\w+\.py)::(test_\w+)`")
"""Test files that a row may name before they exist."""


def rows() -> list[list[str]]:
    """Return the cells of every table row of the page."""
    page = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")
    ]
    return [row for row in cells if row != COLUMNS and not set("".join(row)) <= {"-"}]


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_the_page_has_its_rows() -> None:
    """A changed layout must not leave the tests below without rows."""
    assert len(rows()) >= 35
    assert len({row[0] for row in rows()}) == len(rows())
    for topic in ("head", "causal mask", "weight decay", "truncation", "embeddings", "released weights"):
        assert topic in {row[0] for row in rows()}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_row_is_whole_and_names_tests_that_exist(row: list[str]) -> None:
    assert len(row) == len(COLUMNS)
    assert all(row), "a cell is empty"
    named = TEST.findall(row[-1])
    assert named
    assert TEST.sub("", row[-1]).strip(" ,") == "", "something else than tests stands in the last column"
    for file, name in named:
        assert name in names_in(file), f"{file} has no {name}"


def flat(config: Any) -> dict[str, Any]:
    """Return the settings by flag name."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        values |= flat(value) if dataclasses.is_dataclass(value) else {item.name: value}
    return values


def test_every_flag_of_the_page_exists() -> None:
    flags = set(re.findall(r"`--([\w-]+)", " ".join(cell for row in rows() for cell in row)))
    known = {name.replace("_", "-") for name in flat(FinetuneConfig())}
    assert {flag.removeprefix("no-") for flag in flags} <= known


def test_the_arrows_of_the_page_are_the_recipe() -> None:
    """Settings of `openai-finetune` that differ from `paper-finetune`, each once and with its value."""
    page = dict(
        re.match(r"`--([\w-]+)(?: (\w+))?`", text).groups()  # type: ignore[union-attr]
        for row in rows()
        for text in row[4].split("→ ")[1:]
        if row[0] != "softmax of the LM"  # says so again in another place
    )
    paper, openai = flat(recipe("paper-finetune")), flat(recipe("openai-finetune"))
    changed = {name: value for name, value in openai.items() if value != paper[name] and name != "recipe"}
    expected = {
        f"no-{name}" if value is False else name.replace("_", "-"): None if isinstance(value, bool) else str(value)
        for name, value in changed.items()
    }
    assert page == expected
