"""`gpt1 check`: facts about a data set, the problems that would stop a fine-tuning, the estimate of its time.

Run: pytest tests/test_check.py
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from gpt1.checkpoint.loading import open_tokenizer
from gpt1.cli.checking import one_message
from gpt1.config.recipes import recipe
from gpt1.data.readers.description import describe, in_words
from gpt1.evaluation.report import data as data_in_words
from gpt1.training import estimate
from gpt1.training import finetune as finetuning
from gpt1.training.check import check
from support.command_line import Outcome, done, gpt1
from support.labelled_files import folder_of, reviews, write, write_jsonl

TINY = ("--model", "random:tiny")
KEYS = [
    "data", "problems", "files", "task", "columns", "splits", "contradictory", "bad_rows", "notes", "model", "estimate",
]  # fmt: skip
SPLIT_KEYS = ["rows", "drawn", "labels", "values", "duplicates", "in_train", "tokens", "unknown_share"]


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def facts_of(*words: object) -> Any:
    """Return the facts that `gpt1 check --json` prints, whatever its exit code."""
    return gpt1("check", *words, "--no-estimate", "--json").json


# ---- facts


def test_facts_equal_those_counted_by_hand(tmp_path: Path) -> None:
    train = [
        {"id": 1, "text": "good", "label": "pos", "weight": 2},
        {"id": 2, "text": "Good ", "label": "neg", "weight": 1},  # the same text as the first
        {"id": 3, "text": "bad bad", "label": "neg", "weight": 1},
        {"id": 4, "text": "a b c d e f g h i j", "label": "neg", "weight": 1},
    ]
    valid = [{"id": 5, "text": "BAD  bad", "label": "neg", "weight": 1}]
    facts = facts_of(folder_of(tmp_path, train=train, valid=valid), "--weight", "weight", "--max-length", 8)
    assert facts["problems"] == []
    assert facts["task"] == "classification"
    assert facts["columns"] == {"text": ["text"], "label": ["label"], "weight": ["weight"], "unused": ["id"]}
    assert [(each["split"], each["file"], each["tables"]) for each in facts["files"]] == [
        ("train", "train.jsonl", 1), ("valid", "valid.jsonl", 1),
    ]  # fmt: skip
    lengths = sorted(len(ids) + 2 for ids in open_tokenizer("mini").encode_batch([row["text"] for row in train]))
    assert facts["splits"]["train"] == {
        "rows": 4, "drawn": False, "labels": {"neg": 3, "pos": 1}, "values": None, "duplicates": 1, "in_train": 0,
        "tokens": {"median": lengths[1], "p90": lengths[3], "p99": lengths[3], "longest": lengths[3], "maximum": 8,
                   "truncated": 1}, "unknown_share": 0.0,
    }  # fmt: skip
    assert lengths[3] == 12
    valid_facts = facts["splits"]["valid"]
    assert (valid_facts["rows"], valid_facts["labels"], valid_facts["in_train"]) == (1, {"neg": 1, "pos": 0}, 1)
    assert facts["contradictory"] == 2


def test_splits_that_are_drawn_are_marked_and_equal_those_of_a_run(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "all.jsonl", reviews(40))
    splits = facts_of(path)["splits"]
    assert {name: (each["rows"], each["drawn"]) for name, each in splits.items()} == {
        "train": (32, False), "valid": (4, True), "test": (4, True),
    }  # fmt: skip


def test_a_regression_has_the_range_of_its_values_in_place_of_labels(tmp_path: Path) -> None:
    rows = [{"sentence1": f"a {i}", "sentence2": "b", "score": i + 0.5} for i in range(20)]
    facts = facts_of(folder_of(tmp_path, train=rows[:5], valid=rows[5:8]), *TINY)
    assert facts["task"] == "similarity"
    assert facts["splits"]["train"]["labels"] == {}
    assert facts["splits"]["train"]["values"] == {"smallest": 0.5, "median": 2.5, "largest": 4.5}
    assert "label, median" in [row[0] for row in data_in_words.splits(facts)[1]]


CSV = "id;text;label\n" + "".join(f"{i};Größe {i};{'ab'[i % 2]}\n" for i in range(20))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", CSV.encode("cp1252"), 'CSV, cp1252, separated by ";", header'),
        ("a.csv", CSV.encode("utf-16"), 'CSV, UTF-16-LE, separated by ";", header'),
        ("a.tsv", b'text\tlabel\n"no\ta\nyes\tb\n', "TSV, ASCII, separated by tabs, header, quotes are text"),
        ("a.csv", b"good,1\nbad,0\n", "CSV, ASCII, separated by \",\""),  # line 1 may be a header or data
        ("a.jsonl", b'{"text": "x", "label": "a"}\n', "JSON lines, ASCII"),
        ("a.txt", "__label__a größer\n".encode(), "text, UTF-8"),
    ],
)  # fmt: skip
def test_the_format_of_a_file_is_described(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    described = describe(path)
    assert in_words(described) == words
    assert described["bytes"] == len(content)


def test_a_character_beyond_the_first_block_sets_the_encoding(tmp_path: Path) -> None:
    path = write(
        tmp_path / "late.jsonl", '{"text": "plain", "label": 1}\n' * 50_000 + '{"text": "größer", "label": 0}\n'
    )
    assert describe(path)["encoding"] == "utf-8"


def test_a_split_of_which_the_vocabulary_knows_little_is_noted(tmp_path: Path) -> None:
    unknown = [{"text": f"很好看的电影 {i}", "label": i % 2} for i in range(4)]
    known = [{"text": f"a good film {i}", "label": i % 2} for i in range(8)]
    notes = facts_of(folder_of(tmp_path, train=known, valid=known[:4], test=unknown))["notes"]
    assert [note.partition(":")[0] for note in notes if "unknown to the vocabulary" in note] == ["test"]


def test_of_many_labels_the_most_frequent_and_the_rarest_are_shown() -> None:
    counts = {f"label {i}": 100 - i for i in range(40)}
    _, rows = data_in_words.splits({"splits": {"train": {"rows": 3_220, "labels": counts}}})
    names = [row[0].strip() for row in rows]
    assert len(names) == 1 + data_in_words.MOST_LABELS + 1
    assert names[1] == "label 0"
    assert names[-1] == "label 39"
    assert "… 20 more labels" in names


# ---- the command


def test_a_file_fits_a_screen_of_80_columns(tmp_path: Path) -> None:
    rows = [{"id": i, "text": f"review {i} " * 30, "label": ("好评", "差评")[i % 2]} for i in range(60)]
    out = done("check", write_jsonl(tmp_path / "reviews.jsonl", rows), *TINY, "--no-estimate").out
    lines = out.splitlines()
    assert len(lines) <= 40
    assert [line for line in lines if len(line) > 80 and not line.startswith("Next: ")] == []
    assert "  not used  id" in lines
    lengths = {line.split()[0]: len(line) for line in lines if line.startswith("  ")}
    assert lengths["好评"] + 2 == lengths["rows"]  # its two characters take four columns


def test_the_next_command_has_the_given_flags_and_would_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "my data.jsonl", [{"review": f"r {i}", "mood": "ab"[i % 2]} for i in range(40)])
    given = ["my data.jsonl", "--text", "review", "--label", "mood", *TINY, "--max-length", "64"]
    last = done("check", *given, "--no-estimate").out.splitlines()[-1]
    words = shlex.split(last.removeprefix("Next: gpt1 "))
    assert words[0] == "finetune"
    assert {"my data.jsonl", "review", "mood", "random:tiny", "64", "runs/my-data"} <= {*words}
    assert "--recipe" not in words
    assert started(monkeypatch, *words[1:]).code == 0
    assert Path("runs/my-data").exists()  # now another command needs another directory
    assert done("check", *given, "--no-estimate").out.endswith(" --out runs/my-data-2\n")


def test_the_data_may_be_given_by_the_flag_of_finetune(tmp_path: Path) -> None:
    path = str(write_jsonl(tmp_path / "a.jsonl", reviews(40)))
    facts = facts_of(path, *TINY)
    for words in ((*TINY, "--data", path), (f"--data={path}", *TINY)):
        assert facts_of(*words) == facts
    for words in (("reviews", *TINY, "--data", path), ("--data", path, "--data", "reviews")):
        outcome = gpt1("check", *words)
        assert outcome.code == 2
        assert outcome.err == f"gpt1: --data {path}: DATA is given, too (reviews); give one of them\n"
    assert gpt1("check", "--data").code == 2


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "a.jsonl", reviews(40))
    done("check", "a.jsonl", *TINY, "--out", "runs/a", "--no-estimate")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": f"好 {i}", "label": i % 2} for i in range(40)])
    outcome = gpt1("check", path, "--batch-size", 100, "--drop-last", "--no-estimate")
    assert outcome.code == 2
    assert outcome.err.startswith("gpt1: 2 problems:\n- ")
    assert "of the bytes of the training texts are unknown" in outcome.err
    assert "- --drop-last: 32 training examples do not fill one batch of 100" in outcome.err


def test_bad_rows_are_listed_and_the_facts_are_those_of_the_others(tmp_path: Path) -> None:
    usable = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40))
    path = write(tmp_path / "a.csv", f"text,label\n{usable}good,\n,a\nfine,\n")
    facts = facts_of(path, *TINY, "--batch-size", 64, "--drop-last")
    assert facts["bad_rows"]["rows"] == 3
    assert facts["bad_rows"]["kinds"] == {"empty label": 2, "empty text": 1}
    assert "a.csv row 42 (line 43)" in facts["bad_rows"]["first"][1]
    assert sum(split["rows"] for split in facts["splits"].values()) == 40
    listed = gpt1("check", path, *TINY, "--batch-size", 64, "--drop-last", "--no-estimate").err
    assert listed.startswith("gpt1: 2 problems:\n- 3 of 43 rows cannot be used: ")
    assert "\n    a.csv row 42 (line 43): 'text' is empty\n" in listed
    assert [note for note in facts["notes"] if "left out" in note] == []
    printed = gpt1("check", path, *TINY, "--no-estimate").out
    assert "\nThe table is without the 3 rows that cannot be used.\n" in printed
    skipped = done("check", path, *TINY, "--on-bad-row", "skip", "--no-estimate").out
    assert "\n- 3 of 43 rows were left out: empty label (2), empty text (1).\n" in skipped
    assert "cannot be used" not in skipped
    begin = [problem.partition(":")[0] for problem in facts["problems"]]
    assert begin == ["3 of 43 rows cannot be used", "--drop-last"]


@pytest.mark.parametrize("flags", [[], ["--batch-size", 64, "--drop-last"]])  # one problem, two problems
def test_problems_are_broken_at_the_width_of_the_terminal_but_not_in_json(flags: list[object], tmp_path: Path) -> None:
    usable = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40))
    path = write(tmp_path / f"{'long name ' * 6}.csv", f"text,label\n{usable}good,\n,a\n")
    words = ["check", path, *TINY, *flags, "--no-estimate"]
    printed = gpt1(*words).err
    assert [line for line in printed.splitlines() if len(line) > 80] == []
    as_json = gpt1(*words, "--json")
    assert all(problem in as_json.err for problem in as_json.json["problems"])
    assert max(map(len, as_json.err.splitlines())) > 80
    assert [*map(str.split, printed.split("\n- "))] == [*map(str.split, as_json.err.split("\n- "))]


def test_a_line_is_not_broken_between_a_number_and_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    for width in range(40, 80):
        monkeypatch.setenv("COLUMNS", str(width))
        message = one_message([f"{'0123456789 ' * 5}in a file of 20.4 kB and 3 rows, 5 %"])
        assert "20.4 kB" in message
        assert "3 rows" in message
        assert "5 %" in message


# ---- the same answer as finetune


class Started(Exception):
    """Raised where a fine-tuning would begin to train."""


def started(monkeypatch: pytest.MonkeyPatch, *words: object) -> Outcome:
    """Run gpt1 finetune up to its first step; exit code 0 if it reaches it."""

    def stop(*_: object) -> None:
        raise Started

    monkeypatch.setattr(finetuning.FinetuneSetup, "run", stop)
    try:
        return gpt1("finetune", *words)
    except Started:
        return Outcome(0, "", "")


def rows(n: int = 40, text: str = "review", **cells: Any) -> str:
    return "".join(json.dumps({"text": f"{text} {i}", "label": "ab"[i % 2]} | cells) + "\n" for i in range(n))


LINES = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40))
FILES: dict[str, tuple[str, str, list[str]]] = {
    "plain": ("a.jsonl", rows(), []),
    "semicolons": ("a.csv", CSV, []),
    "no header": ("a.csv", LINES.replace("text", "some text"), []),
    "no header, by number": ("a.csv", LINES, ["--no-header", "--text", "1", "--label", "2"]),
    "an empty text": ("a.csv", f"text,label\n{LINES},a\n", []),
    "an empty label": ("a.csv", f"text,label\n{LINES}good,\n", []),
    "an empty label, skipped": ("a.csv", f"text,label\n{LINES}good,\n", ["--on-bad-row", "skip"]),
    "a ragged row": ("a.csv", f"text,label\n{LINES}good,a,b\n", []),
    "a missing column": ("a.jsonl", rows(), ["--label", "mood"]),
    "one label": ("a.jsonl", rows(label="a"), []),
    "a label for each row": ("a.csv", "text,label\n" + "".join(f"x {i},{i}a\n" for i in range(40)), []),
    "too few rows": ("a.jsonl", rows(3), []),
    "identical texts": ("a.csv", "text,label\n" + "good,a\nbad,b\n" * 20, []),
    "texts of an unknown script": ("a.jsonl", rows(text="很好看的电影"), ["--model", "mini"]),
    "the same column twice": ("a.csv", "text,text,label\na,b,c\n", []),
    "two delimiters": ("a.csv", "text;x,label\n" + "a;b,c\n" * 20, []),
    "a fraction of everything": ("a.jsonl", rows(), ["--valid-fraction", "0.6", "--test-fraction", "0.5"]),
    "a single group": ("a.jsonl", rows(author="x"), ["--group", "author"]),
    "an unknown model": ("a.jsonl", rows(), ["--model", "nothere"]),
    "no directory for the run": ("a.jsonl", rows(), ["--out", "a.jsonl"]),
    "a metric that does not exist": ("a.jsonl", rows(), ["--metric", "nothere:metric"]),
    "a metric that fails": ("a.jsonl", rows(), ["--metric", "operator:add"]),
    "a batch that does not fill": ("a.jsonl", rows(), ["--batch-size", "64", "--drop-last"]),
    "too short a context": ("a.jsonl", rows(), ["--max-length", "600"]),
}


@pytest.mark.parametrize("case", FILES)
def test_exit_code_and_message_are_those_of_finetune(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, content, flags = FILES[case]
    write(tmp_path / name, content)
    flags = [*TINY, "--out", "runs/a", *flags]
    checked = gpt1("check", name, *flags, "--no-estimate", "--json")
    trained = started(monkeypatch, "--data", name, *flags)
    assert checked.code == trained.code
    facts = checked.json
    assert bool(facts["problems"]) == (trained.code == 2)
    if trained.code == 2:
        assert f"gpt1: {facts['problems'][0]}" in trained.err


@pytest.mark.parametrize("case", ["plain", "an empty label", "an unknown model"])
def test_json_has_the_same_keys_whatever_is_wrong(case: str, tmp_path: Path) -> None:
    name, content, flags = FILES[case]
    facts = facts_of(write(tmp_path / name, content), *TINY, *flags)
    assert [*facts] == KEYS
    assert [each["split"] for each in facts["files"]] == ["train"]


def test_json_of_a_split_has_stable_keys(tmp_path: Path) -> None:
    splits = facts_of(write_jsonl(tmp_path / "a.jsonl", reviews(40)), *TINY)["splits"]
    assert [[*split] for split in splits.values()] == 3 * [SPLIT_KEYS]


# ---- report, time


def test_a_run_records_the_same_facts_and_its_report_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "my.csv", "id;text;label\n" + "".join(f"{i};review {i};{'ab'[i % 2]}\n" for i in range(40)))
    facts = facts_of("my.csv", *TINY)
    done("finetune", "--data", "my.csv", *TINY, "--out", "run", "--max-steps", 1, "--no-baseline")
    [start] = [
        event for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()
        if (event := json.loads(line))["event"] == "start"
    ]  # fmt: skip
    assert start["data"] == {key: facts[key] for key in start["data"]}
    assert [*start["data"]] == ["files", "task", "columns", "splits", "contradictory", "bad_rows"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "my.csv: CSV, ASCII, separated by &quot;;&quot;, header" in page
    assert ">tokens, 99 %<" in page


def test_time_is_estimated_from_measured_steps(backend: str, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", reviews(24))
    out = done("check", path, *TINY, "--backend", backend, "--max-steps", 7).out
    assert re.search(r"^  device  cpu", out, re.MULTILINE)
    assert re.search(
        r"^  time    about [\d.]+( to [\d.]+)? (s|min|h) for 7 steps, from \d measured$", out, re.MULTILINE
    )


def test_an_estimate_is_proportional_to_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 1 s, after a first one of 3 s: 1,000 epochs take 1,000 times as long as one, compilation apart."""
    monkeypatch.setattr(estimate, "_seconds", lambda training, batches, step: 1.0 if step else 3.0)
    data = str(write_jsonl(tmp_path / "a.jsonl", reviews(64)))
    low, high = (
        check(recipe("quickstart", data=data, model="random:tiny", epochs=epochs))["estimate"] for epochs in (1, 1_000)
    )
    assert high["steps"] == 1_000 * low["steps"]
    assert 0.5 * low["steps"] < low["seconds"][0] < low["seconds"][1] < 4 * low["steps"]
    assert 500 < high["seconds"][0] / low["seconds"][0] <= 1_000  # of one epoch, the final scores are a larger part
