"""Prediction with a fine-tuned model: examples in, labels with probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gpt1 import backends, console
from gpt1.backends.base import BUCKETS, Engine
from gpt1.checkpoint.loading import open_model
from gpt1.checkpoint.model_dir import Model
from gpt1.config import DeviceConfig, Head, Padding
from gpt1.data.batching import Collator, EncodedExamples
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.inference.batched import task_logits
from gpt1.tasks import Labels, encode, find_task, limit
from gpt1.tasks.unknown_text import UnknownCount, unknown_shares


class Classifier:
    """A fine-tuned model on one device.

    `predict` takes the task's examples: one text, a pair, or a context with choices.
    """

    def __init__(self, model: Model, engine: Engine):
        head = head_of(model)
        self.model, self.head, self.task = model, head, find_task(head.task, "this model's task")
        self.labels = Labels(model.label_names, head.regression)
        self.problem_type = self.labels.problem_type
        self.engine = engine
        # PyTorch on a CPU needs no bucketing: padding short texts to a multiple of 16 takes 4/3 of the time.
        any_length = engine.buckets == BUCKETS and engine.device.startswith("cpu")
        padding: Padding = "longest" if any_length else "bucket"
        self.collator = Collator(model.tokenizer.pad, model.max_length, padding, engine.buckets)

    @classmethod
    def open(
        cls, name: str | Path, hardware: DeviceConfig | None = None, *, flag: str = "", shown: str = "",
        zero_shot: bool = False,
    ) -> Self:  # fmt: skip
        """Load a model by its name (`loading.resolve_model`), in float32 unless `hardware` sets a dtype.

        `shown` is the name that errors show if it differs, `zero_shot` as in `head_of`.

        Raises:
            UserError: the model does not exist, has no head, or its files are damaged.
        """
        model = open_model(name, flag=flag)
        head_of(model, shown or str(name), zero_shot=zero_shot)  # before a framework is imported
        return cls(model, backends.for_answers(model.config, model.params, hardware))

    def encode(self, examples: Sequence[Example], *, labelled: bool = False) -> EncodedExamples:
        """Return the examples as token ids; with `labelled`, also with label ids."""
        return encode(
            self.task, examples, self.model.tokenizer, self.model.max_length,
            labels=self.labels if labelled else None, segments=self.model.config.n_segments > 0,
            truncation=self.model.truncation,
        )  # fmt: skip

    @property
    def limit(self) -> str:
        """Description of the length to which examples are truncated."""
        return limit(self.task, self.model.max_length, self.model.truncation)

    def logits(self, encoded: EncodedExamples, *, label: str | None = None) -> NDArray[np.float32]:
        """Return the logits (B, C); `label` shows a progress bar of that name."""
        return task_logits(self.engine, encoded, self.collator, label=label)

    def predict(self, examples: Sequence[Example]) -> list[dict[str, Any]]:
        """Return {"label", "score", "scores": {label: probability}, "unknown_share"} for each example, in order.

        A regression gives {"label": None, "score": value, "scores": {}, …}; the label of multiple choice is an index.
        `unknown_share` is the share of the bytes that the vocabulary does not know (`tasks.unknown_text`).
        """
        encoded = self.encode(examples)
        shares = unknown_shares(encoded)
        count = UnknownCount()
        count.add(shares)
        if notice := count.notice(len(encoded), "examples"):
            console.say(notice)
        if encoded.truncated:
            console.say(f"{encoded.truncated:,} of {len(encoded):,} examples were truncated to {self.limit}.")
        return [self.prediction(*each) for each in zip(self.logits(encoded), shares, strict=True)]

    def example(self, texts: Sequence[str]) -> Example:
        """Return the one example that `texts` form for the model's task.

        Raises:
            UserError: too few or too many texts, or an invalid one.
        """
        kind = self.task.input_kind
        origin = f"text {texts[0][:30]!r}" if texts else "text"
        example = kind.from_arguments(texts, origin)
        if example is None:
            takes = f"{kind.singular} ({kind.arguments})"
            raise UserError(f"this model's task is {self.task.name}: it takes {takes}, {len(texts)} given")
        return example

    def examples(self, texts: Sequence[str]) -> list[Example]:
        """Group texts of a command line into examples: one each, two each (pairs), or all in one (choices)."""
        size = self.task.input_kind.n_arguments(len(texts))
        return [self.example(texts[start : start + size]) for start in range(0, len(texts), size)]

    def prediction(self, logits: NDArray[np.float32], unknown: float) -> dict[str, Any]:
        """Return one example's prediction, as in `predict`, from its logits (C,) and its unknown share."""
        return self.problem_type.prediction(logits, self.labels.names) | {"unknown_share": float(unknown)}


def head_of(model: Model, shown: str = "", *, zero_shot: bool = False) -> Head:
    """Return the head of a fine-tuned model.

    `shown` is the model's name in the error, which also advises --zero-shot if `zero_shot` is set.

    Raises:
        UserError: the model is a language model without a head.
    """
    if model.config.head is None:
        raise UserError(
            f"{shown or 'this model'} is a language model without a task; fine-tune it first: gpt1 finetune --model "
            f"{shown or 'DIR'} --data DATA --out RUN, in Python gpt1.GPT1Classifier({shown or 'DIR'!r}).fit(texts, "
            f"labels){'; or label without training: add --zero-shot' if zero_shot else ''}"
        )
    return model.config.head
