"""Fine-tuning from Python: data in memory, settings as keywords, results that are displayed as a table."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gpt1 import console
from gpt1.backends.dist import process_rank
from gpt1.checkpoint.event_log import Event
from gpt1.checkpoint.run_dir import RunDirectory
from gpt1.config import FinetuneConfig
from gpt1.config.overrides import named_as_in_python, with_overrides
from gpt1.data.python_tables import as_path, is_path, write_data
from gpt1.errors import UserError
from gpt1.evaluation.results import Results
from gpt1.system.files import size_of, unused
from gpt1.tasks import input_kinds
from gpt1.tasks.metrics import Metric
from gpt1.training import defaults
from gpt1.training import finetune as training


def finetune(
    data: Any, labels: Any = None, *, recipe: str | FinetuneConfig | None = None, metric: str | Metric | None = None,
    on_event: Callable[[Event], None] | None = None, **settings: Any,
) -> Results:  # fmt: skip
    """Fine-tune a model on labelled texts, or resume the run in the directory `out`.

    `gpt1.finetune(frame, text="review", label="sentiment", out="runs/reviews", epochs=3)` is `gpt1 finetune --text
    review --label sentiment --out runs/reviews --epochs 3` with the rows of a DataFrame: the same run directory,
    report and baselines.

    Args:
        data: Path or name of a data set, as for `gpt1 finetune --data`; pandas or polars DataFrame; `datasets.Dataset`;
            list of dicts; list of examples (texts, pairs, or (context, [choice, …])) with `labels`; a dict of these
            with the keys train, valid and test, such as a `DatasetDict`, in which (texts, labels) is a split too; or
            all settings, `gpt1.recipe(…)`. Data in memory is saved in the run directory as data.jsonl, data.parquet or
            data/, from which the run can be resumed and evaluated.
        labels: Labels of a list of examples.
        recipe: Name of a recipe, or all settings. None: that of the existing run, else by the size of the model.
        metric: Additional metric: a function of (labels, predictions), larger is better, which selects the best model;
            or its name, `package.module:function`.
        on_event: Function that is called with each event written to the run's log.
        settings: Settings of `gpt1 finetune`, each named as its flag with `_` for `-`; `out` is required. Several
            columns are a list, `text=["title", "body"]`, and new names of labels a dict, `label_map={"0": "negative"}`.

    Returns:
        A dict with the content of `metrics.json`, displayed as a table, whose method `load()` opens the model.

    Raises:
        UserError: the data, a setting or the model is invalid.
        Interrupted: stopped by the user after saving a checkpoint.
    """
    if isinstance(data, FinetuneConfig):
        data, recipe = data.data, data
    if isinstance(metric, str):
        settings["metric"], metric = metric, None
    if isinstance(recipe, FinetuneConfig):
        config = with_overrides(recipe, settings)
    else:
        config = defaults.recipe(recipe, **settings)
    if config.out == Path():
        example = unused(Path("runs", "first")).as_posix()
        raise UserError(f'out is missing: the directory of the run, for example out="{example}"')
    source = as_path(data, labels) if is_path(data) else _saved(data, labels, config)
    with named_as_in_python(), source as path:
        return Results(training.finetune(replace(config, data=path), metric, on_event=on_event), config.out)


@contextmanager
def _saved(data: Any, labels: Any, config: FinetuneConfig) -> Iterator[str]:
    """Save data in memory in the run directory, and yield its path; remove it again if the run is not started.

    Raises:
        UserError: the data is invalid, the run has other data, or there are several processes.
    """
    out, run = config.out, RunDirectory(config.out)
    if (process := process_rank()).size > 1:
        several = f"{process.launcher} started {process.size} processes"
        raise UserError(f"data in memory: {several}; save it to a file and give its path")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; choose a new directory")
    new_directory, resumed = not out.exists(), run.started
    out.mkdir(parents=True, exist_ok=True)
    added = None
    try:
        with TemporaryDirectory(prefix=".data-", dir=out) as partial:
            written = write_data(data, labels, Path(partial), input_kinds(config.task))
            saved = out / written.name
            if not saved.exists():
                added = written.replace(saved)
            elif not _equal(written, saved):
                raise UserError(
                    f"--out {out}: contains {saved.name}, which differs from the data given; choose a new directory, "
                    f"or give data={str(saved)!r}"
                )
        yield str(saved)
    finally:
        if added and run.started and not resumed:
            console.say(f"Data: saved in {added} ({size_of(added) / 1e6:,.2f} MB), from which the run can be resumed.")
        elif added:
            shutil.rmtree(added) if added.is_dir() else added.unlink()
        if new_directory:
            with suppress(OSError):  # not empty
                out.rmdir()


def _files(path: Path) -> dict[str, Path]:
    """Return the files of a folder by name; a file alone."""
    return {each.name: each for each in path.iterdir()} if path.is_dir() else {"": path}


def _equal(path: Path, other: Path) -> bool:
    ours, theirs = _files(path), _files(other)
    return ours.keys() == theirs.keys() and all(filecmp.cmp(ours[name], theirs[name], False) for name in ours)
