"""Processes that help this one: started anew, never forked, so a framework that is loaded here stays out of them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_python(module: str, environment: dict[str, str] | None = None, **how: Any) -> subprocess.Popen[Any]:
    """Run `python -m module` with pipes to its stdin and stdout; it imports from where this process does."""
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(environment or {})},
        **how,
    )
