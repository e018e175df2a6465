"""gpt1 beside `transformers`, in one run and on the same work: fine-tuning, classification, and whether both train alike.

    python benchmarks/finetune.py                  the 12-layer model on texts of IMDB's lengths: speeds and their ratios
    python benchmarks/finetune.py --check          the same batches through both: the losses must agree; else exit code 1
    python benchmarks/finetune.py --quick          a smoke test of either, in seconds

Training is `transformers.Trainer` as its documentation has people use it (float32, batches in random order, each padded to
its longest text by `DataCollatorWithPadding`) and the same with `bf16=True`, against gpt1's engine fed by gpt1's batches.
Equal on both sides: weights, texts, token ids (compared by digest), batch size, number of optimiser steps, AdamW, schedule,
clipping, dropout on embeddings, residuals and attention. The clock runs from the end of the last warm-up step to the end of
the last step, batching included. Classification is `transformers.pipeline` against `Classifier.predict`: text in,
probabilities out.

Each measurement has a process of its own, so that neither side profits from what the other does to the allocator, and peak
memory means something. Rounds go through the contestants in alternating order; medians are shown.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1 import backends
from gpt1.checkpoint import Model, load_model, save_model
from gpt1.config import SIZES, DeviceConfig, DropoutConfig, FinetuneConfig, Head, LoopConfig, OptimConfig
from gpt1.config import ModelConfig as Shape
from gpt1.console import say, table
from gpt1.data.batches import Collator, Encoded, TrainingBatches, epoch_order
from gpt1.data.tables import Example
from gpt1.errors import UserError
from gpt1.finetune import limited, load_data
from gpt1.optim import learning_rate
from gpt1.params import initialise
from gpt1.tasks import TASKS, encode
from gpt1.text.bpe import Tokenizer
from gpt1.text.train import train as train_tokenizer

BATCH_SIZE = 4
OPTIM = OptimConfig(lr=2e-5, schedule="linear", warmup=0.0, weight_decay=0.01, clip=1.0)
DROPOUT = 0.1
BUSY = 0.5
"""Load average above which other programs are taking the machine's time."""

LENGTHS = statistics.NormalDist(5.45, 0.65)
"""Logarithms of the lengths of 4,000 IMDB training reviews in tokens of GPT-1's vocabulary (their median is 215, their mean
257 after the cut at 512, and 13 % are cut)."""

CHECK_STEPS = 30
CHECK_SHORTER = 8
"""`--check` uses the first eighth of each text."""
LOSS_TOLERANCE = 1e-3
"""The key bias has a zero gradient: Adam turns its rounding noise into steps, which 30 updates add up."""

Row = tuple[str, int]
"""A text and the id of its label."""


@dataclass(frozen=True)
class Work:
    """What every contestant of a run is given, beside the model directory `model`."""

    warmup: list[Row]
    timed: list[Row]
    device: str = "cpu"
    dropout: float = DROPOUT
    bucketing: bool = True

    @classmethod
    def load(cls, folder: Path) -> Work:
        return cls(**json.loads((folder / "work.json").read_text(encoding="utf-8")))

    def save(self, folder: Path) -> None:
        (folder / "work.json").write_text(json.dumps(asdict(self)), encoding="utf-8")


# ---- contestants: (folder, round) -> what was measured; each runs in its own process


def train_with_trainer(folder: Path, seed: int, *, bf16: bool) -> dict[str, Any]:
    """Fine-tune with `transformers.Trainer`."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    work = Work.load(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "model")
    rows = [*work.warmup, *work.timed]
    ids = tokenizer([text for text, _ in rows], truncation=True)["input_ids"]
    n_warm = len(work.warmup)
    timed = Encoded([np.array(row, np.int32) for row in ids[n_warm:]], labels=_label_ids(work.timed))
    batches = epoch_order(timed.lengths, BATCH_SIZE, seed=seed, epoch=0, bucketing=False)
    dataset = [
        {"input_ids": ids[place], "attention_mask": [1] * len(ids[place]), "label": rows[place][1]}
        for place in [*range(n_warm), *(n_warm + np.concatenate(batches))]
    ]
    losses, ends = [], []

    class Trainer(transformers.Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            losses.append(super().training_step(*args, **kwargs))
            return losses[-1]

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step in (n_warm // BATCH_SIZE, state.max_steps):
                _wait_for(work.device)
                ends.append(time.perf_counter())

    settings = transformers.TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=BATCH_SIZE,
        num_train_epochs=1,
        learning_rate=OPTIM.lr,
        lr_scheduler_type="linear",
        weight_decay=OPTIM.weight_decay,
        adam_beta1=OPTIM.beta1,
        adam_beta2=OPTIM.beta2,
        adam_epsilon=OPTIM.eps,
        max_grad_norm=OPTIM.clip,
        train_sampling_strategy="sequential",  # `dataset` is in random order already: the one that gpt1 draws
        seed=seed,
        bf16=bf16,
        use_cpu=work.device == "cpu",
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    collator = transformers.DataCollatorWithPadding(tokenizer)
    Trainer(model=model, args=settings, train_dataset=dataset, data_collator=collator, callbacks=[Clock()]).train()
    return {
        "seconds": ends[-1] - ends[0],
        "losses": [float(loss) for loss in losses],
        "padded_tokens": sum(len(batch) * int(timed.lengths[batch].max()) for batch in batches),
        "ids": timed.sha256(),
        **_machine_use(work.device, "bfloat16" if bf16 else "float32"),
    }


def train_with_gpt1(folder: Path, seed: int, *, dtype: str, compiled: bool = False) -> dict[str, Any]:
    """Fine-tune with gpt1's engine and batches: what its loop does at each step."""
    work, model = Work.load(folder), load_model(folder / "model")
    hardware = DeviceConfig(backend="torch", device=work.device, dtype=dtype, compile=compiled)  # type: ignore[arg-type]
    dropout = DropoutConfig(work.dropout, work.dropout, work.dropout, clf_pdrop=0.0)  # transformers has none at the head
    engine = backends.get(
        model.config, model.params, hardware=hardware, optim=OPTIM, dropout=dropout, lm_coef=0.0, seed=seed
    )
    config = LoopConfig(batch_size=BATCH_SIZE, bucketing=work.bucketing, seed=seed)
    collator = Collator(model.tokenizer.pad, model.config.n_ctx, config.pad_to)
    warmup, timed = (
        TrainingBatches(encode_rows(model, rows), config, collator) if rows else None
        for rows in (work.warmup, work.timed)
    )
    assert timed is not None
    n_warm = warmup.steps_per_epoch if warmup else 0
    total = n_warm + timed.steps_per_epoch
    padded, results = 0, []
    started = time.perf_counter()
    for step in range(total):
        source, place = (warmup, step) if warmup and step < n_warm else (timed, step - n_warm)
        batches = source.micro_batches(place)
        results.append(engine.train_step(batches, lr=learning_rate(step, total, OPTIM), step=step))
        padded += sum(batch.tokens.size for batch in batches) if step >= n_warm else 0
        if step == n_warm - 1:
            _wait_for(work.device)
            started = time.perf_counter()
    losses = [result.read()["loss"] for result in results]
    _wait_for(work.device)
    return {
        "seconds": time.perf_counter() - started,
        "losses": losses,
        "padded_tokens": padded,
        "ids": timed.encoded.sha256(),
        **_machine_use(work.device, engine.dtype),
    }


def classify_with_pipeline(folder: Path, seed: int, *, batch_size: int) -> dict[str, Any]:
    """Classify with `transformers.pipeline`."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    work = Work.load(folder)
    classify = transformers.pipeline("text-classification", model=str(folder / "model"), device=work.device)
    options = {"truncation": True, "batch_size": batch_size, "top_k": None}
    classify([text for text, _ in work.warmup[:BATCH_SIZE]], **options)
    started = time.perf_counter()
    found = classify([text for text, _ in work.timed], **options)
    return {
        "seconds": time.perf_counter() - started,
        "scores": [{entry["label"]: entry["score"] for entry in row} for row in found],
        **_machine_use(work.device, "float32"),
    }


def classify_with_gpt1(folder: Path, seed: int, *, dtype: str) -> dict[str, Any]:
    """Classify with `gpt1.classifier.Classifier`."""
    from gpt1.classifier import Classifier

    work = Work.load(folder)
    hardware = DeviceConfig(backend="torch", device=work.device, dtype=dtype)  # type: ignore[arg-type]
    classifier = Classifier.open(folder / "model", hardware)
    classifier.predict(_examples(work.warmup[:BATCH_SIZE]))
    started = time.perf_counter()
    found = classifier.predict(_examples(work.timed))
    return {
        "seconds": time.perf_counter() - started,
        "scores": [row["scores"] for row in found],
        **_machine_use(work.device, classifier.engine.dtype),
    }


CONTESTANTS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "Trainer float32": partial(train_with_trainer, bf16=False),
    "Trainer bfloat16": partial(train_with_trainer, bf16=True),
    "gpt1 float32": partial(train_with_gpt1, dtype="float32"),
    "gpt1 auto": partial(train_with_gpt1, dtype="auto"),
    "gpt1 auto compiled": partial(train_with_gpt1, dtype="auto", compiled=True),
    "pipeline batch 1": partial(classify_with_pipeline, batch_size=1),
    "pipeline batch 8": partial(classify_with_pipeline, batch_size=8),
    "Classifier float32": partial(classify_with_gpt1, dtype="float32"),
    "Classifier auto": partial(classify_with_gpt1, dtype="auto"),
}
TRAINING = ("Trainer float32", "Trainer bfloat16", "gpt1 float32", "gpt1 auto")
INFERENCE = ("pipeline batch 1", "pipeline batch 8", "Classifier float32", "Classifier auto")


def encode_rows(model: Model, rows: Sequence[Row]) -> Encoded:
    """Return the rows as token ids, the way that gpt1's classification task has them."""
    encoded = encode(TASKS["classification"], _examples(rows), model.tokenizer, model.max_length)
    return replace(encoded, labels=_label_ids(rows))


def _examples(rows: Sequence[Row]) -> list[Example]:
    return [Example((text,)) for text, _ in rows]


def _label_ids(rows: Sequence[Row]) -> NDArray[np.int64]:
    return np.array([label for _, label in rows], np.int64)


def _wait_for(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def _machine_use(device: str, dtype: str) -> dict[str, Any]:
    """Return peak memory (GB; of the GPU where there is one) and the speed of a plain matrix product (GFLOP/s)."""
    import torch

    from gpt1.backends.torch.device import matmul_speed

    memory = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else _peak_resident()
    speed = matmul_speed(torch.device(device), getattr(torch, dtype))
    return {"dtype": dtype, "memory_gb": memory, "matmul_gflops": speed}


def _peak_resident() -> float | None:
    """Return this process's peak resident memory in GB (getrusage would count the parent's)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


# ---- the work


def prepare(args: argparse.Namespace, folder: Path) -> tuple[Work, Encoded, Shape]:
    """Write the model directory and the texts that every contestant gets; return them, encoded by gpt1, and the shape."""
    rng = np.random.default_rng(0)
    n_warm, n_timed = (0, CHECK_STEPS * BATCH_SIZE) if args.check else (args.warmup * BATCH_SIZE, args.texts)
    size = SIZES["tiny" if args.quick else "gpt1"]
    if args.data:
        source = f"the training split of {args.data}"
        rows, label_names, tokenizer = _rows_of(args, n_warm + n_timed, rng)
    else:
        source = "synthetic texts with the lengths of IMDB's reviews"
        words, share = _lexicon(rng)
        corpus = [" ".join(rng.choice(words, 50_000, p=share))]
        tokenizer = Tokenizer.load(args.tokenizer) if args.tokenizer else train_tokenizer(corpus, size.vocab_size)
        rows = [row for count in (n_warm, n_timed) for row in _synthetic(count, words, share, tokenizer, rng)]
        label_names = ("negative", "positive")
    if args.check:
        rows = [(" ".join(text.split()[: 1 + len(text.split()) // CHECK_SHORTER]), label) for text, label in rows]
        work = Work([], rows, args.device, dropout=0.0, bucketing=False)
    else:
        work = Work(rows[:n_warm], rows[n_warm:], args.device)
    head = Head("classification", len(label_names))
    shape = replace(size, vocab_size=max(size.vocab_size, tokenizer.vocab_size), head=head)
    model = Model(shape, initialise(shape, seed=0), tokenizer, label_names, shape.n_ctx)
    save_model(folder / "model", model, DropoutConfig(work.dropout, work.dropout, work.dropout))
    work.save(folder)
    encoded = encode_rows(model, work.timed)
    learned = f"that of {args.tokenizer}" if args.tokenizer else "learned from the texts"
    say(f"Texts: {len(rows):,} of {source}; {encoded.lengths.mean():.0f} tokens on average, {encoded.truncated} cut.")
    say(f"Vocabulary: {learned} ({tokenizer.vocab_size:,} tokens; the embedding has {shape.vocab_size:,} rows).")
    return work, encoded, shape


def _rows_of(args: argparse.Namespace, count: int, rng: np.random.Generator) -> tuple[list[Row], tuple[str, ...], Tokenizer]:
    """Return a draw from the training split of --data, stratified by label, with the labels' names and the vocabulary."""
    data = load_data(FinetuneConfig(data=args.data, task="classification"))
    train = data.splits["train"]
    if len(train) < count:
        raise UserError(f"--data {args.data}: {len(train)} training texts found, {count} needed; lower --texts")
    if args.tokenizer:
        tokenizer = Tokenizer.load(args.tokenizer)
    else:
        tokenizer = train_tokenizer((example.parts[0] for example in train), SIZES["gpt1"].vocab_size)
    drawn = limited(train, count, seed=0)
    labels = data.labels.ids("classification", drawn)
    rows = [(example.parts[0], int(label)) for example, label in zip(drawn, labels, strict=True)]
    return [rows[place] for place in rng.permutation(count)], data.labels.names, tokenizer


def _lexicon(rng: np.random.Generator) -> tuple[list[str], NDArray[np.float64]]:
    """Return pronounceable words and how often each occurs (Zipf's law)."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = list(dict.fromkeys("".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(5_000)))
    share = 1 / np.arange(1, len(words) + 1)
    return words, share / share.sum()


def _synthetic(
    count: int, words: list[str], share: NDArray[np.float64], tokenizer: Tokenizer, rng: np.random.Generator
) -> list[Row]:
    """Return texts whose lengths in tokens are the quantiles of `LENGTHS`, in random order and with random labels."""
    quantiles = [np.exp(LENGTHS.inv_cdf((place + 0.5) / count)) for place in range(count)]
    cost = np.array([len(ids) for ids in tokenizer.encode_batch(words)])
    rows = []
    for n_tokens in rng.permutation(quantiles):
        drawn = rng.choice(len(words), int(n_tokens), p=share)
        kept = drawn[np.cumsum(cost[drawn]) <= n_tokens - 2]  # <bos> and <eos> come with it
        rows.append((" ".join(words[place] for place in kept), int(rng.integers(2))))
    return rows


# ---- measuring


def run_contestant(name: str, folder: Path, seed: int) -> dict[str, Any]:
    """Run one contestant in a new process and return what it measured."""
    command = [sys.executable, __file__, "--contestant", name, "--work", str(folder), "--seed", str(seed)]
    environment = {"CUDA_VISIBLE_DEVICES": "0"} | os.environ | {"HF_HUB_OFFLINE": "1"}  # Trainer would take every GPU
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(names: Sequence[str], folder: Path, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Return each contestant's measurements, one a round; every other round goes backwards."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            found = run_contestant(name, folder, seed=number)
            results[name].append(found)
            say(f"  round {number + 1} of {rounds}  {name:<20} {found['seconds']:8.2f} s")
    return results


def forward_flops(shape: Shape, lengths: NDArray[np.int64]) -> float:
    """Return the floating-point operations that the logits of texts of these lengths need at least.

    Per text of n tokens: 2 n (12 (L - 1) + 2) D² for the weight matrices and 4 D (L - 1) n (n + 1) / 2 for causal attention.
    The last layer needs keys and values of every token, and the rest of it, 2 · 10 D² + 4 D n, at `<eos>` alone. Embeddings
    are look-ups. Padding, and whatever a program computes beyond this, is no work. Training takes three times as much.
    """
    n, width, before_last = lengths.astype(np.float64), shape.n_embd, shape.n_layer - 1
    matrices = 2 * n * (12 * before_last + 2) * width**2 + 2 * 10 * width**2
    attention = 4 * width * (before_last * n * (n + 1) / 2 + n)
    return float((matrices + attention).sum())


def summarise(
    results: Mapping[str, Sequence[Mapping[str, Any]]], lengths: NDArray[np.int64], flops: float
) -> dict[str, dict[str, Any]]:
    """Return the figures of each contestant, from the median of its rounds; the matrix product's peak is the best seen."""
    peaks: dict[str, float] = {}
    for found in (found for rounds in results.values() for found in rounds):
        peaks[found["dtype"]] = max(found["matmul_gflops"], peaks.get(found["dtype"], 0.0))
    summary: dict[str, dict[str, Any]] = {}
    for name, rounds in results.items():
        seconds = statistics.median(found["seconds"] for found in rounds)
        tokens, dtype = int(lengths.sum()), rounds[0]["dtype"]
        memory = [found["memory_gb"] for found in rounds if found["memory_gb"] is not None]
        summary[name] = {
            "dtype": dtype,
            "seconds": [found["seconds"] for found in rounds],
            "texts_per_second": len(lengths) / seconds,
            "tokens_per_second": tokens / seconds,
            "gflops": flops / seconds / 1e9,
            "matmul_gflops": peaks[dtype],
            "share_of_matmul": flops / seconds / 1e9 / peaks[dtype],
            "memory_gb": statistics.median(memory) if memory else None,
        }
        if "padded_tokens" in rounds[0]:
            summary[name]["padding"] = 1 - tokens / statistics.median(found["padded_tokens"] for found in rounds)
    return summary


def show(title: str, summary: Mapping[str, Mapping[str, Any]], references: Mapping[str, str]) -> None:
    """Print the table; `references` are {column: the contestant that the others are compared with}."""

    def row(name: str, found: Mapping[str, Any]) -> list[str]:
        spread = max(found["seconds"]) / min(found["seconds"]) - 1
        ratios = [found["texts_per_second"] / summary[other]["texts_per_second"] for other in references.values()]
        return [
            name,
            found["dtype"],
            f"{found['texts_per_second']:,.2f}",
            f"{spread:.0%}",
            f"{found['tokens_per_second']:,.0f}",
            f"{found['padding']:.0%}" if "padding" in found else "–",
            *(f"{ratio:.2f}" for ratio in ratios),
            f"{found['gflops']:,.0f}",
            f"{found['share_of_matmul']:.0%}",
            "–" if found["memory_gb"] is None else f"{found['memory_gb']:.1f}",
        ]

    header = [title, "dtype", "texts/s", "spread", "tokens/s", "padding", *references, "GFLOP/s", "of matmul", "peak GB"]
    say()
    table(header, [row(name, found) for name, found in summary.items()])


# ---- commands


def compare(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure training and classification, print both tables, return the figures."""
    work, encoded, shape = prepare(args, folder)
    training = (*TRAINING, "gpt1 auto compiled") if args.device == "cuda" else TRAINING
    steps = math.ceil(len(encoded) / BATCH_SIZE)
    say(f"Training: {steps} steps of {BATCH_SIZE} texts after {args.warmup} for warming up; dropout {work.dropout}.")
    trained = measure(training, folder, args.rounds)
    digests = {found["ids"] for rounds in trained.values() for found in rounds}
    if digests != {encoded.sha256()}:
        raise SystemExit("the contestants did not train on the same token ids")
    classified = measure(INFERENCE, folder, args.rounds)
    flops = forward_flops(shape, encoded.lengths)
    train_figures = summarise(trained, encoded.lengths, 3 * flops)
    figures = summarise(classified, encoded.lengths, flops)
    pipeline = max(INFERENCE[:2], key=lambda name: figures[name]["texts_per_second"])
    show("training", train_figures, {"× Trainer fp32": "Trainer float32", "× Trainer bf16": "Trainer bfloat16"})
    show("classification", figures, {f"× {pipeline}": pipeline})
    theirs, ours = (classified[name][0]["scores"] for name in (pipeline, "Classifier float32"))
    difference = max(abs(row[label] - other[label]) for row, other in zip(theirs, ours, strict=True) for label in row)
    say(f"\nLargest difference of a probability in float32: {difference:.1e}.")
    say("Speeds are medians, spread is slowest over fastest round; tokens/s and GFLOP/s count real tokens and needed work")
    say("only (`forward_flops`, times 3 in training); 'of matmul' is the share of a 2048 × 768 × 3072 product's speed here:")
    peaks = {row["dtype"]: row["matmul_gflops"] for row in (train_figures | figures).values()}
    say(", ".join(f"{dtype} {gflops:,.0f} GFLOP/s" for dtype, gflops in peaks.items()) + ".")
    return {"training": train_figures, "classification": figures, "largest_probability_difference": difference}


def check(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train both on the same batches in the same order, float32, without dropout; compare the losses of every step."""
    _, encoded, _ = prepare(args, folder)
    theirs, ours = (run_contestant(name, folder, seed=0) for name in ("Trainer float32", "gpt1 float32"))
    if {theirs["ids"], ours["ids"]} != {encoded.sha256()}:
        raise SystemExit("the two did not train on the same token ids")
    pairs = list(zip(theirs["losses"], ours["losses"], strict=True))
    differences = [abs(a - b) for a, b in pairs]
    rows = [(step, f"{a:.6f}", f"{b:.6f}", f"{abs(a - b):.1e}") for step, (a, b) in enumerate(pairs)]
    table(("step", "Trainer", "gpt1", "|difference|"), rows)
    largest = max(differences)
    agrees = largest <= LOSS_TOLERANCE
    verdict = "the same training" if agrees else "NOT the same training"
    say(f"Largest difference of a loss in {len(pairs)} steps: {largest:.1e} (at most {LOSS_TOLERANCE:g}): {verdict}.")
    return {"losses": {"Trainer": theirs["losses"], "gpt1": ours["losses"]}, "largest": largest, "agrees": agrees}


def machine() -> dict[str, Any]:
    """Return what the figures were measured on and with."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if (
        info.exists()
    ) else []  # fmt: skip
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "accelerate", "tokenizers", "numpy")},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def main() -> int:
    """Run the script; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="labelled texts, a folder or file as `gpt1 finetune` reads it (default: synthetic)")
    parser.add_argument("--tokenizer", type=Path, help="directory of a vocabulary (default: learned from the texts)")
    parser.add_argument("--texts", type=int, help="texts to measure on (default: 24; with --device cuda 1,024)")
    parser.add_argument("--rounds", type=int, help="measurements of each contestant (default: 3)")
    parser.add_argument("--warmup", type=int, help="training steps before the clock starts (default: 1; cuda 64)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--check", action="store_true", help="compare the losses of both instead of their speeds")
    parser.add_argument("--quick", action="store_true", help="a tiny model, few texts, one round: a smoke test")
    parser.add_argument("--json", type=Path, help="also write the figures and the machine's description to this file")
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contestant:
        print(json.dumps(CONTESTANTS[args.contestant](args.work, args.seed)))
        return 0
    on_gpu = args.device == "cuda"
    args.texts = args.texts or (8 if args.quick else 1_024 if on_gpu else 24)
    args.rounds = args.rounds or (1 if args.quick else 3)
    args.warmup = args.warmup or (64 if on_gpu and not args.quick else 1)
    about = machine()
    say(", ".join(f"{name} {value}" for name, value in about.items()))
    if (about["load"] or 0) > BUSY and not args.check:
        say(f"This machine is busy (load {about['load']:.1f}): do not trust the speeds.")
    try:
        with tempfile.TemporaryDirectory() as folder:
            figures = (check if args.check else compare)(args, Path(folder))
    except UserError as error:
        say(str(error))
        return 2
    if args.json:
        command = {name: str(value) for name, value in vars(args).items() if value}
        args.json.write_text(json.dumps({"machine": about, "command": command, **figures}, indent=2), encoding="utf-8")
    return 0 if figures.get("agrees", True) else 1


if __name__ == "__main__":
    sys.exit(main())
