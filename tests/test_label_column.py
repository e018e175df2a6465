"""Labels of a data set: spelled as in the file, whatever its format; new names, folded spellings, notes.

Run: pytest tests/test_label_column.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpt1.config import Columns, FinetuneConfig
from gpt1.data.dataset import read_examples
from gpt1.data.example import Example
from gpt1.data.paper_kinds import SINGLE
from gpt1.tasks import Labels
from gpt1.tasks.dataset import TaskData, load_data, load_evaluation_data
from support.labelled_files import error_of, labels_of, reviews, write, write_jsonl


def csv_of(path: Path, labels: list[str], **extra: str) -> Path:
    return write(path, "text,label\n" + "".join(f"text {i},{label}\n" for i, label in enumerate(labels)))


def loaded(path: Path, task: str | None = None, **columns: Any) -> TaskData:
    return load_data(FinetuneConfig(data=str(path), task=task, columns=Columns(**columns)))


# ---- type


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", " 0"], [1, 0]),
        (["-1", "1"], [-1, 1]),
        (["5.000", "3.800"], [5.0, 3.8]),
        (["5.00", "3.00"], [5, 3]),
        (["1", "2.5", "10.0"], [1.0, 2.5, 10.0]),
        (["007", "7"], ["007", "7"]),
        (["1E2", "10E1"], ["1E2", "10E1"]),
        (["1", "2.5", "1e1"], ["1", "2.5", "1e1"]),
        (["-1", "+1"], ["-1", "+1"]),
        (["1.10", "1.9"], ["1.10", "1.9"]),
        (["1", "1.0"], ["1", "1.0"]),
        (["0", "-0"], ["0", "-0"]),
        (["1", "two"], ["1", "two"]),
        (["pos ", "neg"], ["pos", "neg"]),
        (["1_0", "2"], ["1_0", "2"]),
        (["1", "inf"], ["1", "inf"]),
        (["1", "9" * 5000], ["1", "9" * 5000]),
    ],
)
def test_labels_are_numbers_only_if_the_spelling_of_each_is_that_of_its_number(
    tmp_path: Path, cells: list[str], expected: list[Any]
) -> None:
    found = labels_of(read_examples(csv_of(tmp_path / "x.csv", cells)))
    assert found == expected and [type(label) for label in found] == [type(label) for label in expected]
    strings = labels_of(read_examples(write_jsonl(tmp_path / "x.jsonl", reviews(len(cells), tuple(cells)))))
    assert strings == expected, "strings of JSON are read as the cells of a csv file"


def test_nan_in_a_csv_label_column_is_a_missing_label(tmp_path: Path) -> None:
    assert "no label" in error_of(lambda: read_examples(csv_of(tmp_path / "x.csv", ["pos", "nan"])))


def test_json_numbers_are_labels_of_one_type_and_booleans_keep_their_names(tmp_path: Path) -> None:
    bools = labels_of(read_examples(write_jsonl(tmp_path / "b.jsonl", reviews(2, (True, False)))))
    assert bools == ["true", "false"]
    mixed = labels_of(read_examples(write_jsonl(tmp_path / "c.jsonl", reviews(2, (5, 4.5)))))
    assert mixed == [5.0, 4.5] and all(type(label) is float for label in mixed)
    whole = labels_of(read_examples(write_jsonl(tmp_path / "d.jsonl", reviews(2, (5.0, 4.0)))))
    assert whole == [5, 4] and all(type(label) is int for label in whole), "so that the draw is stratified"


def test_the_decimals_of_each_split_count_on_their_own(tmp_path: Path) -> None:
    for split, number in (("train", "{:.3f}"), ("valid", "{:.1f}")):
        rows = "".join(f"a{i}\tb{i}\t{number.format(i / 4)}\n" for i in range(8))
        write(tmp_path / f"{split}.tsv", f"sentence1\tsentence2\tscore\n{rows}")
    data = loaded(tmp_path)
    assert (data.task.name, data.labels.regression) == ("similarity", True)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["007", "7", "42"], ("007", "42", "7")),
        ([3, 1, 2], ("1", "2", "3")),
        ([0.5, 1.0, 2.5], ("0.5", "1.0", "2.5")),
        ([2.0, 1.0, 10.0], ("1", "2", "10")),
        (["No", "no", "yes"], ("No", "no", "yes")),
        ([True, False, True], ("false", "true")),
    ],
)
def test_a_table_has_the_same_task_labels_and_ids_in_every_format(
    tmp_path: Path, values: list[Any], names: tuple[str, ...]
) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"text": [f"text {i}" for i in range(60)], "label": values * 20})
    frame.write_csv(tmp_path / "x.csv")
    frame.write_parquet(tmp_path / "x.parquet")
    write_jsonl(tmp_path / "x.jsonl", frame.to_dicts())
    found = [loaded(tmp_path / f"x.{suffix}") for suffix in ("csv", "parquet", "jsonl")]
    for data in found:
        assert (data.task.name, data.labels.names) == ("classification", names)
        assert data.labels.ids(data.splits["test"]).tolist() == found[0].labels.ids(found[0].splits["test"]).tolist()
        assert [e.parts for e in data.splits["test"]] == [e.parts for e in found[0].splits["test"]]


# ---- regression on purpose


def test_ratings_are_classes_with_a_hint_and_a_regression_only_on_request(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", reviews(60, (1, 2, 3, 4, 5)))
    data = loaded(path)
    assert data.labels.names == ("1", "2", "3", "4", "5")
    hint = "The labels are numbers from 1 to 5, used as 5 classes; --task regression predicts a number instead."
    assert hint in data.notes
    numeric = loaded(path, task="regression")
    assert (numeric.task.name, numeric.labels, hint in numeric.notes) == (
        "classification", Labels(regression=True), False
    )  # fmt: skip
    assert not any("--task regression" in note for note in loaded(csv_of(tmp_path / "y.csv", ["0", "1"] * 20)).notes)


def test_a_regression_reads_numbers_in_any_spelling_and_refuses_words(tmp_path: Path) -> None:
    data = loaded(csv_of(tmp_path / "x.csv", ["4.50", "3.8", "5", "1e1"] * 10), task="regression")
    assert sorted(set(data.labels.ids(data.splits["train"]).tolist())) == pytest.approx([3.8, 4.5, 5.0, 10.0])
    words = csv_of(tmp_path / "y.csv", ["good", "bad"] * 20)
    assert "expected a number (the task is a regression)" in error_of(lambda: loaded(words, task="regression"))
    choice = write_jsonl(
        tmp_path / "z.jsonl", [{"context": f"c {i}", "choices": ["a", "b"], "label": 0} for i in range(30)]
    )
    assert "--task regression" in error_of(lambda: loaded(choice, task="regression"))


# ---- spellings and new names


def test_labels_that_differ_only_in_case_are_named_and_folded_on_request(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "x.csv", (["pos", "neg"] * 10 + ["Pos", "neg", "POS ", "neg"]) * 2)
    data = loaded(path)
    assert set(data.labels.names) == {"pos", "Pos", "POS", "neg"}
    listed = "pos (20), Pos (2) and POS (2)"
    warning = f"Labels that differ only in case or blanks are different classes: {listed}; --fold-labels merges them."
    assert warning in data.notes and "Blanks around 2 labels were removed." in data.notes
    merged = loaded(path, fold_labels=True)
    assert merged.labels.names == ("neg", "pos")
    assert f"--fold-labels: labels that differ only in case or blanks were merged: {listed}." in merged.notes


def test_label_map_gives_labels_new_names(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "x.csv", ["0", "1", "2"] * 20)
    assert loaded(path, label_map="0=bad, 1=good,2=good").labels.names == ("bad", "good")
    data = loaded(path, label_map="0=bad,9=good")
    assert data.labels.names == ("1", "2", "bad") and "--label-map: no row has the label 9." in data.notes
    assert "no row has the label x; the labels are 0, 1, 2" in error_of(lambda: loaded(path, label_map="x=y"))
    for wrong in ("0", "0=", "=bad", "0=a,0=b", ""):
        assert "OLD=NEW,OLD=NEW" in error_of(lambda wrong=wrong: Columns(label_map=wrong))  # type: ignore[misc]


def test_labels_are_folded_before_they_get_new_names(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "x.csv", ["pos", "neg"] * 10 + ["Pos", "Negative"] * 2)
    data = loaded(path, fold_labels=True, label_map="POS=positive,neg =negative")
    assert data.labels.names == ("negative", "positive")
    assert [note for note in data.notes if "--fold" in note] == [
        "--fold-labels: labels that differ only in case or blanks were merged: pos (10) and Pos (2).",
        "--fold-labels: labels that differ only in case or blanks were merged: negative (10) and Negative (2).",
    ]
    assert "no row has the label POS" in error_of(lambda: loaded(path, label_map="POS=positive"))


def test_several_labels_of_a_text_and_objects_are_named_as_such(tmp_path: Path) -> None:
    rows = [{"text": "a", "tags": ["x"], "meta": {"label": "x"}, "toxic": 0, "rude": 1}]
    path = write_jsonl(tmp_path / "x.jsonl", rows)
    assert "(multi-label) are not supported yet" in error_of(lambda: loaded(path, label="tags"))
    assert "did you mean --label meta.label?" in error_of(lambda: loaded(path, label="meta"))
    message = error_of(lambda: loaded(path, label="toxic,rude"))
    assert message.startswith("--label toxic,rude: several columns of labels (multi-label) are not supported yet")


# ---- notes


def test_absent_and_rare_labels_are_named(tmp_path: Path) -> None:
    data = loaded(csv_of(tmp_path / "x.csv", ["rare"] + ["a", "b"] * 30))
    assert "valid: 1 of 3 labels has no row: rare." in data.notes
    assert "test: 1 of 3 labels has no row: rare." in data.notes
    [note] = [note for note in data.notes if "imbalanced" in note]
    assert "24 examples of a, 1 of rare (2.0%)" in note


# ---- labels of a model


def test_unknown_labels_are_named_at_once_with_counts_and_a_remedy() -> None:
    def unknown(*labels: str | int, names: tuple[str, ...] = ("negative", "positive")) -> str:
        rows = [Example(("a",), label=label, origin=f"x.csv row {i}") for i, label in enumerate(labels, 1)]
        return error_of(lambda: Labels(names).ids(rows))

    assert unknown(0, 1, 1) == (
        "x.csv row 1: labels '1' (2 rows) and '0' (1 row) do not occur in the training split (known: negative, "
        "positive); name the numbers, for example --label-map 0=negative,1=positive"
    )
    assert unknown("0", "1") == unknown(0, 1), "the format of the file does not matter"
    assert "only in case or blanks: add --fold-labels" in unknown("Positive", "NEGATIVE")
    assert "remove these rows, or rename labels, as in --label-map neutral=negative" in unknown("neutral", "positive")
    assert "--label-map good=0" in unknown("good", names=("0", "1"))
    assert unknown("0", names=("not good", "good")).endswith("--label-map '0=not good'"), "for a shell"


@pytest.mark.parametrize(
    ("renamed", "advised"),
    [
        ("0=neg,1=pos", "0=negative,1=positive"),
        ("0=POS,1=NEG", "1=negative,0=positive"),
        ("0=negative,1=pos", "0=negative,1=positive"),
        ("1=negative", "1=negative,0=positive"),
        ("0=negative", "0=negative,1=positive"),
    ],
)
def test_new_names_that_a_model_does_not_know_are_corrected_for_the_labels_of_the_file(
    tmp_path: Path, renamed: str, advised: str
) -> None:
    def read(label_map: str) -> list[Any]:
        path = str(csv_of(tmp_path / "x.csv", ["0", "1"] * 3))
        known = ("negative", "positive")
        rows = load_evaluation_data(None, path, "test", Columns(label_map=label_map), SINGLE, known=known)
        return [row.label for row in rows.read("test")]

    message = error_of(lambda: read(renamed))
    flag, _, value = message.rpartition(" ")
    assert flag.endswith("--label-map")
    assert sorted(value.split(",")) == sorted(advised.split(","))
    assert set(read(value)) == {"negative", "positive"}


def test_labels_of_a_model_are_found_by_spelling_then_by_value() -> None:
    def ids(names: tuple[str, ...], *labels: Any) -> list[int]:
        found = Labels(names).ids([Example(("a",), label=label) for label in labels])
        return [int(each) for each in found]

    assert ids(("007", "7"), "007", "7", 7) == [0, 1, 1]
    assert ids(("1.10", "1.9"), "1.10", "1.9", 1.9) == [0, 1, 1]
    assert ids(("1", "2", "10"), "10", "2.0", 1.0) == [2, 1, 0]
    assert ids(("LABEL_0", "LABEL_1"), 1, "0", "LABEL_1") == [1, 0, 1]
    assert ids(("0", "1"), "true", "false") == [1, 0], "models of before name booleans so"
    assert ids(("false", "true"), 1, "0") == [1, 0]
    assert json.dumps(ids(("b", "a"), "a", "b")) == "[1, 0]"


def test_the_new_names_of_a_run_apply_to_files_that_have_the_old_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = FinetuneConfig(data="mine.csv", columns=Columns(label_map="0=negative,1=positive"))
    for labels in (["0", "1"], ["negative", "positive"]):
        path = str(csv_of(tmp_path / f"{labels[0]}.csv", labels))
        rows = load_evaluation_data(run, path, "test", Columns(), SINGLE, known=("negative", "positive"))
        assert [row.label for row in rows.read("test")] == ["negative", "positive"]
    assert "--label-map: no row has the label 0, 1." in capsys.readouterr().err
    rows = load_evaluation_data(run, path, "test", run.columns, SINGLE, known=("negative", "positive"))
    assert "no row has the label 0 or 1; the labels are negative, positive" in error_of(lambda: rows.read("test"))
