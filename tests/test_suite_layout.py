"""No test module imports another one or is too long to read; our own deprecated calls are errors.

Run: pytest tests/test_suite_layout.py
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MOST_LINES = 600


def imported(path: Path) -> set[str]:
    """Return the first part of every imported module's name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_what_tests_share_is_in_the_package_support() -> None:
    modules = {path.stem for path in TESTS.glob("*.py")}
    found = {path.name: imported(path) & modules for path in TESTS.rglob("*.py")}
    assert {name: names for name, names in found.items() if names} == {}


def test_other_modules_than_tests_are_in_the_package_support() -> None:
    assert [p.name for p in TESTS.glob("*.py") if not p.name.startswith("test_") and p.name != "conftest.py"] == []


def test_no_module_is_longer_than_600_lines() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in TESTS.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


@pytest.mark.parametrize("warning", ["DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"])
@pytest.mark.parametrize("caller", ["gpt1", "gpt1.data.readers.table", "support.engines", "test_cli"])
def test_what_is_deprecated_is_an_error_where_we_use_it(caller: str, warning: str) -> None:
    with pytest.raises(Warning, match="old"):
        exec(f"import warnings\nwarnings.warn('old', {warning})", {"__name__": caller})


@pytest.mark.parametrize("caller", ["gpt1_extension", "torch.utils"])
def test_what_other_packages_call_is_theirs(caller: str) -> None:
    exec("import warnings\nwarnings.warn('old', DeprecationWarning)", {"__name__": caller})
