"""Where the tests run an engine."""

from __future__ import annotations

from typing import Any

from gpt1.config import DeviceConfig


def hardware(backend: str, dtype: Any = "float32", **settings: Any) -> DeviceConfig:
    """Return settings for one of the installed backends.

    MindSpore works operator by operator there: compiling a graph takes seconds for each engine, and
    tests/test_mindspore.py holds the graphs to be equal.
    """
    return DeviceConfig(backend=backend, dtype=dtype, eager=backend == "mindspore", **settings)  # type: ignore[arg-type]
