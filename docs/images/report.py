"""Screenshots of reports.

Usage: python docs/images/report.py RUN OTHER LANGUAGE-MODEL. RUN is a run of `make demo` (runs/demo), OTHER another run
on the same rows, LANGUAGE-MODEL a run of `gpt1 pretrain`. Writes their reports, opens them in a headless Chromium and
writes report-*.png next to this file. Requires playwright and Chromium, from the system or installed by playwright.
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
"""Picture -> (indices of the runs, selector at the top of the picture, settings of the browser page)."""


def main(*runs: str) -> None:
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
