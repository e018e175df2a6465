"""Process of a distributed test in tests/test_dist.py: python rank_process.py BACKEND OUT.json.

Run by torchrun or msrun, or alone for the result of a single process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from gpt1 import backends
from gpt1.backends.base import IGNORE, Batch
from gpt1.backends.parameters import initialise
from gpt1.config import Backend, DeviceConfig, DropoutConfig, Head, ModelConfig

LENGTHS = (11, 3, 7, 16)
"""Numbers of tokens of the four examples."""
STEPS = 30
"""Number of updates after which gradients are compared."""


def step(model: str, vocab_size: int = 50, n_labels: int = 3) -> list[Batch]:
    """Return the four micro-batches of a step, one example each."""
    draw = np.random.default_rng(0)
    batches = []
    for number, length in enumerate(LENGTHS):
        tokens = draw.integers(0, vocab_size, (1, length)).astype(np.int32)
        targets = np.roll(tokens, -1, axis=1)
        targets[:, -1] = IGNORE
        labels = np.array([number % n_labels]) if model == "classifier" else None
        batches.append(Batch(tokens, np.array([length - 1], np.int32), labels=labels, lm_targets=targets))
    return batches


def main(backend: Backend, path: Path) -> None:
    found = {}
    # MindSpore runs without compiling: each case would need several graphs. The tests of whole runs compile.
    exact = DeviceConfig(backend=backend, device="cpu", dtype="float32", eager=backend == "mindspore")
    with backends.init_distributed(exact) as ranks:
        for model in ("language model", "classifier"):
            for dropout in (0.0, 0.1):
                shape = ModelConfig(
                    n_layer=2, n_embd=32, n_head=2, n_ctx=16, vocab_size=50,
                    head=Head("classification", 3) if model == "classifier" else None,
                )  # fmt: skip
                engine = backends.get(
                    shape, initialise(shape, 0), hardware=exact, ranks=ranks, seed=1,
                    dropout=DropoutConfig(embd_pdrop=dropout, resid_pdrop=dropout, attn_pdrop=dropout, clf_pdrop=0.0),
                )  # fmt: skip
                batches = step(model)
                losses, grads = engine.gradients(batches[ranks.rank :: ranks.size], step=3)
                nothing, no_grads = engine.gradients(batches[:1] if ranks.rank == 0 else [], step=3)
                steps = []
                if dropout == 0.0:
                    own = batches[ranks.rank :: ranks.size]
                    steps = [engine.train_step(own, lr=1e-3, step=number).read() for number in range(STEPS)]
                    trained = engine.gradients(own, step=STEPS)[1]
                else:
                    trained = {}
                found[f"{model}, dropout {dropout}"] = {
                    "steps": steps,
                    "gradients after the steps": {name: grad.ravel().tolist() for name, grad in trained.items()},
                    "losses": losses,
                    "grads": {name: grad.ravel().tolist() for name, grad in grads.items()},
                    "losses of one micro-batch": nothing,
                    "largest gradient of one micro-batch": max(float(np.abs(g).max()) for g in no_grads.values()),
                }
    path.with_name(f"{path.name}.{ranks.rank}").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))  # type: ignore[arg-type]
