"""Rows per second and memory of `gpt1 predict --input FILE --output FILE` without the model, by format and size.

    python benchmarks/reading.py --megabytes 1000 [--before CHECKOUT]

The rows are read, validated and digested, and predictions written, by the code of the command; a stub in place of the
model gives every row the same prediction. The table is a .csv of the given size and a tenth of it, and the same rows in
other formats. Memory is the peak resident memory of a process for each file.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count, repeat
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from finetune import BUSY, machine
from gpt1.config import Columns
from gpt1.console import say, table
from gpt1.inference.batch_prediction import Predictor, write_predictions
from gpt1.tasks import find_task

REVIEWS = Path(__file__).parents[1] / "src" / "gpt1" / "assets" / "reviews" / "train.jsonl"
FORMATS = ("csv", "jsonl", "parquet", "arrow")
SRC = Path(__file__).parents[1] / "src"


class WithoutModel(Predictor):
    """Predictor whose predictions are all the same."""

    def __init__(self, source: Path) -> None:
        engine = SimpleNamespace(tokens_at_once=16_384, device="cpu")
        model: Any = SimpleNamespace(engine=engine, task=find_task("classification"))
        super().__init__(model, source, Columns())

    def label(self, chunk: Any, bar: Any) -> list[dict[str, Any]]:
        """Return a prediction for each row."""
        bar.advance(len(chunk))
        return [{"label": "good", "score": 0.75, "scores": {"good": 0.75, "bad": 0.25}}] * len(chunk)

    def identity(self) -> dict[str, Any]:
        """Return nothing: a stub has no settings."""
        return {}


def rows() -> Iterator[tuple[int, str, str]]:
    """Yield (id, text, label) without end: the sample reviews, each with its number."""
    reviews = [json.loads(line) for line in REVIEWS.read_text(encoding="utf-8").splitlines()]
    for number in count():
        review = reviews[number % len(reviews)]
        yield number, f"{number}: {review['text']}", review["label"]


def write_csv(path: Path, size: float) -> Path:
    """Write a .csv of at least `size` bytes."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for row in rows():
            writer.writerow(row)
            if not row[0] % 1_024 and file.tell() >= size:
                return path
    raise AssertionError


def in_format(path: Path, suffix: str) -> Path:
    """Return the rows of a .csv in a file of another format, next to it."""
    import polars

    other, scan = path.with_suffix(f".{suffix}"), polars.scan_csv(path)
    {"jsonl": scan.sink_ndjson, "parquet": scan.sink_parquet, "arrow": scan.sink_ipc}[suffix](other)
    return other


def measured(source: Path, src: Path) -> tuple[str, ...]:
    """Predict a file in a process that imports gpt1 from `src`; return a row of the table."""
    output = source.with_name("predictions.jsonl")
    words = [sys.executable, __file__, "--source", str(source), "--output", str(output)]
    started = time.perf_counter()
    process = os.spawnve(os.P_NOWAIT, sys.executable, words, {**os.environ, "PYTHONPATH": str(src)})
    _, status, usage = os.wait4(process, 0)
    seconds, cpu = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
    name = (f"{source.stat().st_size / 1e6:,.0f} MB {source.suffix}", "this" if src == SRC else "before")
    if status:
        return (*name, "failed", "", "", "", "")
    with output.open("rb") as file:
        n_rows = sum(1 for _ in file)
    output.unlink()
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    return (*name, f"{n_rows:,}", f"{seconds:.1f}", f"{n_rows / seconds:,.0f}", f"{n_rows / cpu:,.0f}", f"{peak:,.0f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=100, help="size of the .csv")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--before", type=Path, help="another checkout to compare with")
    parser.add_argument("--folder", type=Path, help="folder for the files (default: a temporary one)")
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.source:  # in the process that is measured
        write_predictions(WithoutModel(args.source), args.output)
        return 0
    about = machine()
    if (about["load"] or 0) > BUSY:
        say("Other programs are using this machine: the times are unreliable, the memory figures are not affected.")
    checkouts = [SRC, *([args.before.resolve() / "src"] if args.before else [])]
    found = []
    with TemporaryDirectory(dir=args.folder) as folder:
        small, large = (
            write_csv(Path(folder, f"{name}.csv"), share * args.megabytes * 1e6)
            for name, share in (("small", 0.1), ("large", 1))
        )
        with ProcessPoolExecutor(1, get_context("spawn")) as converter:  # a measured process inherits our peak memory
            others = list(converter.map(in_format, repeat(large), [each for each in args.formats if each != "csv"]))
        files = [small, *([large] if "csv" in args.formats else []), *others]
        found = [measured(file, src) for file in files for src in checkouts]
    say(f"{about['cpu']}, {about['cores']} cores, {about['date']}")
    table(("file", "checkout", "rows", "seconds", "rows/s", "rows/CPU s", "peak MB"), found, text=(0, 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
