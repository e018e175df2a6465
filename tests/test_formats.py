"""Formats of tables other than CSV, TSV and JSON lines: archives, JSON, fastText, Arrow, folders, saved data sets.

Run: pytest tests/test_formats.py
"""

from __future__ import annotations

import bz2
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from gpt1.config import Columns
from gpt1.data.dataset import load_dataset, read_examples
from gpt1.data.nested import value_at
from gpt1.data.readers import compression
from gpt1.data.readers.table import read_rows
from support.labelled_files import error_of, labels_of, write, write_jsonl

ROWS: list[dict[str, Any]] = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(24)]
CSV = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in ROWS)


def cells(path: Path) -> list[dict[str, Any]]:
    return [dict(row.cells) for row in read_rows(path)]


def zipped(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


JSON = {
    "list": ROWS,
    "columns": {name: [row[name] for row in ROWS] for name in ROWS[0]},
    "pandas columns": {name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]},
    "pandas index": {str(i): row for i, row in enumerate(ROWS)},
    "pandas split": {"columns": ["text", "label"], "index": [*range(24)], "data": [[*row.values()] for row in ROWS]},
    "data": {"version": 1, "data": ROWS},
}


@pytest.mark.parametrize("form", JSON)
def test_json_of_every_usual_form_has_the_same_rows(tmp_path: Path, form: str) -> None:
    assert cells(write(tmp_path / "x.json", json.dumps(JSON[form], indent=1))) == ROWS


def test_json_file_of_one_object_a_line_is_read_as_json_lines(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.json", ROWS)
    assert cells(path) == ROWS
    assert "x.json: read as JSON lines, one object a line." in load_dataset(path).notes


@pytest.mark.parametrize(("text", "said"), [
    ("[1]", "x.json row 1: a JSON int"), ("3", "a JSON int; expected a list of objects"), ("[{]", "x.json line 1: not"),
    ('{"a": [1, 2], "b": [1]}', "different lengths"), ("{}", "no keys"), ("[]", "no rows"),
])  # fmt: skip
def test_other_json_is_one_clear_error(tmp_path: Path, text: str, said: str) -> None:
    assert said in error_of(lambda: cells(write(tmp_path / "x.json", text)))


def test_bz2_and_zip_have_the_rows_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.csv.bz2").write_bytes(bz2.compress(CSV.encode()))
    assert cells(tmp_path / "x.csv.bz2") == ROWS
    members = {"__MACOSX/._x.csv": "metadata", "README.txt": "text", "folder/x.csv": CSV}
    assert cells(zipped(tmp_path / "x.zip", **members)) == ROWS


def test_zip_without_exactly_one_table_says_what_it_holds(tmp_path: Path) -> None:
    def message(*members: str) -> str:
        return error_of(lambda: cells(zipped(tmp_path / "x y.csv.zip", **dict.fromkeys(members, CSV))))

    folder = tmp_path.as_posix()
    command = f"python -m zipfile -e '{folder}/x y.csv.zip' '{folder}/x y'"
    one = f"holds 2 tables (a.csv, b.csv), expected one; unpack it and give one of the files: {command}"
    assert message("a.csv", "b.csv").endswith(one)
    assert f"unpack it and give the folder {folder}/x y: {command}" in message("train.csv", "test-000.csv")
    assert "give the folder" in message("x/train/pos/1.txt", "x/test/pos/1.txt")
    assert "give the folder" in message("pos/1.txt", "neg/1.txt")
    assert "give one of the files" in message("test.csv", "valid.csv")
    assert "holds no table (a.pdf), expected one: .csv" in message("a.pdf")


def test_damaged_and_encrypted_zips_are_one_line(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "x.zip", **{"x.csv": CSV}).read_bytes()
    (tmp_path / "x.zip").write_bytes(whole[:-30])
    assert "damaged" in error_of(lambda: cells(tmp_path / "x.zip"))
    encrypted, at = bytearray(whole), whole.index(b"PK\1\2")
    encrypted[6] |= 1
    encrypted[at + 8] |= 1
    (tmp_path / "x.zip").write_bytes(encrypted)
    assert "is encrypted" in error_of(lambda: cells(tmp_path / "x.zip"))


def test_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "x.zip", **{"x.csv": "text,label\n" + "a,1\n" * 200_000})
    monkeypatch.setattr(compression, "ALWAYS_READ", 1 << 16)
    assert "unpacks to more than" in error_of(lambda: cells(path))


def test_fasttext_lines_have_text_and_label(tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", "__label__a one  two\n\nthree __label__b\n__label__a __label__b four\nfive\n")
    assert cells(path) == [
        {"text": "one  two", "label": "a"}, {"text": "three", "label": "b"},
        {"text": "four", "label": ["a", "b"]}, {"text": "five", "label": None},
    ]  # fmt: skip
    assert "a text file without labels" in error_of(lambda: read_examples(write(tmp_path / "y.txt", "a\nb\n")))


def test_arrow_files_and_streams_and_literal_names(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    rows = [row | {"meta": {"n": i, "tags": ["x"]}} for i, row in enumerate(ROWS)]
    frame = polars.DataFrame(rows)
    frame.write_ipc(tmp_path / "a[1].feather")
    frame.write_ipc_stream(tmp_path / "s.arrow")
    frame.write_parquet(tmp_path / "a[1].parquet")
    for name in ("a[1].feather", "s.arrow", "a[1].parquet"):
        assert cells(tmp_path / name) == rows
    (tmp_path / "s.arrow").write_bytes((tmp_path / "s.arrow").read_bytes()[:-20])
    assert "damaged or incomplete" in error_of(lambda: cells(tmp_path / "s.arrow"))


def test_saved_data_set_is_read_with_its_label_names(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    features = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}
    for split in ("train", "test"):
        folder = tmp_path / split
        folder.mkdir()
        write(folder / "dataset_info.json", json.dumps({"features": features}))
        write(folder / "state.json", json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
        frame = polars.DataFrame({"text": [f"{split} {i}" for i in range(20)], "label": [i % 2 for i in range(20)]})
        frame.write_ipc_stream(folder / "data-00000-of-00001.arrow")
    write(tmp_path / "dataset_dict.json", json.dumps({"splits": ["train", "test"]}))
    data = load_dataset(tmp_path)
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 18, "valid": 2, "test": 20}
    assert data.label_names == load_dataset(tmp_path / "train").label_names == ("neg", "pos")
    (tmp_path / "train" / "data-00000-of-00001.arrow").unlink()
    assert "lacks data-00000" in error_of(lambda: load_dataset(tmp_path))


def test_acl_imdb_is_read_as_it_ships(tmp_path: Path) -> None:
    for split, labels in {"train": ("pos", "neg", "unsup"), "test": ("pos", "neg")}.items():
        for label in labels:
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(10):
                write(tmp_path / split / label / f"{i}_7.txt", f"{split} {label} {i}")
        write(tmp_path / split / "urls_pos.txt", "an address")
    write(tmp_path / "imdb.vocab", "the")
    data = load_dataset(tmp_path)
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 18, "valid": 2, "test": 20}
    assert labels_of(data.splits["test"]) == ["neg"] * 10 + ["pos"] * 10
    assert data.splits["test"][0].origin == "test/neg/0_7.txt"
    notes = " ".join(data.notes)
    assert "train/unsup: 10 texts without labels" in notes and "imdb.vocab" in notes and "urls_pos.txt" in notes


def test_excel_sheet_is_read_with_its_types(tmp_path: Path) -> None:
    """Whole numbers stay whole, a column of numbers and texts is text, blank rows and empty sheets are skipped."""
    pytest.importorskip("fastexcel", reason="gpt1[excel] is not installed")
    xlsxwriter = pytest.importorskip("xlsxwriter", reason="writes the file of this test")
    with xlsxwriter.Workbook(tmp_path / "x.xlsx") as book:
        book.add_worksheet("cover")
        sheet = book.add_worksheet("data")
        rows = [["", "Review Text ", "stars", "good"], [0, "two\nlines", 5, True], [], [1, 12.5, 1, False]]
        for number, row in enumerate(rows):
            sheet.write_row(number, 0, row)
    notes: list[str] = []
    found = [dict(row.cells) for row in read_rows(tmp_path / "x.xlsx", note=notes.append)]
    assert [{name: cell for name, cell in row.items() if name} for row in found] == [
        {"Review Text": "two\nlines", "stars": 5, "good": True}, {"Review Text": "12.5", "stars": 1, "good": False}
    ]  # fmt: skip
    assert notes == ["x.xlsx: sheet 'data' is read, the first with rows; not used: 'cover'."]


def test_a_repeated_column_of_an_excel_sheet_is_named_with_its_positions(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel", reason="gpt1[excel] is not installed")
    xlsxwriter = pytest.importorskip("xlsxwriter", reason="writes the file of this test")
    with xlsxwriter.Workbook(tmp_path / "x.xlsx") as book:
        sheet = book.add_worksheet("data")
        sheet.write_row(0, 0, ["", "text", "label", "text"])
        sheet.write_row(1, 0, [0, "a", "b", "c"])
    message = error_of(lambda: list(read_rows(tmp_path / "x.xlsx")))
    assert message.endswith("column 'text' occurs more than once in the header (columns 2 and 4); rename one of them")


def test_nested_cells_are_named_with_dots_and_an_exact_name_wins(tmp_path: Path) -> None:
    rows = [{"data": {"text": row["text"]}, "meta": {"rating": {"label": row["label"]}}} for row in ROWS]
    columns = Columns(text="data.text", label="meta.rating.label")
    assert labels_of(read_examples(write_jsonl(tmp_path / "x.jsonl", rows), columns)) == [r["label"] for r in ROWS]
    assert value_at({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert value_at({"a.b": {"c": 3}}, "a.b.c") == 3
