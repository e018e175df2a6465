"""Run a notebook's cells without Jupyter, and store their printed output and figures in it.

Run: python notebooks/run.py notebooks/walk_through.ipynb
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

DPI = 64
"""Resolution of the stored figures: small but legible."""


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(notebook: dict[str, Any], edit: Callable[[str], str] = str) -> dict[str, Any]:
    """Run the code cells in order, each after `edit`, and store their outputs; return their namespace."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    scope: dict[str, Any] = {"__name__": "notebook"}
    plt.show = lambda *_, **__: None  # the figures are collected below
    for number, cell in enumerate(code_cells(notebook), 1):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(edit("".join(cell["source"])), f"cell {number}", "exec"), scope)
        cell["execution_count"] = number
        cell["outputs"] = [] if not out.getvalue() else [
            {"output_type": "stream", "name": "stdout", "text": out.getvalue().splitlines(keepends=True)}
        ]  # fmt: skip
        for figure in map(plt.figure, plt.get_fignums()):
            image = io.BytesIO()
            figure.savefig(image, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
            data = {"image/png": base64.b64encode(image.getvalue()).decode(), "text/plain": ["<Figure>"]}
            cell["outputs"].append({"output_type": "display_data", "metadata": {}, "data": data})
        plt.close("all")
    return scope


def main() -> None:
    path = Path(sys.argv[1]).resolve()
    notebook = json.loads(path.read_text(encoding="utf-8"))
    os.chdir(path.parent.parent)  # so that runs/ is created in the repository root
    run(notebook)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
