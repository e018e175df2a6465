"""Interruptions and power cuts at a chosen point."""

from __future__ import annotations

import os
import signal
from itertools import count
from typing import Any

import pytest


class PowerCut(BaseException):
    """Power failure: nothing is saved, no handler runs."""


def cut_power_at(patch: pytest.MonkeyPatch, call: int) -> None:
    """Simulate a power failure instead of the rename with the given number (1-based)."""
    rename, calls = os.replace, count(1)

    def renamed(*args: Any, **kwargs: Any) -> None:
        if next(calls) == call:
            raise PowerCut
        rename(*args, **kwargs)

    patch.setattr(os, "replace", renamed)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)
