"""Tables of labelled texts: files, columns, rows, splits. Run: pytest tests/test_tables.py"""

from __future__ import annotations

import gzip
import json
import lzma
import math
import shutil
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt1.data.dataset import (
    TEST_FRACTION,
    VALID_FRACTION,
    Columns,
    Example,
    find_splits,
    load_dataset,
    read_examples,
    repeated_texts,
    shared_texts,
    stratified_split,
    stream_examples,
)
from gpt1.data.splits import openai_split
from gpt1.errors import UserError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
BY_USUAL_NAMES = Columns()
needs_shared_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not on this machine")


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def reviews(n: int, labels: tuple[Any, ...] = (0, 1)) -> list[dict[str, Any]]:
    return [{"text": f"review {i}", "label": labels[i % len(labels)]} for i in range(n)]


def error_of(call: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def labels_of(examples: list[Example]) -> list[Any]:
    return [example.label for example in examples]


# ---------------------------------------------------------------------------------------------------------------------
# Formats


def _packed(path: Path, data: bytes) -> Path:
    match path.suffix:
        case ".gz":
            data = gzip.compress(data)
        case ".xz":
            data = lzma.compress(data)
        case ".zst":
            data = pytest.importorskip("zstandard").ZstdCompressor().compress(data)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("packing", ["", ".gz", ".xz", ".zst"])
@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        (".csv", 'text,label\n"a, b",0\nçé,1\n'),
        (".tsv", "text\tlabel\r\na, b\t0\r\nçé\t1\r\n"),
        (".jsonl", '{"text": "a, b", "label": 0}\n\n{"text": "\\u00e7é", "label": 1}'),
    ],
)
def test_every_text_format_and_compression_gives_the_same_examples(
    tmp_path: Path, suffix: str, data: str, packing: str
) -> None:
    examples = read_examples(_packed(tmp_path / f"x{suffix}{packing}", data.encode()))
    assert [(e.parts, e.label, e.weight) for e in examples] == [(("a, b",), 0, 1.0), (("çé",), 1, 1.0)]


def test_parquet_gives_examples_of_every_kind(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    polars.DataFrame({"sentence": ["a", "b"], "label": [True, False]}).write_parquet(tmp_path / "single.parquet")
    polars.DataFrame({"article": ["a", "b"], "options": [["x", "y"], ["z", "w"]], "answer": ["B", "A"]}).write_parquet(
        tmp_path / "choices.parquet"
    )
    assert labels_of(read_examples(tmp_path / "single.parquet")) == [1, 0]
    assert read_examples(tmp_path / "choices.parquet")[0] == Example(
        ("a",), ("x", "y"), 1, origin="choices.parquet row 1"
    )


def test_byte_order_mark_is_tolerated(tmp_path: Path) -> None:
    assert read_examples(write(tmp_path / "x.csv", "\ufefftext,label\na,1\n"))[0].parts == ("a",)
    assert read_examples(write(tmp_path / "x.jsonl", '\ufeff{"text": "a", "label": 1}'))[0].parts == ("a",)


def test_quoted_cells_hold_separators_quotes_and_newlines(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 'text,label\n"one, ""two""\nthree",pos\n\nfour,neg\n')
    first, second = read_examples(path)
    assert first.parts == ('one, "two"\nthree',)
    assert (first.origin, second.origin) == ("x.csv row 1 (line 2)", "x.csv row 2 (line 5)")


def test_long_csv_cells_are_read(tmp_path: Path) -> None:
    """The csv module refuses cells of more than 131,072 characters unless told otherwise."""
    long = "word " * 100_000
    assert read_examples(write(tmp_path / "x.csv", f"text,label\n{long},1\n"))[0].parts == (long,)


def test_line_separators_inside_json_strings_do_not_end_the_line(tmp_path: Path) -> None:
    text = "a\u2028b\u0085c\x0bd"
    path = write(tmp_path / "x.jsonl", json.dumps({"text": text, "label": 1}, ensure_ascii=False) + "\n")
    assert read_examples(path)[0].parts == (text,)


def test_zst_files_of_several_frames_are_read_to_the_end(tmp_path: Path) -> None:
    compress = pytest.importorskip("zstandard").ZstdCompressor().compress
    (tmp_path / "x.jsonl.zst").write_bytes(b"".join(compress(b'{"text": "a", "label": 1}\n' * 9999) for _ in range(3)))
    assert len(read_examples(tmp_path / "x.jsonl.zst")) == 3 * 9999


@pytest.mark.parametrize("packing", [".gz", ".xz", ".zst"])
def test_truncated_and_corrupt_compressed_files_are_refused(tmp_path: Path, packing: str) -> None:
    path = tmp_path / f"x.jsonl{packing}"
    rows = "".join(json.dumps({"text": f"{math.sin(i)}", "label": i % 2}) + "\n" for i in range(9000))
    whole = _packed(path, rows.encode()).read_bytes()
    for cut in (len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert "x.jsonl" in (message := error_of(lambda: read_examples(path))) and "damaged" in message
    path.write_bytes(b"this is not compressed")
    assert "damaged" in error_of(lambda: read_examples(path))


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    path = tmp_path / "x.parquet"
    polars.DataFrame(reviews(100)).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    assert "damaged" in error_of(lambda: read_examples(path))


def test_streaming_does_not_hold_the_file_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with path.open("w") as file:
        for i in range(20_000):
            file.write(json.dumps({"text": "word " * 60, "id": i}) + "\n")
    tracemalloc.start()
    count = sum(1 for _ in stream_examples(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 0.2 * path.stat().st_size  # a buffer and a few rows


def test_streaming_raises_at_the_call_when_the_first_row_is_bad(tmp_path: Path) -> None:
    """So that a command knows before it opens its output file."""
    with pytest.raises(UserError):
        stream_examples(tmp_path / "missing.csv")


def test_jsonl_is_read_without_optional_packages(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", reviews(4))
    program = (
        "import sys; from pathlib import Path; from gpt1.data.dataset import load_dataset, read_examples\n"
        f"read_examples(Path({str(path)!r}))\n"
        "print([m for m in ('numpy', 'polars', 'torch', 'sklearn', 'zstandard') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=_environment())
    assert done.stdout.strip() == "[]", done.stderr


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


# ---------------------------------------------------------------------------------------------------------------------
# Bad files

BAD_FILES = {
    "empty file": ("x.csv", b"", ["x.csv", "empty"]),
    "blank jsonl": ("x.jsonl", b"\n\n", ["x.jsonl", "no rows"]),
    "header only": ("x.csv", b"text,label\n", ["x.csv", "no rows below its header"]),
    "unknown format": ("x.json", b"{}", ["x.json", ".jsonl"]),
    "packed parquet": ("x.parquet.gz", b"xx", ["x.parquet.gz", ".parquet"]),
    "short csv row": ("x.csv", b"text,label\na,1\nb\n", ["x.csv row 2 (line 3)", "cells: 1, expected 2 (text, label)"]),
    "long csv row": ("x.csv", b"text,label\na,1\nb, c,1\n", ["row 2 (line 3)", "cells: 3, expected 2", "quotes"]),
    "open quote": ("x.csv", b'text,label\na,1\n"b,1\nc,0\n', ["row 2 (line 3)", "quote"]),
    "stray quote": ("x.tsv", b'text\tlabel\n"a" b\t1\n', ["x.tsv row 1 (line 2)", "quote"]),
    "semicolons": ("x.csv", b"text;label\na;1\n", ["x.csv line 1", "';'", "commas"]),
    "tabs in csv": ("x.csv", b"text\tlabel\na\t1\n", ["x.csv line 1", "rename it to .tsv"]),
    "commas in tsv": ("x.tsv", b"text,label\na,1\n", ["x.tsv line 1", "rename it to .csv"]),
    "double column": ("x.csv", b"text,label,label\na,1,1\n", ["x.csv line 1", "'label'"]),
    "no utf-8, jsonl": ("x.jsonl", b'{"text": "a", "label": 1}\n{"text": "caf\xe9"}\n',
                        ["x.jsonl row 2:", "0xe9 at offset 39", "iconv -f WINDOWS-1252 -t UTF-8 x.jsonl"]),
    "no utf-8, csv": ("x.csv", b"text,label\na,1\ncaf\xe9,1\n", ["x.csv row 2 (line 3)", "0xe9 at offset 18", "iconv"]),
    "no utf-8, header": ("x.csv", b"\xfft,label\na,1\n", ["x.csv line 1:", "0xff at offset 0"]),
    "utf-16": ("x.csv", "text,label\na,1\n".encode("utf-16"), ["x.csv line 1", "iconv -f UTF-16"]),
    "not json": ("x.jsonl", b'{"text": "a", "label": 1}\n\n{"text": "b", "label" 1}\n',
                 ["x.jsonl row 2 (line 3)", "not JSON", "column 23"]),
    "json array": ("x.jsonl", b'[{"text": "a"}]', ["x.jsonl row 1", "list", "one JSON object on each line"]),
    "nested json": ("x.jsonl", b"[" * 200_000, ["x.jsonl row 1", "JSON"]),
    "huge number": ("x.jsonl", b'{"text": "a", "label": ' + b"9" * 5000 + b"}", ["x.jsonl row 1", "JSON"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file_gives_one_clear_line(tmp_path: Path, case: str) -> None:
    name, data, expected = BAD_FILES[case]
    (tmp_path / name).write_bytes(data)
    message = error_of(lambda: read_examples(tmp_path / name))
    for part in expected:
        assert part in message


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    assert "no such file" in error_of(lambda: load_dataset(tmp_path / "x.csv"))
    assert "folder" in error_of(lambda: read_examples(tmp_path))


def test_compressed_file_in_another_encoding_gets_a_command_that_unpacks_it(tmp_path: Path) -> None:
    path = _packed(tmp_path / "x.csv.gz", b"text,label\ncaf\xe9,1\n")
    assert "gzip -dc x.csv.gz | iconv -f WINDOWS-1252 -t UTF-8 > x-utf8.csv" in error_of(lambda: read_examples(path))


# ---------------------------------------------------------------------------------------------------------------------
# Columns


def read_row(path: Path, row: dict[str, Any], columns: Columns = BY_USUAL_NAMES, kind: str | None = None) -> Example:
    return read_examples(write_jsonl(path / "x.jsonl", [row]), columns, kind)[0]


@pytest.mark.parametrize("name", ["text", "Sentence", "review", "CONTENT"])
@pytest.mark.parametrize("label", ["label", "Labels", "class", "category", "sentiment", "target", "score", "stars"])
def test_single_texts_and_labels_are_found_by_usual_names(tmp_path: Path, name: str, label: str) -> None:
    example = read_row(tmp_path, {"id": 7, name: "a", label: "pos"})
    assert (example.parts, example.label) == (("a",), "pos")


@pytest.mark.parametrize(
    ("a", "b"),
    [("text_a", "text_b"), ("premise", "hypothesis"), ("sentence1", "sentence2"), ("Question1", "Question2")],
)
def test_pairs_are_found_by_usual_names(tmp_path: Path, a: str, b: str) -> None:
    assert read_row(tmp_path, {b: "second", a: "first", "label": 1}).parts == ("first", "second")


def test_multiple_choice_is_found_in_the_layouts_in_use(tmp_path: Path) -> None:
    race = {"article": "c", "question": "q", "options": ["x", "y"], "answer": "B", "example_id": "1"}
    copa = {"premise": "c", "question": "q", "choice1": "x", "choice2": "y", "label": 1, "idx": 0}
    swag = {"context": "c", "ending0": "x", "ending1": "y", "label": "1"}
    quiz = {"question": "q", "option_a": "x", "option_b": "y", "label": "b"}
    for row, parts in ((race, ("c", "q")), (copa, ("c", "q")), (swag, ("c",)), (quiz, ("q",))):
        assert read_row(tmp_path, row) == Example(parts, ("x", "y"), 1, origin="x.jsonl row 1")


def test_csv_choices_stand_in_a_json_list_or_in_columns_of_their_own(tmp_path: Path) -> None:
    listed = write(tmp_path / "a.csv", 'context,choices,label\nc,"[""x"", ""y""]",1\n')
    spread = write(tmp_path / "b.csv", "context,choice_0,choice_1,label\nc,x,y,1\n")
    flagged = write(tmp_path / "c.csv", "context,Quiz1,Quiz2,label\nc,x,y,1\n")
    examples = [
        *read_examples(listed),
        *read_examples(spread),
        *read_examples(flagged, Columns(choices="Quiz1,Quiz2")),
    ]
    assert all((e.parts, e.choices, e.label) == (("c",), ("x", "y"), 1) for e in examples)


def test_flags_win_over_usual_names_and_tell_the_kind(tmp_path: Path) -> None:
    row = {"text": "t", "q": "a", "r": "b", "label": 0, "truth": 1, "w": 0.5}
    columns = Columns(text_a="q", text_b="r", label="truth", weight="w")
    assert read_row(tmp_path, row, columns) == Example(("a", "b"), (), 1, 0.5, "x.jsonl row 1")


def test_weight_is_never_found_by_name(tmp_path: Path) -> None:
    assert read_row(tmp_path, {"text": "t", "label": 0, "weight": 3}).weight == 1.0


def test_first_usual_name_wins_and_other_rivals_are_ambiguous(tmp_path: Path) -> None:
    assert read_row(tmp_path, {"text": "t", "review": "r", "label": 1, "score": 2.5}).label == 1
    message = error_of(lambda: read_row(tmp_path, {"text": "t", "sentiment": "pos", "stars": 5}))
    assert "sentiment and stars" in message and "--label sentiment" in message


WRONG_COLUMNS = {
    "no text": ({"body": "t", "label": 1}, Columns(), None, ["no column for text", "body, label", "--text COLUMN"]),
    "no label": ({"text": "t", "id": 1}, Columns(), None, ["no column for label", "text, id", "--label COLUMN"]),
    "no pair": ({"text": "t", "label": 1}, Columns(), "pair", ["text_a and text_b", "--text-a COLUMN"]),
    "no choices": ({"context": "t", "label": 1}, Columns(), "choices", ["choices", "--choices COLUMN"]),
    "no context": ({"options": ["a", "b"], "label": 1}, Columns(), None, ["no column for context", "--context COLUMN"]),
    "gap in choices": ({"context": "t", "choice1": "a", "choice3": "b", "label": 1}, Columns(), "choices", ["choices"]),
    "unknown flag": ({"text": "t", "label": 1}, Columns(text="body"), None, ["--text body", "text, label"]),
    "unknown weight": ({"text": "t", "label": 1}, Columns(weight="w"), None, ["--weight w", "text, label"]),
    "unknown choices": ({"context": "t", "a": "t", "label": 1}, Columns(choices="a,b"), None, ["--choices b"]),
    "half a pair": ({"text_a": "t", "label": 1}, Columns(text_a="text_a"), None, ["--text-a and --text-b"]),
    "mixed flags": ({"text": "t", "label": 1}, Columns(text="text", choices="c"), None, ["--text and --choices"]),
    "foreign flag": ({"text": "t", "label": 1}, Columns(text="text"), "pair", ["--text", "--text-a and --text-b"]),
}


@pytest.mark.parametrize("case", WRONG_COLUMNS)
def test_wrong_columns_give_one_clear_line(tmp_path: Path, case: str) -> None:
    row, columns, kind, expected = WRONG_COLUMNS[case]
    message = error_of(lambda: read_row(tmp_path, row, columns, kind))
    for part in expected:
        assert part in message


def test_label_column_is_optional_when_unlabelled(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "text,other\na,1\n")
    assert next(stream_examples(path)).label is None
    assert read_examples(path, Columns(label="label"), labelled=False)[0].label is None
    assert read_examples(path, Columns(label="other"), labelled=False)[0].label == 1


def test_message_stays_on_one_line_when_the_header_is_missing(tmp_path: Path) -> None:
    """Then the first text stands where the names of the columns should."""
    path = write(
        tmp_path / "x.csv", '3,"A first text\nof two lines, and with many more words than anyone reads"\n4,b\n'
    )
    message = error_of(lambda: read_examples(path))
    assert "its columns are 3, A first text of two lines" in message and "anyone reads" not in message


# ---------------------------------------------------------------------------------------------------------------------
# Rows

CHOICE = {"context": "c", "choices": ["x", "y"], "label": 0}
GOOD = {"text": "t", "label": 1}
BAD_ROWS = {
    "empty text": ({"text": "", "label": 1}, "'text' is empty"),
    "blank text": ({"text": " \n\t", "label": 1}, "'text' is empty"),
    "null text": ({"text": None, "label": 1}, "'text' is null"),
    "number as text": ({"text": 5, "label": 1}, "'text' is 5 (int)"),
    "no text": ({"txt": "t", "label": 1}, "no 'text'"),
    "lone surrogate": ({"text": "t\ud83d", "label": 1}, "\\ud83d"),
    "no label": ({"text": "t"}, "no label"),
    "null label": ({"text": "t", "label": None}, "no label"),
    "empty label": ({"text": "t", "label": " "}, "no label"),
    "NaN label": ({"text": "t", "label": math.nan}, "no label in column 'label' (found nan)"),
    "infinite label": ({"text": "t", "label": math.inf}, "finite"),
    "list label": ({"text": "t", "label": [1]}, "[1] (list)"),
    "two types": ({"text": "t", "label": "pos"}, "all text or all numbers"),
}
BAD_CHOICES = {
    "three choices": ({**CHOICE, "choices": ["x", "y", "z"]}, "3 choices, expected 2"),
    "one choice": ({**CHOICE, "choices": ["x"]}, "lists 1 of at least 2 choices"),
    "empty choice": ({**CHOICE, "choices": ["x", ""]}, "'choices[1]' is empty"),
    "choices as text": ({**CHOICE, "choices": "x, y"}, "expected a list"),
    "label from one": ({**CHOICE, "label": 2}, "0 to 1 (counted from 0) or A to B"),
    "label C of two": ({**CHOICE, "label": "C"}, "'C'"),
    "fraction": ({**CHOICE, "label": 0.5}, "0.5"),
    "unlabelled": ({**CHOICE, "label": -1}, "no label"),
}


@pytest.mark.parametrize(
    ("good", "bad", "expected"),
    [
        *(pytest.param(GOOD, *case, id=name) for name, case in BAD_ROWS.items()),
        *(pytest.param(CHOICE, *case, id=name) for name, case in BAD_CHOICES.items()),
    ],
)
def test_bad_row_is_named_with_its_file_and_number(
    tmp_path: Path, good: dict[str, Any], bad: dict[str, Any], expected: str
) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [good, bad])
    message = error_of(lambda: read_examples(path))
    assert "x.jsonl row 2" in message and expected in message


@pytest.mark.parametrize("weight", ["-1", "nan", "inf", "heavy", ""])
def test_weights_are_finite_and_not_negative(tmp_path: Path, weight: str) -> None:
    path = write(tmp_path / "x.csv", f"text,label,w\na,1,0\nb,0,{weight}\n")
    assert "row 2 (line 3): the weight 'w'" in error_of(lambda: read_examples(path, Columns(weight="w")))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", " 0"], [1, 0]),
        (["-1", "+1"], [-1, 1]),
        (["1", "2.5", "1e1"], [1.0, 2.5, 10.0]),
        (["1", "two"], ["1", "two"]),
        (["pos ", "neg"], ["pos", "neg"]),
        (["1_0", "2"], ["1_0", "2"]),
    ],
)
def test_csv_labels_are_numbers_only_when_all_of_them_are(
    tmp_path: Path, cells: list[str], expected: list[Any]
) -> None:
    path = write(tmp_path / "x.csv", "text,label\n" + "".join(f"t,{cell}\n" for cell in cells))
    found = labels_of(read_examples(path))
    assert found == expected and [type(label) for label in found] == [type(label) for label in expected]


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e999", "9" * 5000])
def test_infinite_csv_labels_are_refused(tmp_path: Path, cell: str) -> None:
    path = write(tmp_path / "x.csv", f"text,label\na,1\nb,{cell}\n")
    assert "row 2 (line 3)" in (message := error_of(lambda: read_examples(path))) and "finite" in message


def test_nan_in_a_csv_label_column_is_a_missing_label(tmp_path: Path) -> None:
    assert "no label" in error_of(lambda: read_examples(write(tmp_path / "x.csv", "text,label\na,pos\nb,nan\n")))


def test_json_labels_keep_their_type_and_ints_join_floats(tmp_path: Path) -> None:
    assert labels_of(read_examples(write_jsonl(tmp_path / "a.jsonl", reviews(2, ("1", "0"))))) == ["1", "0"]
    bools = labels_of(read_examples(write_jsonl(tmp_path / "b.jsonl", reviews(2, (True, False)))))
    assert bools == [1, 0] and all(type(label) is int for label in bools)
    mixed = labels_of(read_examples(write_jsonl(tmp_path / "c.jsonl", reviews(2, (5, 4.5)))))
    assert mixed == [5.0, 4.5] and all(type(label) is float for label in mixed)


# ---------------------------------------------------------------------------------------------------------------------
# Folders


def names(splits: dict[str, list[Path]]) -> dict[str, list[str]]:
    return {split: [file.name for file in files] for split, files in splits.items()}


def touch(folder: Path, *files: str) -> Path:
    for file in files:
        write(folder / file, "text,label\na,1\n")
    return folder


@pytest.mark.parametrize("valid", ["valid", "dev", "val", "validation", "Dev"])
def test_splits_are_found_by_stem(tmp_path: Path, valid: str) -> None:
    touch(tmp_path, "train.csv", f"{valid}.jsonl.xz", "test.parquet", "README.md", "training_log.txt", ".train.csv")
    assert names(find_splits(tmp_path)) == {
        "train": ["train.csv"],
        "valid": [f"{valid}.jsonl.xz"],
        "test": ["test.parquet"],
    }


def test_shards_are_sorted_by_number(tmp_path: Path) -> None:
    touch(tmp_path, "train-10.csv", "train-2.csv", "test-00001-of-00002.parquet", "test-00000-of-00002.parquet")
    assert names(find_splits(tmp_path)) == {
        "train": ["train-2.csv", "train-10.csv"],
        "test": ["test-00000-of-00002.parquet", "test-00001-of-00002.parquet"],
    }


def test_missing_shard_is_an_error(tmp_path: Path) -> None:
    assert "1 of 2 shards of train" in error_of(lambda: find_splits(touch(tmp_path, "train-00000-of-00002.csv")))


@pytest.mark.parametrize(
    "rivals",
    [
        ("train.csv", "train.jsonl"),
        ("dev.csv", "valid.csv"),
        ("test.csv", "test-000.csv"),
        ("train.csv", "train.csv.gz"),
    ],
)
def test_split_under_two_names_is_an_error(tmp_path: Path, rivals: tuple[str, str]) -> None:
    message = error_of(lambda: find_splits(touch(tmp_path, *rivals)))
    assert all(name in message for name in rivals)


def test_similar_names_do_not_count_beside_the_split_itself_and_are_noted(tmp_path: Path) -> None:
    touch(tmp_path, "train.csv", "dev.csv", "dev-mirrored.csv", "extra.csv", "test.txt", ".hidden.csv")
    assert names(find_splits(tmp_path)) == {"train": ["train.csv"], "valid": ["dev.csv"]}
    [note] = [note for note in load_dataset(tmp_path).notes if "Not used" in note]
    assert ".hidden.csv" not in note
    assert all(name in note for name in ("dev-mirrored.csv", "extra.csv", "test.txt"))


def test_single_similar_name_is_taken_and_noted_but_several_are_not(tmp_path: Path) -> None:
    for name in ("train-part.csv", "dev-high.csv", "dev-middle.csv"):
        write(tmp_path / name, "text,label\n" + "a,1\nb,0\n" * 20)
    assert names(find_splits(tmp_path)) == {"train": ["train-part.csv"]}
    notes = " ".join(load_dataset(tmp_path).notes)
    assert "train-part.csv is taken" in notes and "dev-high.csv, dev-middle.csv" in notes


def test_folder_without_train_says_what_is_there_and_what_works(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    folder.mkdir()
    file = write_jsonl(folder / "test.jsonl", reviews(40))
    message = error_of(lambda: load_dataset(folder))
    assert "no train file" in message and f"--data '{file.as_posix()}'" in message
    assert load_dataset(file).splits.keys() == {"train", "valid", "test"}


def test_folder_of_other_things_says_what_is_there(tmp_path: Path) -> None:
    assert "nothing of the kind" in error_of(lambda: find_splits(tmp_path))
    write(tmp_path / "train.txt", "text")
    assert "train.txt" in error_of(lambda: find_splits(tmp_path))
    assert "no such folder" in error_of(lambda: find_splits(tmp_path / "nowhere"))


# ---------------------------------------------------------------------------------------------------------------------
# Data sets


def sizes(path: Any, **options: Any) -> dict[str, int]:
    return {split: len(examples) for split, examples in load_dataset(path, **options).splits.items()}


def folder_of(path: Path, **splits: list[dict[str, Any]]) -> Path:
    for split, rows in splits.items():
        write_jsonl(path / f"{split}.jsonl", rows)
    return path


def test_single_file_is_split_by_label_and_nothing_is_lost(tmp_path: Path) -> None:
    data = load_dataset(write_jsonl(tmp_path / "reviews.jsonl", reviews(200)))
    n_test, n_valid = round(200 * TEST_FRACTION), round(200 * VALID_FRACTION)
    assert {split: len(examples) for split, examples in data.splits.items()} == {
        "train": 200 - n_test - n_valid,
        "valid": n_valid,
        "test": n_test,
    }
    assert data.kind == "single"
    for examples in data.splits.values():
        assert Counter(labels_of(examples)) == {0: len(examples) // 2, 1: len(examples) // 2}
    texts = [example.parts[0] for examples in data.splits.values() for example in examples]
    assert sorted(texts) == sorted(row["text"] for row in reviews(200))
    assert any("reviews.jsonl" in note and "stratified" in note for note in data.notes)


def test_same_seed_same_splits_and_another_seed_others(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", reviews(200))
    assert load_dataset(path, seed=1) == load_dataset(path, seed=1)
    assert load_dataset(path, seed=1).splits != load_dataset(path, seed=2).splits


def test_folder_without_valid_gives_part_of_train_and_says_so(tmp_path: Path) -> None:
    data = load_dataset(folder_of(tmp_path, train=reviews(100), test=reviews(10)))
    assert {split: len(examples) for split, examples in data.splits.items()} == {"train": 90, "valid": 10, "test": 10}
    assert any(note.startswith("valid: 10 of 100 rows drawn from train") for note in data.notes)


def test_folder_without_test_has_none_and_says_so(tmp_path: Path) -> None:
    data = load_dataset(folder_of(tmp_path, train=reviews(10), dev=reviews(4)))
    assert {split: len(examples) for split, examples in data.splits.items()} == {"train": 10, "valid": 4}
    assert "test: there is none." in data.notes
    assert sizes(tmp_path, test_fraction=0.2) == {"train": 8, "valid": 4, "test": 2}


def test_train_fraction_cuts_train_before_valid_is_drawn(tmp_path: Path) -> None:
    """The recipe mindspore-imdb: a stratified tenth of train, split 70/30."""
    folder = folder_of(tmp_path, train=reviews(1000), test=reviews(50))
    data = load_dataset(folder, train_fraction=0.1, valid_fraction=0.3)
    assert {split: len(examples) for split, examples in data.splits.items()} == {"train": 70, "valid": 30, "test": 50}
    assert Counter(labels_of(data.splits["train"])) == {0: 35, 1: 35}
    assert Counter(labels_of(data.splits["valid"])) == {0: 15, 1: 15}


def test_fraction_for_a_split_with_its_own_file_is_an_error(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, train=reviews(10), valid=reviews(10), test=reviews(10))
    assert "--valid-fraction 0.3" in (message := error_of(lambda: load_dataset(folder, valid_fraction=0.3)))
    assert "valid.jsonl" in message and "drop the flag" in message
    assert "--test-fraction 0.3" in error_of(lambda: load_dataset(folder, test_fraction=0.3))


@pytest.mark.parametrize(
    "fractions",
    [
        {"train_fraction": 0.0},
        {"train_fraction": 1.1},
        {"train_fraction": math.nan},
        {"valid_fraction": 1.0},
        {"test_fraction": -0.1},
        {"valid_fraction": 0.5, "test_fraction": 0.5},
        {"valid_fraction": 0.95},
    ],
)
def test_impossible_fractions_are_refused(tmp_path: Path, fractions: dict[str, float]) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", reviews(100))
    assert "-fraction" in error_of(lambda: load_dataset(path, **fractions))


def test_too_few_rows_to_draw_from_are_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", reviews(4))
    assert "too few" in (message := error_of(lambda: load_dataset(path))) and "--test-fraction" in message


def test_splits_may_be_given_as_files(tmp_path: Path) -> None:
    shards = [write_jsonl(tmp_path / f"{i}.jsonl", reviews(10)) for i in range(3)]
    assert sizes({"train": shards, "valid": shards[:1]}) == {"train": 30, "valid": 10}
    assert "no train split" in error_of(lambda: load_dataset({"test": shards}))
    with pytest.raises(ValueError, match="dev"):
        load_dataset({"train": shards, "dev": shards})


@pytest.mark.parametrize("mark", [{"label": -1}, {"label": None}, {}])
def test_split_without_labels_is_left_out_and_noted(tmp_path: Path, mark: dict[str, Any]) -> None:
    unlabelled = [{"text": f"t{i}", **mark} for i in range(5)]
    data = load_dataset(folder_of(tmp_path, train=reviews(20), valid=reviews(4), test=unlabelled))
    assert data.splits.keys() == {"train", "valid"}
    assert "test: left out, because none of its 5 rows has a label." in data.notes


def test_unlabelled_csv_test_with_the_label_minus_one_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "text,label\n" + "a,1\nb,0\n" * 10)
    write(tmp_path / "test.csv", "text,label\na,-1\nb,-1\n")
    assert load_dataset(tmp_path).splits.keys() == {"train", "valid"}


def test_unlabelled_multiple_choice_test_is_left_out(tmp_path: Path) -> None:
    choices = [{**CHOICE, "label": i % 2} for i in range(20)]
    data = load_dataset(folder_of(tmp_path, train=choices, test=[{**CHOICE, "label": -1}] * 3))
    assert data.kind == "choices" and data.splits.keys() == {"train", "valid"}


def test_one_missing_label_in_a_labelled_split_is_an_error(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, train=reviews(20), test=[*reviews(3), {"text": "t", "label": None}])
    assert "test.jsonl row 4: no label" in error_of(lambda: load_dataset(folder))


def test_train_without_any_label_is_an_error(tmp_path: Path) -> None:
    assert "nothing to train on" in error_of(lambda: load_dataset(folder_of(tmp_path, train=reviews(20, (-1,)))))
    no_column = folder_of(tmp_path, train=[{"text": "t", "id": 1}])
    assert "no column for label" in error_of(lambda: load_dataset(no_column))


def test_some_rows_labelled_minus_one_are_kept_and_noted(tmp_path: Path) -> None:
    data = load_dataset(folder_of(tmp_path, train=reviews(40, (0, 1, 2, -1)), valid=reviews(4)))
    assert len(data.splits["train"]) == 40
    assert any("10 rows have the label -1" in note for note in data.notes)


def test_columns_of_train_hold_for_the_other_splits(tmp_path: Path) -> None:
    """A `score` in test must not stand in for the `label` that train has."""
    test = [{"text": f"t{i}", "score": i} for i in range(3)]
    data = load_dataset(folder_of(tmp_path, train=reviews(20), test=test))
    assert "test" not in data.splits
    write_jsonl(tmp_path / "test.jsonl", [{"sentence": "t", "label": 1}])
    assert "test.jsonl row 1: no 'text'" in error_of(lambda: load_dataset(tmp_path))


def test_columns_not_used_are_noted(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [{"id": i, **row, "weight": 2} for i, row in enumerate(reviews(40))])
    assert "Columns not used: id, weight." in load_dataset(path).notes


def test_csv_labels_of_all_splits_get_one_type(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "text,label\n" + "a,1\nb,0\n" * 10)
    write(tmp_path / "test.csv", "text,label\na,1\nb,0.5\n")
    data = load_dataset(tmp_path)
    assert {type(label) for examples in data.splits.values() for label in labels_of(examples)} == {float}
    write(tmp_path / "test.csv", "text,label\na,1\nb,maybe\n")
    assert labels_of(load_dataset(tmp_path).splits["test"]) == ["1", "maybe"]
    assert set(labels_of(load_dataset(tmp_path).splits["train"])) == {"0", "1"}


def test_splits_of_different_choice_counts_are_an_error(tmp_path: Path) -> None:
    three = {**CHOICE, "choices": ["x", "y", "z"]}
    folder = folder_of(tmp_path, train=[CHOICE] * 20, test=[three])
    assert "test.jsonl row 1: 3 choices, expected 2" in error_of(lambda: load_dataset(folder))


# ---------------------------------------------------------------------------------------------------------------------
# Draws and repeated texts


def labelled(labels: list[Any]) -> list[Example]:
    return [Example((f"text {i}",), label=label) for i, label in enumerate(labels)]


@settings(max_examples=150, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4) | st.sampled_from(["a", "b"]), max_size=120),
    fraction=st.floats(0, 0.99),
    seed=st.integers(0, 3),
)
def test_stratified_split_loses_nothing_and_keeps_the_shares_of_labels(
    labels: list[Any], fraction: float, seed: int
) -> None:
    examples = labelled(labels)
    rest, drawn = stratified_split(examples, fraction, seed)
    position = {example: i for i, example in enumerate(examples)}
    for part in (rest, drawn):
        assert [position[e] for e in part] == sorted(position[e] for e in part)
    assert sorted(position[e] for e in (*rest, *drawn)) == list(range(len(examples)))
    count, total = Counter(labels_of(drawn)), Counter(labels)
    if len(total) <= len(labels) / 2:
        for label, n in total.items():
            assert abs(count[label] - fraction * n) < 1 + 1e-9  # rounding of fraction * n
            assert count[label] < n  # a label that is drawn is one that train has
    assert (rest, drawn) == stratified_split(examples, fraction, seed)


def test_total_drawn_is_the_rounded_fraction() -> None:
    """Rounding each label down would draw nothing from labels of few rows."""
    _, drawn = stratified_split(labelled(list(range(20)) * 4), 0.1, seed=0)
    assert len(drawn) == 8


def test_label_of_one_row_stays_in_the_rest() -> None:
    for seed in range(20):
        rest, _ = stratified_split(labelled(["common"] * 50 + ["rare"]), 0.5, seed)
        assert "rare" in labels_of(rest)


@pytest.mark.parametrize("labels", [[i / 7 for i in range(100)], [f"label {i}" for i in range(100)]])
def test_floats_and_all_different_labels_are_drawn_plainly(labels: list[Any]) -> None:
    rest, drawn = stratified_split(labelled(labels), 0.25, seed=0)
    assert (len(rest), len(drawn)) == (75, 25)


def test_repeated_floats_are_no_strata() -> None:
    shares = {labels_of(stratified_split(labelled([0.5, 1.5] * 20), 0.5, seed)[1]).count(0.5) for seed in range(10)}
    assert len(shares) > 1


def test_draw_is_pinned_across_machines_and_versions() -> None:
    """A golden value: another draw would change every published split."""
    _, drawn = stratified_split(labelled([0, 1] * 10), 0.2, seed=0)
    assert [example.parts[0] for example in drawn] == ["text 0", "text 10", "text 13", "text 19"]


def test_second_draw_is_not_the_first_one_shifted() -> None:
    examples = labelled([0] * 1000)
    rest, _ = stratified_split(examples, 0.5, seed=0)
    _, second = stratified_split(rest, 0.5, seed=0)
    ranks = [examples.index(example) for example in second]
    assert 350 < sum(ranks) / len(ranks) < 650  # a uniform draw has mean 500 and standard deviation about 13


# ---- the draw of OpenAI's code


def test_openai_draw_is_train_test_splits_with_their_seed_in_its_order(tmp_path: Path) -> None:
    """ROCStories: 1,871 labelled rows, of which 1,497 train and 374 validate (openai/finetune-transformer-lm)."""
    from sklearn.model_selection import train_test_split

    rows = [{"text": f"text {i}", "label": i % 2} for i in range(1_871)]
    data = load_dataset(folder_of(tmp_path, train=rows, test=rows[:3]), draw="openai", seed=5)
    found = {
        split: [int(example.parts[0].partition(" ")[2]) for example in examples]
        for split, examples in data.splits.items()
    }
    assert {split: len(examples) for split, examples in found.items()} == {"train": 1_497, "valid": 374, "test": 3}
    train, valid = train_test_split(range(1_871), test_size=374, random_state=3535999445)
    assert (found["train"], found["valid"]) == (train, valid)
    assert found["train"][:4] == [187, 1591, 1646, 169], "golden: scikit-learn may not change it"
    assert found["valid"][:4] == [1058, 198, 1174, 806]
    assert "valid: 374 of 1,871 rows drawn from train, by OpenAI's draw for ROCStories (seed 3535999445)." in (
        data.notes
    )


def test_openai_draw_takes_the_fraction_that_is_asked_for_or_theirs(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, train=reviews(100))
    assert sizes(folder, draw="openai") == {"train": 80, "valid": 20}  # 374 / 1,871 is 0.19989
    assert sizes(folder, draw="openai", valid_fraction=0.35) == {"train": 65, "valid": 35}


def test_openai_draw_is_of_valid_alone(tmp_path: Path) -> None:
    """The test split of a single file is drawn by label, and a file of its own stays what it is."""
    path = write_jsonl(tmp_path / "x.jsonl", reviews(200))
    usual, theirs = (load_dataset(path, draw=draw, valid_fraction=0.2).splits for draw in ("stratified", "openai"))  # type: ignore[arg-type]
    assert usual["test"] == theirs["test"]
    assert usual["valid"] != theirs["valid"]
    assert len(usual["valid"]) == len(theirs["valid"]) == 40


def test_openai_draw_leaves_a_valid_file_as_it_is(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, train=reviews(10), valid=reviews(4))
    assert load_dataset(folder, draw="openai") == load_dataset(folder)


def test_openai_draw_does_not_care_for_labels() -> None:
    drawn = [Counter(labels_of(openai_split(labelled([0, 1] * n), 0.2)[1]))[0] / (0.4 * n) for n in range(20, 60, 5)]
    assert len(set(drawn)) > 1


def test_openai_draw_leaves_a_row_to_train_on_and_draws_none_of_too_few() -> None:
    assert [len(part) for part in openai_split(labelled([0, 1, 0]), 0.99)] == [1, 2]
    assert [len(part) for part in openai_split(labelled([0, 1]), 0.1)] == [2, 0]
    assert [len(part) for part in openai_split(labelled([0]), 0.9)] == [1, 0]


@needs_shared_data
def test_openai_draw_of_the_story_cloze_validation_file_has_their_sizes(tmp_path: Path) -> None:
    shutil.copy(SHARED / "storycloze" / "val.jsonl.xz", tmp_path / "train.jsonl.xz")
    assert sizes(tmp_path, draw="openai") == {"train": 1_497, "valid": 374}


def test_shared_and_repeated_texts_are_counted_without_case_and_white_space() -> None:
    a = [Example(("One  Two",)), Example(("three",)), Example(("one two\n",))]
    b = [Example(("ONE TWO",)), Example(("one\ntwo",)), Example(("four",))]
    assert shared_texts(a, b) == 2
    assert repeated_texts(a) == 1 and repeated_texts(b) == 1


def test_pairs_and_choices_are_the_same_only_in_all_parts() -> None:
    assert shared_texts([Example(("a", "b"))], [Example(("a", "c")), Example(("b", "a")), Example(("A", "b "))]) == 1
    assert repeated_texts([Example(("a",), ("x", "y")), Example(("a",), ("y", "x"))]) == 0


# ---------------------------------------------------------------------------------------------------------------------
# Real data


@needs_shared_data
def test_imdb_is_read_split_and_its_repeated_texts_counted() -> None:
    """The counts of repeated and shared reviews are those known of the original data set."""
    splits = load_dataset(SHARED / "imdb", valid_fraction=0.3).splits
    assert {split: Counter(labels_of(examples)) for split, examples in splits.items()} == {
        "train": {0: 8750, 1: 8750},
        "valid": {0: 3750, 1: 3750},
        "test": {0: 12_500, 1: 12_500},
    }
    assert repeated_texts(splits["test"]) == 199
    assert shared_texts([*splits["train"], *splits["valid"]], splits["test"]) == 123


@needs_shared_data
@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("cola", "single", {"train": 8551, "valid": 1043}),
        ("rte", "pair", {"train": 2490, "valid": 277}),
        ("stsb", "pair", {"train": 5749, "valid": 1500, "test": 1379}),
        ("storycloze/val.jsonl.xz", "choices", {"train": 1497, "valid": 187, "test": 187}),
        ("copa/dev.jsonl.xz", "choices", {"train": 400, "valid": 50, "test": 50}),
        ("ag_news/test.jsonl.xz", "single", {"train": 6080, "valid": 760, "test": 760}),
    ],
)
def test_real_data_sets_of_every_kind_are_read(path: str, kind: str, expected: dict[str, int]) -> None:
    data = load_dataset(SHARED / path)
    assert data.kind == kind
    assert {split: len(examples) for split, examples in data.splits.items()} == expected


@needs_shared_data
def test_folder_of_parts_names_them_and_the_command_that_works() -> None:
    message = error_of(lambda: load_dataset(SHARED / "race"))
    assert "train-middle.jsonl.xz" in message and "--data" in message and "race/train-" in message
