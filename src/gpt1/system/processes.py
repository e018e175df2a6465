"""Python child processes: spawned, not forked, so that they do not inherit a loaded framework."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_python(module: str, environment: dict[str, str] | None = None, **how: Any) -> subprocess.Popen[Any]:
    """Start `python -m module` with pipes for stdin and stdout, and the import path of this process.

    `environment` is added to that of this process; `how` are further arguments of `subprocess.Popen`.
    """
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(environment or {})},
        **how,
    )
