"""Learning rate, epochs, warm-up and λ for small models: how recipe `quickstart` was chosen.

    python benchmarks/small_models.py --data-root D --out runs/small-models      # hours of one core; resumes

Fine-tunes a model on 240 and 2,000 rows of IMDB, SST-2 and AG News for each cell of a grid of rates and epochs. A best
cell at an edge of the grid is doubled in that direction until the mean falls or a run has `MOST_STEPS` steps. Then
other warm-ups and weights of the auxiliary loss are tried at the best cell, and 3 and 8 epochs with 10,000 rows. Every
choice is made on 1,000 validation rows, drawn from the training files (of AG News from its only file), by the accuracy
after the last epoch; no test row is read. One seed. Each finished run is kept as OUT/SET-ROWS/NAME.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import lzma
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

import gpt1
from ablations import markdown_table
from finetune import machine
from gpt1 import api
from gpt1.console import notices_to, say
from gpt1.data.dataset import read_examples
from gpt1.evaluation.baselines import fit_baselines

FILES = {"imdb": "train", "sst2": "train", "ag_news": "test"}
"""Data set -> the file that rows are drawn from; of AG News there is one file."""
ROWS = (240, 2_000)
CONFIRMED = 10_000
"""Rows of the last stage, on the sets that have so many."""
VALIDATION_ROWS = 1_000
BATCH_SIZE = 16
MOST_STEPS = 1_100


@dataclass(frozen=True)
class Cell:
    """The settings of a run that the grid varies."""

    lr: float
    epochs: int
    warmup: float = 0.1
    lm_coef: float = 0.5

    @property
    def name(self) -> str:
        """Return a name for files and tables."""
        return f"lr{self.lr:g}-epochs{self.epochs}-warmup{self.warmup:g}-lm{self.lm_coef:g}"


RATES, EPOCHS = (1e-4, 2e-4, 4e-4), (3, 8)
GRID = tuple(Cell(lr, epochs) for lr, epochs in product(RATES, EPOCHS))


class Study:
    """Runs of one model in a directory; finished ones are read, not repeated."""

    def __init__(self, model: str, root: Path, out: Path):
        self.model, self.root, self.out = model, root, out
        self.results: dict[tuple[str, int, Cell], dict[str, Any]] = {}

    def run(self, dataset: str, rows: int, cell: Cell) -> dict[str, Any]:
        """Return {"accuracy": best on validation, "last": after the last epoch, "epochs": [accuracy], "seconds"}."""
        key = (dataset, rows, cell)
        if key not in self.results:
            path = self.out / f"{dataset}-{rows}" / f"{cell.name}.json"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(self._finetune(dataset, rows, cell, path.with_suffix(""))))
                say(f"{dataset} {rows} {cell.name}: {path.read_text()}")
            self.results[key] = json.loads(path.read_text())
        return self.results[key]

    def _finetune(self, dataset: str, rows: int, cell: Cell, out: Path) -> dict[str, Any]:
        config = gpt1.recipe(
            "quickstart", model=self.model, data=str(self._rows(dataset, rows)), out=out, lr=cell.lr,
            epochs=cell.epochs, warmup=cell.warmup, lm_coef=cell.lm_coef, batch_size=BATCH_SIZE, max_length=256,
            baseline=False,
        )  # fmt: skip
        accuracies: list[float] = []
        started = time.monotonic()

        def keep(event: dict[str, Any]) -> None:
            if event["event"] == "evaluate":
                accuracies.append(event["accuracy"])

        with notices_to(out.with_suffix(".txt")):
            best = api.finetune(config, on_event=keep, score=False)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(out)
        return {"accuracy": best["best"], "last": accuracies[-1], "epochs": accuracies,
                "seconds": round(time.monotonic() - started, 1)}  # fmt: skip

    def _rows(self, dataset: str, rows: int) -> Path:
        """Write train.jsonl and valid.jsonl, once; return their folder. Fewer rows are the first of more rows."""
        folder = self.out / "rows" / f"{dataset}-{rows}"
        if not folder.exists():
            file = self.root / dataset / f"{FILES[dataset]}.jsonl.xz"
            with lzma.open(file, "rt", encoding="utf-8") as lines:
                drawn = list(lines)
            random.Random(0).shuffle(drawn)
            if rows + VALIDATION_ROWS > len(drawn):
                raise SystemExit(f"{file}: {len(drawn)} rows, {rows + VALIDATION_ROWS} are required")
            folder.mkdir(parents=True)
            (folder / "valid.jsonl").write_text("".join(drawn[:VALIDATION_ROWS]), encoding="utf-8")
            (folder / "train.jsonl").write_text("".join(drawn[VALIDATION_ROWS:][:rows]), encoding="utf-8")
        return folder

    def mean(self, cell: Cell, rows: int) -> float:
        """Return the mean accuracy of a cell over all data sets."""
        return fmean(self.run(dataset, rows, cell)["last"] for dataset in FILES)

    def best(self, cells: Sequence[Cell], rows: int) -> Cell:
        """Run the cells on all data sets, short texts first, and return the one of the best mean."""
        for dataset, cell in product(reversed(FILES), cells):
            self.run(dataset, rows, cell)
        return max(cells, key=lambda cell: self.mean(cell, rows))

    def climb(self, best: Cell, rows: int) -> Cell:
        """Double rate and epochs in turn, starting from the best cell of the grid, as long as the mean rises."""
        while True:
            steps = best.epochs * rows / BATCH_SIZE
            further = [replace(best, lr=2 * best.lr)] if best.lr >= max(RATES) else []
            if best.epochs >= max(EPOCHS) and 2 * steps <= MOST_STEPS:
                further.append(replace(best, epochs=2 * best.epochs))
            if not further or (found := self.best([best, *further], rows)) == best:
                return best
            best = found

    def baseline(self, dataset: str, rows: int) -> float:
        """Return the accuracy of TF-IDF with logistic regression on the same rows."""
        folder = self._rows(dataset, rows)
        train, valid = (read_examples(folder / f"{split}.jsonl") for split in ("train", "valid"))
        labels = np.array([example.label for example in train])
        predictions = fit_baselines("tf-idf", train, labels, valid)[0].predictions
        return float(np.mean(predictions == [example.label for example in valid]))


def table(study: Study) -> str:
    """Return all finished runs as a table in Markdown, accuracies in percent, with seconds of training."""
    groups = sorted({key[:2] for key in study.results}, key=lambda group: (group[1], group[0]))
    header = ["lr", "epochs", "warm-up", "λ", *(f"{dataset} {rows:,}" for dataset, rows in groups)]
    lines = [["TF-IDF", "", "", "", *(f"{100 * study.baseline(*group):.1f}" for group in groups)]]
    for cell in sorted({key[2] for key in study.results}, key=astuple):
        found = [study.results.get((*group, cell)) for group in groups]
        row = [f"{cell.lr:g}", str(cell.epochs), f"{cell.warmup:g}", f"{cell.lm_coef:g}"]
        row += [f"{100 * each['last']:.1f} ({each['seconds']:.0f} s)" if each else "–" for each in found]
        lines.append(row)
    return markdown_table(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder with imdb, sst2, ag_news (.jsonl.xz)")
    parser.add_argument("--out", type=Path, required=True, help="directory of the study; an existing one is resumed")
    parser.add_argument("--model", default="mini")
    args = parser.parse_args()
    study = Study(args.model, args.data_root, args.out)
    chosen = {}
    for rows in ROWS:
        best = study.climb(study.best(GRID, rows), rows)
        variants = [replace(best, warmup=0.002), *(replace(best, lm_coef=lm_coef) for lm_coef in (0.0, 0.2))]
        chosen[rows] = study.best([best, *variants], rows)
    best = chosen[max(ROWS)]
    for dataset, epochs in product(("sst2", "imdb"), EPOCHS):
        study.run(dataset, CONFIRMED, replace(best, epochs=epochs))
    print(table(study))
    for rows, cell in chosen.items():
        print(f"best with {rows:,} rows: {cell.name}, {cell.epochs * rows / BATCH_SIZE:.0f} steps")
    print(f"{args.model}, one seed, {machine()}")


if __name__ == "__main__":
    main()
