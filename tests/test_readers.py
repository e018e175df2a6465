"""Reading of files: formats, compression, streaming, and errors for bad files.

Run: pytest tests/test_readers.py
"""

from __future__ import annotations

import gzip
import json
import lzma
import math
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from gpt1.data.dataset import load_dataset, read_examples, stream_examples
from gpt1.data.example import Example
from gpt1.errors import UserError
from support.labelled_files import (
    error_of,
    labels_of,
    reviews,
    write,
    write_jsonl,
)

# ---- Formats


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
    assert labels_of(read_examples(tmp_path / "single.parquet")) == ["true", "false"]
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
    """The default limit of the csv module is 131,072 characters per cell."""
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
    """A command can thus fail before it opens its output file."""
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


# ---- Bad files

BAD_FILES = {
    "empty file": ("x.csv", b"", ["x.csv", "empty"]),
    "blank jsonl": ("x.jsonl", b"\n\n", ["x.jsonl", "no rows"]),
    "header only": ("x.csv", b"text,label\n", ["x.csv", "no rows below its header"]),
    "unknown format": ("x.xml", b"{}", ["x.xml", ".jsonl"]),
    "packed parquet": ("x.parquet.gz", b"xx", ["x.parquet.gz", "unpack it"]),
    "short csv row": ("x.csv", b"text,label\na,1\nb\n", ["x.csv row 2 (line 3)", "cells: 1, expected 2 (text, label)"]),
    "long csv row": ("x.csv", b"text,label\na,1\nb, c,1\n", ["row 2 (line 3)", "cells: 3, expected 2", "be quoted"]),
    "open quote": ("x.csv", b'text,label\na,1\n"b,1\nc,0\n', ["row 2 (line 3)", "quote"]),
    "stray quote": ("x.csv", b'text,label\n"a" b,1\n', ["x.csv row 1 (line 2)", "quote", "--quoting none"]),
    "lines or a cell": ("x.csv", b'text,label\n"a,1\nb",0\n', ["row 1 (line 2)", "2 lines", "--quoting minimal"]),
    "two delimiters": ("x.csv", b"a,b;c\n1,2;3\n", ["x.csv", '"," or ";"', "--delimiter"]),
    "double column": ("x.csv", b"text,label,label\na,1,1\n", ["x.csv line 1", "'label'"]),
    "not utf-8, jsonl": ("x.jsonl", '{"text": "é", "label": 1}\n'.encode() + b'{"text": "caf\xe9"}\n',
                         ["x.jsonl row 2:", "byte e9 in", r"caf\xe9", "--encoding"]),
    "not utf-8, csv": ("x.csv", "text,label\né,1\n".encode() + b"caf\xe9,1\n", ["x.csv row 2 (line 3)", "byte e9"]),
    "no encoding fits": ("x.csv", b"text,label\n\x81,1\n", ["x.csv row 1 (line 2)", "byte 81", "set its --encoding"]),
    "cut utf-16": ("x.csv", "text,label\na,1\n".encode("utf-16")[:-1], ["x.csv row 1 (line 2)", "utf-16-le"]),
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
