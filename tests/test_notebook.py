"""The notebook: its cells run, and its stored outputs are complete and small. Run: pytest tests/test_notebook.py"""

from __future__ import annotations

import ast
import itertools
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the stored outputs were computed by PyTorch")

FOLDER = Path(__file__).parents[1] / "notebooks"
PATH = FOLDER / "walk_through.ipynb"
NOTEBOOK = json.loads(PATH.read_text(encoding="utf-8"))
RUN = runpy.run_path(str(FOLDER / "run.py"))
LARGEST = 250_000
"""Maximum size of the notebook with its figures, in bytes."""
TEN_LINES = 10


def quick(code: str) -> str:
    """Return the cell with a tiny model and two training steps instead of `mini` and 75."""
    few = 'out="runs/walk-through", model="random:tiny", tokenizer="mini", max_steps=2'
    return code.replace('out="runs/walk-through"', few)


def before_training(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(itertools.takewhile(lambda cell: "gpt1.finetune(" not in "".join(cell["source"]), cells))


def kinds(cell: dict[str, Any]) -> list[str]:
    return [output["output_type"] for output in cell["outputs"]]


def test_every_cell_runs_and_gives_outputs_of_the_kinds_that_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    again = json.loads(PATH.read_text(encoding="utf-8"))
    RUN["run"](again, quick)
    for before, after in zip(RUN["code_cells"](NOTEBOOK), RUN["code_cells"](again), strict=True):
        assert kinds(before) == kinds(after), "".join(before["source"])
        lines = [[len(each.get("text", [])) for each in cell["outputs"]] for cell in (before, after)]
        assert lines[0] == lines[1], "".join(before["source"])
    assert any('"quickstart"' in "".join(cell["source"]) for cell in RUN["code_cells"](NOTEBOOK))


def test_the_tokens_mask_and_weights_are_the_stored_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that does not depend on training is reproduced exactly."""
    monkeypatch.chdir(tmp_path)
    again = json.loads(PATH.read_text(encoding="utf-8"))
    again["cells"] = before_training(again["cells"])
    stored = before_training(RUN["code_cells"](NOTEBOOK))
    RUN["run"](again)
    printed = [
        [output["text"] for output in cell["outputs"] if "text" in output]
        for cells in (stored, RUN["code_cells"](again))
        for cell in cells
    ]
    assert printed[: len(stored)] == printed[len(stored) :]


def test_fine_tuning_takes_ten_lines() -> None:
    [cell] = [cell for cell in RUN["code_cells"](NOTEBOOK) if "gpt1.finetune(" in "".join(cell["source"])]
    lines = [line for line in "".join(cell["source"]).splitlines() if line.strip()]
    assert len(lines) <= TEN_LINES


def test_the_notebook_is_small_and_fully_executed() -> None:
    assert PATH.stat().st_size < LARGEST
    cells = RUN["code_cells"](NOTEBOOK)
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    for cell in cells:
        ast.parse("".join(cell["source"]))
    prose = "".join("".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown")
    for link in re.findall(r"\]\(([^)]+)\)", prose):
        assert (FOLDER / link).exists(), link
