"""A model, its examples as tokens and the engine that trains it: what every fine-tuning hands to the loop."""

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
    """A fine-tuning that is ready to begin; it has written nothing.

    `encoded` holds `train` and, where the best weights are selected, `valid`; `extra` is a person's own metric.

    Raises:
        UserError: the framework, the device or the dtype is not to be had; `drop_last` leaves no batch.
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
        """Return the loss and the metrics of the engine's present weights on the validation examples."""
        assert self.valid is not None
        logits = task_logits(self.engine, self.valid, self.collator, label="validating")
        return scores(logits, self.valid, self.head, self.metrics, self.extra)

    def run(self, save_best: Callable[[Progress], None], checkpoints: Checkpoints, log: RunLog) -> Progress:
        """Train, or go on from the newest checkpoint (`loop.train`); without `valid` the last weights are the model."""
        return train(
            self.engine, self.batches, self.config.loop, self.config.optim,
            validate=None if self.valid is None else self.validate, criterion=self.criterion, save_best=save_best,
            checkpoints=checkpoints, log=log,
        )  # fmt: skip


def selection_metric(config: FinetuneConfig, head: Head, extra: Mapping[str, Metric]) -> str:
    """Return the name of the validation value that decides which model is the best."""
    if config.select_by == "loss":
        return "loss"
    return next(iter(extra), metrics_of(head)[0])
