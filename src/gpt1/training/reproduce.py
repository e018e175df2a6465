"""Reproduction of the paper's fine-tuning results on the data available locally (`gpt1 reproduce`).

Each (experiment, seed) is an ordinary run in OUT/ROW/seed-N whose checkpoints are removed when it is finished. Running
the same command again reads finished runs and resumes interrupted ones, and gives the same table. The messages of a
run are written to OUT/ROW/seed-N.txt.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpt1 import console
from gpt1.checkpoint.run_dir import RunDirectory, notices
from gpt1.config import Columns, FinetuneConfig, ReproduceConfig
from gpt1.config.recipes import recipe
from gpt1.data.dataset import read_examples
from gpt1.errors import UserError
from gpt1.evaluation.scoring import score_split
from gpt1.inference.classifier import Classifier
from gpt1.system.files import read_json, write_json
from gpt1.tasks.dataset import limited
from gpt1.training.defaults import with_split_version
from gpt1.training.paper_results import EXPERIMENTS, Experiment, Located, MissingDataError, locate
from gpt1.training.seeds import run_once, spread

Row = dict[str, Any]
"""One row of the table: {"task", "metric", "paper", "median", "min", "max", "values" by seed, "split",
"examples", "truncated", "note", "missing", "error"}; scores in percent, None if not available."""


@dataclass(frozen=True)
class Plan:
    """An experiment whose data is available, and its runs."""

    experiment: Experiment
    located: Located
    runs: tuple[FinetuneConfig, ...]
    """One per seed."""


def reproduce(config: ReproduceConfig) -> dict[str, Any]:
    """Fine-tune on each available data set of the paper; return the table of results.

    The table is {"model", "recipe", "seeds", "max_examples", "rows"}; it is also written to OUT/results.json. Rows
    whose data is missing or whose run fails contain the reason; the other rows are still computed.

    Raises:
        UserError: the settings are invalid, no data is available, or `out` holds runs with other settings.
        Interrupted: stopped by the user after saving a checkpoint.
    """
    plans, rows = _plans(config)
    size = f"at most {config.max_examples:,} examples of each split" if config.max_examples else "all examples"
    seeds = "1 seed" if config.seeds == 1 else f"{config.seeds} seeds"
    console.say(f"{config.model}, recipe {config.recipe}, {seeds}, {size}; runs in {config.out}")
    failures: set[str] = set()
    for plan in plans:
        rows |= _run_experiment(plan, failures)
    titles = [result.title for experiment in EXPERIMENTS for result in experiment.results]
    table = {
        "model": config.model, "recipe": config.recipe, "seeds": config.seeds, "max_examples": config.max_examples,
        "rows": [rows[title] for title in titles if title in rows],
    }  # fmt: skip
    show(table)
    write_json(config.out / "results.json", table)
    console.say(f"Runs: {config.out}   table: {config.out / 'results.json'}")
    return table


def _plans(config: ReproduceConfig) -> tuple[list[Plan], dict[str, Row]]:
    """Return the experiments to run, and the rows of those that cannot run."""
    if not config.data_root.is_dir():
        raise UserError(f"--data-root {config.data_root}: no such folder; expected one with folders such as rte, cola")
    names = [name.strip() for name in config.tasks.split(",") if name.strip()]
    known = [experiment.name for experiment in EXPERIMENTS]
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"--tasks {unknown[0]}: unknown; there are {', '.join(known)}")
    plans: list[Plan] = []
    rows: dict[str, Row] = {}
    for experiment in EXPERIMENTS:
        if names and experiment.name not in names:
            continue
        try:
            located = locate(experiment, config.data_root)
        except MissingDataError as error:
            rows |= _rows(experiment, missing=str(error))
            continue
        except UserError as error:
            console.say(f"{experiment.name}: {error}")
            rows |= _rows(experiment, error=str(error))
            continue
        plans.append(Plan(experiment, located, tuple(_runs(config, experiment, located))))
    if not plans:
        first = next(iter(rows.values()))
        raise UserError(f"--data-root {config.data_root}: no data to run ({first['missing'] or first['error']})")
    for run in (run for plan in plans for run in plan.runs if RunDirectory(run.out).started):
        RunDirectory(run.out).require_same("finetune", run)
    return plans, rows


def _runs(config: ReproduceConfig, experiment: Experiment, located: Located) -> list[FinetuneConfig]:
    settings = with_split_version(recipe(config.recipe), config.out / experiment.name)
    loop = replace(
        settings.loop,
        epochs=settings.loop.epochs if config.epochs is None else config.epochs,
        max_steps=settings.loop.max_steps if config.max_steps is None else config.max_steps,
    )
    return [
        replace(
            settings,
            data=str(config.data_root / experiment.name),
            out=config.out / experiment.name / f"seed-{seed}",
            task=experiment.task,
            model=config.model,
            recipe=config.recipe,
            baseline=False,  # the paper's score is the baseline
            loop=replace(loop, seed=seed),
            split=replace(settings.split, max_examples=config.max_examples, **located.split_settings),
            hardware=config.hardware,
        )
        for seed in range(config.seeds)
    ]


def _run_experiment(plan: Plan, failures: set[str]) -> dict[str, Row]:
    """Run an experiment with each seed and print a line per run; return its rows by title.

    Raises:
        UserError: a run fails with the same message as one of another experiment, so the settings are at fault.
    """
    experiment = plan.experiment
    rows = _rows(experiment, note=plan.located.note)
    for result in experiment.results:
        if result.files and not plan.located.result_files[result.title]:
            rows[result.title]["missing"] = f"no {result.files.replace('|', ' or ')} in {experiment.name}"
    for config in plan.runs:
        seed = config.loop.seed
        started = time.perf_counter()
        try:
            with console.notices_to(notices(config.out)):
                scored = _run_seed(plan, config)
        except UserError as error:
            if str(error) in failures:
                raise
            failures.add(str(error))
            for row in rows.values():
                row["error"] = str(error)
            console.say(f"{experiment.name}, seed {seed}: {error}")
            break
        for title, (split, scores) in scored.items():
            rows[title]["values"].append(round(100 * scores[experiment.metric], 2))
            rows[title] |= {"split": split, "examples": scores["examples"], "truncated": scores["truncated"]}
        values = ", ".join(f"{title} {rows[title]['values'][-1]:.1f}" for title in scored)
        console.say(f"{values}  ({experiment.metric}, seed {seed}, {time.perf_counter() - started:.0f} s)")
    return {title: row | spread(row["values"]) for title, row in rows.items()}


def _run_seed(plan: Plan, config: FinetuneConfig) -> dict[str, tuple[str, dict[str, Any]]]:
    """Run, resume or read one run; return {title: (split, scores as in `metrics.json`)}."""
    run, results = RunDirectory(config.out), run_once(config, files=plan.located.files)
    split = "test" if "test" in results else "valid"
    scored = {}
    for result in plan.experiment.results:
        if not result.files:
            scored[result.title] = split, results[split]
        elif files := plan.located.result_files[result.title]:
            scored[result.title] = result.files.partition("|")[0], _score_files(run, files, config)
    return scored


def _score_files(run: RunDirectory, files: Sequence[Path], config: FinetuneConfig) -> dict[str, Any]:
    """Return the scores of a finished run's model on further files; store them in the run directory."""
    kept = run.path / f"metrics-{files[0].name.partition('.')[0]}.json"
    if kept.exists():
        return read_json(kept)
    model = Classifier.open(run.path, config.hardware)
    examples = read_examples(files, Columns(), model.task.input_kind)
    if config.split.max_examples:
        examples = limited(examples, config.split.max_examples, config.loop.seed)
    encoded = model.encode(examples, labelled=True)
    logits = model.logits(encoded, label=f"scoring {files[0].name}")
    scored = score_split(logits, encoded, examples, model.head, model.labels, {}, seed=config.loop.seed)
    write_json(kept, scored)
    return scored


# ---- the table


def _rows(
    experiment: Experiment, *, note: str = "", missing: str | None = None, error: str | None = None
) -> dict[str, Row]:
    """Return the experiment's rows by title, without scores."""
    return {
        result.title: {
            "task": result.title, "metric": experiment.metric, "paper": result.paper, "median": None, "min": None,
            "max": None, "values": [], "split": None, "examples": None, "truncated": None, "note": note,
            "missing": missing, "error": error,
        }
        for result in experiment.results
    }  # fmt: skip


def show(table: dict[str, Any]) -> None:
    """Print the table: the paper's score, median and range over the seeds, and the scored split."""
    console.say()
    header = ["", "metric", "paper", "median", "min–max", "seeds", "scored", "note"]
    console.table(header, [_cells(row) for row in table["rows"]], text=(0, 1, 6, 7))
    console.say("Scores in percent; the paper's are on the test split.")


def _cells(row: Row) -> list[str]:
    cells = ["–", "–", str(len(row["values"])), "–"]
    if row["values"]:
        scored = f"{row['split']}, {row['examples']:,}"
        cells = [f"{row['median']:.1f}", f"{row['min']:.1f}–{row['max']:.1f}", str(len(row["values"])), scored]
    return [row["task"], row["metric"], f"{row['paper']:.1f}", *cells, _note(row)]


def _note(row: Row) -> str:
    notes = [row["missing"] or "", "failed (see above)" if row["error"] else "", row["note"]]
    if row["split"] == "valid":
        notes.append("valid also selected the epoch")
    if row["truncated"]:
        notes.append(f"{row['truncated']:,} truncated to the context")
    return "; ".join(note for note in notes if note)
