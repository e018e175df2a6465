"""Setup of a language model's training: windows of a corpus, engine and validation for the loop.

Pretraining (`pretrain.py`) and adaptation (`adaptation.py`) use it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gpt1 import backends
from gpt1.backends.base import Engine
from gpt1.backends.dist import Ranks, SingleProcess
from gpt1.checkpoint.event_log import RunLog
from gpt1.checkpoint.model_dir import Model
from gpt1.checkpoint.train_state import Checkpoints, Progress
from gpt1.config import PretrainConfig
from gpt1.data.corpus.prepare import Corpus
from gpt1.data.corpus.windows import TrainingWindows, ValidationWindows
from gpt1.errors import UserError
from gpt1.training.loop import total_steps, train


class LanguageModelSetup:
    """Training of a language model that is ready to run; constructing it writes no files.

    Args:
        config: Settings; corpus, tokenizer, model and output directory are not used.
        start: Model to start from, without a head.
        corpus: Training text.
        held_out: Validation text; None = the end of `corpus` (`config.valid_fraction`).
        ranks: Processes that share the work.

    Raises:
        UserError: there is too little text, or the framework, the device or the dtype is unavailable.
    """

    def __init__(
        self,
        config: PretrainConfig,
        start: Model,
        corpus: Corpus,
        held_out: Corpus | None,
        ranks: Ranks | None = None,
    ):
        self.config, self.ranks = config, ranks or SingleProcess()
        context = config.context or start.config.n_ctx
        rank, n_ranks = self.ranks.rank, self.ranks.size
        text, first, self.n_valid_bytes = _held_out(config, corpus, held_out)
        self.valid = ValidationWindows(text, first, len(text), context, start.tokenizer.pad, rank, n_ranks)
        self.n_train = len(corpus) if held_out else first
        self.windows = TrainingWindows(corpus, self.n_train, context, config.loop, rank, n_ranks)
        self.steps = total_steps(config.loop, self.windows.steps_per_epoch)
        self.engine = backends.get(
            start.config, start.params, hardware=config.hardware, optim=config.optim, dropout=config.dropout,
            seed=config.loop.seed, ranks=ranks,
        )  # fmt: skip

    @property
    def n_valid(self) -> int:
        """Number of validation tokens."""
        return self.valid.stop - self.valid.start

    def evaluate(self, max_windows: int | None = None) -> dict[str, float]:
        """Return loss, perplexity and bits per byte of the engine's weights on the validation text (`evaluate`)."""
        return evaluate(self.engine, self.valid, self.n_valid_bytes, max_windows, self.ranks)

    def run(
        self, save_best: Callable[[Progress], None], checkpoints: Checkpoints, log: RunLog,
        on_evaluate: Callable[[Progress], None] | None = None,
    ) -> Progress:  # fmt: skip
        """Train or resume (see `loop.train`); the best weights are those of the lowest validation loss."""
        return train(
            self.engine, self.windows, self.config.loop, self.config.optim,
            validate=lambda: self.evaluate(self.config.valid_windows), criterion="loss", save_best=save_best,
            checkpoints=checkpoints, log=log, ranks=self.ranks, on_evaluate=on_evaluate,
        )  # fmt: skip


def _held_out(config: PretrainConfig, corpus: Corpus, held_out: Corpus | None) -> tuple[Corpus, int, int]:
    """Return the corpus that ends with the validation text, the text's first token and its UTF-8 bytes."""
    if held_out:
        return held_out, 0, held_out.manifest["bytes"]
    chunks = corpus.chunk_index()
    target = len(corpus) * (1.0 - config.valid_fraction)
    boundary = chunks[1:][np.abs(chunks[1:, 0] - target).argmin()] if len(chunks) > 1 else None
    if boundary is None:
        raise UserError(
            f"--corpus: {len(corpus):,} tokens are too few to split off a validation part; "
            "use more text, or --valid FILE"
        )
    return corpus, int(boundary[0]), int(corpus.manifest["bytes"] - boundary[1])


def evaluate(
    engine: Engine, windows: ValidationWindows, n_bytes: int, max_windows: int | None = None, ranks: Ranks | None = None
) -> dict[str, float]:
    """Return {"loss" (nats per token), "perplexity", "bits_per_byte"} of validation windows of `n_bytes` of text.

    With `max_windows`, only so many windows, evenly spaced, are scored. Bits per byte, which is comparable across
    vocabularies, is the loss of all tokens in bits divided by the UTF-8 bytes of the text. With several `ranks`, each
    passes its share of the windows; the result is that of all.
    """
    total, n_tokens = 0.0, 0.0
    for batch in windows.batches(engine.tokens_at_once, max_windows):
        total -= float(engine.token_logprobs(batch).sum(dtype=np.float64))
        n_tokens += batch.target_count
    total, n_tokens = (ranks or SingleProcess()).total(total, n_tokens)
    loss = total / n_tokens
    bits = loss * (windows.stop - windows.start - 1) / math.log(2) / n_bytes
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "bits_per_byte": bits}
