"""Fixtures of the playground's tests: tiny models, their servers in separate processes, and a browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt1.backends.parameters import shapes
from gpt1.checkpoint.model_dir import Model, save_model
from gpt1.config import Head, ModelConfig
from gpt1.tokenization.trainer import train

PATIENCE = 15_000
"""Timeout in milliseconds for a response of a page, on a busy machine."""
KEY = "a key of the tests"
HEADS: dict[str, tuple[Head | None, tuple[str, ...]]] = {
    "single": (Head("classification", 14), tuple(f"label {i}" for i in range(14))),
    "pair": (Head("entailment", 3), ("contradiction", "entailment", "neutral")),
    "choices": (Head("multiple-choice", 1), ()),
    "none": (None, ()),
}
TEXT = "warm , funny and over far too soon . the old house stood on the hill and nobody came because it was tired ."


def save_tiny(directory: Path, name: str) -> None:
    """Save a model with random weights, so large that its answers differ; it generates complete words only."""
    tokenizer = train(iter([TEXT] * 50), 300)
    head, labels = HEADS[name]
    shape = ModelConfig(n_layer=2, n_head=4, n_embd=32, n_ctx=256, vocab_size=tokenizer.vocab_size, head=head)
    rng = np.random.default_rng(0)
    params = {key: 0.4 * rng.standard_normal(of, np.float32) for key, of in shapes(shape).items()}
    whole = ["</w>" in token for token in tokenizer.tokens(range(shape.vocab_size))]
    params["tokens_embed.weight"][:, 0] = np.where(whole, 1, -1)
    params["h.1.ln_2.bias"][0] = 8.0  # lowers the logits of incomplete words and of <eos> by 16
    save_model(directory, Model(shape, params, tokenizer, labels, max_length=shape.n_ctx))


class Servers:
    """`gpt1 serve` of each tiny model; that of `choices` requires a key."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.urls: dict[str, str] = {}

    def start(self, *names: str) -> None:
        """Start these servers concurrently, without waiting for them."""
        for name in names:
            self.processes[name] = self._process(name)

    def url(self, name: str) -> str:
        """Wait until a started server listens; return its address."""
        if name not in self.urls:
            self.urls[name] = _address(self.processes[name])
        return self.urls[name]

    def kill(self, *names: str) -> None:
        for name in names or tuple(self.processes):
            self.processes[name].kill()
        for name in names or tuple(self.processes):
            self.processes.pop(name).wait()

    def _process(self, name: str) -> subprocess.Popen[str]:
        directory = self.folder / f"tiny-{name}"
        if not directory.exists():
            save_tiny(directory, name)
            if name == "single":
                (directory / "report.html").write_text("<title>a report</title>", encoding="utf-8")
        environment = {key: value for key, value in os.environ.items() if key != "GPT1_API_KEY"}
        environment |= {"GPT1_API_KEY": KEY} if name == "choices" else {}
        command = [sys.executable, "-m", "gpt1", "serve", str(directory), "--port", "0", "--device", "cpu"]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _address(process: subprocess.Popen[str]) -> str:
    """Return the address that the server prints; keep reading its output, so that it never blocks."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return found[0]
    pytest.fail(f"gpt1 serve ended: {''.join(said)}")


@contextmanager
def browser() -> Iterator[Any]:
    """Headless Chromium, of the system or of Playwright; without one the tests are skipped."""
    sync_api = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_api.sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no Chromium: {error.message.splitlines()[0]}")
        yield chromium
        chromium.close()


CONTRASTS = """() => {
  const rgba = (colour) => {
    const context = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return a ? [r, g, b, a / 255] : [0, 0, 0, 0];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const below = behind(element);
    const ink = rgba(getComputedStyle(element).color);
    for (let at = element; at; at = at.parentElement) ink[3] *= Number(getComputedStyle(at).opacity);
    const [a, b] = [light(over(ink, below)), light(below)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    found.push([ratio, `${element.tagName}.${element.className} ${element.textContent.slice(0, 40)}`]);
  }
  return found.sort((x, y) => x[0] - y[0]).slice(0, 5);
}"""
"""Script that returns the five lowest contrasts of text and background (WCAG 2.2, 1.4.3), as [ratio, element]."""
