"""Resolve the dependencies of CI's environments and write requirements.lock: names and versions, nothing else.

Run by `make lock`, with Python 3.11 on Linux. pip resolves the extras `dev` and `mindspore`, which include all that CI
installs, and the build backend within constraints.txt; nothing is installed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "dev,mindspore"
BUILD = ("hatchling", "editables")  # of an editable installation
HEADER = """\
# Versions of the environments that CI makes (Python 3.11, Linux), written by `make lock` from pyproject.toml and
# constraints.txt. `make` and .ci/run install within them.
"""


def resolve(constraints: Path) -> dict[str, str]:
    """Return {name: version} of everything that pip would install into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        flags = ["--report", str(report), "--constraint", str(constraints)]
        subprocess.run([*pip, *flags, f"{ROOT}[{EXTRAS}]", *BUILD], check=True)
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    metadata = [item["metadata"] for item in found["install"]]
    return {normalised(each["name"]): public(each["version"]) for each in metadata if each["name"] != "gpt1"}


def normalised(name: str) -> str:
    """Return a distribution's name in the form that package indexes use."""
    return re.sub(r"[-_.]+", "-", name).lower()


def public(version: str) -> str:
    """Return a version without its local part, such as the `+cpu` of PyTorch's CPU build, which `==` ignores."""
    return version.partition("+")[0]


def main() -> None:
    """Write the lock file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt", help="hand-written constraints")
    parser.add_argument("--output", type=Path, default=ROOT / "requirements.lock", help="file to write")
    flags = parser.parse_args()
    versions = resolve(flags.constraints)
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items())]
    flags.output.write_text(HEADER + "".join(lines), encoding="utf-8")
    print(f"{flags.output.name}: {len(lines)} packages")


if __name__ == "__main__":
    main()
