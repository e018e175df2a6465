"""`gpt1 predict --input FILE --output FILE`: order, formats, resuming after any interruption.

Run: pytest tests/test_batch_prediction.py
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from itertools import count, islice
from pathlib import Path
from typing import Any

import polars
import pytest

from gpt1 import backends, cli
from gpt1.backends.parameters import initialise
from gpt1.checkpoint.model_dir import Model, save_model
from gpt1.config import DETECTED, Columns, Head, ModelConfig, TableFormat
from gpt1.data.example import Example
from gpt1.data.readers import columnar, table
from gpt1.data.readers.rows import Row
from gpt1.errors import Interrupted, UserError
from gpt1.inference.batch_prediction import Predictor, write_predictions
from gpt1.inference.classifier import Classifier
from gpt1.inference.prediction_writer import FIELDS, PredictionFile
from gpt1.tokenization.trainer import train
from support.engines import hardware
from support.run_outcome import PATIENCE

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
CHUNK = 4
TEXTS = [f"{'a warm and funny story' if i % 3 else 'dull, noisy; rude'} number {i}" for i in range(14)]
"""Three full chunks and half a chunk."""

Directory = Callable[..., Path]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    """Write a model with random weights and return its directory."""
    tokenizer = train([*TEXTS] * 3, 90)

    def write(name: str = "model", head: Head = Head("classification", 2), seed: int = 0) -> Path:  # noqa: B008
        path = tmp_path_factory.mktemp("models") / name
        config = ModelConfig(n_layer=1, n_head=2, n_embd=16, n_ctx=32, vocab_size=tokenizer.vocab_size, head=head)
        labels = ("bad", "good, “very”")[: 0 if head.regression or head.task == "multiple-choice" else 2]
        params = initialise(config, seed)
        for name in ("tokens_embed.weight", "score.weight"):
            params[name] *= 30  # so that the probabilities differ
        save_model(path, Model(config, params, tokenizer, labels, 32))
        return path

    return write


@pytest.fixture(scope="module")
def model(directory: Directory) -> Classifier:
    return opened(directory())


def opened(path: Path) -> Classifier:
    return Classifier.open(path, hardware(backends.installed()[0]))


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable fsync: no test here needs it."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "new.csv", [{"id": i, "text": text, "label": i % 2} for i, text in enumerate(TEXTS)])


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def predictor(
    model: Classifier, source: Path, *, with_input: bool = False, columns: Columns | None = None,
    table: TableFormat = DETECTED,
) -> Predictor:  # fmt: skip
    found = Predictor(model, source, columns or Columns(), table, with_input=with_input)
    found.rows_at_once = CHUNK
    return found


class StopsAfter(Predictor):
    """Predictor that is interrupted after a number of chunks."""

    def __init__(self, like: Predictor, chunks: int, by: BaseException):
        super().__init__(like.model, like.source, like.columns, like.table, with_input=like.with_input)
        self.rows_at_once, self.left, self.by = like.rows_at_once, chunks, by

    def label(self, *given: Any) -> list[dict[str, Any]]:
        if not self.left:
            raise self.by
        self.left -= 1
        return super().label(*given)


def stopped(like: Predictor, output: Path, chunks: int = 2) -> tuple[Path, Path]:
    """Interrupt a command after a number of chunks; return its partial file and its journal."""
    with pytest.raises(Interrupted):
        write_predictions(StopsAfter(like, chunks, KeyboardInterrupt()), output)
    assert not output.exists()
    return beside(output)


def beside(output: Path) -> tuple[Path, Path]:
    partial, journal = (output.with_name(f".{output.name}.{what}") for what in ("partial", "journal"))
    return partial, journal


def whole(like: Predictor, suffix: str) -> bytes:
    """Return the output of an uninterrupted command."""
    output = like.source.with_name(f"whole{suffix}")
    assert write_predictions(like, output) == sum(1 for _ in like.rows())
    assert not any(path.exists() for path in beside(output))
    found = output.read_bytes()
    output.unlink()
    return found


# ---- interruption and resuming


def test_two_commands_do_not_write_to_one_output(model: Classifier, source: Path) -> None:
    output = source.with_name("out.jsonl")
    seen: list[str] = []

    class Meanwhile(Predictor):
        def label(self, *given: Any) -> list[dict[str, Any]]:
            with pytest.raises(UserError, match="another process is writing to it"):
                write_predictions(predictor(model, source), output)
            seen.append("refused")
            return super().label(*given)

    like = predictor(model, source)
    first = Meanwhile(model, source, like.columns, with_input=False)
    first.rows_at_once = like.rows_at_once
    assert write_predictions(first, output) and seen
    assert output.read_bytes() == whole(like, ".jsonl")
    assert sorted(path.name for path in source.parent.glob(".*")) == []


@pytest.mark.parametrize("with_input", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_a_stopped_command_goes_on_to_the_bytes_of_one_that_was_not(
    model: Classifier, source: Path, suffix: str, chunks: int, with_input: bool
) -> None:
    asked = predictor(model, source, with_input=with_input)
    expected, output = whole(asked, suffix), source.with_name(f"out{suffix}")
    stopped(asked, output, chunks)
    again = StopsAfter(asked, 4 - chunks, AssertionError("a chunk was computed twice"))
    assert write_predictions(again, output) == len(TEXTS)
    assert output.read_bytes() == expected
    assert not any(path.exists() for path in beside(output))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_whatever_a_kill_leaves_of_a_chunk_is_cut_off(model: Classifier, source: Path, suffix: str) -> None:
    """Bytes of an unrecorded chunk, and more bytes than the journal records."""
    asked, output = predictor(model, source), source.with_name(f"out{suffix}")
    expected = whole(asked, suffix)
    partial, journal = stopped(asked, output)
    before, size = journal.read_bytes(), partial.stat().st_size
    assert 0 < size < len(expected)
    for end in [*range(size, len(expected) + 1, 5), len(expected)]:
        partial.write_bytes(expected[:end] + b"?" * len(expected))
        journal.write_bytes(before)
        write_predictions(asked, output)
        assert output.read_bytes() == expected, end
        output.unlink()


def test_a_killed_process_goes_on(directory: Directory, tmp_path: Path) -> None:
    """With SIGKILL after the first recorded chunk, three times; some rows have no text."""
    source = write_rows(
        tmp_path / "new.jsonl", [{"text": f"{text} {i}" if i % 9 else " "} for i in range(400) for text in TEXTS]
    )
    words = ["predict", str(directory()), "--input", str(source), "--dtype", "float32", "--with-input", "--output"]
    assert cli.main([*words, str(tmp_path / "expected.csv")]) == 0
    output = tmp_path / "out.csv"
    _, journal = beside(output)
    before = 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-m", "gpt1", *words, str(output)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            if journal.exists() and json.loads(journal.read_text())["rows"] > before:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
        process.wait()
        assert not output.exists()
        assert before < json.loads(journal.read_text())["rows"] < 400 * len(TEXTS)
        before = json.loads(journal.read_text())["rows"]
    assert cli.main([*words, str(output)]) == 0
    assert output.read_bytes() == (tmp_path / "expected.csv").read_bytes()


@pytest.mark.parametrize("on_bad_row", [None, "skip"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bad_rows_are_counted_over_a_stop(
    model: Classifier, tmp_path: Path, suffix: str, on_bad_row: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the first chunk, a whole chunk of them, and in the last one."""
    good = [json.dumps({"id": i, "text": text}) for i, text in enumerate(TEXTS)]
    bad = ['{"text": ""}', '{"text": null}', '{"text": NaN}', "{", '{"id": 5}']
    source = tmp_path / "new.jsonl"
    source.write_text("\n".join([bad[3], *good[:7], *bad, *bad[:4], *good[7:], bad[4]]))
    asked = predictor(model, source, with_input=True, table=TableFormat(on_bad_row=on_bad_row))
    expected, output = whole(asked, suffix), tmp_path / f"out{suffix}"
    stopped(asked, output)
    capsys.readouterr()
    write_predictions(predictor(model, source, with_input=True, table=asked.table), output)
    assert output.read_bytes() == expected
    kinds = "empty text (6), not a JSON object (3), no 'text' (2)"
    said = "were left out" if on_bad_row else "have no prediction"
    assert f"11 of 25 rows {said}: {kinds}." in capsys.readouterr().err


def test_a_malformed_row_that_has_changed_is_noticed(model: Classifier, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "new.csv", [{"id": i, "text": text} for i, text in enumerate(TEXTS)])
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    for bad in ("1,2,3\n", "1,2,3,4\n"):
        source.write_text("".join([*lines[:2], bad, *lines[2:]]), encoding="utf-8")
        if bad == "1,2,3\n":
            stopped(predictor(model, source), tmp_path / "out.csv")
    with pytest.raises(UserError, match="was started with other rows"):
        write_predictions(predictor(model, source), tmp_path / "out.csv")


def test_a_full_disk_loses_nothing(model: Classifier, source: Path) -> None:
    asked, output = predictor(model, source), source.with_name("out.jsonl")
    expected = whole(asked, ".jsonl")
    with pytest.raises(OSError, match="full"):
        write_predictions(StopsAfter(asked, 2, OSError(errno.ENOSPC, "disk full")), output)
    write_predictions(StopsAfter(asked, 2, AssertionError), output)
    assert output.read_bytes() == expected


def test_rows_may_be_added_or_mended_behind_what_is_answered(model: Classifier, source: Path) -> None:
    """Also if the command was interrupted between its last, half-full chunk and the end."""
    asked, output = predictor(model, source), source.with_name("out.csv")
    partial, journal = stopped(asked, output, 3)
    before = partial.read_bytes(), journal.read_bytes()
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    source.write_text("".join([*lines[:-1], "13,,1\n"]), encoding="utf-8")
    with pytest.raises(UserError, match=r"new\.csv row 14 \(line 15\): 'text' is empty"):
        write_predictions(predictor(model, source, table=TableFormat(on_bad_row="error")), output)
    assert (partial.read_bytes(), journal.read_bytes()) == before
    source.write_text("".join([*lines[:-1], "13,mended,1\n", "14,added,0\n"]), encoding="utf-8")
    expected = whole(asked, ".csv")
    partial.write_bytes(before[0] + expected[len(before[0]) : -1])
    assert write_predictions(asked, output) == 15
    assert output.read_bytes() == expected


def test_rows_added_after_the_last_of_a_stopped_command_fill_its_chunk(
    model: Classifier, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise chunk boundaries, and in bfloat16 the digits, would depend on the interruption."""
    asked, output = predictor(model, source), source.with_name("out.csv")

    def stopped(*given: object) -> None:
        raise KeyboardInterrupt  # as Ctrl-C would, exactly here

    with monkeypatch.context() as patch:
        patch.setattr(PredictionFile, "finish", stopped)
        with pytest.raises(Interrupted):
            write_predictions(asked, output)
    with source.open("a", encoding="utf-8") as file:
        file.write("14,added,0\n")
    assert json.loads(beside(output)[1].read_text())["rows"] == 12
    expected = whole(asked, ".csv")
    write_predictions(asked, output)
    assert output.read_bytes() == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("number 5", "number five"), "the first 8 of"),
        (lambda text: text.replace("5,a warm", "6,a warm"), "the first 8 of"),
        (lambda text: "".join(text.splitlines(keepends=True)[:7]), "the first 8 of"),
    ],
    ids=["a text", "another column", "fewer rows"],
)
def test_other_rows_in_the_answered_part_are_refused(
    model: Classifier, source: Path, change: Callable[[str], str], said: str
) -> None:
    asked, output = predictor(model, source), source.with_name("out.csv")
    partial, _ = stopped(asked, output)
    before = partial.read_bytes()
    source.write_text(change(source.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UserError, match=said) as refused:
        write_predictions(asked, output)
    assert str(refused.value).endswith(f"to start over: rm {partial}; to keep it: choose another --output")
    assert partial.read_bytes() == before
    partial.unlink()
    write_predictions(asked, output)
    assert output.exists()


def test_what_belongs_to_another_command_is_refused(model: Classifier, directory: Directory, source: Path) -> None:
    asked, output = predictor(model, source), source.with_name("out.csv")
    stopped(asked, output)
    other = opened(directory(seed=1))
    larger = predictor(model, source)
    larger.rows_at_once = 5
    for changed, said in (
        (predictor(other, source), "the partial output was started with another model;"),
        (
            predictor(model, source, with_input=True),
            "the partial output was started with --with-input false, now true;",
        ),
        (
            predictor(model, source, columns=Columns(text="text")),
            "the partial output was started with --text none, now text;",
        ),
        (larger, "the partial output was started with rows at once 4, now 5;"),
    ):
        with pytest.raises(UserError, match=said):
            write_predictions(changed, output)
    write_predictions(asked, output)


def test_another_device_is_named_and_goes_on(
    model: Classifier, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, output = predictor(model, source), source.with_name("out.csv")
    _, journal = stopped(asked, output)
    found = json.loads(journal.read_text())
    journal.write_text(json.dumps(found | {"device": "cuda (a GPU)"}))
    write_predictions(asked, output)
    said = capsys.readouterr().err
    assert "Started on cuda (a GPU), resuming on cpu" in said
    assert "out.csv: resuming after row 8 of 14." in said


def test_a_damaged_partial_file_is_refused(model: Classifier, source: Path) -> None:
    asked, output = predictor(model, source), source.with_name("out.jsonl")
    partial, journal = stopped(asked, output)
    before = partial.read_bytes()
    partial.write_bytes(before[:-1])
    with pytest.raises(UserError, match=r"shorter than the [\d,]+ bytes that were written; to start over: rm "):
        write_predictions(asked, output)
    partial.write_bytes(before)
    journal.write_text('{"rows": 8')
    with pytest.raises(UserError, match=r"not JSON .* to start over: rm "):
        write_predictions(asked, output)


# ---- output formats


def tables(
    model: Classifier, source: Path, suffixes: Sequence[str] = SUFFIXES, *, with_input: bool
) -> dict[str, list[dict[str, Any]]]:
    """Read back the rows of each format."""
    found = {}
    for suffix in suffixes:
        content = whole(predictor(model, source, with_input=with_input), suffix)
        match suffix:
            case ".jsonl":
                found[suffix] = [json.loads(line) for line in content.splitlines()]
            case ".parquet":
                found[suffix] = polars.read_parquet(content).to_dicts()
            case _:
                text = io.StringIO(content.decode(), newline="")
                found[suffix] = list(csv.DictReader(text, delimiter="\t" if suffix == ".tsv" else ","))
    return found


def test_every_format_holds_label_score_and_probabilities_in_the_rows_order(model: Classifier, source: Path) -> None:
    found = tables(model, source, with_input=False)
    expected = [model.predict([Example((text,))])[0] for text in TEXTS]
    assert len({round(row["score"], 4) for row in expected}) > 5  # so that the order matters
    for given, row in zip(found[".jsonl"], expected, strict=True):
        assert given["label"] == row["label"]
        assert list(given) == ["label", "score", "scores", "unknown_share", "error"]
        assert given["scores"] == pytest.approx(row["scores"], abs=1e-6)  # sums in a batch
    flat = [
        {"label": row["label"], "score": row["score"]}
        | {f"probability of {name}": value for name, value in row["scores"].items()}
        | {"unknown_share": row["unknown_share"], "error": None}
        for row in found[".jsonl"]
    ]
    assert found[".parquet"] == flat
    for suffix in (".csv", ".tsv"):
        assert found[suffix] == [
            {name: "" if value is None else str(value) for name, value in row.items()} for row in flat
        ]


def test_the_rows_own_columns_stand_before_the_prediction(model: Classifier, source: Path) -> None:
    """A column named like a prediction field, such as `label` of a labelled file, keeps its content."""
    bare = tables(model, source, with_input=False)
    for suffix, rows in tables(model, source, with_input=True).items():
        for i, (row, plain) in enumerate(zip(rows, bare[suffix], strict=True)):
            own = {"id": str(i), "text": TEXTS[i], "input label": str(i % 2)}
            assert row == own | plain
            assert list(row)[:3] == list(own)


def test_columns_of_any_kind_come_along(model: Classifier, tmp_path: Path) -> None:
    odd = {"text": 'a,\r\n"b"', "list": [1, {"a": None}], "number": 0.5, "none": None, "half": "x\ud800", "ok": True}
    source = write_rows(tmp_path / "odd.jsonl", [odd, odd | {"number": float("nan")}])
    found = tables(model, source, with_input=True)
    expected = odd | {"half": "x\ufffd"}
    assert found[".jsonl"][0] == expected | {name: found[".jsonl"][0][name] for name in FIELDS.split()}
    assert found[".jsonl"][1]["number"] is None
    shown = {"text": 'a,\r\n"b"', "list": '[1, {"a": null}]', "number": "0.5", "none": "", "half": "x\ufffd"}
    for suffix in (".csv", ".tsv"):
        assert {name: found[suffix][0][name] for name in shown} == shown
    assert found[".parquet"][0]["number"] == 0.5
    assert found[".parquet"][1]["number"] is None


def test_values_of_parquet_that_json_lacks_become_text_and_bytes_are_refused(model: Classifier, tmp_path: Path) -> None:
    source = tmp_path / "dated.parquet"
    polars.DataFrame({"text": ["fine"], "day": [date(2020, 2, 1)]}).write_parquet(source)
    for rows in tables(model, source, with_input=True).values():
        assert rows[0]["day"] == "2020-02-01"
    polars.DataFrame({"text": ["fine"], "raw": [b"\x00"]}).write_parquet(source)
    for suffix in SUFFIXES:
        with pytest.raises(UserError, match=r"--with-input: dated\.parquet row 1 holds bytes"):
            write_predictions(predictor(model, source, with_input=True), tmp_path / f"out{suffix}")
    assert whole(predictor(model, source), ".csv")


def test_a_column_that_comes_later_has_no_place_in_a_table(model: Classifier, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "new.jsonl", [{"text": "fine"}, {"text": "fine", "more": 1}])
    with pytest.raises(
        UserError, match=r"new\.jsonl row 2: 'more' is missing from the first row.*use --output FILE\.jsonl"
    ):
        write_predictions(predictor(model, source, with_input=True), tmp_path / "out.csv")
    found = tables(model, source, (".jsonl", ".parquet"), with_input=True)
    assert found[".jsonl"][1]["more"] == 1
    assert [row["more"] for row in found[".parquet"]] == [None, 1]


def test_two_names_that_would_become_one_are_refused(model: Classifier, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "new.jsonl", [{"text": "fine", "score": 1, "input score": 2}])
    with pytest.raises(UserError, match="columns 'score' and 'input score'; rename one"):
        write_predictions(predictor(model, source, with_input=True), tmp_path / "out.jsonl")


def test_a_regression_and_choices_have_every_format_too(directory: Directory, tmp_path: Path) -> None:
    grades = opened(directory(head=Head("similarity", 1, regression=True)))
    source = write_rows(tmp_path / "pairs.jsonl", [{"text_a": text, "text_b": "dull"} for text in TEXTS])
    found = tables(grades, source, with_input=False)
    scores = [row["score"] for row in found[".jsonl"]]
    assert [row["score"] for row in found[".parquet"]] == scores
    assert {row["label"] for row in found[".parquet"]} == {None}
    assert [row["score"] for row in found[".csv"]] == list(map(str, scores))
    endings = opened(directory(head=Head("multiple-choice", 1)))
    source = write_rows(tmp_path / "c.jsonl", [{"context": text, "choices": ["a", "rude"]} for text in TEXTS])
    found = tables(endings, source, with_input=False)
    assert {row["label"] for row in found[".parquet"]} <= {0, 1}
    columns = ["label", "score", "probability of 0", "probability of 1", "unknown_share", "error"]
    assert list(found[".csv"][0]) == columns


def test_parquet_is_read_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "_ROWS", 3)
    for rows in (5, 6):
        polars.DataFrame({"text": list(map(str, range(rows)))}).write_parquet(tmp_path / "new.parquet")
        found = list(table.read_rows(tmp_path / "new.parquet"))
        assert found == [Row(f"new.parquet row {i + 1}", {"text": str(i)}) for i in range(rows)]


def test_no_more_than_a_chunk_of_rows_is_held(model: Classifier, source: Path) -> None:
    """Of an endless input."""
    read = count()

    class Endless(Predictor):
        def rows(self) -> Iterator[tuple[Row, Example]]:
            return ((Row(f"row {i}", {}), Example((TEXTS[i % len(TEXTS)],))) for i in read)

    endless = Endless(model, source, Columns())
    endless.rows_at_once = CHUNK
    assert len(list(islice(endless.stream(), 3 * CHUNK))) == 3 * CHUNK
    assert next(read) == 3 * CHUNK


def test_rows_that_were_cut_are_counted_over_a_stop(
    model: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = " ".join(["story"] * 40)
    source = write_rows(tmp_path / "new.jsonl", [{"text": long if i in (1, 9) else "fine"} for i in range(11)])
    asked, output = predictor(model, source), tmp_path / "out.jsonl"
    stopped(asked, output)
    write_predictions(predictor(model, source), output)
    assert "2 of 11 rows were truncated to 32 tokens." in capsys.readouterr().err


# ---- errors before anything is computed


def refused(model: Path, source: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["predict", str(model), "--input", str(source), "--output", str(output)]) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_an_output_that_cannot_be_is_named(
    directory: Directory, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "no model"  # so that none of these loads a model
    earlier = tmp_path / "earlier.csv"
    earlier.write_text("precious")
    before = sorted(tmp_path.iterdir())
    for output, said in (
        (tmp_path / "out.xlsx", "out.xlsx: expected one of .jsonl, .csv, .tsv, .parquet"),
        (tmp_path / "out", "out: expected one of .jsonl, .csv, .tsv, .parquet"),
        (source, "new.csv: is the input itself; choose another file"),
        (tmp_path / "." / "new.csv", "new.csv: is the input itself; choose another file"),
        (earlier, "earlier.csv: exists; remove it first, or choose another file"),
        (source / "out.csv", "new.csv: "),
    ):
        assert said in refused(nowhere, source, output, capsys)
    assert earlier.read_text() == "precious"
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_ones_own_is_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "its folder is not writable" in refused(tmp_path, source, tmp_path / "locked" / "out.csv", capsys)


def test_an_input_without_rows_or_with_a_bad_one_leaves_nothing_behind(
    directory: Directory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, source, output = directory(), tmp_path / "new.csv", tmp_path / "out" / "out.csv"
    for content, said in (
        ("", "new.csv is empty (0 bytes)"),
        ("text\n", "new.csv has no rows below its header line"),
        ("text,id\n ,1\n,2\n", "new.csv row 1 (line 2): 'text' is empty; none of the 2 rows can be used"),
    ):
        source.write_text(content)
        assert said in refused(model, source, output, capsys)
        assert list(output.parent.iterdir()) == []


def test_with_input_goes_with_something_that_holds_it(
    directory: Directory, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(directory()), "--input", str(source), "--with-input"]
    assert cli.main(words) == 2
    assert "--with-input: requires --output FILE or --json" in capsys.readouterr().err
    assert cli.main([*words[:2], "fine", "--with-input"]) == 2
    assert "--with-input: requires --input FILE" in capsys.readouterr().err
    assert cli.main([*words, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    assert set(rows[0]) == {"id", "text", "input label", *FIELDS.split()}
