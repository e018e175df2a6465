"""Speed of `gpt1 predict --input`, `transformers.pipeline` and ONNX Runtime on the same rows, in one run.

    python benchmarks/predict.py --data imdb       reviews; mini's shape and 12 layers: rows per second and ratios
    python benchmarks/predict.py                   synthetic texts with the lengths of IMDB
    python benchmarks/predict.py --quick           smoke test with a tiny model; the speeds mean nothing

The input is a .csv of texts, the output a .jsonl of labels and probabilities; timing starts after the model is loaded
and a few rows are done. gpt1 does everything that the command does: it validates all rows first, flushes chunks to disk
and keeps the journal. `transformers.pipeline` runs row by row, in batches of 8 in the file's order, and in batches of 8
after sorting the texts by length. ONNX Runtime gets gpt1's batches and the graph of `gpt1 convert --to onnx`, in
float32 and after its dynamic quantization to int8. All contestants use the same random weights.

Each measurement runs in its own process; the order of the contestants alternates between rounds; the table shows
medians.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from finetune import (
    BATCH_SIZE,
    Measured,
    Work,
    encode_rows,
    introduce,
    measure,
    parsed,
    peak_resident,
    prepare,
    quiet_transformers,
)
from gpt1.checkpoint import onnx_check
from gpt1.checkpoint.loading import resolve_model
from gpt1.checkpoint.model_dir import load_model
from gpt1.config import Columns, DType
from gpt1.console import say, table
from gpt1.data.batching import Collator, inference_batches
from gpt1.errors import UserError
from gpt1.inference.batch_prediction import Predictor, write_predictions
from gpt1.inference.classifier import Classifier
from gpt1.tasks.metrics import probabilities

SIZES = ("mini", "gpt1")


# ---- contestants: (folder, seed) -> measurement of this process


def predict_with_gpt1(folder: Path, seed: int, *, dtype: DType) -> Measured:
    """Predict as `gpt1 predict RUN --input FILE --output FILE` does, after loading the model."""
    work = Work.load(folder)
    classifier = Classifier.open(folder / "model", work.hardware(dtype))
    classifier.predict(classifier.examples([text for text, _ in work.warmup]))
    source = rows_file(folder, work)
    output = new_output(folder)
    started = Clocks.now()
    write_predictions(Predictor(classifier, source, Columns()), output)
    return measured(started, output, classifier.engine.dtype)


def predict_with_pipeline(folder: Path, seed: int, *, batch_size: int, by_length: bool = False) -> Measured:
    """Predict with `transformers.pipeline`; write one prediction per line."""
    work = Work.load(folder)
    pipeline = quiet_transformers().pipeline("text-classification", model=str(folder / "model"), device=work.device)
    classify = partial(pipeline, truncation=True, batch_size=batch_size, top_k=None)
    classify([text for text, _ in work.warmup])
    source, output = rows_file(folder, work), new_output(folder)
    started = Clocks.now()
    with source.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i])) if by_length else list(range(len(texts)))
    found = dict(zip(order, classify([texts[i] for i in order]), strict=True))
    with output.open("w", encoding="utf-8") as file:
        for i in range(len(texts)):
            file.write(json.dumps({"scores": {entry["label"]: entry["score"] for entry in found[i]}}) + "\n")
    return measured(started, output, "float32")


def predict_with_onnx(folder: Path, seed: int, *, graph: str) -> Measured:
    """Predict with ONNX Runtime on gpt1's batches, with as many threads as PyTorch uses."""
    import onnxruntime
    import torch

    work, model = Work.load(folder), load_model(folder / "model")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(folder / graph, options, providers=["CPUExecutionProvider"])
    collator = Collator(model.tokenizer.pad, model.config.n_ctx, padding="longest")

    def logits(rows: Sequence[tuple[str, int]]) -> Any:
        encoded = encode_rows(model, rows)
        out = np.empty((len(rows), len(model.label_names)), np.float32)
        for places, batch in inference_batches(encoded, collator, tokens_at_once=1_024):
            given = {name: getattr(batch, name).astype(np.int64) for name in ("tokens", "eos_positions")}
            [out[places]] = session.run(None, given)
        return out

    logits(work.warmup)
    source, output = rows_file(folder, work), new_output(folder)
    started = Clocks.now()
    with source.open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], 0) for row in csv.DictReader(file)]
    with output.open("w", encoding="utf-8") as file:
        for row in probabilities(logits(rows)):
            file.write(json.dumps({"scores": dict(zip(model.label_names, row.tolist(), strict=True))}) + "\n")
    return measured(started, output, "int8" if "int8" in graph else "float32")


PIPELINES: dict[str, Callable[[Path, int], Measured]] = {
    "pipeline, batch 1": partial(predict_with_pipeline, batch_size=1),
    "pipeline, batch 8": partial(predict_with_pipeline, batch_size=8),
    "pipeline, batch 8, sorted": partial(predict_with_pipeline, batch_size=8, by_length=True),
}
GPT1: dict[str, Callable[[Path, int], Measured]] = {
    "gpt1 predict float32": partial(predict_with_gpt1, dtype="float32"),
    "gpt1 predict bfloat16": partial(predict_with_gpt1, dtype="bfloat16"),
}
ONNX: dict[str, Callable[[Path, int], Measured]] = {
    "ONNX Runtime float32": partial(predict_with_onnx, graph="model.onnx"),
    "ONNX Runtime int8": partial(predict_with_onnx, graph="model-int8.onnx"),
}
CONTESTANTS = PIPELINES | GPT1 | ONNX


def rows_file(folder: Path, work: Work) -> Path:
    path = folder / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text"])
        rows.writerows([text] for text, _ in work.timed)
    return path


def new_output(folder: Path) -> Path:
    output = folder / "out.jsonl"
    output.unlink(missing_ok=True)
    return output


class Clocks(NamedTuple):
    """Wall-clock time and CPU time of this process."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Self:
        return cls(time.perf_counter(), time.process_time())


def measured(started: Clocks, output: Path, dtype: str) -> Measured:
    now = Clocks.now()
    lines = output.read_text(encoding="utf-8").splitlines()
    return {
        "seconds": now.wall - started.wall,
        "cpu_seconds": now.cpu - started.cpu,
        "dtype": dtype,
        "scores": [json.loads(line)["scores"] for line in lines],
        "memory_gb": peak_resident(),
    }


def write_graphs(folder: Path) -> None:
    """Write the model as an ONNX graph, and as one quantized to int8."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from gpt1.backends.torch import onnx

    model = load_model(folder / "model")
    onnx.export(model.config, model.params, folder / "model.onnx")
    with onnx.quiet():
        quantize_dynamic(folder / "model.onnx", folder / "model-int8.onnx", weight_type=QuantType.QInt8)


# ---- commands


def compare(args: argparse.Namespace, folder: Path, size: str) -> dict[str, Any]:
    """Measure all contestants on a model of one size, print the table, return the results."""
    say()
    encoded, shape = prepare(args, folder, size)
    names = [*PIPELINES, *GPT1]
    if onnx_check.installed():
        write_graphs(folder)
        names += ONNX
    results = measure(names, folder, args.rounds, __file__)
    clock = "cpu_seconds" if args.clock == "cpu" else "seconds"
    speed = {name: len(encoded) / statistics.median(each[clock] for each in rounds) for name, rounds in results.items()}
    best = max(PIPELINES, key=speed.__getitem__)
    exact = results["gpt1 predict float32"][0]["scores"]
    figures = {}
    for name, rounds in results.items():
        seconds = [found[clock] for found in rounds]
        figures[name] = {
            "dtype": rounds[0]["dtype"],
            "seconds": seconds,
            "rows_per_second": speed[name],
            "memory_gb": max((found["memory_gb"] for found in rounds if found["memory_gb"]), default=None),
            "largest_difference": max(apart(rounds[0]["scores"], exact)),
        }
    say()
    table(
        (
            f"{shape.n_layer} × {shape.n_embd}",
            "dtype",
            "rows/s",
            "spread",
            f"× {best}",
            "× gpt1 float32",
            "GB",
            "apart",
        ),
        [
            (
                name,
                found["dtype"],
                f"{speed[name]:,.2f}",
                f"{max(found['seconds']) / min(found['seconds']) - 1:.0%}",
                f"{speed[name] / speed[best]:.2f}",
                f"{speed[name] / speed['gpt1 predict float32']:.2f}",
                "–" if found["memory_gb"] is None else f"{found['memory_gb']:.2f}",
                f"{found['largest_difference']:.1e}",
            )
            for name, found in figures.items()
        ],
    )
    return figures


def apart(found: Sequence[Mapping[str, float]], expected: Sequence[Mapping[str, float]]) -> Iterator[float]:
    for row, other in zip(found, expected, strict=True):
        yield from (abs(row[label] - other[label]) for label in other)


def main() -> int:
    """Run the script; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="labelled texts, as for `gpt1 finetune` (default: synthetic)")
    parser.add_argument("--tokenizer", type=Path, help="vocabulary directory (default: that of mini)")
    parser.add_argument("--size", choices=SIZES, help="model size to measure (default: all)")
    parser.add_argument("--texts", type=int, help="number of rows (default: 64 with mini's shape, else 16; quick 8)")
    parser.add_argument("--rounds", type=int, help="measurements per contestant (default: 3; quick 1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall",
        help="cpu: count the time that the processor worked, on a machine that others use too; run it on one core",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="smoke test with a tiny model, few rows and one round")
    parser.add_argument("--json", type=Path, help="JSON file for the results and the machine's description")
    args = parsed(parser, CONTESTANTS)
    if args is None:
        return 0
    args.check, args.warmup = False, 1
    args.tokenizer = args.tokenizer or resolve_model("mini")
    args.rounds = args.rounds or (1 if args.quick else 3)
    about, figures, texts = introduce(), {}, args.texts
    sizes = [args.size] if args.size else ["mini"] if args.quick else SIZES
    try:
        for size in sizes:
            args.texts = texts or (8 if args.quick else 64 if size == "mini" else 16)
            with tempfile.TemporaryDirectory() as folder:
                figures[size] = compare(args, Path(folder), size)
    except UserError as error:
        say(str(error))
        return 2
    say()
    say(f"Clock: {args.clock}. Speed: median of the rounds; spread: slowest over fastest. GB: peak memory.")
    say(f"apart: largest absolute difference of a probability from gpt1's in float32. Warm-up: {BATCH_SIZE} rows.")
    if args.json:
        args.json.write_text(json.dumps({"machine": about, **figures}, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
