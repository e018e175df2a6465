"""Fine-tuning with several seeds: ordinary runs on the same splits, their median and range."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median, median_low
from typing import Any

from gpt1 import console
from gpt1.backends.dist import process_rank
from gpt1.checkpoint.hub import DatasetFiles
from gpt1.checkpoint.run_dir import ADAPTED, RunDirectory, notices
from gpt1.config import FinetuneConfig
from gpt1.errors import UserError
from gpt1.evaluation import verdict
from gpt1.evaluation.scoring import show_verdict
from gpt1.system.files import write_json
from gpt1.tasks.metrics import Metric
from gpt1.training.adaptation import show_bits
from gpt1.training.defaults import with_split_version
from gpt1.training.finetune import finetune, read_results


def run_once(
    config: FinetuneConfig, metric: Metric | None = None, files: DatasetFiles | None = None,
    adapted: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run or resume one run of a series, or read its results if it is finished; return its `metrics.json`.

    The checkpoints of a finished run are removed. `adapted` is the series' folder of adapted models.
    """
    run = RunDirectory(config.out)
    results = read_results(run) if run.finished else finetune(config, metric=metric, files=files, adapted=adapted)
    shutil.rmtree(run.checkpoints.folder, ignore_errors=True)  # 36 runs with 12 layers would take 100 GB
    return results


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return {"median", "min", "max"} of the values; an empty dict if there are none."""
    values = list(values)
    return {"median": median(values), "min": min(values), "max": max(values)} if values else {}


def finetune_seeds(config: FinetuneConfig, count: int, metric: Metric | None = None) -> dict[str, Any]:
    """Fine-tune with `count` consecutive seeds, starting at `config.loop.seed`, in OUT/seed-N.

    Returns the content of OUT/metrics.json: {"seeds": [0, …], "split", "examples", split: {metric: {"median", "min",
    "max", "values"}}, "baseline", "verdict"}. All runs use the same splits; the first run fits the baselines. The
    verdict is that of the run with the median score. Unfinished runs are resumed.

    Raises:
        UserError: the settings or the data are invalid, or `config.out` holds other runs.
        Interrupted: stopped by the user after saving a checkpoint.
    """
    if count < 1:
        raise UserError(f"--seeds {count}: expected 1 or more")
    if (process := process_rank()).size > 1:
        raise UserError(
            f"--seeds {count}: {process.launcher} started {process.size} processes, which share one run; use --seed "
            f"instead, or run without {process.launcher}"
        )
    runs = _runs(with_split_version(config, config.out), count)
    if RunDirectory(config.out).started:
        raise UserError(f"--out {config.out}: holds a single run, not runs of several seeds; choose a new directory")
    for run in runs:
        if RunDirectory(run.out).started:
            RunDirectory(run.out).require_same("finetune", run)
    results = []
    if config.adaptation.adapt:
        console.say(f"Adapting {config.model} first, once for all seeds; progress: {notices(runs[0].out)}")
    for run in runs:
        started = time.perf_counter()
        with console.notices_to(notices(run.out)):
            results.append(run_once(run, metric, adapted=config.out / ADAPTED))
        split = results[-1]["baseline_split"]
        shown = "  ".join(f"{name} {results[-1][split][name]:.4f}" for name in results[-1][split]["interval"])
        if run is runs[0] and "adaptation" in results[-1]:
            show_bits(results[-1]["adaptation"])
        console.say(f"seed {run.loop.seed}  {split}  {shown}  ({time.perf_counter() - started:.0f} s)")
    table = _table([run.loop.seed for run in runs], results)
    table["verdict"] = _verdict(runs, results)
    write_json(config.out / "metrics.json", table)
    _show(table)
    console.say(f"Runs: {', '.join(str(run.out) for run in runs)}   table: {config.out / 'metrics.json'}")
    console.say(f"Compare the runs: {shlex.join(['gpt1', 'report', *(str(run.out) for run in runs)])}")
    return table


def _runs(config: FinetuneConfig, count: int) -> list[FinetuneConfig]:
    first, fixed = config.loop.seed, config.with_fixed_splits()
    return [
        replace(
            fixed,
            out=config.out / f"seed-{seed}",
            baseline=config.baseline and seed == first,
            loop=replace(config.loop, seed=seed),
        )
        for seed in range(first, first + count)
    ]


def _table(seeds: list[int], results: list[dict[str, Any]]) -> dict[str, Any]:
    split = results[0]["baseline_split"]
    table = {"seeds": seeds, "split": split, "examples": results[0][split]["examples"]}
    for part in ("valid", split):
        table[part] = {}
        for name in ("loss", *results[0][part]["interval"]):
            values = [result[part][name] for result in results]
            table[part][name] = spread(values) | {"values": values}
    return table | {"baseline": results[0]["baseline"]}


def _verdict(runs: list[FinetuneConfig], results: list[dict[str, Any]]) -> str | None:
    """Return the verdict on the run with the median score, compared with the baselines of the first run."""
    split = results[0]["baseline_split"]
    metric = next(iter(results[0][split]["interval"]))
    middle = median_low((result[split][metric], number) for number, result in enumerate(results))[1]
    scores = {split: results[middle][split], "baseline": results[0]["baseline"], "baseline_split": split}
    size = verdict.size_of_run(RunDirectory(runs[middle].out).log.path)
    return verdict.of_run(scores, runs[middle], *size, seed=runs[middle].loop.seed)


def _show(table: dict[str, Any]) -> None:
    split, seeds = table["split"], table["seeds"]
    metrics = [name for name in table[split] if name != "loss"]
    rows = [[f"GPT-1, median of {len(seeds)}", *(f"{table[split][name]['median']:.3f}" for name in metrics)]]
    rows.append(["min–max", *("{min:.3f}–{max:.3f}".format(**table[split][name]) for name in metrics)])
    rows += [[name, *(f"{scores[metric]:.3f}" for metric in metrics)] for name, scores in table["baseline"].items()]
    console.say(f"\n{split}, {table['examples']:,} examples, seeds {seeds[0]} to {seeds[-1]}")
    console.table(["", *metrics], rows)
    show_verdict(table["verdict"])
