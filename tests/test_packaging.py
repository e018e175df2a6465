"""Metadata and files around the package: citation, locked versions, workflows. Run: pytest tests/test_packaging.py"""

from __future__ import annotations

import re
import runpy
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import gpt1

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pinned(name: str) -> dict[str, str]:
    """Return {package: version} of the lines `package==version` of a file; comments and other lines are left out."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if re.fullmatch(r"[\w.-]+==[\w.]+", line))


def test_the_citation_names_this_version_and_license() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] == version("gpt1")
    assert citation["license"] == PROJECT["license"]


def test_the_package_is_marked_as_typed() -> None:
    assert Path(gpt1.__file__).with_name("py.typed").read_bytes() == b""


def test_the_lock_holds_names_and_versions_alone() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    packages = [line for line in lines if not line.startswith("#")]
    assert len(pinned("requirements.lock")) == len(packages) > 0


def test_the_lock_was_resolved_from_these_dependencies_within_the_constraints() -> None:
    """If this fails, run `make lock`."""
    locked = pinned("requirements.lock")
    assert pinned("constraints.txt").items() <= locked.items()
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(each for name in ("dev", "test", "mindspore") for each in extras[name])]
    names = {re.match(r"[\w.-]+", each)[0].lower().replace("_", "-") for each in wanted}  # type: ignore[index]
    assert names - {"gpt1"} <= locked.keys()


def test_the_workflow_tests_each_cell_of_the_wheel() -> None:
    cells = runpy.run_path(str(ROOT / "scripts" / "check_wheel.py"))["CELLS"]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "wheel.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["install"]["strategy"]["matrix"]["include"]
    assert [(each["cell"], each["python"]) for each in matrix] == [(cell.name, cell.python) for cell in cells]
    classifiers = {each.rsplit(" ", 1)[1] for each in PROJECT["classifiers"] if "Python :: 3" in each}
    assert {cell.python for cell in cells} == classifiers
