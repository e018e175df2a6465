"""Results, explanations, notices and errors in a notebook and a terminal. Run: pytest tests/test_notebook_display.py"""

from __future__ import annotations

import copy
import io
import json
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpt1 import console
from gpt1.errors import Interrupted, UserError
from gpt1.evaluation.results import Results
from gpt1.inference.explanations import Explanation, Explanations

SCORES: dict[str, Any] = {
    "test": {
        "accuracy": 0.72, "loss": 0.5, "examples": 1_000, "interval": {"accuracy": [0.63, 0.8]},
        "mistakes": [{"texts": ["a long text " * 999]}],
    },
    "baseline": {"<TF-IDF>": {"accuracy": 0.75, "interval": {"accuracy": [0.66, 0.83]}}},
    "baseline_split": "test", "verdict": "Behind <TF-IDF> by 0.030.",
}  # fmt: skip


@pytest.fixture
def results() -> Results:
    return Results(SCORES, Path("runs/first"))


@pytest.fixture
def explanation() -> Explanation:
    words = [
        {"text": "Warm", "start": 0, "end": 4, "weight": 0.4, "occlusion": None},
        {"text": "<b>", "start": 7, "end": 10, "weight": -0.4, "occlusion": None},
    ]
    return Explanation(
        label="good", score=0.9, scores={"good": 0.9, "bad": 0.1}, explained="good", truncated=False,
        texts=[{"name": "text", "text": "Warm & <b>", "words": words}],
    )  # fmt: skip


@pytest.fixture
def in_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend to be the kernel of a notebook without ipywidgets."""
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]


# ---- results


def test_results_are_displayed_as_the_table_of_scores(results: Results) -> None:
    assert repr(results).splitlines() == [
        "test, 1,000 examples (95 % bootstrap interval)",
        "                        accuracy",
        "  ────────  ────────────────────",
        "  GPT-1     0.720 [0.630, 0.800]",
        "  <TF-IDF>  0.750 [0.660, 0.830]",
        "Behind <TF-IDF> by 0.030.",
        f"Model: {Path('runs/first')} (load() opens it)",
    ]


def test_results_in_a_notebook_are_an_escaped_table(results: Results) -> None:
    html = results._repr_html_()
    assert html.startswith('<div class="wide"><table><caption>test, 1,000 examples')
    assert '<th scope="row">&lt;TF-IDF&gt;</th><td>0.750 [0.660, 0.830]</td>' in html
    assert "<p>Behind &lt;TF-IDF&gt; by 0.030.</p>" in html


def test_results_stay_a_dict(results: Results) -> None:
    assert results["test"]["accuracy"] == 0.72 and dict(results) == SCORES
    assert json.loads(json.dumps(results)) == SCORES
    for copied in (copy.deepcopy(results), pickle.loads(pickle.dumps(results))):
        assert copied == results and copied.directory == results.directory


# ---- explanations


def test_an_explanation_is_displayed_in_colours_in_a_notebook(explanation: Explanation) -> None:
    html = explanation._repr_html_()
    assert html.count("<style>") == 1 and "<h2>good <small>90.0%</small></h2>" in html
    assert '<mark class="for" style="--s:1.00" title="+0.4000">Warm</mark> &amp; ' in html
    assert '<mark class="against" style="--s:1.00" title="-0.4000">&lt;b&gt;</mark>' in html


def test_a_list_of_explanations_displays_each_of_them(explanation: Explanation) -> None:
    both = Explanations([explanation, explanation])
    assert both._repr_html_() == 2 * explanation._repr_html_()
    assert repr(both) == f"{explanation!r}\n\n{explanation!r}"
    assert repr(explanation).splitlines()[:3] == ["good  0.9000", "weights: + for good, - against it", "Warm & <b>"]
    assert json.loads(json.dumps(both)) == [dict(explanation)] * 2


# ---- errors, notices, progress


@pytest.mark.parametrize("kind", [UserError, Interrupted])
def test_a_notebook_shows_an_error_in_one_line(kind: type[Exception]) -> None:
    """IPython prints these lines in place of the traceback."""
    assert kind("lr='fast': expected a number")._render_traceback_() == [  # type: ignore[attr-defined]
        f"{kind.__name__}: lr='fast': expected a number"
    ]
    assert kind()._render_traceback_() == [kind.__name__]  # type: ignore[attr-defined]


def test_a_notebook_shows_notices_as_output_not_as_errors(
    in_notebook: None, capsys: pytest.CaptureFixture[str]
) -> None:
    console.say("Scored in 0.1 s.")
    assert capsys.readouterr() == ("Scored in 0.1 s.\n", "")


@pytest.mark.filterwarnings("ignore::tqdm.TqdmWarning")
def test_a_notebook_shows_progress_bars(in_notebook: None, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    bar = console.Bar(2, "training", "step")
    bar.advance(loss="0.31")
    bar.close()
    assert "training" in shown.getvalue()
    with console.muted(True):
        hidden = console.Bar(2, "hidden", "step")
        hidden.advance()
        hidden.close()
    assert "hidden" not in shown.getvalue()


def test_a_real_kernel_displays_all_of_it(tmp_path: Path) -> None:
    nbformat, client = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cells = [
        'import gpt1\ntexts = [f"a {w} film {i}" for i in range(30) for w in ("warm", "dull")]',
        'gpt1.finetune(texts, ["good", "bad"] * 30, out="run", model="random:tiny", max_steps=2, baseline=False)',
        'gpt1.explain("run", texts[:2])',
        'gpt1.finetune(texts, ["good", "bad"] * 30, out="run", lr="fast")',
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client.NotebookClient(
        notebook, allow_errors=True, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [cell["outputs"] for cell in notebook["cells"]]
    assert "<table>" in outputs[1][-1]["data"]["text/html"]
    assert '<mark class="for"' in outputs[2][-1]["data"]["text/html"]
    assert {each["name"] for each in outputs[1] if each["output_type"] == "stream"} == {"stdout"}
    [error] = outputs[3]
    assert error["traceback"] == ["UserError: lr='fast': expected a number"]
