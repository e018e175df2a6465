"""Check of a data set without training (`gpt1 check`): what a fine-tuning would read, and why it would not start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpt1 import backends, console
from gpt1.backends.parameters import count
from gpt1.checkpoint import hub
from gpt1.checkpoint.run_dir import RunDirectory
from gpt1.config import FinetuneConfig
from gpt1.data.split_files import scan
from gpt1.errors import UserError
from gpt1.tasks.data_facts import data_facts, file_facts
from gpt1.tasks.dataset import TaskData, load_data
from gpt1.tasks.metrics import compute, own_metric
from gpt1.tasks.unknown_text import check_texts
from gpt1.training.adaptation import Adaptation
from gpt1.training.estimate import training_time
from gpt1.training.setup import FinetuneSetup, encode_splits, require_start, starting_model
from gpt1.training.trackers import require_trackers


def check(config: FinetuneConfig, *, estimate: bool = True) -> dict[str, Any]:
    """Return facts about the data of a fine-tuning, without training.

    Args:
        config: Settings of the fine-tuning. If `out` is set, it is checked too; nothing is written.
        estimate: Whether to measure training steps for an estimate of the training time.

    Returns:
        {data, problems, files, task, columns, splits, contradictory, bad_rows, notes, model, estimate}; null or empty
        as far as the data cannot be read. `problems` are the messages with which `gpt1 finetune` would refuse these
        settings, empty if it would start; `files` and the facts from `task` to `bad_rows` are those of
        `tasks.data_facts`, `notes` those of a run, `model` {name, parameters, max_length}, `estimate` that of
        `training_time`.
    """
    problems = _Problems()
    facts: dict[str, Any] = {
        "data": hub.dataset_name(config.data), "problems": problems, "files": [], "task": None, "columns": None,
        "splits": {}, "contradictory": 0, "bad_rows": None, "notes": [], "model": None, "estimate": None,
    }  # fmt: skip
    run = RunDirectory(config.out, read_only=True) if config.out != Path() else None
    with problems.collected():
        require_start(config, run)
    model_opens = not problems
    for requirement in (
        lambda: backends.check(config.hardware),
        lambda: require_trackers(config.tracking),
        lambda: own_metric(config.metric),
    ):
        with problems.collected():
            requirement()
    if run:
        with problems.collected():
            run.require_openable("finetune", config)
    with problems.collected():
        source = hub.resolve_dataset(config.data)
        files = scan(source, required="train")[0] if isinstance(source, Path) else source.splits
        facts["files"] = file_facts(files, config.table)
    if data := _load(config, problems):
        facts |= data_facts(data) | {"notes": _notes(config, data)}
        if model_opens:
            with problems.collected():
                _add_model(facts, config, run, data, problems, estimate=estimate)
    return facts


def _load(config: FinetuneConfig, problems: _Problems) -> TaskData | None:
    """Load the data; if that fails, without the rows that cannot be used, so that other problems are found too."""
    without_bad_rows = replace(config, table=replace(config.table, on_bad_row="skip"))
    for each in dict.fromkeys((config, without_bad_rows)):
        with problems.collected():
            return load_data(each)
    return None


def _notes(config: FinetuneConfig, data: TaskData) -> list[str]:
    """Return the notes of a run; one about rows that are left out only if the settings leave them out."""
    refused = data.source.bad.notes() if data.source and config.table.on_bad_row != "skip" else []
    return [note for note in data.notes if note not in refused]


def _add_model(
    facts: dict[str, Any], config: FinetuneConfig, run: RunDirectory | None, data: TaskData, problems: _Problems, *,
    estimate: bool,
) -> None:  # fmt: skip
    """Add the facts that need the model: lengths in tokens, unknown text, training time."""
    start = starting_model(config, data, run)
    with console.muted(True):  # the facts tell what was truncated
        encoded = encode_splits(config, data, start)
    facts["model"] = {"name": config.model, "parameters": count(start.config), "max_length": start.max_length}
    facts |= data_facts(data, encoded, start.max_length)
    resumed = run is not None and run.tokenizer.exists()
    with problems.collected():
        facts["notes"] += check_texts(config, data.splits, encoded, resumed=resumed)
    with problems.collected():
        if config.adaptation.adapt:
            Adaptation(config, data, start, Path())
    with problems.collected():
        extra, labels = own_metric(config.metric), encoded["valid"].labels
        assert labels is not None
        compute((), labels, labels, extra)
        training = FinetuneSetup(config, start, encoded, extra)
        if estimate and not problems:
            with console.muted(True):
                facts["estimate"] = training_time(training, encoded)


class _Problems(list[str]):
    """Messages of the errors that would stop a run."""

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Inside the block, a UserError is added to the list and ends the block."""
        try:
            yield
        except UserError as error:
            if str(error) not in self:
                self.append(str(error))
