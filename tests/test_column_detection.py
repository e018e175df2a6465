"""Detection of columns by usual names or flags, and the resulting rows.

Run: pytest tests/test_column_detection.py
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from gpt1.data.column_detection import find_layout
from gpt1.data.dataset import Columns, read_examples, stream_examples
from gpt1.data.example import Example
from gpt1.data.input_kinds import InputKind
from gpt1.data.paper_kinds import CHOICES, PAIR, SINGLE
from support.labelled_files import (
    BY_USUAL_NAMES,
    CHOICE,
    error_of,
    write,
    write_jsonl,
)

# ---- Columns


def read_row(
    path: Path, row: dict[str, Any], columns: Columns = BY_USUAL_NAMES, kind: InputKind | None = None
) -> Example:
    return read_examples(write_jsonl(path / "x.jsonl", [row]), columns, kind)[0]


TEXTS = ["text", "Sentence", "review", "CONTENT", "comment", "Message", "tweet", "description", "reviewText", "文本"]
LABELS = ["label", "Labels", "class", "category", "sentiment", "target", "score", "stars"]
RARE_LABELS = ["Rating", "intent", "y", "标签", "Sentiment Label", "class_label"]


@pytest.mark.parametrize("name", [*TEXTS, "Review Text", "review_body", "comment-text", "内容"])
@pytest.mark.parametrize("label", [*LABELS, *RARE_LABELS])
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
    "no text": ({"b": "t", "label": 1}, Columns(), None, ["no column for text", "b, label", "--text COLUMN"]),
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
        tmp_path / "x.csv", '3,"A first text\nof two lines, and with, many, more words than anyone reads"\n4,b\n'
    )
    message = error_of(lambda: read_examples(path))
    assert "line 1 looks like data (3, A first text of two lines" in message and "anyone reads" not in message
    assert "--no-header --text 2 --label 1" in message and "\n" not in message


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


# ---- Several columns of the text, columns of a run


def test_columns_of_the_text_are_joined_by_a_line_break(tmp_path: Path) -> None:
    row = {"title": "Great", "body": "I liked it", "label": 1}
    assert read_row(tmp_path, row).parts == ("Great\nI liked it",), "both usual names are present"
    assert read_row(tmp_path, row, Columns(text="body,title")).parts == ("I liked it\nGreat",)
    assert read_row(tmp_path, row | {"title": None}).parts == ("I liked it",), "an empty one is left out"
    assert read_row(tmp_path, row, Columns(text="body")).parts == ("I liked it",)
    assert read_row(tmp_path, row | {"text": "t"}).parts == ("t",)
    assert read_row(tmp_path, row | {"title,body": "exact"}, Columns(text="title,body")).parts == ("exact",)
    message = error_of(lambda: read_row(tmp_path, row | {"title": "", "body": " "}))
    assert "'title' and 'body' are empty" in message


def test_all_missing_columns_are_named_at_once_with_the_nearest_names(tmp_path: Path) -> None:
    message = error_of(lambda: read_row(tmp_path, {"id": 1, "txt": "t", "labell": 1}))
    assert "no column for text" in message and "no column for label" in message
    assert message.endswith("its columns are id, txt, labell; did you mean --text txt --label labell?")
    message = error_of(
        lambda: read_row(tmp_path, {"commentz": "t", "toxic": 1}, Columns(text="comment", label="toxik"))
    )
    assert message.startswith("--text comment, --label toxik: no such columns in x.jsonl")
    assert message.endswith("did you mean --text commentz --label toxic?")


def test_columns_of_a_run_are_used_where_no_flag_is_set_and_the_file_has_them() -> None:
    def parts(*names: str, **flags: str) -> tuple[str, ...]:
        remembered = Columns(text="title,summary")
        return find_layout("x", names, Columns(**flags), SINGLE, labelled=None, remembered=remembered).parts["text"]

    assert parts("text", "title", "summary") == ("title", "summary")
    assert parts("text", "title") == ("text",)
    assert parts("text", "title", "summary", text="text") == ("text",)
