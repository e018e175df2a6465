"""Number of graphs that MindSpore compiles for each recipe, and the time of compiling them.

    python benchmarks/compiling.py --data DIR      reviews with the columns text and label; the bundled model `mini`
    python benchmarks/compiling.py                 bundled sample reviews, which are too few for most recipes

The script collects the batch shapes of a recipe's whole run and trains twice on one batch of each shape: the compile
time is the difference between the first and the second call. Scoring the validation and test splits uses shapes of its
own; shapes that few batches have are not compiled. Pretraining uses windows of one length, hence one shape.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpt1
from finetune import introduce
from gpt1 import backends
from gpt1.backends.base import Batch
from gpt1.config import FinetuneConfig
from gpt1.config.recipes import RECIPES
from gpt1.console import say, table
from gpt1.data.batching import Collator, TrainingBatches, inference_batches
from gpt1.training.setup import encode_splits


def measure(config: FinetuneConfig) -> dict[str, Any]:
    """Return the number of graphs of a run and their compile times in seconds, for training and for inference."""
    data = gpt1.load_data(config)
    start = gpt1.starting_model(config, data)
    encoded = encode_splits(config, data, start)
    engine = backends.get(
        start.config, start.params, hardware=config.hardware, optim=config.optim, dropout=config.dropout,
        loss=config.loss, seed=config.loop.seed,
    )  # fmt: skip
    from gpt1.backends.mindspore.engine import COMPILED_FOR

    collator = Collator(start.tokenizer.pad, start.max_length, config.loop.pad_to, engine.buckets)
    training = TrainingBatches(encoded["train"], config.loop, replace(collator, lm_targets=config.loss.lm_coef > 0))
    steps = config.loop.epochs_of(training.steps_per_epoch) * training.steps_per_epoch
    in_training = _one_of_each_shape(batch for step in range(steps) for batch in training.micro_batches(step))
    scored = [
        batch
        for split in ("valid", "test")
        for _, batch in inference_batches(encoded[split], collator, engine.tokens_at_once)
    ]
    in_scoring = _one_of_each_shape(batch for batch in scored if batch.batches_of_this_shape >= COMPILED_FOR)
    return {
        "steps": steps,
        "training": _compiling(in_training, lambda batch: engine.train_step([batch], lr=0.0, step=0).read()),
        "inference": _compiling(in_scoring, engine.logits),
    }


def _one_of_each_shape(batches: Iterable[Batch]) -> list[Batch]:
    return list({batch.tokens.shape: batch for batch in batches}.values())


def _compiling(batches: Iterable[Batch], run: Callable[[Batch], Any]) -> list[float]:
    """Return the compile time of each batch's shape: the first call's seconds minus the second's."""
    found = []
    for batch in batches:
        taken = []
        for _ in range(2):
            began = time.perf_counter()
            run(batch)
            taken.append(time.perf_counter() - began)
        found.append(taken[0] - taken[1])
    return found


def main() -> int:
    """Run the script; return its exit code: 2 if the data or MindSpore is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="reviews", help="folder or file of labelled texts")
    parser.add_argument("--model", default="mini", help="as in gpt1 finetune")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--json", type=Path, help="JSON file for the results")
    args = parser.parse_args()
    introduce("the seconds say little")
    results = {}
    try:
        for name in args.recipes:
            settings = {"data": args.data, "model": args.model, "backend": "mindspore"}
            results[name] = measure(gpt1.recipe(name, **settings))
    except gpt1.UserError as error:
        say(str(error))
        return 2
    rows = [
        [
            name,
            f"{found['steps']:,}",
            str(len(found["training"])),
            f"{sum(found['training']):.0f}",
            str(len(found["inference"])),
            f"{sum(found['inference']):.0f}",
        ]
        for name, found in results.items()
    ]
    say()
    table(("recipe", "steps", "graphs of training", "s", "graphs of inference", "s"), rows)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
