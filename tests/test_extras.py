"""The advice on optional packages. Run: pytest tests/test_extras.py"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from gpt1.system import extras
from gpt1.system.extras import install_command

ROOT = Path(__file__).parents[1]


def test_the_command_names_the_packages_so_that_it_needs_no_release_of_gpt1() -> None:
    assert install_command("ray") == 'pip install "ray>=2.40"'
    assert re.fullmatch(r'pip install "onnx[^"]+" "onnxruntime[^"]+" "onnxscript[^"]+"', install_command("onnx"))


def test_packages_of_other_systems_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ("uvloop" in install_command("serve")) == (extras.sys.platform != "win32")
    monkeypatch.setattr(extras.sys, "platform", "win32")
    assert "uvloop" not in install_command("serve") and "uvicorn" in install_command("serve")


def test_without_metadata_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "requires", missing)
    assert install_command("onnx") == 'pip install "gpt1[onnx]"'


def test_every_extra_that_is_advised_exists_and_is_documented() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "gpt1").rglob("*.py"))
    advised = set(re.findall(r"install_command\([\"'](\w+)[\"']\)", source))
    assert {"torch", "mindspore", "serve", "sweep", "ray", "onnx", "openai"} <= advised <= set(declared)
    assert "pip install 'gpt1[" not in source
    page = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
    assert {extra for extra in advised if f"| `{extra}` |" not in page and f"'.[{extra}]'" not in page} == set()
