"""Empty figures: a run draws about ten, and rendering them takes longer than training the tiny models of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
from matplotlib.figure import Figure

EMPTY = '<?xml version="1.0"?>\n<svg viewBox="0 0 1 1"></svg>\n'

render = Figure.savefig


def save(figure: Figure, out: str | Path | TextIO, **settings: Any) -> None:
    """Write an empty SVG instead of `figure`.

    Figures of pyplot, which only sweeps have, are rendered.
    """
    if figure.canvas.manager is not None:
        render(figure, out, **settings)
    elif isinstance(out, str | Path):
        Path(out).write_text(EMPTY, encoding="utf-8")
    else:
        out.write(EMPTY)


@pytest.fixture(scope="module", autouse=True)
def empty_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Write empty figures in all modules without the mark `figures`."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.node.get_closest_marker("figures"):
            patch.setattr(Figure, "savefig", save)
        yield
