"""Setup of a fine-tuning: encoded splits and starting model, then engine, batches and validation for the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from gpt1 import backends, console
from gpt1.backends.dist import Ranks, SingleProcess
from gpt1.backends.parameters import HEAD, initialise
from gpt1.checkpoint.event_log import RunLog
from gpt1.checkpoint.loading import open_model, open_tokenizer, random_shape, require_model_name
from gpt1.checkpoint.model_dir import Model
from gpt1.checkpoint.run_dir import RunDirectory
from gpt1.checkpoint.train_state import Checkpoints, Progress
from gpt1.config import FinetuneConfig, Head, ModelConfig
from gpt1.data.batching import Collator, EncodedExamples, TrainingBatches
from gpt1.data.corpus.texts import files_with_text
from gpt1.errors import UserError
from gpt1.inference.batched import scores, task_logits
from gpt1.tasks import encode, limit, metrics_of
from gpt1.tasks.dataset import TaskData
from gpt1.tasks.metrics import Metric
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.tokenization.trainer import train as train_tokenizer
from gpt1.training.loop import total_steps, train


def encode_splits(config: FinetuneConfig, data: TaskData, start: Model) -> dict[str, EncodedExamples]:
    """Return every split as token ids; print how many examples were truncated."""
    encoded = {
        name: encode(
            data.task, examples, start.tokenizer, start.max_length, labels=data.labels,
            segments=start.config.n_segments > 0, truncation=start.truncation,
        )
        for name, examples in data.splits.items()
    }  # fmt: skip
    for name, part in encoded.items():
        if part.truncated:
            length = limit(data.task, start.max_length, start.truncation)
            console.say(f"{name}: {part.truncated:,} of {len(part):,} examples were truncated to {length}.")
    return encoded


def starting_model(config: FinetuneConfig, data: TaskData, run: RunDirectory | None = None) -> Model:
    """Return the model that training starts from: shape, parameters with a new task head, tokenizer.

    If `run` has a tokenizer already, it is loaded from there instead of trained again.
    `starting_model(config, load_data(config)).params` maps names to NumPy arrays.

    Raises:
        UserError: the model, size or tokenizer does not exist.
    """
    head = replace(data.labels.head(data.task.name), bias=config.head_bias)
    label_names = data.labels.names
    n_segments = data.task.n_parts if config.segments else 0
    require_start(config, run)
    if size := random_shape(config.model, flag="--model"):
        tokenizer = _tokenizer(config, size, data, run)
        shape = replace(size, vocab_size=tokenizer.vocab_size, n_segments=n_segments, head=head)
        max_length = _max_length(config, shape)
        params = initialise(shape, config.loop.seed)
        return Model(shape, params, tokenizer, label_names, max_length, truncation=config.split.truncation)
    loaded = open_model(config.model, flag="--model", random=True)
    shape = replace(loaded.config, head=head, n_segments=max(n_segments, loaded.config.n_segments))
    body = {name: value for name, value in loaded.params.items() if not name.startswith(HEAD)}
    params = initialise(shape, config.loop.seed, body)
    max_length = _max_length(config, shape)
    return Model(shape, params, loaded.tokenizer, label_names, max_length, loaded.provenance, config.split.truncation)


def require_start(config: FinetuneConfig, run: RunDirectory | None) -> None:
    """Check --model, --tokenizer, --vocab-size and --unlabelled before the data is read; the hub is not asked.

    Raises:
        UserError: a name is not that of a model, tokenizer or file, or a flag does not apply to the model.
    """
    if config.adaptation.unlabelled:
        files_with_text(config.adaptation.unlabelled, "--unlabelled")
    if random_shape(config.model, flag="--model") is None:
        for flag, value in (("tokenizer", config.tokenizer), ("vocab-size", config.vocab_size)):
            if value is not None:
                raise UserError(
                    f"--{flag} {value}: {config.model} has its own vocabulary; only for --model random:SIZE"
                )
        require_model_name(config.model, flag="--model", random=True)
    elif config.tokenizer and not (run and run.tokenizer.exists()):
        require_model_name(config.tokenizer, flag="--tokenizer")


def _tokenizer(config: FinetuneConfig, size: ModelConfig, data: TaskData, run: RunDirectory | None) -> Tokenizer:
    if run and run.tokenizer.exists():
        return Tokenizer.load(run.tokenizer)
    if config.tokenizer:
        if config.vocab_size:
            raise UserError(
                f"--vocab-size {config.vocab_size}: --tokenizer has its own vocabulary; use only one of the two flags"
            )
        return open_tokenizer(config.tokenizer, flag="--tokenizer")
    texts = (text for example in data.splits["train"] for text in example.texts)
    return train_tokenizer(texts, config.vocab_size or size.vocab_size)


def _max_length(config: FinetuneConfig, shape: ModelConfig) -> int:
    max_length = config.split.max_length or shape.n_ctx
    if max_length > shape.n_ctx:
        raise UserError(f"--max-length {max_length}: the model's context has {shape.n_ctx} tokens")
    return max_length


class FinetuneSetup:
    """A fine-tuning that is ready to run; constructing it writes no files.

    `encoded` has the split `train`, and `valid` if the best weights are to be selected. `extra` is the custom metric
    by name, empty if there is none. `ranks` are the processes that share the work.

    Raises:
        UserError: the framework, the device or the dtype is unavailable, or `drop_last` leaves no batch.
    """

    def __init__(
        self, config: FinetuneConfig, start: Model, encoded: Mapping[str, EncodedExamples],
        extra: Mapping[str, Metric], ranks: Ranks | None = None,
    ):  # fmt: skip
        head = start.config.head
        assert head is not None
        self.config, self.head, self.valid, self.extra = config, head, encoded.get("valid"), dict(extra)
        self.ranks = ranks or SingleProcess()
        self.engine = backends.get(
            start.config, start.params, hardware=config.hardware, optim=config.optim, dropout=config.dropout,
            loss=config.loss, seed=config.loop.seed, ranks=ranks,
        )  # fmt: skip
        self.collator = Collator(start.tokenizer.pad, start.max_length, config.loop.pad_to, self.engine.buckets)
        with_targets = replace(self.collator, lm_targets=config.loss.lm_coef > 0)
        self.batches = TrainingBatches(encoded["train"], config.loop, with_targets, self.ranks.rank, self.ranks.size)
        self.steps = total_steps(config.loop, self.batches.steps_per_epoch)
        self.metrics = metrics_of(head)
        self.criterion = selection_metric(config, head, extra)

    def validate(self) -> dict[str, float]:
        """Return the loss and the metrics of the engine's current weights on the validation split."""
        assert self.valid is not None
        logits = task_logits(self.engine, self.valid, self.collator, label="validating", ranks=self.ranks)
        return scores(logits, self.valid, self.head, self.metrics, self.extra)

    def run(self, save_best: Callable[[Progress], None], checkpoints: Checkpoints, log: RunLog) -> Progress:
        """Train or resume (see `loop.train`); without `valid` the final weights are the model."""
        return train(
            self.engine, self.batches, self.config.loop, self.config.optim,
            validate=None if self.valid is None else self.validate, criterion=self.criterion, save_best=save_best,
            checkpoints=checkpoints, log=log, ranks=self.ranks,
        )  # fmt: skip


def selection_metric(config: FinetuneConfig, head: Head, extra: Mapping[str, Metric]) -> str:
    """Return the name of the validation value that selects the best model."""
    if config.select_by == "loss":
        return "loss"
    return next(iter(extra), metrics_of(head)[0])
