"""Plan and tables of the paper's ablations at small scale; `results.py` runs them."""

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
"""Arms of the comparison: the first against the second, and the third against the second."""


@dataclass(frozen=True)
class Ablation:
    """Scores of a task without pretraining or without the LM loss, in percent (Radford et al. 2018, table 5)."""

    without_pretraining: float
    without_lm_loss: float


ABLATIONS = {
    "sst2": Ablation(84.0, 92.0),
    "cola": Ablation(18.9, 47.9),
    "mrpc": Ablation(79.4, 84.9),
    "rte": Ablation(53.8, 54.4),
    "stsb": Ablation(30.9, 83.2),
}
"""The scores with both are those of `EXPERIMENTS`. Table 5 has no Story Cloze."""

IMDB = Experiment("imdb", "classification", "accuracy", (Result("IMDB", math.nan),))
"""Not in the paper."""
TASK = {each.name: each for each in (IMDB, *EXPERIMENTS) if each.name in ("imdb", "storycloze", *ABLATIONS)}
TUNED_ON = ("sst2", "stsb")
"""A task of single texts and one of pairs; both are short, and random weights learn both."""
WITHOUT_LM_LOSS = ("rte", "sst2", "stsb")
"""Tasks of the third arm. In the paper the auxiliary loss improved only the first."""
LM_COEF = recipe("paper-finetune").loss.lm_coef


@dataclass(frozen=True)
class Run:
    """One fine-tuning run."""

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
"""Scores of a finished run: {"score" (of the scored rows), "valid", "baseline": {name: value}, "cut", "seconds"}."""
Rates = Mapping[Arm, float]
"""Learning rate of each arm."""


# ---- plan


def tuning(tasks: Sequence[str], lrs: Sequence[float]) -> list[Run]:
    """Return the runs that select the learning rates; some of them are also runs of the tables."""
    return [Run(task, arm, lr, 0) for task, arm, lr in product(tasks, ARMS, lrs)]


def choose(tasks: Sequence[str], lrs: Sequence[float], scores: Mapping[Run, Score]) -> dict[Arm, float]:
    """Return each arm's learning rate with the best mean of the tasks' validation metrics."""

    def validation(arm: Arm, lr: float) -> float:
        return fmean(scores[Run(task, arm, lr, 0)]["valid"] for task in tasks)

    return {arm: max(lrs, key=lambda lr: validation(arm, lr)) for arm in ARMS}


def planned(tasks: Sequence[str], seeds: int, lr: Rates) -> list[Run]:
    """Return the runs of the tables, ordered by seed, task and arm."""
    return [
        Run(task, arm, lr[arm], seed)
        for seed, task, arm in product(range(seeds), tasks, ARMS)
        if arm != "pretrained-without-lm-loss" or task in WITHOUT_LM_LOSS
    ]


# ---- tables


PRETRAINING = (
    "task", "train / scored", "metric", "baseline", "majority class or mean", "random weights", "pretrained",
    "seeds", "pretraining is", "paper: without → with",
)  # fmt: skip
LM_LOSS = ("task", "metric", "λ = 0", f"λ = {LM_COEF:g}", "seeds", "the LM loss is", "paper: without → with")


def pretraining_rows(
    tasks: Sequence[str], rows: Mapping[str, Any], seeds: int, lr: Rates, scores: Mapping[Run, Score]
) -> list[list[str]]:
    """Return a row for each task with at least one seed finished in both arms.

    `rows` maps a task to {"counts": rows of each split, "scored": name of the scored split}.
    """
    lines = []
    for task in tasks:
        random, pretrained = finished_in_both(task, "random", "pretrained", seeds, lr, scores)
        if not random:
            continue
        (name, value), constant = _baselines(scores[Run(task, "pretrained", lr["pretrained"], 0)])
        with_ = _paper(task)
        without = ABLATIONS[task].without_pretraining if task in ABLATIONS else None
        counts = rows[task]["counts"]
        lines.append([
            TASK[task].results[0].title,
            f"{counts['train']:,} / {counts['test']:,} {rows[task]['scored']}",
            TASK[task].metric,
            f"{100 * value:.1f} ({name})",
            f"{100 * constant:.1f}",
            spread(random),
            spread(pretrained),
            str(len(random)),
            direction(random, pretrained, None if with_ is None or without is None else with_ - without),
            _pair(without, with_),
        ])  # fmt: skip
    return lines


def lm_loss_rows(tasks: Sequence[str], seeds: int, lr: Rates, scores: Mapping[Run, Score]) -> list[list[str]]:
    """Return a row for each task that was fine-tuned from the pretrained model with and without the auxiliary loss."""
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
    """Return the scores of the seeds for which both runs are finished, so that a partial study compares equal seeds."""
    pairs = [[Run(task, arm, lr[arm], seed) for arm in (before, after)] for seed in range(seeds)]
    whole = [pair for pair in pairs if scores.keys() >= set(pair)]
    return [scores[a]["score"] for a, _ in whole], [scores[b]["score"] for _, b in whole]


def spread(values: Sequence[float]) -> str:
    """Return "median [smallest–largest]" in percent."""
    middle, low, high = (100 * value for value in (median(values), min(values), max(values)))
    return f"{middle:.1f}" + (f" [{low:.1f}–{high:.1f}]" if len(values) > 1 else "")


def direction(before: Sequence[float], after: Sequence[float], papers: float | None) -> str:
    """Return which side has the better median, whether the ranges overlap, and whether the paper agrees in sign.

    `papers` is the paper's difference, after minus before; None if it has none.
    """
    difference = median(after) - median(before)
    words = "better" if difference > 0 else "worse" if difference < 0 else "equal"
    if difference and max(min(before), min(after)) <= min(max(before), max(after)):
        words += ", ranges overlap"
    if papers is not None:
        words += "; as in the paper" if difference * papers > 0 else "; not as in the paper"
    return words


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *lines))


def _baselines(score: Score) -> tuple[tuple[str, float], float]:
    """Return name and value of the text baseline, and the value of the majority class or mean."""
    (name, value), *_, (_, constant) = score["baseline"].items()
    return (name.partition(" +")[0], value), constant


def _paper(task: str) -> float | None:
    paper = TASK[task].results[0].paper
    return None if math.isnan(paper) else paper


def _pair(without: float | None, with_: float | None) -> str:
    return " → ".join("–" if value is None else f"{value:.1f}" for value in (without, with_))
