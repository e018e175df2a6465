"""Take the pictures of the playground: python docs/images/playground.py RUN, a run of `make demo` (runs/demo).

Serves RUN (a classifier of reviews) and `mini` on free ports of this machine, drives the page in a headless Chromium
and writes playground-*.png beside this file. Needs playwright and Chromium, the system's or Playwright's own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent
DESK = {"width": 860, "height": 600}
PHONE = {"width": 390, "height": 600}
SEED = "7"
"""Of the text that is written, so that the picture is the same each time."""


@contextmanager
def served(model: str) -> Iterator[str]:
    """The address of `gpt1 serve MODEL`."""
    command = [sys.executable, "-m", "gpt1", "serve", model, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0]
                break
        else:
            sys.exit(f"gpt1 serve {model} ended")
    finally:
        process.terminate()


def classify(page: Page) -> None:
    page.get_by_role("button", name="Warm, funny").click()
    page.locator("#classify .word").first.wait_for()
    page.get_by_role("checkbox").check()
    page.locator("#classify .word[data-note*='(']").first.wait_for()
    page.locator("#classify .word", has_text="far").hover()


def generate(page: Page) -> None:
    page.get_by_role("spinbutton").fill(SEED)
    page.locator("#generate .example").first.click()
    page.locator("#generate .written:not([aria-busy])").wait_for()


def next_token(page: Page) -> None:
    page.locator("#next .example").first.click()
    page.locator("#next .bars").wait_for()


def attention(page: Page) -> None:
    page.locator("#attention .example").first.click()
    page.locator("#attention .token").first.wait_for()
    page.get_by_role("combobox").select_option(index=4)
    page.locator("#attention [aria-busy]").wait_for(state="detached")
    page.locator("#attention .token", has_text="was").hover()


PICTURES: dict[str, tuple[str, str, Any, dict[str, Any]]] = {
    "classify": ("run", "classify", classify, {}),
    "generate": ("mini", "generate", generate, {}),
    "next": ("mini", "next", next_token, {"color_scheme": "dark"}),
    "attention": ("mini", "attention", attention, {}),
    "phone": ("run", "classify", None, {"locale": "zh-CN", "color_scheme": "dark", "viewport": PHONE}),
}
"""Picture -> (model, panel, what is done there, what the browser is)."""


def take(browser: Browser, name: str, url: str) -> None:
    _, panel, act, settings = PICTURES[name]
    settings = {"viewport": DESK, "locale": "en-US", "device_scale_factor": 1.5} | settings
    context = browser.new_context(**settings)
    page = context.new_page()
    page.goto(f"{url}/#{panel}")
    page.get_by_role("tab").first.wait_for()
    if act:
        act(page)
    else:
        page.locator(f"#{panel} .example").first.click()
        page.locator(f"#{panel} .word").first.wait_for()
    page.wait_for_timeout(500)  # the bars have grown
    page.screenshot(path=HERE / f"playground-{name}.png", full_page=True)
    context.close()


def main(run: str) -> None:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with served(run) as first, served("mini") as second, sync_playwright() as playwright:
        urls = {"run": first, "mini": second}
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for name, (model, *_) in PICTURES.items():
            take(browser, name, urls[model])
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
