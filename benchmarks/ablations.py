"""The paper's ablations at small scale: which runs they are, and the tables that their scores make.

Nothing runs here; `results.py` does that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean, median
from typing import Any, Literal

from gpt1.config.recipes import recipe
from gpt1.training.paper_results import EXPERIMENTS, Experiment, Result

Arm = Literal["random", "pretrained", "pretrained-without-lm-loss"]
ARMS: tuple[Arm, ...] = ("random", "pretrained", "pretrained-without-lm-loss")
"""What is compared: the first with the second, and the third with the second."""


@dataclass(frozen=True)
class Ablation:
    """What a task reaches without one thing (Radford et al. 2018, table 5), in percent."""

    without_pretraining: float
    without_lm_loss: float


ABLATIONS = {
    "sst2": Ablation(84.0, 92.0),
    "cola": Ablation(18.9, 47.9),
    "mrpc": Ablation(79.4, 84.9),
    "rte": Ablation(53.8, 54.4),
    "stsb": Ablation(30.9, 83.2),
}
"""With both, table 5 has the figures of `paper.EXPERIMENTS`. It has no Story Cloze."""

IMDB = Experiment("imdb", "classification", "accuracy", (Result("IMDB", math.nan),))
"""Not in the paper."""
TASK = {each.name: each for each in (IMDB, *EXPERIMENTS) if each.name in ("imdb", "storycloze", *ABLATIONS)}
TUNED_ON = ("sst2", "stsb")
"""A single text and a pair, short, and both learned by random weights too."""
WITHOUT_LM_LOSS = ("rte", "sst2", "stsb")
"""Tasks of the third arm. In the paper the auxiliary loss helped the first and not the others."""
LM_COEF = recipe("paper-finetune").loss.lm_coef


@dataclass(frozen=True)
class Run:
    """One fine-tuning."""

    task: str
    arm: Arm
    lr: float
    seed: int

    @property
    def lm_coef(self) -> float:
        return 0.0 if self.arm == "pretrained-without-lm-loss" else LM_COEF

    @property
    def name(self) -> str:
        return f"{self.task}/{self.arm}-lr{self.lr:g}/seed-{self.seed}"


Score = Mapping[str, Any]
"""Of a finished run: {"score" (of the scored rows), "valid", "baseline": {name: value}, "cut", "seconds"}."""
Rates = Mapping[Arm, float]
"""The learning rate of each arm."""


# ---- which runs


def tuning(tasks: Sequence[str], lrs: Sequence[float]) -> list[Run]:
    """Return the runs by which the learning rates are chosen; some of them are runs of the tables too."""
    return [Run(task, arm, lr, 0) for task, arm, lr in product(tasks, ARMS, lrs)]


def choose(tasks: Sequence[str], lrs: Sequence[float], scores: Mapping[Run, Score]) -> dict[Arm, float]:
    """Return the learning rate of each arm that has the best mean of the tasks' validation metrics."""

    def validation(arm: Arm, lr: float) -> float:
        return fmean(scores[Run(task, arm, lr, 0)]["valid"] for task in tasks)

    return {arm: max(lrs, key=lambda lr: validation(arm, lr)) for arm in ARMS}


def planned(tasks: Sequence[str], seeds: int, lr: Rates) -> list[Run]:
    """Return the runs of the tables: seed by seed, the arms of a task one after the other."""
    return [
        Run(task, arm, lr[arm], seed)
        for seed, task, arm in product(range(seeds), tasks, ARMS)
        if arm != "pretrained-without-lm-loss" or task in WITHOUT_LM_LOSS
    ]


# ---- the tables


PRETRAINING = (
    "task", "train / scored", "metric", "baseline", "one answer", "random weights", "pretrained", "seeds",
    "pretraining is", "paper: without → with",
)  # fmt: skip
LM_LOSS = ("task", "metric", "λ = 0", f"λ = {LM_COEF:g}", "seeds", "the LM loss is", "paper: without → with")


def pretraining_rows(
    tasks: Sequence[str], rows: Mapping[str, Any], seeds: int, lr: Rates, scores: Mapping[Run, Score]
) -> list[list[str]]:
    """Return a line for each task of which both arms are finished with at least one seed.

    `rows` has {"counts": rows of each split, "scored": name of the scored split} of each task.
    """
    lines = []
    for task in tasks:
        random, pretrained = finished_in_both(task, "random", "pretrained", seeds, lr, scores)
        if not random:
            continue
        (name, value), one_answer = _baselines(scores[Run(task, "pretrained", lr["pretrained"], 0)])
        with_ = _paper(task)
        without = ABLATIONS[task].without_pretraining if task in ABLATIONS else None
        counts = rows[task]["counts"]
        lines.append([
            TASK[task].results[0].title,
            f"{counts['train']:,} / {counts['test']:,} {rows[task]['scored']}",
            TASK[task].metric,
            f"{100 * value:.1f} ({name})",
            f"{100 * one_answer:.1f}",
            spread(random),
            spread(pretrained),
            str(len(random)),
            direction(random, pretrained, None if with_ is None or without is None else with_ - without),
            _pair(without, with_),
        ])  # fmt: skip
    return lines


def lm_loss_rows(tasks: Sequence[str], seeds: int, lr: Rates, scores: Mapping[Run, Score]) -> list[list[str]]:
    """Return a line for each task that was fine-tuned from the pretrained model with and without the auxiliary loss."""
    lines = []
    for task in (task for task in tasks if task in WITHOUT_LM_LOSS):
        without, with_ = finished_in_both(task, "pretrained-without-lm-loss", "pretrained", seeds, lr, scores)
        if not without:
            continue
        paper, papers_without = TASK[task].results[0].paper, ABLATIONS[task].without_lm_loss
        lines.append([
            TASK[task].results[0].title,
            TASK[task].metric,
            spread(without),
            spread(with_),
            str(len(without)),
            direction(without, with_, paper - papers_without),
            _pair(papers_without, paper),
        ])  # fmt: skip
    return lines


def finished_in_both(
    task: str, before: Arm, after: Arm, seeds: int, lr: Rates, scores: Mapping[Run, Score]
) -> tuple[list[float], list[float]]:
    """Return the scores of the seeds of which both runs are finished, so that a cut compares like with like."""
    pairs = [[Run(task, arm, lr[arm], seed) for arm in (before, after)] for seed in range(seeds)]
    whole = [pair for pair in pairs if scores.keys() >= set(pair)]
    return [scores[a]["score"] for a, _ in whole], [scores[b]["score"] for _, b in whole]


def spread(values: Sequence[float]) -> str:
    """Return "median [smallest–largest]" in percent."""
    middle, low, high = (100 * value for value in (median(values), min(values), max(values)))
    return f"{middle:.1f}" + (f" [{low:.1f}–{high:.1f}]" if len(values) > 1 else "")


def direction(before: Sequence[float], after: Sequence[float], papers: float | None) -> str:
    """Say which side is better by its median, whether the ranges overlap, and whether the paper has the same sign.

    `papers` is the paper's difference, after less before; None where it has none.
    """
    difference = median(after) - median(before)
    words = "better" if difference > 0 else "worse" if difference < 0 else "neither"
    if difference and max(min(before), min(after)) <= min(max(before), max(after)):
        words += ", ranges overlap"
    if papers is not None:
        words += "; as in the paper" if difference * papers > 0 else "; not as in the paper"
    return words


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *lines))


def _baselines(score: Score) -> tuple[tuple[str, float], float]:
    """Return name and value of the plain baseline, and the value of the same answer for all."""
    (name, value), *_, (_, one_answer) = score["baseline"].items()
    return (name.partition(" +")[0], value), one_answer


def _paper(task: str) -> float | None:
    paper = TASK[task].results[0].paper
    return None if math.isnan(paper) else paper


def _pair(without: float | None, with_: float | None) -> str:
    return " → ".join("–" if value is None else f"{value:.1f}" for value in (without, with_))
