"""What several test files ask for."""

from __future__ import annotations

import os

import pytest

from gpt1 import backends

# Threads that spin while they wait for each other bring a busy machine to a halt: twenty times slower was measured.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(params=backends.installed())
def backend(request: pytest.FixtureRequest) -> str:
    """Each installed backend by its name: a test that takes it runs once for each of them."""
    name: str = request.param
    return name


@pytest.fixture
def bfloat16(backend: str) -> None:
    """For tests in bfloat16: skips them on a backend that has no products in it on a CPU."""
    if backend == "mindspore":
        pytest.skip("MindSpore has no bfloat16 products on a CPU")
