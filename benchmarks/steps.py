"""Time of a training step, or of classification, with this checkout and with another one, in one run.

    git worktree add ../before COMMIT
    python benchmarks/steps.py --before ../before                      pretraining `mini`, 64 × 128 tokens
    python benchmarks/steps.py --before ../before --size gpt1 --task classification --batch-size 8 --length 256
    python benchmarks/steps.py --before ../before --size gpt1 --task classification --inference --length 256

Each checkout runs in a process of its own. They compute the same steps in turn, in alternating order, so that a busy
moment of the machine slows down both. Several pairs of processes follow each other, because where a process gets its
memory changes its speed by up to a fifth. The ratio of the fastest steps is that of an idle machine; the median of the
ratios of all rounds includes what the machine does. The losses of both are printed: they must agree.

With `--inference` a step classifies the batch, in as many parts as `gpt1 predict` does; the sum of the logits is
printed for the loss.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gpt1 import backends
from gpt1.backends.base import Batch, Engine
from gpt1.backends.parameters import initialise
from gpt1.config import SIZES, DeviceConfig, DropoutConfig, Head, LossConfig

LEARNING_RATE = 1e-4
WARMUP = 2


def build(args: argparse.Namespace) -> tuple[Engine, Batch]:
    """Return an engine with random weights and a batch of random tokens."""
    classifies = args.task == "classification"
    config = replace(SIZES[args.size], head=Head("classification", 2) if classifies else None)
    drop = DropoutConfig(embd_pdrop=args.dropout, resid_pdrop=args.dropout, attn_pdrop=args.dropout)
    hardware = DeviceConfig(backend="torch", device=args.device, dtype=args.dtype)
    loss = LossConfig(lm_coef=0.0 if classifies else 1.0)
    engine = backends.get(config, initialise(config, 0), hardware=hardware, dropout=drop, loss=loss, seed=1)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, config.vocab_size, (args.batch_size, args.length)).astype(np.int32)
    ends = np.full(args.batch_size, args.length - 1, np.int32)
    if classifies:
        return engine, Batch(tokens, ends, rng.integers(0, 2, args.batch_size))
    return engine, Batch(tokens, ends, lm_targets=np.roll(tokens, -1, 1))


def classify(engine: Engine, batch: Batch) -> float:
    """Return the sum of the logits of the batch."""
    rows = max(1, engine.tokens_at_once // batch.tokens.shape[1])
    parts = [
        Batch(batch.tokens[start : start + rows], batch.eos_positions[start : start + rows])
        for start in range(0, len(batch.tokens), rows)
    ]
    return float(sum(engine.logits(part).sum() for part in parts))


def answer(args: argparse.Namespace) -> None:
    """Compute a step for each line on stdin; print its seconds and its loss."""
    engine, batch = build(args)

    def compute(step: int) -> float:
        if args.inference:
            return classify(engine, batch)
        return engine.train_step([batch], lr=LEARNING_RATE, step=step).read()["loss"]

    for step in range(WARMUP):
        compute(step)
    print(engine.device, engine.dtype, flush=True)
    for step, _ in enumerate(sys.stdin, WARMUP):
        started = time.perf_counter()
        loss = compute(step)
        print(time.perf_counter() - started, loss, flush=True)


@dataclass
class Times:
    """Seconds of the steps of a checkout, and the loss of the last one."""

    seconds: list[float] = field(default_factory=list)
    loss: float = math.nan


class Process:
    """A process that computes steps with the code of a checkout."""

    def __init__(self, folder: Path):
        environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ | {"PYTHONPATH": str(folder.resolve() / "src")}
        self.process = subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--answer"],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self.device = self._line()

    def step(self) -> tuple[float, float]:
        """Compute one step; return its loss and its seconds."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        seconds, loss = map(float, self._line().split())
        return loss, seconds

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def _line(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline().strip()
        if not line:
            sys.exit("a process ended; see its error above")
        return line


def main() -> int:
    """Compare two checkouts; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="folder of the other checkout")
    parser.add_argument("--size", choices=list(SIZES), default="mini")
    parser.add_argument("--task", choices=["pretraining", "classification"], default="pretraining")
    parser.add_argument("--inference", action="store_true", help="classify the batch; without it, train")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of processes, one after the other")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each pair")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inference and args.task != "classification":
        parser.error("--inference: for --task classification")
    if args.answer:
        answer(args)
        return 0
    from finetune import introduce  # not in the processes, where it would import more of the other checkout

    introduce()
    before, now = Times(), Times()
    for _ in range(args.pairs):
        pair = [(before, Process(args.before)), (now, Process(Path(__file__).parents[1]))]
        for number in range(args.rounds):
            for times, process in pair if number % 2 else pair[::-1]:
                times.loss, seconds = process.step()
                times.seconds.append(seconds)
        for _, process in pair:
            process.close()
    tokens = args.batch_size * args.length
    what = "inference" if args.inference else f"dropout {args.dropout:g}"
    print(f"{args.size}, {args.task}, {args.batch_size} × {args.length}, {what}; {process.device}")
    for name, times in (("before", before), ("now", now)):
        fastest, median = min(times.seconds), statistics.median(times.seconds)
        print(
            f"  {name:7} fastest {fastest:.3f} s ({tokens / fastest:,.0f} tokens/s), median {median:.3f} s, "
            f"loss {times.loss:.5f}"
        )
    rounds = [a / b for a, b in zip(before.seconds, now.seconds, strict=True)]
    fastest = min(before.seconds) / min(now.seconds)
    print(
        f"  speed-up: {fastest:.2f} × (fastest), {statistics.median(rounds):.2f} × (median of {len(rounds)} rounds, "
        f"{min(rounds):.2f} to {max(rounds):.2f})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
