"""Screenshots of reports: python docs/images/report.py RUN OTHER LANGUAGE-MODEL, with three runs.

RUN is the run of `make demo` (runs/demo), OTHER another one on the same data, LANGUAGE-MODEL is a run of `gpt1 pretrain`.
Writes their reports, opens them in headless Chromium and writes report-*.png to this directory. Requires playwright and
Chromium (the system's, or installed by playwright).
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from gpt1.evaluation.report import write

HERE = Path(__file__).parent
DESK = {"width": 900, "height": 850}

PICTURES: dict[str, tuple[tuple[int, ...], str, dict[str, Any]]] = {
    "scores": ((0,), "header", {}),
    "answers": ((0,), "#answers", {}),
    "mistakes": ((0,), "#mistakes", {"color_scheme": "dark"}),
    "pretraining": ((2,), "header", {}),
    "comparison": ((0, 1), "header", {"color_scheme": "dark"}),
}
"""Screenshot -> (indices of the runs, element at the top, browser settings)."""


def main(*runs: str) -> None:
    """Write all screenshots."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for name, (which, top, settings) in PICTURES.items():
            page = browser.new_page(viewport=DESK, **settings)
            page.goto(write([Path(runs[number]) for number in which], Path(folder) / f"{name}.html").as_uri())
            page.locator(top).evaluate("element => element.scrollIntoView()")
            page.screenshot(path=HERE / f"report-{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
