"""Speed of gpt1 on PyTorch and on MindSpore: training steps and inference in float32, in one process.

    python benchmarks/backends.py                  12-layer model on a CPU
    python benchmarks/backends.py --size mini      shape of the bundled model
    python benchmarks/backends.py --quick          smoke test with a tiny model; the times mean nothing

Both backends use the same weights, batches, dropout masks (0.1) and update rule. For each workload both engines run in
one process and alternate step by step, so that other load affects both equally. The tables show medians; a ratio is the
median of the ratios of all rounds. MindSpore compiles its graphs before the timing starts; the compile time has its own
column. The losses of all steps are compared.

Waiting threads of both frameworks do not spin (OMP_WAIT_POLICY=PASSIVE, unless the variable is set).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from finetune import introduce
from gpt1 import backends
from gpt1.backends.base import IGNORE, Batch, Engine
from gpt1.backends.parameters import count, initialise
from gpt1.config import SIZES, DeviceConfig, DropoutConfig, Head, LossConfig, ModelConfig, OptimConfig
from gpt1.console import say, table

SIDES = ("torch", "mindspore")

UNTIMED = 2
"""Untimed steps; MindSpore compiles in the first."""

RATE = 1e-6
"""Low enough that a dozen steps on random tokens do not amplify rounding errors."""

LOSS_TOLERANCE = 1e-4
"""Relative difference; the backends sum float32 numbers in different orders."""


@dataclass(frozen=True)
class Work:
    """Workload on sequences of random tokens."""

    kind: str
    """`classification`, `language model`, or `both`: a classifier with the auxiliary loss."""
    n_sequences: int
    length: int

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.n_sequences} × {self.length}"

    def engine(self, side: str, size: str) -> Engine:
        shape = SIZES[size]
        if self.kind != "language model":
            shape = replace(shape, head=Head("classification", 2))
        return backends.get(
            shape, initialise(shape, seed=0), hardware=DeviceConfig(backend=side, device="cpu", dtype="float32"),
            optim=OptimConfig(), dropout=DropoutConfig(), loss=LossConfig(0.5 if self.kind == "both" else 0.0), seed=0,
        )  # fmt: skip

    def batch(self, shape: ModelConfig, seed: int) -> Batch:
        stream = np.random.default_rng(seed)
        tokens = stream.integers(shape.vocab_size, size=(self.n_sequences, self.length), dtype=np.int32)
        targets = np.concatenate([tokens[:, 1:], np.full((self.n_sequences, 1), IGNORE, np.int32)], 1)
        return Batch(
            tokens,
            eos_positions=np.full(self.n_sequences, self.length - 1, np.int32),
            labels=None if self.kind == "language model" else stream.integers(2, size=self.n_sequences),
            batches_of_this_shape=1_000,  # as for a large data set: MindSpore compiles the graph
            lm_targets=None if self.kind == "classification" else targets,
        )


def measure(work: Work, size: str, rounds: int) -> dict[str, Any]:
    """Return the seconds of training steps and inference per backend, and the largest relative loss difference."""
    engines = {side: work.engine(side, size) for side in SIDES}
    seconds: dict[str, dict[str, list[float]]] = {what: {side: [] for side in SIDES} for what in ("step", "inference")}
    losses: dict[str, list[float]] = {side: [] for side in SIDES}
    for step in range(UNTIMED + rounds):
        batch = work.batch(SIZES[size], step)
        for side in SIDES if step % 2 else reversed(SIDES):
            engine = engines[side]
            infer = engine.token_logprobs if work.kind == "language model" else engine.logits
            result, taken = _timed(lambda: engine.train_step([batch], lr=RATE, step=step).read())  # noqa: B023
            losses[side].append(result["loss"])
            seconds["step"][side].append(taken)
            seconds["inference"][side].append(_timed(lambda: infer(batch))[1])  # noqa: B023
    differences = [abs(a - b) / abs(a) for a, b in zip(*losses.values(), strict=True)]
    return {"work": work.name, "difference": max(differences)} | {
        what: {side: all_of[UNTIMED:] for side, all_of in sides.items()}
        | {"compiling": sum(sides["mindspore"][:UNTIMED]) - UNTIMED * statistics.median(sides["mindspore"][UNTIMED:])}
        for what, sides in seconds.items()
    }  # fmt: skip


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def row(found: Mapping[str, Any], what: str) -> list[str]:
    times = found[what]
    torch, mindspore = (statistics.median(times[side]) for side in SIDES)
    ratios = [b / a for a, b in zip(*(times[side] for side in SIDES), strict=True)]
    return [
        f"{found['work']}: {what}", f"{torch:.3f}", f"{mindspore:.3f}", f"{statistics.median(ratios):.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}", f"{max(0.0, times['compiling']):.0f}",
    ]  # fmt: skip


def main() -> int:
    """Run the script; return its exit code: 1 if the losses differ, 2 if a framework is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=tuple(SIZES), default="gpt1")
    parser.add_argument("--rounds", type=int, help="timed steps per backend (default: 7; quick 2)")
    parser.add_argument("--quick", action="store_true", help="smoke test with a tiny model and short sequences")
    parser.add_argument("--json", type=Path, help="JSON file for the results and the machine's description")
    args = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if missing := set(SIDES) - set(backends.installed()):
        say(f"{', '.join(missing)} is not installed; run: pip install -c constraints.txt -e '.[torch,mindspore]'")
        return 2
    size, rounds = ("tiny" if args.quick else args.size), args.rounds or (2 if args.quick else 7)
    short, long = (16, 32) if args.quick else (128, 512)
    about = introduce()
    say(f"{size}: {count(SIZES[size]) / 1e6:.1f} M parameters; {rounds} timed steps per backend.\n")
    works = [
        Work("classification", 4, short), Work("classification", 4, long), Work("both", 4, short),
        Work("language model", 4, short),
    ]  # fmt: skip
    # One process per workload: MindSpore never frees the memory of a graph.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        results = list(pool.map(measure, works, [size] * len(works), [rounds] * len(works)))
    columns = ("float32", "PyTorch s", "MindSpore s", "MindSpore / PyTorch", "rounds", "compiling s")
    table(columns, [row(found, what) for found in results for what in ("step", "inference")])
    largest = max(found["difference"] for found in results)
    agree = largest <= LOSS_TOLERANCE
    say(f"\nLargest relative difference of a step's losses: {largest:.1e}.")
    if not agree:
        say("The losses should agree.")
    if args.json:
        args.json.write_text(json.dumps({"machine": about, "size": size, "results": results}, indent=1) + "\n")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
