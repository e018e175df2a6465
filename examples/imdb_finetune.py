"""Fine-tune GPT-1 on movie reviews in Python: the MindSpore lesson (docs/mindspore.md explains each step).

Run: python examples/imdb_finetune.py --data imdb --backend mindspore --out runs/imdb
Quick trial, a few minutes: add --max-examples 200 --model random:tiny
"""

from __future__ import annotations

import argparse
from collections import Counter

import gpt1

REVIEW = "Warm, funny and over far too soon."


def worst_recall(labels, predictions) -> float:
    """Return the lowest recall of all labels: an example of a custom metric."""
    return min((predictions[labels == label] == label).mean() for label in set(labels.tolist()))


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--data", default="imdb", help="imdb (from the hub), or a folder with a train and a test file")
    flags.add_argument("--model", default="mini", help="mini, random:SIZE, openai-gpt, OWNER/NAME or a directory")
    flags.add_argument("--out", default="runs/imdb", help="run directory; an existing run is resumed")
    flags.add_argument("--backend", default="auto", choices=["auto", "torch", "mindspore"])
    flags.add_argument("--max-examples", type=int, help="maximum number of reviews per split")
    chosen = flags.parse_args()

    # Settings: the recipe holds all values; keywords with the names of the command's flags override them.
    config = gpt1.recipe("mindspore-imdb", **vars(chosen))

    # Load and split: a random tenth of the training reviews, 30 % of it for validation, stratified by label.
    data = gpt1.load_data(config)
    for name, examples in data.splits.items():
        print(f"{name}: {len(examples):,} reviews, {dict(sorted(Counter(e.label for e in examples).items()))}")

    # Model and tokenizer: a pretrained model with a new head for the two labels.
    start = gpt1.starting_model(config, data)
    print(f"{sum(value.size for value in start.params.values()):,} parameters in {len(start.params)} arrays")
    print(*start.tokenizer.tokens(start.tokenizer.encode(REVIEW)))

    # Train, validate at the end of the epoch, save, and score the test reviews.
    results = gpt1.finetune(config, metric=worst_recall)
    print(f"test accuracy {results['test']['accuracy']:.3f}, worst recall {results['test']['worst_recall']:.3f}")

    # Evaluate and predict with the model of the run directory.
    most = chosen.max_examples or 1_000
    again = gpt1.evaluate(chosen.out, chosen.data, max_examples=most, metric=worst_recall, hardware=config.hardware)
    print(f"{again['test']['examples']} test reviews again: accuracy {again['test']['accuracy']:.3f}")
    for answer in gpt1.predict(chosen.out, [REVIEW], backend=chosen.backend):
        print(f"{answer['label']} with probability {answer['score']:.3f}")


if __name__ == "__main__":
    main()
