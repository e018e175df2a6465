"""Detected and given encodings, delimiters, quoting and headers of .csv and .tsv files.

Run: pytest tests/test_table_format.py
"""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from gpt1.config import Columns, TableFormat
from gpt1.data.dataset import load_dataset, read_examples
from gpt1.data.readers.rows import Row
from gpt1.data.readers.table import read_rows
from gpt1.data.readers.text import text_lines
from gpt1.errors import UserError
from gpt1.inference.prediction_writer import PredictionFile
from support.labelled_files import error_of

FILMS = [("the film is warm", "good"), ("the film is dull", "bad")] * 30
SENTENCES = {
    "gb18030": ("GB18030", "这部电影很好看，质量很好。", "质量很差，不值得。"),
    "shift_jis": ("Shift-JIS", "この映画はとても良い。", "退屈な映画だった。"),
    "euc_kr": ("EUC-KR", "이 영화는 정말 좋다.", "너무 지루한 영화다."),
    "euc_jp": ("EUC-JP", "この映画はとても良い。", "退屈な映画だった。"),
    "big5": ("Big5", "這部電影很好看，我很喜歡。", "這個東西不好，我不要。"),
}


def table(rows: list[tuple[str, str]], delimiter: str = ",") -> str:
    return "".join(delimiter.join(row) + "\n" for row in [("text", "label"), *rows])


def read(path: Path, data: bytes, **settings: Any) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the cells of each row, and the notes."""
    path.write_bytes(data)
    notes: list[str] = []
    return [tuple(row.cells.values()) for row in read_rows(path, TableFormat(**settings), notes.append)], notes


# ---- Encoding


@pytest.mark.parametrize("encoding", SENTENCES)
def test_multi_byte_encodings_are_detected_and_named(tmp_path: Path, encoding: str) -> None:
    name, *texts = SENTENCES[encoding]
    rows = [(text, "1") for text in texts] * 5
    found, notes = read(tmp_path / "x.csv", table(rows).encode(encoding))
    assert found == rows
    assert len(notes) == 1 and notes[0].startswith(f"x.csv: {name}, by its characters")


def test_cp1252_is_called_a_guess_with_the_first_changed_word(tmp_path: Path) -> None:
    rows = [("plain", "1"), ("it\u2019s a caf\u00e9", "0")]
    found, notes = read(tmp_path / "x.csv", table(rows).encode("cp1252"))
    assert found == rows
    assert "cp1252 is a guess" in notes[0] and 'it\\x92s as "it\u2019s"' in notes[0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_unicode_with_and_without_a_mark_is_detected(tmp_path: Path, encoding: str) -> None:
    rows = [("\u4e0a\u4e0d \U0001f600", "1"), ("b", "0")]
    assert read(tmp_path / "x.csv", table(rows).encode(encoding))[0] == rows


def test_encoding_of_a_late_byte_is_detected_in_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"a plain line of text\n" * 300_000 + b"caf\xe9 and more\n")
    notes: list[str] = []
    tracemalloc.start()
    lines = sum(1 for _ in text_lines(path, note=notes.append))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lines == 300_001 and "caf\\xe9" in notes[0]
    assert peak < 0.3 * path.stat().st_size


def test_the_settings_override_the_detection(tmp_path: Path) -> None:
    rows = [("\u043f\u0440\u0438\u0432\u0435\u0442", "1")]
    assert read(tmp_path / "x.csv", table(rows).encode("koi8-r"), encoding="koi8-r") == (rows, [])


# ---- Delimiter, quoting, header


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_are_detected_though_texts_contain_commas(tmp_path: Path, delimiter: str) -> None:
    rows = [("one, two", "a"), ("three", "b"), ("four, five, six", "a")]
    found, notes = read(tmp_path / "x.csv", table(rows, delimiter).encode())
    assert found == rows and "separated by" in notes[0]


def test_quotes_that_are_text_do_not_join_the_rows_of_a_tsv(tmp_path: Path) -> None:
    rows = [*FILMS]
    rows[10], rows[13] = ('"I loved it, he said', "good"), ('and would see it again"', "bad")
    found, notes = read(tmp_path / "x.tsv", table(rows, "\t").encode())
    assert found == rows and "quotes are part of the text" in notes[0]
    path = tmp_path / "x.csv"
    plain = [(text.replace(",", ""), label) for text, label in rows]
    assert "x.csv row 11 (line 12)" in error_of(lambda: read(path, table(plain).encode()))
    assert read(path, table(plain).encode(), quoting="none")[0] == plain


def test_a_quote_behind_the_sample_does_not_join_rows_either(tmp_path: Path) -> None:
    rows = FILMS * 300
    rows[17_000], rows[17_003] = ('"I loved it', "good"), ('again"', "bad")
    assert "row 17001" in error_of(lambda: read(tmp_path / "x.tsv", table(rows, "\t").encode()))


def test_line_breaks_in_quoted_cells_are_read(tmp_path: Path) -> None:
    data = b'text,label\n"one, two",a\n"three, four\nfive",b\n'
    assert read(tmp_path / "x.csv", data) == ([("one, two", "a"), ("three, four\nfive", "b")], [])


def test_a_file_without_header_is_reported_and_no_row_is_lost(tmp_path: Path) -> None:
    rows = [("good", "a warm film " * 9), ("bad", "a dull film " * 9)] * 10
    path = tmp_path / "x.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    message = error_of(lambda: load_dataset(path))
    assert "there seems to be no header" in message and "--no-header --text 2 --label 1" in message
    examples = read_examples(path, Columns(text="2", label="1"), table=TableFormat(header=False))
    assert len(examples) == len(rows)


def test_a_column_name_that_occurs_twice_is_named_with_its_positions(tmp_path: Path) -> None:
    message = error_of(lambda: read(tmp_path / "x.csv", b"text,label, text\na,b,c\n"))
    assert message.endswith("column 'text' occurs more than once in the header (columns 1 and 3); rename one of them")


def test_excels_separator_line_sets_the_delimiter(tmp_path: Path) -> None:
    """`sep=;` stands above the header; lines are counted from it."""
    rows, _ = read(tmp_path / "x.csv", b'sep=;\r\ntext;label\r\n"a,b";x\r\nc|d;y\r\n')
    assert rows == [("a,b", "x"), ("c|d", "y")]
    (tmp_path / "x.csv").write_bytes(b"sep=|\ntext|label\na|x\nb|y|z\nc|x\n")
    assert [row.where for row in read_rows(tmp_path / "x.csv") if row.problem] == ["x.csv row 2 (line 4)"]


def test_a_text_file_may_be_a_table(tmp_path: Path) -> None:
    """By its tabs, or by the delimiter that is set; one text a line otherwise."""
    rows, _ = read(tmp_path / "x.txt", b"label\ttext\nspam\tcall now\nham\tsee you\n")
    assert rows == [("spam", "call now"), ("ham", "see you")]
    data = b"label|text\nspam|call now\n"
    assert read(tmp_path / "y.txt", data)[0] == [("label|text",), ("spam|call now",)]
    assert read(tmp_path / "y.txt", data, delimiter="|")[0] == [("spam", "call now")]
    assert read(tmp_path / "z.txt", b"a text\twith a tab\nand one without\n")[0] == [
        ("a text\twith a tab",),
        ("and one without",),
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"delimiter": ";"}, "--delimiter"), ({"encoding": "utf-16"}, "utf-16"), ({"encoding": "ascii"}, "ascii")],
)
def test_a_wrong_setting_is_refused(tmp_path: Path, settings: dict[str, str], expected: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("text,label\ncaf\u00e9,1\n".encode())
    assert expected in error_of(lambda: load_dataset(path, table=TableFormat(**settings)))


@pytest.mark.parametrize(
    "settings", [{"delimiter": "ab"}, {"encoding": "nonsense"}, {"encoding": "hex"}, {"quoting": "x"}]
)
def test_an_impossible_setting_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(settings))}"):
        TableFormat(**settings)


def test_a_setting_that_does_not_apply_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a", "label": 1}\n')
    assert "--delimiter" in error_of(lambda: read_examples(path, table=TableFormat(delimiter=";")))


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_predictions_with_their_input_read_back_equal(tmp_path: Path, suffix: str) -> None:
    """The csv module quotes a carriage return by itself only from Python 3.13 on."""
    texts = ["warm and\rfunny", "a\0b", 'he said "wow"', '"', "a,b\tc\nd\r\n", "=1+1", " ", "", "\u2028"]
    prediction = {"label": "good", "score": 0.5, "scores": {"good": 0.5}, "unknown_share": 0.0, "error": None}
    data = PredictionFile(suffix, with_input=True).encode(
        [Row("row", {"text": text}) for text in texts], [prediction] * len(texts)
    )
    assert [row[0] for row in read(tmp_path / f"x{suffix}", data)[0]] == texts
