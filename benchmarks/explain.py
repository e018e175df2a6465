"""Faithfulness of explanations: remove the word with the largest attribution from a review and predict again.

    python benchmarks/explain.py --data DIR                 train and test files of reviews (text, label); trains mini
    python benchmarks/explain.py --data DIR --run RUN       existing run of `gpt1 finetune`

The word with the largest absolute attribution (gradient x input) is compared with the word of median attribution: the
script counts how often removing the first changes the probability of the predicted label more. A random word is the
baseline (about half of the reviews). Words are removed from the text itself, not by `explain`'s occlusion. Only reviews
that fit into the context are sampled, so that removing a word does not bring a truncated one in.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune import introduce
from gpt1.config import DeviceConfig
from gpt1.config.recipes import recipe
from gpt1.console import say, table
from gpt1.data.dataset import load_dataset
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.inference.classifier import Classifier
from gpt1.inference.explainer import Explainer
from gpt1.training.finetune import finetune

AT_ONCE = 50
"""Reviews per batch."""


@dataclass(frozen=True)
class Review:
    """Changes of the predicted label's probability when single words of a review are removed."""

    top_word: str
    top: float
    median: float
    random: float


def train(data: str, out: Path) -> None:
    """Fine-tune mini on 2,000 reviews of at most 160 tokens: about 15 minutes on one core."""
    finetune(recipe("quickstart", data=data, out=str(out), max_examples=2_000, max_length=160, lr=3e-4, epochs=3,
                    baseline=False))  # fmt: skip


def drawn(model: Classifier, data: str, count: int, seed: int) -> list[Example]:
    """Return up to `count` test reviews that fit into the model's context."""
    every = load_dataset(Path(data)).splits["test"]
    order = np.random.default_rng(seed).permutation(len(every))
    found: list[Example] = []
    for start in range(0, len(order), AT_ONCE):
        some = [Example(every[index].parts) for index in order[start : start + AT_ONCE]]
        found += [example for example in some if not model.encode([example]).truncated]
        if len(found) >= count:
            break
    return found[:count]


def measure(model: Classifier, examples: Sequence[Example], seed: int) -> list[Review]:
    """Return one row per review."""
    stream = np.random.default_rng(seed)
    rows = []
    for start in range(0, len(examples), AT_ONCE):
        some = examples[start : start + AT_ONCE]
        explained = Explainer(model).explain_all(some)
        chosen, without = [], []
        for found in explained:
            words = sorted(found["texts"][0]["words"], key=lambda word: -abs(word["weight"]))
            three = (words[0], words[len(words) // 2], words[stream.integers(len(words))])
            chosen.append(three)
            text = found["texts"][0]["text"]
            without += [Example((f"{text[: word['start']]} {text[word['end'] :]}",)) for word in three]
        answers = iter(model.predict(without))
        for found, (top, _, _) in zip(explained, chosen, strict=True):
            label = found["label"]
            changes = [abs(next(answers)["scores"][label] - found["scores"][label]) for _ in range(3)]
            rows.append(Review(top["text"], *changes))
        say(f"{len(rows)} of {len(examples)} reviews")
    return rows


def share(larger: NDArray[np.bool_], seed: int) -> str:
    """Return a share with its 95 % bootstrap interval."""
    draws = np.random.default_rng(seed).choice(larger, (2_000, len(larger))).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{larger.mean():.1%} [{low:.1%}, {high:.1%}]"


def main() -> int:
    """Run the script; return its exit code: 2 if the data or the run is invalid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with a train and a test file of reviews")
    parser.add_argument("--run", type=Path, help="run of gpt1 finetune (default: fine-tune mini)")
    parser.add_argument("--out", type=Path, default=Path("runs/explain"), help="run directory (without --run)")
    parser.add_argument("--reviews", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="JSON file for the rows of all reviews and the machine's description")
    args = parser.parse_args()
    try:
        about = introduce(advice="")  # no speeds are measured
        if args.run is None:
            train(args.data, args.out)
        model = Classifier.open(args.run or args.out, DeviceConfig(dtype="float32"))
        rows = measure(model, drawn(model, args.data, args.reviews, args.seed), args.seed)
    except UserError as error:
        print(f"explain.py: {error}", file=sys.stderr)
        return 2
    report(rows, args.seed)
    if args.json:
        found: dict[str, Any] = {"machine": about, "reviews": [asdict(row) for row in rows]}
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def report(rows: Sequence[Review], seed: int) -> None:
    """Print how often the top word changes the probability more than the median word, and all mean changes."""
    top, median, random = (np.array([getattr(row, name) for row in rows]) for name in ("top", "median", "random"))
    say(f"\n{len(rows)} reviews: the probability of the predicted label without one word")
    table(
        ["word", "mean change", "median change", "larger than that of the median word"],
        [
            ["largest attribution", f"{top.mean():.4f}", f"{np.median(top):.4f}", share(top > median, seed)],
            ["median attribution", f"{median.mean():.4f}", f"{np.median(median):.4f}", ""],
            ["drawn at random", f"{random.mean():.4f}", f"{np.median(random):.4f}", share(random > median, seed)],
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
