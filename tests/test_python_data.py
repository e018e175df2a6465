"""Data in memory, written to files and read again. Run: pytest tests/test_python_data.py"""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gpt1.data.dataset import load_dataset
from gpt1.data.python_tables import write_data
from gpt1.data.readers.table import read_rows
from support.labelled_files import error_of, labels_of

TEXTS = [f"a {word} film, number {i}" for i in range(20) for word in ("warm", "dull")]
LABELS = ["good", "bad"] * 20


def rows_of(folder: Path, data: Any, labels: Any = None) -> list[dict[str, Any]]:
    return [dict(row.cells) for row in read_rows(write_data(data, labels, folder))]


def test_the_rows_of_a_dataframe_are_read_as_they_were(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "text": ["first\nsecond line\r", 'a "quoted", cell', "数字\u2028😀\0", None],
            "label": [1, 2, None, 3],
            "exact": [0.1 + 0.2, 1e-300, 1.0, float("nan")],
            "flag": [True, False, None, True],
            "list": [["a"], [], None, ["b", "c"]],
        }
    )
    expected = frame.with_columns(frame["exact"].fill_nan(None)).rows(named=True)
    assert rows_of(tmp_path, frame) == expected


def test_values_without_a_form_in_json_are_written_as_text(tmp_path: Path) -> None:
    row = {"text": "a", "day": datetime.date(2026, 11, 30), "n": np.int64(3), "x": np.float32("nan"), "v": np.arange(2)}
    assert rows_of(tmp_path, [row]) == [{"text": "a", "day": "2026-11-30", "n": 3, "x": None, "v": [0, 1]}]


def test_half_a_character_is_refused_where_it_is_read(tmp_path: Path) -> None:
    path = write_data([{"text": "half \ud83d", "label": "a"}], None, tmp_path)
    assert "row 1: 'text' contains half of a character" in error_of(lambda: load_dataset(path))


@pytest.mark.parametrize(
    ("values", "row"),
    [
        (TEXTS, {"text": TEXTS[0]}),
        (np.array(TEXTS), {"text": TEXTS[0]}),
        (pl.Series(TEXTS), {"text": TEXTS[0]}),
        ([(text, "b") for text in TEXTS], {"text_a": TEXTS[0], "text_b": "b"}),
        ([(text, ["b", "c"]) for text in TEXTS], {"context": TEXTS[0], "choices": ["b", "c"]}),
    ],
    ids=["list", "array", "series", "pairs", "choices"],
)
def test_examples_and_labels_become_the_usual_columns(tmp_path: Path, values: Any, row: dict[str, Any]) -> None:
    for number, labels in enumerate((LABELS, np.array(LABELS), pl.Series(LABELS), iter(LABELS))):
        folder = tmp_path / str(number)
        folder.mkdir()
        rows = rows_of(folder, values, labels)
        assert rows[0] == row | {"label": "good"}
        assert [each["label"] for each in rows] == LABELS


@pytest.mark.parametrize("labels", [[True, False], [7, -3], [0.5, 1.0], ["007", "7"]])
def test_labels_keep_type_and_spelling(tmp_path: Path, labels: list[Any]) -> None:
    path = write_data(["a", "b"], np.array(labels), tmp_path)
    assert [row.cells["label"] for row in read_rows(path)] == labels


def test_a_dict_of_splits_may_hold_tables_of_different_types(tmp_path: Path) -> None:
    table = pl.DataFrame({"text": TEXTS, "label": LABELS})
    splits = {"train": table, "validation": (TEXTS[:6], LABELS[:6]), "test": table.head(4).rows(named=True)}
    dataset = load_dataset(write_data(splits, None, tmp_path))
    assert {name: len(examples) for name, examples in dataset.splits.items()} == {"train": 40, "valid": 6, "test": 4}
    assert labels_of(dataset.splits["valid"]) == LABELS[:6]


@pytest.mark.parametrize(
    ("data", "labels", "message"),
    [
        (TEXTS, None, "data is a list without labels: expected texts and labels"),
        (pl.Series(TEXTS), None, "data is a Series without labels"),
        (TEXTS, LABELS[:3], "data and labels are of unequal lengths: 40 rows, 3 labels"),
        (TEXTS, "label", "labels is 'label' (str): expected a list with a label for each of 40 rows"),
        (["a", 3], [0, 1], "data[1] is 3 (int): expected a list of texts"),
        (["a", " "], [0, 1], "data[1]"),
        ([], [], "data has 0 examples"),
        ([], None, "data is a list without labels"),
        (pl.DataFrame({"text": [], "label": []}), None, "data has no rows"),
        (None, None, "data is None: expected a path, a pandas or polars DataFrame"),
        (3, None, "data is 3 (int): expected a path"),
        (
            type("Tensor", (), {"__repr__": lambda self: "[1,\n 2]"})(),
            None,
            "data is [1,  2] (Tensor): expected a path",
        ),
        (pl.LazyFrame({"text": ["a"]}), None, "call its method collect()"),
        ({"text": TEXTS, "label": LABELS}, None, "data is a dict with 'text' and 'label', without 'train'"),
        ({}, None, "data is a dict with no keys, without 'train'"),
        ({"train": TEXTS}, None, "data['train'] is a list without labels"),
        ({"train": (TEXTS, LABELS), "a/b": (TEXTS, LABELS)}, None, "'a/b' is not the name of a split"),
        ({"train": (TEXTS, LABELS)}, LABELS, "labels: not used with a dict of splits"),
        ([{"text": b"a", "label": 1}], None, "data row 1 holds bytes"),
        (
            pl.DataFrame({"text": TEXTS, "a": LABELS, "b": LABELS}),
            LABELS,
            "select the column of the texts, as in frame",
        ),
    ],
)
def test_what_is_no_labelled_data_is_one_line(tmp_path: Path, data: Any, labels: Any, message: str) -> None:
    assert message in error_of(lambda: write_data(data, labels, tmp_path))


# ---------------------------------------------------------------------------------------------------------------------
# Optional packages


def test_no_package_of_tables_is_imported_for_lists() -> None:
    program = (
        "import sys, tempfile, pathlib; from gpt1.data.python_tables import write_data; from gpt1 import finetune;"
        "write_data(['a', 'b'], [0, 1], pathlib.Path(tempfile.mkdtemp()));"
        "print([name for name in ('pandas', 'polars', 'datasets', 'IPython') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_a_pandas_dataframe_is_read_by_its_columns(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "text": ["a", None, float("nan")], "label": pandas.Categorical(["x", "y", "x"]), "n": [1, 2, 3],
            "when": [pandas.Timestamp("2026-11-30"), pandas.NaT, pandas.NaT], "flag": [True, False, pandas.NA],
        },
        index=[7, 7, 9],
    )  # fmt: skip
    assert rows_of(tmp_path, frame) == [
        {"text": "a", "label": "x", "n": 1, "when": "2026-11-30 00:00:00", "flag": True},
        {"text": None, "label": "y", "n": 2, "when": None, "flag": False},
        {"text": None, "label": "x", "n": 3, "when": None, "flag": None},
    ]


def test_a_pandas_column_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([["a", "b"]], columns=["text", "text"])
    assert "data has two columns called 'text'" in error_of(lambda: write_data(frame, None, tmp_path))


@pytest.fixture
def hub_dataset() -> Callable[[], Any]:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["unfair", "fair"])}
    )
    return lambda: datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 1] * 20}, features)


def test_a_hub_dataset_keeps_the_names_of_its_labels_in_their_order(
    tmp_path: Path, hub_dataset: Callable[[], Any]
) -> None:
    dataset = load_dataset(write_data(hub_dataset().shuffle(seed=1), None, tmp_path))
    assert dataset.label_names == ("unfair", "fair")
    assert sum(map(len, dataset.splits.values())) == 40


def test_the_splits_of_a_dataset_dict_are_those_of_the_run(tmp_path: Path, hub_dataset: Callable[[], Any]) -> None:
    parts = hub_dataset().train_test_split(0.25, seed=0)
    parts["unsupervised"] = hub_dataset()
    dataset = load_dataset(write_data(parts, None, tmp_path))
    assert {name: len(examples) for name, examples in dataset.splits.items()} == {"train": 27, "valid": 3, "test": 10}
    assert any("Not used: unsupervised.parquet" in note for note in dataset.notes)


def test_a_streamed_dataset_is_refused_with_advice(tmp_path: Path, hub_dataset: Callable[[], Any]) -> None:
    stream = hub_dataset().to_iterable_dataset()
    assert "load it without streaming=True" in error_of(lambda: write_data(stream, None, tmp_path))
