"""Options and fixtures of all tests."""

from __future__ import annotations

import os

import pytest

from gpt1 import backends

# Threads that spin while they wait for each other bring a busy machine to a halt: twenty times slower was measured.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


pytest.register_assert_rewrite("support")
pytest_plugins = ["support.engines", "support.figures", "support.sample_runs"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--only-backend", help="of a test that runs once for each backend, run this one's alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    only = config.getoption("--only-backend")
    if only is None:
        return
    others = {item for item in items if isinstance(item, pytest.Function) and _backend_of(item) not in (None, only)}
    config.hook.pytest_deselected(items=list(others))
    items[:] = [item for item in items if item not in others]


def _backend_of(item: pytest.Function) -> object:
    """Return the backend that a test was given, None where it asks for none."""
    return item.callspec.params.get("backend") if hasattr(item, "callspec") else None


@pytest.fixture(scope="module", params=backends.installed())
def backend(request: pytest.FixtureRequest) -> str:
    """Each installed backend by its name: a test that takes it runs once for each of them."""
    name: str = request.param
    return name


@pytest.fixture
def bfloat16(backend: str) -> None:
    """For tests in bfloat16: skips them on a backend that has no products in it on a CPU."""
    if backend == "mindspore":
        pytest.skip("MindSpore has no bfloat16 products on a CPU")
