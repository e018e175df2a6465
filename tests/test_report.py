"""Report of a run and comparison of runs: content, escaping, no external resources. Run: pytest tests/test_report.py"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt1.cli import main
from gpt1.config import FinetuneConfig, Head, PretrainConfig
from gpt1.config.overrides import with_overrides
from gpt1.config.recipes import recipe
from gpt1.data.batching import EncodedExamples
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.evaluation.diagnostics import pack
from gpt1.evaluation.report import write
from gpt1.evaluation.report.command import command_line
from gpt1.evaluation.report.record import Record
from gpt1.evaluation.scoring import score_split
from gpt1.system.files import write_json
from gpt1.tasks import Labels
from gpt1.tasks.metrics import METRICS, bootstrap_interval

pytest.importorskip("torch", reason="one backend is enough here: MindSpore compiles for each of many short runs")

pytestmark = pytest.mark.figures

SMALL = 1_000_000
"""Maximum size of a report in bytes."""
N = 80
NAMES = ("bad", "good")
VOID = {"meta", "link", "br", "img", "input", "hr"}
VOID |= {"path", "use", "rect", "circle"}  # of SVG, closed by themselves


def plain(config: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return {key: value for key, value in found.items() if key not in ("out", "hardware")}


def log(**last: Any) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [
        {"event": "start", "time": 1.8e9, "examples": {"train": 240, "valid": 60, "test": N}, "parameters": 8_546_816,
         "truncated": {"train": 12, "valid": 0, "test": 0}, "device": "cpu (2 threads)", "dtype": "bfloat16",
         "labels": {"train": {"bad": 200, "good": 40}},
         "notes": ["test: 3 of 80 examples also occur in the training split."]},
    ]  # fmt: skip
    for step in (10, 20, 30):
        events.append({"event": "train", "time": 1.8e9 + step, "step": step, "epoch": step / 15, "loss": 1 / step,
                       "task_loss": 1 / step, "lr": 1e-4 / step, "grad_norm": 1.0, "tokens_per_second": 900.0,
                       "seconds": 2.5 * step})  # fmt: skip
        events.append({"event": "evaluate", "time": 1.8e9 + step, "split": "valid", "step": step, "epoch": step / 15,
                       "metric": "accuracy", "loss": 1 / step, "accuracy": 0.5 + step / 100, **last})  # fmt: skip
    return events


def classified(seed: int = 0, better: float = 0.0, n_labels: int = 2) -> dict[str, Any]:
    """metrics.json of a run with noisy logits; a larger `better` gives a higher accuracy."""
    generator = np.random.default_rng(0)
    names = NAMES if n_labels == 2 else tuple(f"label {i}" for i in range(n_labels))
    truth = generator.integers(0, n_labels, N)
    examples = [
        Example((f"text {i} is <b>{names[label]}</b>",), (), names[label], f"row {i}") for i, label in enumerate(truth)
    ]
    noise = np.random.default_rng(seed + 1).standard_normal((N, n_labels))
    logits = (noise + (0.5 + better) * np.eye(n_labels)[truth]).astype(np.float32)
    encoded = EncodedExamples([np.zeros(4 + i % 30, np.int32) for i in range(N)], labels=truth)
    scored = score_split(logits, encoded, examples, Head("classification", n_labels), Labels(names), {})
    for entry in scored["mistakes"]:
        start = entry["texts"][0].index("is")
        entry["words"] = {
            "text": [
                {"text": "text", "start": 0, "end": 4, "weight": 0.5},
                {"text": "is", "start": start, "end": start + 2, "weight": -0.4},
            ]
        }
    majority = np.full(N, np.bincount(truth).argmax())
    metrics = list(scored["interval"])
    of_majority = {name: METRICS[name](truth, majority) for name in metrics}
    of_majority["interval"] = {name: list(bootstrap_interval(METRICS[name], truth, majority)) for name in metrics}
    of_majority |= {"seconds": 0.0, "predicted": pack(majority)}
    return {"test": scored, "baseline": {"majority class": of_majority}, "baseline_split": "test"}


def save(
    path: Path, command: str, config: Any, events: list[dict[str, Any]], results: Mapping[str, Any] | None
) -> Path:
    path.mkdir()
    settings = {"command": command, "config": plain(config), "facts": {"data_sha256": {"train": "12ab"}}}
    settings |= {"versions": {"python": "3.11", "torch": "2.13"}, "machine": {"processor": "A CPU", "cores": "2 cores"}}
    write_json(path / "config.json", settings)
    (path / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    if results is not None:
        write_json(path / "metrics.json", results)
    return path


def finetuned(path: Path, results: Mapping[str, Any] | None = None, **settings: Any) -> Path:
    config = recipe("quickstart", data="reviews", **settings)
    return save(path, "finetune", config, log(), classified() if results is None else results)


def pretrained(path: Path, corpus: str = "books", **values: float) -> Path:
    events = [event for event in log(metric="loss", perplexity=9.0, bits_per_byte=2.0) if event["event"] != "start"]
    events += [{"event": "sample", "step": step, "prompt": "the <old>", "text": f" house {step}", "next": []}
               for step in range(1, 31)]  # fmt: skip
    scored = {"loss": 2.2, "perplexity": 9.03, "bits_per_byte": 2.01, "tokens": 900, "bytes": 4000, **values}
    results = {"valid": scored, "training": {"steps": 30, "tokens": 12_000, "best_step": 30}}
    return save(path, "pretrain", PretrainConfig(corpus=(Path(corpus),), size="tiny"), events, results)


class Page(HTMLParser):
    """Parser of a page that checks nesting of tags, unique ids, and that nothing is loaded."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self.feed(self.source)
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))
        assert {name[1:] for name in re.findall(r'href="(#[^"]*)"', self.source)} <= set(self.ids)
        assert not re.search(r'(?:src|href)="(?!#|data:)|url\((?!#)|@import|<script', self.source)
        assert len(self.source.encode()) < SMALL

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finetuned(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def report(run: Path) -> Page:
    return Page(write([run]))


# ---- one run


def test_a_fine_tuned_run_has_every_section(report: Page) -> None:
    assert report.headings == [
        "Comparison with baselines", "Error analysis", "Most confident mistakes", "Training", "Data", "Run details",
    ]  # fmt: skip
    for title in (
        "Loss",
        "Learning rate",
        "Gradient norm (L2)",
        "Throughput",
        "Calibration",
        "ROC",
        "Accuracy by length",
    ):
        assert title in report.text, title
    assert report.source.count("<svg") == 10
    assert report.source.count('role="img" aria-label="') == 10


def test_the_same_run_gives_the_same_bytes(run: Path, report: Page, tmp_path: Path) -> None:
    assert write([run], tmp_path / "other.html").read_text(encoding="utf-8") == report.source


def test_figures_take_their_colours_from_the_page(report: Page) -> None:
    """Fixed colours would be unreadable in either the dark or the light theme."""
    figures = " ".join(re.findall(r"<svg.*?</svg>", report.source, re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}\b", figures)
    style = report.source[: report.source.index("</style>")]
    light, dark, printed = style.split("@media")  # what is printed stands last, so it holds
    assert printed.startswith(" print")
    for variable in set(re.findall(r"var\(--([\w-]+)\)", figures)):
        assert f"--{variable}:" in light and f"--{variable}:" in dark, variable


def test_the_scores_are_those_of_the_run(run: Path, report: Page) -> None:
    scored = json.loads((run / "metrics.json").read_text())["test"]
    assert f"{scored['accuracy']:.3f}" in report.text
    assert "{:.3f} to {:.3f}".format(*scored["interval"]["accuracy"]) in report.text
    assert f"Expected calibration error {scored['calibration']['error']:.3f}" in report.text
    for row in scored["confusion_matrix"]:
        for count in row:
            assert f">{count}</td>" in report.source


@pytest.mark.parametrize(
    ("better", "said"), [(4.0, "the model is better by"), (0.0, "not statistically significant"), (-2.5, "worse by")]
)
def test_the_headline_says_whether_the_difference_is_more_than_noise(better: float, said: str, tmp_path: Path) -> None:
    assert said in Page(write([finetuned(tmp_path / "run", classified(7, better))])).text


def test_mistakes_show_the_words_that_drove_them_and_are_escaped(report: Page) -> None:
    first = report.source[report.source.index("<article>") :].partition("</article>")[0]
    assert re.search(r'<mark class="for"[^>]*>text</mark>', first)
    assert re.search(r'<mark class="against"[^>]*>is</mark>', first)
    assert "&lt;b&gt;" in report.source and "<b>bad</b></p>" not in report.source
    assert "predicted <b>" in report.source


def test_data_warnings_are_told(report: Page) -> None:
    assert "3 of 80 examples also occur in the training split" in report.text
    assert "train: 12 of 240 examples (5.0%) are longer than the maximum length and were truncated." in report.text
    assert "200 examples of bad, 40 of good" in report.text


def test_the_command_and_the_machine_are_told(run: Path, report: Page) -> None:
    assert f"gpt1 finetune --recipe quickstart --data reviews --out {run}" in report.text
    assert "A CPU, 2 cores" in report.text and "torch 2.13" in report.text and "1 min 15 s" in report.text


@pytest.mark.parametrize(
    "settings", [{}, {"lr": 3e-5, "baseline": False, "segments": True, "seed": 3, "max_length": 64}]
)
def test_the_command_repeats_the_settings(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpt1 import api

    run, given = finetuned(tmp_path / "run", **settings), []
    monkeypatch.setattr(api, "finetune", lambda config: given.append(config) or {})
    assert main(shlex.split(command_line(Record.read(run)))[1:]) == 0
    assert given == [with_overrides(recipe("quickstart", data="reviews", **settings), {"out": str(run)})]


def test_a_pretraining_run_shows_perplexity_and_samples_over_time(tmp_path: Path) -> None:
    page = Page(write([pretrained(tmp_path / "lm")]))
    assert page.headings == ["Training", "Samples", "Run details"]
    assert "validation perplexity is 9.03 per token (2.010 bits per byte)" in page.text
    assert "the &lt;old&gt;" in page.source and "house 1 " in page.text and "house 30" in page.text
    assert "10 of 30 samples" in page.text


def regression() -> dict[str, Any]:
    truth = np.linspace(0, 5, N, dtype=np.float32)
    logits = (truth + np.random.default_rng(0).standard_normal(N).astype(np.float32))[:, None]
    examples = [Example((f"a {i}", f"b {i}"), (), float(value), f"row {i}") for i, value in enumerate(truth)]
    encoded = EncodedExamples([np.zeros(5 + i % 9, np.int32) for i in range(2 * N)], 2, labels=truth)
    head = Head("similarity", 1, regression=True)
    return {"test": score_split(logits, encoded, examples, head, Labels(regression=True), {}), "baseline": {},
            "baseline_split": "test"}  # fmt: skip


def choices() -> dict[str, Any]:
    truth = np.arange(N) % 3
    logits = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)
    examples = [Example(("it rains",), ("a", "b", "c"), int(label), f"row {i}") for i, label in enumerate(truth)]
    encoded = EncodedExamples([np.zeros(5 + i % 9, np.int32) for i in range(3 * N)], 3, labels=truth)
    return {"test": score_split(logits, encoded, examples, Head("multiple-choice", 1), Labels(), {}), "baseline": {},
            "baseline_split": "test"}  # fmt: skip


@pytest.mark.parametrize(
    ("results", "expected", "absent"),
    [
        (regression(), "Largest errors", "Confusion matrix"),
        (choices(), "choice 2", "Actual ↓"),
        (classified(n_labels=60), "Shown: the 50 of 60 labels with the lowest F1", "Actual ↓"),
        ({"test": {"accuracy": 0.5, "examples": 4, "loss": 0.7, "interval": {"accuracy": [0.1, 0.9]}},
          "baseline_split": "test"}, "accuracy 0.500", "Calibration"),
        ({"test": {"mine": None, "examples": 4, "loss": 0.7, "interval": {"mine": [None, None]}},
          "baseline": {"majority class": {"mine": None, "interval": {"mine": [None, None]}}}, "baseline_split": "test"},
         "mine –", "Calibration"),
    ],
    ids=["regression", "choices", "many labels", "of an older version", "an own metric without a value"],
)  # fmt: skip
def test_every_kind_of_run_has_a_report(results: dict[str, Any], expected: str, absent: str, tmp_path: Path) -> None:
    page = Page(write([finetuned(tmp_path / "run", results)]))
    assert expected in page.text
    assert absent not in page.text
    assert page.source.count('<th scope="row">label ') in (0, 50)


def test_a_lone_surrogate_does_not_stop_the_report(tmp_path: Path) -> None:
    results = classified()
    results["test"]["mistakes"][0] = {
        "origin": "row 1",
        "texts": ["half \ud83d"],
        "label": "a",
        "predicted": "b",
        "confidence": 0.9,
    }
    run = finetuned(tmp_path / "run")
    (run / "metrics.json").write_text(json.dumps(results))
    assert "half " in Page(write([run])).text


def test_a_verdict_is_the_first_thing_of_the_page_and_is_escaped(tmp_path: Path) -> None:
    text = "No better than always predicting the <majority> class: accuracy 0.520 against 0.500. Try --adapt 3."
    body = Page(write([finetuned(tmp_path / "run", classified() | {"verdict": text})])).source.partition("</header>")[2]
    notice = '<p class="notice">No better than always predicting the &lt;majority&gt; class: accuracy 0.520'
    assert 0 < body.index(notice) < body.index('<p class="lead">')


@pytest.mark.parametrize("results", [classified(), classified() | {"verdict": None}], ids=["older version", "null"])
def test_without_a_verdict_the_page_starts_with_the_scores(results: dict[str, Any], tmp_path: Path) -> None:
    assert '<p class="notice">' not in Page(write([finetuned(tmp_path / "run", results)])).source


# ---- unfinished runs, and what is none


def test_an_unfinished_run_with_a_cut_log_is_reported_and_says_so(tmp_path: Path) -> None:
    run = save(tmp_path / "run", "finetune", recipe("quickstart", data="reviews"), log()[:4], None)
    with (run / "log.jsonl").open("a") as file:
        file.write('{"event": "train", "step": 9')
    page = Page(write([run]))
    assert "This run is not finished: last logged step 20 (epoch 1.33)." in page.text
    late = [event for event in log() if event["event"] != "train"]  # --log-every was longer
    run = save(tmp_path / "late", "finetune", recipe("quickstart", data="reviews"), late, None)
    assert "last logged step 30" in Page(write([run])).text
    assert page.headings == ["Training", "Data", "Run details"]


def test_lines_of_the_log_that_are_left_out_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finetuned(tmp_path / "run")
    write([run])
    assert capsys.readouterr().err == ""
    lines = (run / "log.jsonl").read_text().splitlines()
    lines[1] = lines[1][:30]
    (run / "log.jsonl").write_text("\n".join([*lines, '{"event": "train", "step": 9']))
    said = f"lines 2, {len(lines) + 1}."
    assert said in Page(write([run])).text
    assert said in capsys.readouterr().err


def test_curves_without_a_point_are_not_drawn(tmp_path: Path) -> None:
    run = save(tmp_path / "run", "finetune", FinetuneConfig(data="x.csv"), [log()[2]], None)
    text = Page(write([run])).text
    assert "Validation metric" in text and "Learning rate" not in text and "Gradient norm" not in text


@pytest.mark.parametrize("lines", ["", "7\n", '{"event": "start"}\n'], ids=["empty", "a number", "one event"])
def test_a_run_that_has_just_begun_is_reported(lines: str, tmp_path: Path) -> None:
    run = save(tmp_path / "run", "finetune", FinetuneConfig(data="x.csv"), [], None)
    (run / "log.jsonl").write_text(lines)
    page = Page(write([run]))
    assert "no step logged yet" in page.text and "Nothing logged yet." in page.text
    (run / "log.jsonl").unlink()
    assert "no step logged yet" in Page(write([run])).text


@pytest.mark.parametrize("content", [None, "{}", '{"command": "finetune"}', '{"command": "other", "config": {}}'])
def test_a_directory_that_is_no_run_is_refused(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert main(["report", str(tmp_path)]) == 2
    assert "not a run directory" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("command", [["report"], ["predict", "a text"], ["push", "me/it"]], ids=lambda words: words[0])
def test_a_directory_of_several_runs_names_them_the_best_first(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("best", "a-trial", "b-trial", "c-trial"):
        finetuned(tmp_path / name)
    write_json(tmp_path / "config.json", {"command": "sweep"})
    name, *more = command
    assert main([name, str(tmp_path), *more]) == 2
    which = "one or several" if name == "report" else "one"
    named = f"pass {which} of them: {tmp_path / 'best'}, {tmp_path / 'a-trial'}, {tmp_path / 'b-trial'}, …"
    assert f"{tmp_path}: contains 4 runs; {named}" in capsys.readouterr().err


def test_damaged_files_and_a_bad_out_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finetuned(tmp_path / "run")
    for out in (tmp_path, tmp_path / "nowhere" / "x.html"):
        with pytest.raises(UserError, match=f"--out {re.escape(str(out))}: expected a file"):
            write([run], out)
    with pytest.raises(UserError, match=r"expected the name of a page, such as .*pages\.html"):
        write([run], tmp_path / "pages")  # "pages/" is the same path
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(UserError, match=r"mine\.html: exists and is not a gpt1 report"):
        write([run], tmp_path / "mine.html")
    broken = classified()
    broken["test"]["answers"]["predicted"]["zlib"] = "eJw="
    write_json(run / "metrics.json", broken)
    assert main(["report", str(run)]) == 2
    assert f"{run / 'metrics.json'}: the stored predictions are damaged" in capsys.readouterr().err
    (run / "metrics.json").write_text('{"test": ')
    assert main(["report", str(run)]) == 2
    assert f"{run / 'metrics.json'}: not JSON" in capsys.readouterr().err
    assert main(["report"]) == 2


# ---- several


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_on_the_same_rows_get_a_paired_test_and_their_differences(here: Path) -> None:
    a, b = finetuned(here / "a", classified(0)), finetuned(here / "b", classified(1, better=3.0), lr=3e-5)
    assert main(["report", str(a), str(b)]) == 0
    page = Page(Path("comparison.html"))
    assert page.headings == ["Scores", "Paired differences", "Training", "Differing settings"]
    assert "run minus a" in page.text and "better" in page.text
    assert f"lr {recipe('quickstart').optim.lr} 3e-05" in page.text
    assert re.search(
        r"On the same 80 test examples, a reaches accuracy 0\.\d+\. b reaches 0\.\d+: b is better by 0", page.text
    )
    assert "cannot be compared" not in page.text and "epochs" not in page.text


def test_a_comparison_takes_the_place_of_another_one_alone(here: Path) -> None:
    runs = [finetuned(here / "a"), finetuned(here / "b")]
    Path("comparison.html").write_text("mine")
    with pytest.raises(UserError, match=r"comparison\.html: exists and is not a gpt1 report"):
        write(runs)
    Path("comparison.html").unlink()
    assert write(runs) == write(runs) == Path("comparison.html")


def test_rows_that_settings_drew_otherwise_are_explained(here: Path) -> None:
    other = classified()
    other["test"]["answers"]["rows_sha256"] = "another"
    runs = [finetuned(here / "a"), finetuned(here / "b", other, max_examples=50), finetuned(here / "c", other, seed=3)]
    text = Page(write(runs)).text
    assert "test rows differ (--max-examples 50 instead of none)." in text
    assert "(--seed 3 instead of 0; use the same --split-seed for runs with different seeds)." in text


def test_the_baselines_of_the_same_rows_stand_there_once(here: Path) -> None:
    other = classified(1)
    other["test"]["answers"]["rows_sha256"] = "another"
    a, b, c = finetuned(here / "a"), finetuned(here / "b", classified(2)), finetuned(here / "c", other)
    assert Page(write([a, b])).text.count("majority class") == 1
    text = Page(write([a, b, c])).text
    assert "majority class (rows of c)" in text and text.count("majority class") == 2


def test_a_number_is_the_same_setting_with_and_without_its_point(here: Path) -> None:
    runs = [finetuned(here / "a", max_grad_norm=2), finetuned(here / "b", max_grad_norm=2.0)]
    assert "All settings are identical." in Page(write(runs)).text


def test_settings_without_effect_are_no_difference(here: Path) -> None:
    text = Page(write([finetuned(here / "a"), finetuned(here / "b", baseline=False)])).text
    assert "All settings are identical." in text


def test_runs_that_cannot_be_compared_say_why(here: Path) -> None:
    other_rows, old = classified(), classified()
    other_rows["test"]["answers"]["rows_sha256"] = "another"
    del old["test"]["answers"]
    runs = [
        finetuned(here / "first"), finetuned(here / "rows", other_rows), finetuned(here / "old", old),
        save(here / "begun", "finetune", recipe("quickstart", data="reviews"), log(), None), pretrained(here / "lm"),
    ]  # fmt: skip
    text = Page(write(runs)).text
    assert "rows cannot be compared with first: their test rows differ." in text
    assert "old cannot be compared with first: the predictions of one of them were not stored" in text
    assert "begun cannot be compared with first: begun is not finished." in text
    assert "lm cannot be compared with first: lm is a pretrain run, first a finetune run." in text
    assert "Not finished, no final scores: begun." in text


def test_language_models_compare_on_the_same_text_alone(here: Path) -> None:
    first = pretrained(here / "a")
    assert "Bits per byte on the same text can be compared" in Page(write([first, pretrained(here / "b")])).text
    assert "validated on different texts" in Page(write([first, pretrained(here / "c", bytes=5)])).text


def test_runs_of_one_name_are_told_apart(here: Path) -> None:
    (here / "x").mkdir()
    page = Page(write([finetuned(here / "a"), finetuned(here / "x" / "a")]))
    assert f"{here / 'a'} · {here / 'x' / 'a'}" in page.text
