"""Detection of columns by common names or flags, and the resulting rows.

Run: pytest tests/test_column_detection.py
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from gpt1.data.dataset import Columns, read_examples, stream_examples
from gpt1.data.example import Example
from gpt1.data.input_kinds import InputKind
from gpt1.data.paper_kinds import CHOICES, PAIR
from support.labelled_files import (
    BY_USUAL_NAMES,
    CHOICE,
    error_of,
    labels_of,
    reviews,
    write,
    write_jsonl,
)

# ---- Columns


def read_row(
    path: Path, row: dict[str, Any], columns: Columns = BY_USUAL_NAMES, kind: InputKind | None = None
) -> Example:
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
    "no pair": ({"text": "t", "label": 1}, Columns(), PAIR, ["text_a and text_b", "--text-a COLUMN"]),
    "no choices": ({"context": "t", "label": 1}, Columns(), CHOICES, ["choices", "--choices COLUMN"]),
    "no context": ({"options": ["a", "b"], "label": 1}, Columns(), None, ["no column for context", "--context COLUMN"]),
    "gap in choices": ({"context": "t", "choice1": "a", "choice3": "b", "label": 1}, Columns(), CHOICES, ["choices"]),
    "unknown flag": ({"text": "t", "label": 1}, Columns(text="body"), None, ["--text body", "text, label"]),
    "unknown weight": ({"text": "t", "label": 1}, Columns(weight="w"), None, ["--weight w", "text, label"]),
    "unknown choices": ({"context": "t", "a": "t", "label": 1}, Columns(choices="a,b"), None, ["--choices b"]),
    "half a pair": ({"text_a": "t", "label": 1}, Columns(text_a="text_a"), None, ["--text-a and --text-b"]),
    "mixed flags": ({"text": "t", "label": 1}, Columns(text="text", choices="c"), None, ["--text and --choices"]),
    "foreign flag": ({"text": "t", "label": 1}, Columns(text="text"), PAIR, ["--text", "--text-a and --text-b"]),
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
    """The first row of texts is then read as the header."""
    path = write(
        tmp_path / "x.csv", '3,"A first text\nof two lines, and with many more words than anyone reads"\n4,b\n'
    )
    message = error_of(lambda: read_examples(path))
    assert "its columns are 3, A first text of two lines" in message and "anyone reads" not in message


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
    "one choice": ({**CHOICE, "choices": ["x"]}, "needs at least 2 choices, found 1"),
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
