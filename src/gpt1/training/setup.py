"""Setup of a fine-tuning: engine, training batches, validation and selection metric for the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from gpt1 import backends
from gpt1.checkpoint.event_log import RunLog
from gpt1.checkpoint.model_dir import Model
from gpt1.checkpoint.train_state import Checkpoints, Progress
from gpt1.config import FinetuneConfig, Head
from gpt1.data.batching import Collator, EncodedExamples, TrainingBatches
from gpt1.inference.batched import scores, task_logits
from gpt1.tasks import metrics_of
from gpt1.tasks.metrics import Metric
from gpt1.training.loop import train


class FinetuneSetup:
    """A fine-tuning that is ready to run; constructing it writes no files.

    `encoded` has the split `train`, and `valid` if the best weights are to be selected. `extra` is the custom metric
    by name, empty if there is none.

    Raises:
        UserError: the framework, the device or the dtype is unavailable, or `drop_last` leaves no batch.
    """

    def __init__(
        self, config: FinetuneConfig, start: Model, encoded: Mapping[str, EncodedExamples], extra: Mapping[str, Metric]
    ):
        head = start.config.head
        assert head is not None
        self.config, self.head, self.valid, self.extra = config, head, encoded.get("valid"), dict(extra)
        self.engine = backends.get(
            start.config, start.params, hardware=config.hardware, optim=config.optim, dropout=config.dropout,
            loss=config.loss, seed=config.loop.seed,
        )  # fmt: skip
        self.collator = Collator(start.tokenizer.pad, start.max_length, config.loop.pad_to, self.engine.buckets)
        with_targets = replace(self.collator, lm_targets=config.loss.lm_coef > 0)
        self.batches = TrainingBatches(encoded["train"], config.loop, with_targets)
        self.metrics = metrics_of(head)
        self.criterion = selection_metric(config, head, extra)

    def validate(self) -> dict[str, float]:
        """Return the loss and the metrics of the engine's current weights on the validation split."""
        assert self.valid is not None
        logits = task_logits(self.engine, self.valid, self.collator, label="validating")
        return scores(logits, self.valid, self.head, self.metrics, self.extra)

    def run(self, save_best: Callable[[Progress], None], checkpoints: Checkpoints, log: RunLog) -> Progress:
        """Train or resume (see `loop.train`); without `valid` the final weights are the model."""
        return train(
            self.engine, self.batches, self.config.loop, self.config.optim,
            validate=None if self.valid is None else self.validate, criterion=self.criterion, save_best=save_best,
            checkpoints=checkpoints, log=log,
        )  # fmt: skip


def selection_metric(config: FinetuneConfig, head: Head, extra: Mapping[str, Metric]) -> str:
    """Return the name of the validation value that selects the best model."""
    if config.select_by == "loss":
        return "loss"
    return next(iter(extra), metrics_of(head)[0])
