"""Results of a fine-tuning or an evaluation in Python: a dict that is displayed as the table of scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt1 import console
from gpt1.evaluation.report import html
from gpt1.evaluation.scoring import score_table
from gpt1.inference.loaded_model import LoadedModel, load


class Results(dict[str, Any]):
    """Scores in the form of `metrics.json`, displayed as a table; `dict(results)` displays all of them.

    Attributes:
        directory: Run or model directory of the scored model.
    """

    def __init__(self, scores: Mapping[str, Any], directory: Path):
        super().__init__(scores)
        self.directory = directory

    def load(self, *, backend: str = "auto", device: str = "auto", dtype: str = "auto") -> LoadedModel:
        """Return the scored model: `gpt1.load(results.directory, …)`."""
        return load(self.directory, backend=backend, device=device, dtype=dtype)

    def __repr__(self) -> str:
        title, header, rows = score_table(self)
        return "\n".join([title, *console.table_lines(header, rows), *self._below()])

    def _repr_html_(self) -> str:
        title, header, rows = score_table(self)
        return html.table(header, rows, caption=title) + "".join(map(html.paragraph, self._below()))

    def _below(self) -> list[str]:
        """Return the lines below the table."""
        verdict = self.get("verdict")
        return [*([verdict] if verdict else []), f"Model: {self.directory} (load() opens it)"]
