"""Evaluation from Python: settings of the data as keywords, messages that name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt1.config import DETECTED, Columns, DeviceConfig, TableFormat
from gpt1.config.overrides import named_as_in_python, with_overrides
from gpt1.evaluation import evaluate as evaluation
from gpt1.evaluation.results import Results
from gpt1.tasks.metrics import Metric


@dataclass(frozen=True)
class _Reading:
    columns: Columns
    table: TableFormat


def evaluate(
    model: Path | str, data: Any, labels: Any = None, *, split: str = "test", columns: Columns | None = None,
    hardware: DeviceConfig | None = None, max_examples: int | None = None, metric: str | Metric | None = None,
    baseline: bool = True, compare: Sequence[Path | str] = (), table: TableFormat = DETECTED, **settings: Any,
) -> Results:  # fmt: skip
    """Score a fine-tuned model on one split of a data set, or on all rows of a file.

    `model` is a run directory or any other name of a fine-tuned model (`loading.resolve_model`); `data` has the form of
    `gpt1 finetune --data`, or is data in memory, with `labels` if it is a list of examples, as for `gpt1.finetune`. A
    file that the run was trained on is split as in training, so that `split` selects the same rows. The dtype is
    float32 unless `hardware` sets one.

    `settings` are those of `columns` and `table` by name, as for `gpt1.finetune`: `label="stars"`,
    `label_map={"0": "negative"}`, `on_bad_row="skip"`. `table` is the format of the files; what it leaves open is
    detected.

    `baseline` also fits the baselines on the run's training rows and scores them on the same examples. `compare` lists
    other runs or models of the same task and labels to score on them. `metric` is an additional metric: a function of
    (labels, predictions), or its name as `package.module:function`.

    Example: `evaluate("runs/demo", "reviews", max_examples=50)["test"]["accuracy"]`

    Returns:
        `Results`, a dict that is displayed as a table: {split: {metric: value, "loss", "examples", "interval", …},
        "baseline": {name: …}, "baseline_split": split, "verdict": text | None} as in `metrics.json`; with `compare`
        also {"compare": {path: …}}.

    Raises:
        UserError: the model has no task head, the data is missing, a row is invalid, or a setting is unknown.
    """
    reading = with_overrides(_Reading(columns or Columns(), table), settings, "evaluate")
    with named_as_in_python():
        return evaluation.evaluate(
            model, data, labels, split=split, columns=reading.columns, hardware=hardware, max_examples=max_examples,
            metric=metric, baseline=baseline, compare=compare, table=reading.table,
        )  # fmt: skip
