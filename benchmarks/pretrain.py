"""Speed of pretraining on windows of tokens with gpt1 and with a `transformers` loop, in one run.

    python benchmarks/pretrain.py                          size mini, windows of 512 tokens, batches of 8
    python benchmarks/pretrain.py --size gpt1 --device cuda    the paper's model; also compiled, on both sides
    python benchmarks/pretrain.py --quick                  smoke test with a tiny model; the speeds mean nothing

The reference is the usual loop around `OpenAIGPTLMHeadModel`: autocast for bfloat16, backward, clipping, AdamW. Both
use the same weights, windows in the same order, targets (all tokens of a window), batch and micro-batch sizes, dropout
on embeddings, residuals and attention (0.1 and 0), fused AdamW with weight decay on matrices only, learning rates and
clipping. Timing starts after the warm-up and ends after the last step; it includes batching. The losses of both in
float32 without dropout are compared.

Each measurement runs in its own process; the order of the contestants alternates between rounds; the table shows
medians. PyTorch's waiting threads do not spin (OMP_WAIT_POLICY=PASSIVE, unless the variable is set), on either side.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune import (
    LOSS_TOLERANCE,
    VERDICT,
    Given,
    Measured,
    introduce,
    machine_use,
    matmul_peaks,
    measure,
    parsed,
    quiet_transformers,
    require_cuda,
)
from generate import random_model
from gpt1 import backends
from gpt1.backends.base import Batch
from gpt1.backends.optim import learning_rate
from gpt1.backends.parameters import count, decays, initialise
from gpt1.checkpoint.model_dir import Model, load_model, save_model
from gpt1.config import SIZES, DropoutConfig, DType, LoopConfig, ModelConfig, OptimConfig
from gpt1.console import say, table
from gpt1.data.corpus.prepare import Corpus
from gpt1.data.corpus.windows import TrainingWindows
from gpt1.errors import UserError
from gpt1.tokenization.tokenizer import Tokenizer

OPTIM = OptimConfig(lr=2.5e-4, schedule="cosine", warmup=0.0, weight_decay=0.01, max_grad_norm=1.0)
DROPOUTS = (0.1, 0.0)


@dataclass(frozen=True)
class Work(Given):
    """Windows, whose tokens are in `tokens.npy` of the run's folder, and training settings."""

    context: int
    batch_size: int
    micro_batch_size: int
    warmup: int
    steps: int
    device: str

    @property
    def total(self) -> int:
        return self.warmup + self.steps

    @property
    def n_tokens(self) -> int:
        """Tokens of the windows of all steps, plus one."""
        return self.total * self.batch_size * self.context + self.context

    def windows(self, folder: Path) -> TrainingWindows:
        tokens = Tokens(np.load(folder / "tokens.npy", allow_pickle=False))
        config = LoopConfig(batch_size=self.batch_size, micro_batch_size=self.micro_batch_size)
        return TrainingWindows(tokens, self.n_tokens, self.context, config)


@dataclass(frozen=True)
class Tokens:
    """Token ids in memory, as `TrainingWindows` reads them."""

    ids: NDArray[np.int32]

    def tokens(self, start: int, stop: int) -> NDArray[np.int32]:
        return self.ids[start:stop]


# ---- contestants: (folder, seed) -> measurement of this process


def train_with_transformers(
    folder: Path, seed: int, *, dtype: DType, dropout: float, compiled: bool = False
) -> Measured:
    """Pretrain with a loop around `OpenAIGPTLMHeadModel`."""
    transformers = quiet_transformers()
    import torch

    work = Work.load(folder)
    torch.manual_seed(seed)
    rates = {"embd_pdrop": dropout, "resid_pdrop": dropout, "attn_pdrop": dropout}
    model = transformers.OpenAIGPTLMHeadModel.from_pretrained(folder / "model", **rates)
    model = model.to(work.device).train()
    named = dict(model.named_parameters())
    groups: list[list[Any]] = [[p for name, p in named.items() if decays(name, tuple(p.shape)) is wanted]
                               for wanted in (True, False)]  # fmt: skip
    optimizer = torch.optim.AdamW(
        [{"params": groups[0], "weight_decay": OPTIM.weight_decay}, {"params": groups[1], "weight_decay": 0.0}],
        betas=(OPTIM.beta1, OPTIM.beta2), eps=OPTIM.eps, fused=True,
    )  # fmt: skip
    if compiled:
        model.compile()

    def train_step(batches: Iterable[Batch], lr: float, step: int) -> Callable[[], float]:
        for group in optimizer.param_groups:
            group["lr"] = lr
        total = torch.zeros((), device=work.device)
        for batch in batches:
            ids, targets = (torch.from_numpy(each).to(work.device).long() for each in (batch.tokens, batch.lm_targets))
            with torch.autocast(work.device, torch.bfloat16, enabled=dtype == "bfloat16"):
                # `shift_labels` are the next tokens: the last token of the window is a target too, as in gpt1.
                loss = model(ids, labels=targets, shift_labels=targets).loss * (len(ids) / work.batch_size)
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(named.values(), OPTIM.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        return lambda: float(total)

    return _timed(work, folder, train_step, dtype)


def train_with_gpt1(folder: Path, seed: int, *, dtype: DType, dropout: float, compiled: bool = False) -> Measured:
    """Pretrain with gpt1's engine, as its training loop does."""
    work, model = Work.load(folder), load_model(folder / "model")
    engine = backends.get(
        model.config, model.params, hardware=work.hardware(dtype, compiled), optim=OPTIM,
        dropout=DropoutConfig(dropout, dropout, dropout), seed=seed,
    )  # fmt: skip

    def train_step(batches: Sequence[Batch], lr: float, step: int) -> Callable[[], float]:
        result = engine.train_step(batches, lr=lr, step=step)
        return lambda: result.read()["loss"]

    return _timed(work, folder, train_step, dtype)


def _timed(work: Work, folder: Path, train_step: Callable[..., Callable[[], float]], dtype: DType) -> Measured:
    windows = work.windows(folder)

    def run(step: int) -> Callable[[], float]:
        return train_step(windows.micro_batches(step), learning_rate(step, work.total, OPTIM), step)

    results = [run(step) for step in range(work.warmup)]
    work.wait()
    started = time.perf_counter()
    results += [run(step) for step in range(work.warmup, work.total)]
    work.wait()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "losses": [read() for read in results], **machine_use(work.device, dtype)}


SIDES = {"transformers": train_with_transformers, "gpt1": train_with_gpt1}
DTYPES: tuple[DType, ...] = ("float32", "bfloat16")


def _contestants(dropout: float) -> dict[str, Callable[[Path, int], Measured]]:
    """Return the contestants with one dropout rate, including those for CUDA; `transformers` is first per dtype."""
    kinds = [("float32", False), ("bfloat16", False), ("bfloat16", True)]
    return {
        f"{side} {dtype}{', compiled' if compiled else ''}, dropout {dropout:g}":
            partial(contestant, dtype=dtype, dropout=dropout, compiled=compiled)
        for dtype, compiled in kinds
        for side, contestant in SIDES.items()
    }  # fmt: skip


CONTESTANTS = {name: each for dropout in DROPOUTS for name, each in _contestants(dropout).items()}


# ---- workload


def prepare(args: argparse.Namespace, folder: Path) -> tuple[Work, ModelConfig]:
    """Write the input of all contestants; return the workload and the model's shape."""
    work = Work(args.context, args.batch, args.micro_batch or args.batch, args.warmup, args.steps, args.device)
    if args.corpus:
        if not args.tokenizer:
            raise UserError(
                f"--tokenizer is required: {args.corpus} holds token ids; give the tokenizer that encoded it"
            )
        tokenizer = Tokenizer.load(args.tokenizer)
        corpus = Corpus.open(args.corpus, tokenizer)
        if len(corpus) < work.n_tokens:
            raise UserError(f"--corpus {args.corpus}: {len(corpus):,} tokens found, {work.n_tokens:,} required")
        ids = corpus.tokens(0, work.n_tokens)
        shape = replace(SIZES[args.size], vocab_size=tokenizer.vocab_size)
        model = Model(shape, initialise(shape, seed=0), tokenizer)
    else:
        model = random_model(SIZES[args.size])
        ids = np.random.default_rng(0).integers(model.config.vocab_size, size=work.n_tokens, dtype=np.int32)
    if args.context > model.config.n_ctx:
        raise UserError(f"--context {args.context}: the model's context has {model.config.n_ctx} tokens")
    save_model(folder / "model", model)
    np.save(folder / "tokens.npy", ids, allow_pickle=False)
    work.save(folder)
    return work, model.config


def training_flops(shape: ModelConfig, context: int) -> float:
    """Return the minimum floating-point operations per token of a training step.

    Three times the forward pass: 2 · 12 L D² in the layers' matrices, 2 D V in the softmax, and 4 D L (n + 1) / 2 in
    causal attention over a window of n tokens. Embeddings are look-ups; redundant computation does not count.
    """
    width, layers = shape.n_embd, shape.n_layer
    matrices = 24 * layers * width**2 + 2 * width * shape.vocab_size
    return 3.0 * (matrices + 4 * width * layers * (context + 1) / 2)


# ---- results


def summarise(results: Mapping[str, Sequence[Measured]], work: Work, shape: ModelConfig) -> dict[str, dict[str, Any]]:
    """Return each contestant's results, from the median of its rounds."""
    peaks, flops = matmul_peaks(results), training_flops(shape, work.context)
    summary: dict[str, dict[str, Any]] = {}
    for name, rounds in results.items():
        dtype = rounds[0]["dtype"]
        speed = work.steps * work.batch_size * work.context / statistics.median(found["seconds"] for found in rounds)
        summary[name] = {
            "dtype": dtype,
            "seconds": [found["seconds"] for found in rounds],
            "tokens_per_second": speed,
            "gflops": flops * speed / 1e9,
            "mfu": flops * speed / 1e9 / peaks[dtype],
            "matmul_gflops": peaks[dtype],
            "memory_gb": max((found["memory_gb"] for found in rounds if found["memory_gb"]), default=None),
        }
    for name, found in summary.items():
        peer = summary[f"transformers {found['dtype']}, {name.rsplit(', ', 1)[1]}"]
        found["times_transformers"] = found["tokens_per_second"] / peer["tokens_per_second"]
    return summary


def show(summary: Mapping[str, Mapping[str, Any]]) -> None:
    columns = ("tokens/s", "spread", "× same dtype", "GFLOP/s", "MFU", "GB")

    def row(name: str, found: Mapping[str, Any]) -> list[str]:
        return [
            name,
            f"{found['tokens_per_second']:,.0f}",
            f"{max(found['seconds']) / min(found['seconds']) - 1:.0%}",
            f"{found['times_transformers']:.2f}",
            f"{found['gflops']:,.0f}",
            f"{found['mfu']:.0%}",
            "–" if found["memory_gb"] is None else f"{found['memory_gb']:.1f}",
        ]

    say()
    table(("pretraining", *columns), [row(name, found) for name, found in summary.items()])
    peaks = {found["dtype"]: found["matmul_gflops"] for found in summary.values()}
    say("\nSpeed: median of the rounds; spread: slowest over fastest round; × same dtype: over plain transformers.")
    say("MFU: needed work (`training_flops`) over time, and over the speed of a 2048 × 768 × 3072 product here:")
    say("; ".join(f"{dtype} {gflops:,.0f} GFLOP/s" for dtype, gflops in peaks.items()) + ". GB: peak memory.")


def largest_difference(results: Mapping[str, Sequence[Measured]]) -> float:
    """Return the largest loss difference of a step between both sides in float32 without dropout."""
    theirs, ours = (results[f"{side} float32, dropout 0"][0]["losses"] for side in SIDES)
    return max(abs(a - b) for a, b in zip(theirs, ours, strict=True))


# ---- command


def main() -> int:
    """Run the script; return its exit code: 1 if the losses differ in float32 without dropout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("gpt1", "mini", "tiny"), default="mini")
    parser.add_argument("--context", type=int, default=512, help="tokens per window")
    parser.add_argument("--batch", type=int, default=8, help="windows per optimizer step")
    parser.add_argument("--micro-batch", type=int, help="windows per forward pass (default: the whole batch)")
    parser.add_argument("--corpus", type=Path, help="corpus of `gpt1 prepare` (default: random tokens)")
    parser.add_argument("--tokenizer", type=Path, help="vocabulary directory of --corpus")
    parser.add_argument("--steps", type=int, help="timed steps (default: 4; cuda 50)")
    parser.add_argument("--warmup", type=int, help="untimed steps (default: 1; cuda 10)")
    parser.add_argument("--rounds", type=int, help="measurements per contestant (default: 3; quick 1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="contestants of one dtype (default: both)")
    parser.add_argument("--quick", action="store_true", help="smoke test: tiny model, short windows, one round")
    parser.add_argument("--json", type=Path, help="JSON file for the results and the machine's description")
    args = parsed(parser, CONTESTANTS)
    if args is None:
        return 0
    if args.quick:
        args.size, args.context = "tiny", 64
    on_gpu = args.device == "cuda" and not args.quick
    args.steps = args.steps or (50 if on_gpu else 4)
    args.warmup = args.warmup or (10 if on_gpu else 1)
    args.rounds = args.rounds or (1 if args.quick else 3)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    about = introduce()
    try:
        if args.device == "cuda":
            require_cuda()
        with tempfile.TemporaryDirectory() as folder:
            work, shape = prepare(args, Path(folder))
            say(
                f"{args.size}: {count(shape) / 1e6:.1f} M parameters; {work.steps} timed steps of {work.batch_size} × "
                f"{work.context} tokens, {work.micro_batch_size} windows at once, after {work.warmup} untimed."
            )
            names = [name for name in CONTESTANTS if args.device == "cuda" or "compiled" not in name]
            names = [name for name in names if args.dtype is None or args.dtype in name]
            results = measure(names, Path(folder), args.rounds, __file__)
    except UserError as error:
        say(str(error))
        return 2
    summary = summarise(results, work, shape)
    show(summary)
    largest = None if args.dtype == "bfloat16" else largest_difference(results)
    agrees = largest is None or largest <= LOSS_TOLERANCE
    if largest is not None:
        said = f"Largest difference of a loss in float32 without dropout, {work.total} steps: {largest:.1e}."
        say(f"{said} {VERDICT[agrees]}")
    if args.json:
        given = {name: str(value) for name, value in vars(args).items() if value}
        figures = {"machine": about, "flags": given, "largest_loss_difference": largest, "figures": summary}
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
