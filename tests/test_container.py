"""The container files name what is there: files, flags, a grace longer than the drain.

Run: pytest tests/test_container.py. No container is built here: the steps of the image are a plain installation.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gpt1.cli import main
from gpt1.config import ServeConfig

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

ROOT = Path(__file__).parent.parent


def parsed_flags(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What `gpt1` says to the words and a port that it must refuse: it has understood all others then."""
    assert main([*words, "--port", "70000"]) == 2
    return capsys.readouterr().err


def test_the_image_copies_what_exists_and_starts_with_flags_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", text, re.M) for name in line.split()]
    assert copied and all((ROOT / name).exists() for name in copied)
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in copied} <= set(kept)
    start = [json.loads(re.search(rf"^{word} (\[.+\])$", text, re.M)[1]) for word in ("ENTRYPOINT", "CMD")]  # type: ignore[index]
    assert start[0][0] == "gpt1"
    assert "--port 70000: expected" in parsed_flags([*start[0][1:], *start[1]], capsys)


def test_the_replicas_start_with_flags_that_exist_and_may_drain(capsys: pytest.CaptureFixture[str]) -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    gpt1 = services["gpt1"]
    assert "--port 70000: expected" in parsed_flags(["serve", *gpt1["command"]], capsys)
    assert int(gpt1["stop_grace_period"].removesuffix("s")) > ServeConfig().shutdown_timeout
    assert f"gpt1:{ServeConfig().port}" in services["proxy"]["command"]
