"""Installation commands of optional packages, for error messages."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, requires


def install_command(extra: str) -> str:
    """Return the pip command that installs the packages of an extra of gpt1 (`torch`, `onnx`, `serve`, …).

    The command names the packages themselves, so that it works for an installation from a wheel or a checkout as well
    as for a release.
    """
    try:
        declared = requires("gpt1") or []
    except PackageNotFoundError:  # a checkout that is not installed
        declared = []
    packages = [
        line.partition(";")[0].strip()
        for line in declared
        if line.endswith(f"extra == '{extra}'") and not (sys.platform == "win32" and "!= 'win32'" in line)
    ]
    names = packages or [f"gpt1[{extra}]"]
    return " ".join(["pip install", *(f'"{name}"' for name in names)])
