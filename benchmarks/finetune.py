"""Speed of fine-tuning and classification with gpt1 and with `transformers`, in one run.

    python benchmarks/finetune.py              12 layers, texts with the lengths of IMDB: speeds and ratios
    python benchmarks/finetune.py --check      compares their losses on the same batches; exit code 1 if they differ
    python benchmarks/finetune.py --quick      smoke test, also with --check

Training compares gpt1's engine and batches with `transformers.Trainer`, used as in its documentation (float32, batches
in random order, each padded to its longest text by `DataCollatorWithPadding`) and with `bf16=True`. Both use the same
weights, token ids (compared by digest), batch size, number of steps, AdamW, schedule, gradient clipping, and dropout on
embeddings, residuals and attention. Timing starts after the last warm-up step and ends after the last step; it includes
batching. Classification compares `Classifier.predict` with `transformers.pipeline`, from texts to probabilities.

Each measurement runs in its own process, so that the contestants share no allocator and peak memory is that of one
contestant. The order of the contestants alternates between rounds; the tables show medians.
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
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gpt1 import backends
from gpt1.backends.optim import learning_rate
from gpt1.backends.parameters import initialise
from gpt1.checkpoint.model_dir import Model, load_model, save_model
from gpt1.config import (
    SIZES,
    DeviceConfig,
    DropoutConfig,
    DType,
    FinetuneConfig,
    Head,
    LoopConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
)
from gpt1.console import say, table
from gpt1.data.batching import Collator, EncodedExamples, TrainingBatches, epoch_order
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.inference.classifier import Classifier
from gpt1.tasks import TASKS, encode
from gpt1.tasks.dataset import limited, load_data
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.tokenization.trainer import train as train_tokenizer

BATCH_SIZE = 4
OPTIM = OptimConfig(lr=2e-5, schedule="linear", warmup=0.0, weight_decay=0.01, max_grad_norm=1.0)
DROPOUT = 0.1
BUSY = 0.5
"""Load average above which the machine counts as busy."""

LENGTHS = statistics.NormalDist(5.45, 0.65)
"""Logarithms of the lengths of 4,000 IMDB training reviews in tokens of GPT-1's vocabulary: their median is 215, their
mean after truncation to 512 tokens, which affects 13 % of them, 257."""

CHECK_STEPS = 30
CHECK_SHORTER = 8
"""`--check` uses the first eighth of each text."""
LOSS_TOLERANCE = 1e-3
"""The gradient of the key bias is zero; Adam turns its rounding noise into steps, which 30 updates accumulate."""

Row = tuple[str, int]
"""Text and label id."""
Measured = dict[str, Any]


class Given:
    """Workload of all contestants of a script: `work.json` in the run's folder, next to the model directory `model`.

    Subclasses are dataclasses.
    """

    device: str

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(**json.loads((folder / "work.json").read_text(encoding="utf-8")))

    def save(self, folder: Path) -> None:
        (folder / "work.json").write_text(json.dumps(asdict(self)), encoding="utf-8")  # type: ignore[call-overload]

    def hardware(self, dtype: DType, compiled: bool = False) -> DeviceConfig:
        return DeviceConfig("torch", self.device, dtype, compiled)  # type: ignore[arg-type]

    def wait(self) -> None:
        """Wait until the device has finished."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()


@dataclass(frozen=True)
class Work(Given):
    """Texts and training settings."""

    warmup: list[Row]
    timed: list[Row]
    device: str
    dropout: float = DROPOUT
    bucketing: bool = True


# ---- contestants: (folder, seed) -> measurement of this process


def train_with_trainer(folder: Path, seed: int, *, bf16: bool) -> Measured:
    """Fine-tune with `transformers.Trainer`."""
    transformers = quiet_transformers()
    work = Work.load(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "model")
    rows, n_warm = [*work.warmup, *work.timed], len(work.warmup)
    ids = tokenizer([text for text, _ in rows], truncation=True)["input_ids"]
    timed = EncodedExamples([np.array(row, np.int32) for row in ids[n_warm:]], labels=_label_ids(work.timed))
    batches = epoch_order(timed.lengths, BATCH_SIZE, seed=seed, epoch=0, bucketing=False)
    order = [*range(n_warm), *(n_warm + np.concatenate(batches))]
    dataset = [{"input_ids": ids[i], "attention_mask": [1] * len(ids[i]), "label": rows[i][1]} for i in order]
    losses, ends = [], []

    class Trainer(transformers.Trainer):  # type: ignore[misc, name-defined]
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            losses.append(super().training_step(*args, **kwargs))
            return losses[-1]

    class Clock(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step in (n_warm // BATCH_SIZE, state.max_steps):
                work.wait()
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
        max_grad_norm=OPTIM.max_grad_norm,
        train_sampling_strategy="sequential",  # `dataset` is already in the random order that gpt1 draws
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
        **machine_use(work.device, "bfloat16" if bf16 else "float32"),
    }


def train_with_gpt1(folder: Path, seed: int, *, dtype: DType, compiled: bool = False) -> Measured:
    """Fine-tune with gpt1's engine and batches, as its training loop does."""
    work, model = Work.load(folder), load_model(folder / "model")
    dropout = DropoutConfig(work.dropout, work.dropout, work.dropout, clf_pdrop=0.0)  # as in transformers
    engine = backends.get(
        model.config,
        model.params,
        hardware=work.hardware(dtype, compiled),
        optim=OPTIM,
        dropout=dropout,
        loss=LossConfig(lm_coef=0.0),
        seed=seed,
    )
    config = LoopConfig(batch_size=BATCH_SIZE, bucketing=work.bucketing, seed=seed)
    collator = Collator(model.tokenizer.pad, model.config.n_ctx, config.pad_to, engine.buckets)
    warmup, timed = (TrainingBatches(encode_rows(model, rows), config, collator) for rows in (work.warmup, work.timed))
    n_warm, total = warmup.steps_per_epoch, warmup.steps_per_epoch + timed.steps_per_epoch
    results = []

    def train_step(step: int) -> int:
        batches = warmup.micro_batches(step) if step < n_warm else timed.micro_batches(step - n_warm)
        results.append(engine.train_step(batches, lr=learning_rate(step, total, OPTIM), step=step))
        return sum(batch.tokens.size for batch in batches)

    for step in range(n_warm):
        train_step(step)
    work.wait()
    started = time.perf_counter()
    padded = sum(train_step(step) for step in range(n_warm, total))
    losses = [result.read()["loss"] for result in results]
    work.wait()
    return {
        "seconds": time.perf_counter() - started,
        "losses": losses,
        "padded_tokens": padded,
        "ids": timed.encoded.sha256(),
        **machine_use(work.device, engine.dtype),
    }


def classify_with_pipeline(folder: Path, seed: int, *, batch_size: int) -> Measured:
    """Classify with `transformers.pipeline`."""
    work = Work.load(folder)
    pipeline = quiet_transformers().pipeline("text-classification", model=str(folder / "model"), device=work.device)
    classify = partial(pipeline, truncation=True, batch_size=batch_size, top_k=None)
    classify([text for text, _ in work.warmup[:BATCH_SIZE]])
    started = time.perf_counter()
    found = classify([text for text, _ in work.timed])
    return {
        "seconds": time.perf_counter() - started,
        "scores": [{entry["label"]: entry["score"] for entry in row} for row in found],
        **machine_use(work.device, "float32"),
    }


def classify_with_gpt1(folder: Path, seed: int, *, dtype: DType) -> Measured:
    """Classify with `gpt1.inference.classifier.Classifier`."""
    work = Work.load(folder)
    classifier = Classifier.open(folder / "model", work.hardware(dtype))
    classifier.predict(_examples(work.warmup[:BATCH_SIZE]))
    started = time.perf_counter()
    found = classifier.predict(_examples(work.timed))
    return {
        "seconds": time.perf_counter() - started,
        "scores": [row["scores"] for row in found],
        **machine_use(work.device, classifier.engine.dtype),
    }


TRAINING: dict[str, Callable[[Path, int], Measured]] = {
    "Trainer float32": partial(train_with_trainer, bf16=False),
    "Trainer bfloat16": partial(train_with_trainer, bf16=True),
    "gpt1 float32": partial(train_with_gpt1, dtype="float32"),
    "gpt1 auto": partial(train_with_gpt1, dtype="auto"),
    "gpt1 auto, compiled": partial(train_with_gpt1, dtype="auto", compiled=True),  # on CUDA only
}
CLASSIFICATION: dict[str, Callable[[Path, int], Measured]] = {
    "pipeline, batch 1": partial(classify_with_pipeline, batch_size=1),
    "pipeline, batch 8": partial(classify_with_pipeline, batch_size=8),
    "gpt1 predict float32": partial(classify_with_gpt1, dtype="float32"),
    "gpt1 predict bfloat16": partial(classify_with_gpt1, dtype="bfloat16"),
}
CONTESTANTS = TRAINING | CLASSIFICATION


def encode_rows(model: Model, rows: Sequence[Row]) -> EncodedExamples:
    """Return the rows as token ids, encoded as in gpt1's classification task."""
    encoded = encode(TASKS["classification"], _examples(rows), model.tokenizer, model.max_length)
    return replace(encoded, labels=_label_ids(rows))


def _examples(rows: Sequence[Row]) -> list[Example]:
    return [Example((text,)) for text, _ in rows]


def _label_ids(rows: Sequence[Row]) -> NDArray[np.int64]:
    return np.array([label for _, label in rows], np.int64)


def quiet_transformers() -> Any:
    import transformers

    logging: Any = transformers.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return transformers


def machine_use(device: str, dtype: str) -> Measured:
    """Return the peak memory (GB; of the GPU if there is one) and the speed of a matrix product (GFLOP/s)."""
    import torch

    from gpt1.backends.torch.device import matmul_speed

    memory = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else peak_resident()
    speed = matmul_speed(torch.device(device), getattr(torch, dtype))
    return {"dtype": dtype, "memory_gb": memory, "matmul_gflops": speed}


def peak_resident() -> float | None:
    """Return this process's peak resident memory in GB from /proc (getrusage includes the parent's)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM")), None)


# ---- workload


def prepare(args: argparse.Namespace, folder: Path, size: str = "gpt1") -> tuple[EncodedExamples, ModelConfig]:
    """Write the input of all contestants; return the timed texts, encoded by gpt1, and the model's shape."""
    rng = np.random.default_rng(0)
    n_warm, n_timed = (0, CHECK_STEPS * BATCH_SIZE) if args.check else (args.warmup * BATCH_SIZE, args.texts)
    plain = SIZES["tiny" if args.quick else size]
    rows, label_names, tokenizer = (_real if args.data else _synthetic)(args, n_warm, n_timed, plain.vocab_size, rng)
    if args.check:
        rows = [(" ".join(text.split()[: 1 + len(text.split()) // CHECK_SHORTER]), label) for text, label in rows]
        work = Work([], rows, args.device, dropout=0.0, bucketing=False)
    else:
        work = Work(rows[:n_warm], rows[n_warm:], args.device)
    head = Head("classification", len(label_names))
    shape = replace(plain, vocab_size=max(plain.vocab_size, tokenizer.vocab_size), head=head)
    model = Model(shape, initialise(shape, seed=0), tokenizer, label_names, shape.n_ctx)
    save_model(folder / "model", model, DropoutConfig(work.dropout, work.dropout, work.dropout))
    work.save(folder)
    encoded = encode_rows(model, work.timed)
    source = f"from {args.data}" if args.data else "synthetic, with the lengths of IMDB's reviews"
    learned = f"of {args.tokenizer}" if args.tokenizer else "learned from the texts"
    say(
        f"{len(encoded):,} texts {source}: {encoded.lengths.mean():.0f} tokens on average, {encoded.truncated} cut to "
        f"{shape.n_ctx}; vocabulary {learned}, {tokenizer.vocab_size:,} of {shape.vocab_size:,} rows in use."
    )
    return encoded, shape


def _real(
    args: argparse.Namespace, n_warm: int, n_timed: int, vocab_size: int, rng: np.random.Generator
) -> tuple[list[Row], tuple[str, ...], Tokenizer]:
    """Return a stratified sample of the training split of --data, the labels' names and a vocabulary."""
    data, count = load_data(FinetuneConfig(data=args.data, task="classification")), n_warm + n_timed
    train = data.splits["train"]
    if len(train) < count:
        raise UserError(f"--data {args.data}: {len(train):,} training texts found, {count:,} required; lower --texts")
    if args.tokenizer:
        tokenizer = Tokenizer.load(args.tokenizer)
    else:
        tokenizer = train_tokenizer((example.parts[0] for example in train), vocab_size)
    drawn = limited(train, count, seed=0)
    labels = data.labels.ids(drawn).tolist()
    rows = [(example.parts[0], label) for example, label in zip(drawn, labels, strict=True)]
    return [rows[place] for place in rng.permutation(count)], data.labels.names, tokenizer


def _synthetic(
    args: argparse.Namespace, n_warm: int, n_timed: int, vocab_size: int, rng: np.random.Generator
) -> tuple[list[Row], tuple[str, ...], Tokenizer]:
    """Return texts of pronounceable words under Zipf's law with random labels, the labels' names and a vocabulary.

    The lengths are the quantiles of `LENGTHS`, separately for warm-up texts and timed texts.
    """
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = list(dict.fromkeys("".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(5_000)))
    share = 1 / np.arange(1, len(words) + 1)
    share /= share.sum()
    if args.tokenizer:
        tokenizer = Tokenizer.load(args.tokenizer)
    else:
        tokenizer = train_tokenizer([" ".join(rng.choice(words, 50_000, p=share))], vocab_size)
    cost = np.array([len(ids) for ids in tokenizer.encode_batch(words)])
    rows = []
    for count in (n_warm, n_timed):
        for place in rng.permutation(count):
            n_tokens = int(math.exp(LENGTHS.inv_cdf((place + 0.5) / count)))
            drawn = rng.choice(len(words), n_tokens, p=share)
            kept = drawn[np.cumsum(cost[drawn]) <= n_tokens - 2]  # plus <bos> and <eos>
            rows.append((" ".join(words[i] for i in kept), int(rng.integers(2))))
    return rows, ("negative", "positive"), tokenizer


# ---- measurement


def run_contestant(name: str, folder: Path, seed: int, script: str = __file__) -> Measured:
    """Run one contestant of a script in a new process and return its measurement."""
    command = [sys.executable, script, "--contestant", name, "--work", str(folder), "--seed", str(seed)]
    # Trainer uses every visible GPU.
    environment = {"CUDA_VISIBLE_DEVICES": "0"} | os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    measured: Measured = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(names: Sequence[str], folder: Path, rounds: int, script: str = __file__) -> dict[str, list[Measured]]:
    """Return each contestant's measurements, one per round; every second round runs in reverse order."""
    results: dict[str, list[Measured]] = {name: [] for name in names}
    widest = max(map(len, names))
    for seed in range(rounds):
        for name in names if seed % 2 == 0 else reversed(names):
            results[name].append(found := run_contestant(name, folder, seed, script))
            say(f"  round {seed + 1} of {rounds}  {name:<{widest}} {found['seconds']:8.2f} s")
    return results


def forward_flops(shape: ModelConfig, lengths: NDArray[np.int64]) -> float:
    """Return the minimum floating-point operations for the task's scores of texts of these lengths.

    Per text of n tokens: 2 n (12 (L - 1) + 2) D² in the weight matrices, 4 D (L - 1) n (n + 1) / 2 in causal attention.
    In the last layer all tokens need keys and values; the rest, 2 · 10 D² + 4 D n, is only needed at `<eos>`.
    Embeddings are look-ups. Padding and redundant computation do not count. Training takes 3 times this.
    """
    n, width, before_last = lengths.astype(np.float64), shape.n_embd, shape.n_layer - 1
    matrices = 2 * n * (12 * before_last + 2) * width**2 + 2 * 10 * width**2
    attention = 4 * width * (before_last * n * (n + 1) / 2 + n)
    return float((matrices + attention).sum())


def matmul_peaks(results: Mapping[str, Sequence[Measured]]) -> dict[str, float]:
    """Return the fastest matrix product of all contestants in each dtype, in GFLOP/s."""
    peaks: dict[str, float] = {}
    for found in (found for rounds in results.values() for found in rounds):
        peaks[found["dtype"]] = max(found["matmul_gflops"], peaks.get(found["dtype"], 0.0))
    return peaks


def summarise(
    results: Mapping[str, Sequence[Measured]], lengths: NDArray[np.int64], flops: float, peaks: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Return each contestant's results, from the median of its rounds; `flops` is the work of one round."""
    summary: dict[str, dict[str, Any]] = {}
    for name, rounds in results.items():
        seconds = statistics.median(found["seconds"] for found in rounds)
        tokens, dtype = int(lengths.sum()), rounds[0]["dtype"]
        summary[name] = {
            "dtype": dtype,
            "seconds": [found["seconds"] for found in rounds],
            "texts_per_second": len(lengths) / seconds,
            "tokens_per_second": tokens / seconds,
            "gflops": flops / seconds / 1e9,
            "share_of_peak": flops / seconds / 1e9 / peaks[dtype],
            "memory_gb": max((found["memory_gb"] for found in rounds if found["memory_gb"]), default=None),
        }
        if "padded_tokens" in rounds[0]:
            summary[name]["padding"] = 1 - tokens / statistics.median(found["padded_tokens"] for found in rounds)
    return summary


def show(title: str, summary: Mapping[str, Mapping[str, Any]], references: Mapping[str, str]) -> None:
    """Print the table; `references` maps a column to the contestant that the others are compared with."""

    def row(name: str, found: Mapping[str, Any]) -> list[str]:
        speed, memory, padding = found["texts_per_second"], found["memory_gb"], found.get("padding")
        return [
            name,
            found["dtype"],
            f"{speed:,.2f}",
            f"{max(found['seconds']) / min(found['seconds']) - 1:.0%}",
            f"{found['tokens_per_second']:,.0f}",
            "–" if padding is None else f"{padding:.0%}",
            *(f"{speed / summary[other]['texts_per_second']:.2f}" for other in references.values()),
            f"{found['gflops']:,.0f}",
            f"{found['share_of_peak']:.0%}",
            "–" if memory is None else f"{memory:.1f}",
        ]

    columns = ("dtype", "texts/s", "spread", "tokens/s", "padding", *references, "GFLOP/s", "of peak", "GB")
    say()
    table((title, *columns), [row(name, found) for name, found in summary.items()])


# ---- commands


def compare(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure training and classification, print both tables, return the results."""
    encoded, shape = prepare(args, folder)
    training = [name for name in TRAINING if args.device == "cuda" or "compiled" not in name]
    steps = math.ceil(len(encoded) / BATCH_SIZE)
    say(f"Training: {steps:,} steps of {BATCH_SIZE} texts after {args.warmup} untimed; dropout {DROPOUT}.")
    trained = measure(training, folder, args.rounds)
    _require_same_ids(encoded, *(found for rounds in trained.values() for found in rounds))
    classified = measure(list(CLASSIFICATION), folder, args.rounds)

    flops, peaks = forward_flops(shape, encoded.lengths), matmul_peaks(trained | classified)
    training_figures = summarise(trained, encoded.lengths, 3 * flops, peaks)
    figures = summarise(classified, encoded.lengths, flops, peaks)
    pipelines = [name for name in figures if name.startswith("pipeline")]
    best = max(pipelines, key=lambda name: figures[name]["texts_per_second"])
    show("training", training_figures, {"× Trainer fp32": "Trainer float32", "× its bf16": "Trainer bfloat16"})
    show("classification", figures, {f"× {best}": best})
    pairs = zip(classified[best][0]["scores"], classified["gpt1 predict float32"][0]["scores"], strict=True)
    difference = max(abs(theirs[label] - ours[label]) for theirs, ours in pairs for label in theirs)
    say()
    say("Speed: median of the rounds; spread: slowest over fastest round. tokens/s and GFLOP/s count real tokens and")
    say("needed work only (`forward_flops`, × 3 in training); the peak is that of a 2048 × 768 × 3072 product here:")
    say("; ".join(f"{dtype} {gflops:,.0f} GFLOP/s" for dtype, gflops in peaks.items()) + ". GB: peak memory.")
    say(f"Largest difference of a probability between pipeline and gpt1 in float32: {difference:.1e}.")
    return {
        "training": training_figures,
        "classification": figures,
        "matmul_gflops": peaks,
        "largest_probability_difference": difference,
    }


def check(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train both on the same batches in the same order, in float32 without dropout; compare the loss of every step."""
    encoded, _ = prepare(args, folder)
    theirs, ours = (run_contestant(name, folder, seed=0) for name in ("Trainer float32", "gpt1 float32"))
    _require_same_ids(encoded, theirs, ours)
    pairs = list(zip(theirs["losses"], ours["losses"], strict=True))
    rows = [(step, f"{a:.6f}", f"{b:.6f}", f"{abs(a - b):.1e}") for step, (a, b) in enumerate(pairs)]
    table(("step", "Trainer", "gpt1", "|difference|"), rows)
    largest = max(abs(a - b) for a, b in pairs)
    agrees = largest <= LOSS_TOLERANCE
    say(f"Largest difference in {len(pairs)} steps: {largest:.1e}, {LOSS_TOLERANCE:g} allowed. {VERDICT[agrees]}")
    return {"losses": {"Trainer": theirs["losses"], "gpt1": ours["losses"]}, "largest": largest, "agrees": agrees}


VERDICT = {True: "It is the same training.", False: "It is NOT the same training."}


def _require_same_ids(encoded: EncodedExamples, *measured: Measured) -> None:
    if {found["ids"] for found in measured} != {encoded.sha256()}:
        raise SystemExit("the contestants were not trained on the same token ids and labels")


def machine() -> dict[str, Any]:
    """Return a description of the machine and the library versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "accelerate", "numpy")},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def parsed(
    parser: argparse.ArgumentParser, contestants: Mapping[str, Callable[[Path, int], Measured]]
) -> argparse.Namespace | None:
    """Return the arguments; None in a process that `measure` started, after printing its contestant's measurement."""
    parser.add_argument("--contestant", choices=contestants, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.contestant:
        return args
    print(json.dumps(contestants[args.contestant](args.work, args.seed)))
    return None


def introduce(advice: str = "trust the ratios at most") -> dict[str, Any]:
    """Print and return the machine's description; if it is busy, print `advice`."""
    about = machine()
    say(", ".join(f"{name} {value}" for name, value in about.items()))
    if advice and (about["load"] or 0) > BUSY:
        say(f"Other programs are using this machine: {advice}.")
    return about


def require_cuda() -> None:
    """Raise UserError if PyTorch finds no CUDA device."""
    from gpt1.backends.torch import device

    device.choose(DeviceConfig(device="cuda"), training=True)


def main() -> int:
    """Run the script; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="labelled texts, as for `gpt1 finetune` (default: synthetic)")
    parser.add_argument("--tokenizer", type=Path, help="vocabulary directory (default: trained on the texts)")
    parser.add_argument("--texts", type=int, help="number of texts (default: 20; cuda 1024; quick 8)")
    parser.add_argument("--rounds", type=int, help="measurements per contestant (default: 3; quick 1)")
    parser.add_argument("--warmup", type=int, help="untimed training steps (default: 1; cuda 64)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--check", action="store_true", help="compare losses instead of speeds")
    parser.add_argument("--quick", action="store_true", help="smoke test with a tiny model, few texts and one round")
    parser.add_argument("--json", type=Path, help="JSON file for the results and the machine's description")
    args = parsed(parser, CONTESTANTS)
    if args is None:
        return 0
    on_gpu = args.device == "cuda" and not args.quick
    args.texts = args.texts or (8 if args.quick else 1024 if on_gpu else 20)
    args.rounds = args.rounds or (1 if args.quick else 3)
    args.warmup = args.warmup or (64 if on_gpu else 1)
    about = introduce("" if args.check else "do not trust the speeds")
    try:
        if args.device == "cuda":
            require_cuda()
        with tempfile.TemporaryDirectory() as folder:
            figures = (check if args.check else compare)(args, Path(folder))
    except UserError as error:
        say(str(error))
        return 2
    if args.json:
        given = {name: str(value) for name, value in vars(args).items() if value}
        args.json.write_text(json.dumps({"machine": about, "flags": given, **figures}, indent=2), encoding="utf-8")
    return 0 if figures.get("agrees", True) else 1


if __name__ == "__main__":
    sys.exit(main())
