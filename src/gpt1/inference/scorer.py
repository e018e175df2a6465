"""Scoring of texts by a language model: log-probability of each token, perplexity, bits per byte."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from gpt1 import backends
from gpt1.backends.base import Engine
from gpt1.checkpoint.loading import open_model
from gpt1.checkpoint.model_dir import Model
from gpt1.config import DeviceConfig
from gpt1.data.batching import Collator
from gpt1.inference.batched import sequence_logprobs
from gpt1.tasks.unknown_text import unknown_share
from gpt1.tokenization.pretokenizers import valid_unicode

NO_SCORE: dict[str, Any] = {
    "text": None, "ids": [], "tokens": [], "logprobs": [], "perplexity": None, "bits_per_byte": None,
    "unknown_share": None,
}  # fmt: skip
"""The result for a row of a file that has no usable text."""


class Encoding(NamedTuple):
    """Token ids of a text and the size of each token in UTF-8 bytes."""

    ids: list[int]
    sizes: list[int]


class Scorer:
    """Scoring with a model on one device; the head of a fine-tuned model is not used."""

    def __init__(self, model: Model, engine: Engine):
        self.model, self.engine = model, engine
        self.collator = Collator(model.tokenizer.pad, model.config.n_ctx, buckets=self.engine.buckets, lm_targets=True)

    @classmethod
    def open(cls, name: str | Path, hardware: DeviceConfig | None = None) -> Self:
        """Load a model by its name (`loading.resolve_model`), in float32 unless `hardware` sets a dtype."""
        model = open_model(name)
        return cls(model, backends.for_answers(model.config, model.params, hardware))

    def score(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Return {text, ids, tokens, logprobs, perplexity, bits_per_byte, unknown_share} for each text.

        `logprobs` are natural logarithms; the first is None, because the first token has no context. A text longer
        than the context is scored in windows that overlap by half, so that every later token has at least half a
        context before it. Perplexity is over the tokens that have a log-probability; bits per byte divides by the UTF-8
        bytes of these tokens. Both are None for a text of one token, or of none (`<br />`). `unknown_share` is the
        share of the text's bytes, blanks excluded, that became `<unk>`; if it is large, bits per byte mean little.
        """
        texts = [valid_unicode(text) for text in texts]
        encodings = [Encoding(*self.model.tokenizer.encode_with_sizes(text)) for text in texts]
        windows = [
            (text, start, np.array(encoding.ids[start : start + self.model.config.n_ctx], np.int32))
            for text, encoding in enumerate(encodings)
            for start in self._window_starts(len(encoding.ids))
        ]
        logprobs = [np.full(len(encoding.ids), np.nan) for encoding in encodings]
        by_window = dict(sequence_logprobs(self.engine, [ids for _, _, ids in windows], self.collator))
        for index, (text, start, _) in enumerate(windows):
            fresh = 0 if start == 0 else self.model.config.n_ctx // 2 - 1
            values = by_window[index]
            logprobs[text][start + 1 + fresh : start + 1 + len(values)] = values[fresh:]
        return [self._result(*item) for item in zip(texts, encodings, logprobs, strict=True)]

    def _window_starts(self, length: int) -> range:
        step = self.model.config.n_ctx // 2
        return range(0, length - step if length > step else length, step)

    def _result(self, text: str, encoding: Encoding, logprobs: NDArray[np.float64]) -> dict[str, Any]:
        known = logprobs[1:]
        n_bytes = len(text.encode())
        after_first = n_bytes - sum(encoding.sizes[:1])
        total = float(-known.sum())
        return {
            "text": text,
            "ids": encoding.ids,
            "tokens": self.model.tokenizer.tokens(encoding.ids),
            "logprobs": [None, *map(float, known)][: len(encoding.ids)],
            "perplexity": math.exp(total / len(known)) if len(known) else None,
            "bits_per_byte": total / math.log(2) / after_first if len(known) and after_first > 0 else None,
            "unknown_share": unknown_share(self.model.tokenizer, text, encoding.ids),
        }
