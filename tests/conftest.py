"""What several test files ask for."""

from __future__ import annotations

import pytest

from gpt1 import backends


@pytest.fixture(params=backends.installed())
def backend(request: pytest.FixtureRequest) -> str:
    """Each installed backend by its name: a test that takes it runs once for each of them."""
    name: str = request.param
    return name
