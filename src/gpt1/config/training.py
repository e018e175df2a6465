"""Settings of training: dropout, loss, optimizer, loop."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, Self

from gpt1.config.checks import require, require_one_of

Padding = Literal["bucket", "longest", "max"]
Schedule = Literal["linear", "cosine", "constant"]
LmMean = Literal["token", "sequence"]


@dataclass(frozen=True)
class DropoutConfig:
    """Dropout (Radford et al. 2018, §4.1: 0.1 everywhere)."""

    embd_pdrop: float = 0.1
    """Dropout probability of the sum of token, position and segment embeddings."""
    resid_pdrop: float = 0.1
    """Dropout probability of each sub-layer's output, before it is added to the residual stream."""
    attn_pdrop: float = 0.1
    """Dropout probability of the attention weights."""
    clf_pdrop: float = 0.1
    """Dropout probability of the hidden state that the task's head reads."""
    embd_matrix: bool = False
    """Apply --embd-pdrop to the embedding matrix (tokens, positions, segments) instead of the sum, as in OpenAI's
    code. All occurrences of a token in a micro-batch, and the softmax of the LM loss, then share one mask."""
    clf_shared: bool = False
    """Use one --clf-pdrop mask for all choices of a question instead of one per choice, as in OpenAI's code."""

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.name.endswith("_pdrop"):
                value = getattr(self, item.name)
                require(0.0 <= value < 1.0, item.name, value, "a probability in [0, 1)")

    @classmethod
    def none(cls) -> Self:
        """Return settings without dropout."""
        return cls(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class LossConfig:
    """Auxiliary language-modelling loss (Radford et al. 2018, §3.2)."""

    lm_coef: float = 0.5
    """Weight λ of the auxiliary language-modelling loss (equation 5); 0 disables it."""
    lm_mean: LmMean = "token"
    """Averaging of the LM loss. `token`: over all tokens of a step; `sequence`: over the tokens of each sequence, then
    over the sequences (OpenAI's code)."""
    lm_over_positions: bool = False
    """Include the position embeddings in the softmax of the LM loss, as in OpenAI's code, where they are rows of the
    token embedding matrix."""

    def __post_init__(self) -> None:
        require(0 <= self.lm_coef < math.inf, "lm_coef", self.lm_coef, "zero or more")
        require_one_of(LmMean, "lm_mean", self.lm_mean)


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer (AdamW) and learning rate."""

    lr: float = 6.25e-5
    """Peak learning rate."""
    schedule: Schedule = "linear"
    """Decay of the learning rate. `linear`: 1 - t/T from step 0; `cosine`: half a cosine; `constant`: no decay."""
    warmup: float = 0.002
    """Linear warm-up of the learning rate: a share of all steps if below 1, otherwise a number of steps."""
    beta1: float = 0.9
    """Decay rate β1 of Adam's first moment."""
    beta2: float = 0.999
    """Decay rate β2 of Adam's second moment."""
    eps: float = 1e-8
    """Constant ε added to Adam's denominator."""
    weight_decay: float = 0.01
    """Decoupled weight decay of all matrices, embeddings included. Biases and LayerNorm gains are not decayed."""
    decay_with_correction: bool = False
    """Multiply the weight decay by the bias-corrected rate lr √(1 - β2^t) / (1 - β1^t) instead of lr, as in OpenAI's
    code."""
    eps_outside_correction: bool = False
    """Add ε to √v instead of to the bias-corrected √v, as in OpenAI's code."""
    max_grad_norm: float = 1.0
    """Maximum global norm of the gradient; larger gradients are clipped, 0 disables clipping."""

    def __post_init__(self) -> None:
        require(0 < self.lr < math.inf, "lr", self.lr, "a positive number")
        for name in ("warmup", "weight_decay", "max_grad_norm"):
            require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "zero or more")
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a number in [0, 1)")
        require(self.eps > 0, "eps", self.eps, "a positive number")


EPOCHS_OF_ONE_ROW, LEAST_EPOCHS, MOST_EPOCHS = 100, 3, 20
"""The default number of epochs is the first, divided by the cube root of the number of rows, within the limits: 16 for
240 rows, 8 for 2,000 (docs/small-models.md)."""


@dataclass(frozen=True)
class LoopConfig:
    """Training loop."""

    epochs: float | None = 3
    """Epochs, fractions allowed (default: 3 to 20, the more the fewer rows)."""
    max_steps: int | None = None
    """Maximum number of optimizer steps; the learning-rate schedule ends there (default: given by --epochs)."""
    batch_size: int = 32
    """Examples per optimizer step."""
    micro_batch_size: int | None = None
    """Examples per micro-batch; gradients are accumulated over a step (default: the batch, or as many examples as
    --micro-batch-tokens allows)."""
    micro_batch_tokens: int = 8_192
    """Maximum number of tokens per micro-batch, padding included, without --micro-batch-size."""
    bucketing: bool = True
    """Batch texts of similar length together: sort by length within windows of a seeded shuffle."""
    drop_last: bool = False
    """Drop the last batch of an epoch if it is incomplete, as in OpenAI's code."""
    pad_to: Padding = "bucket"
    """Length to which a batch is padded. `longest`: its longest text; `max`: the maximum length; `bucket`: the next of
    the backend's lengths (PyTorch: multiples of 16; MindSpore: twelve on a CPU, one on Ascend)."""
    eval_every: int | None = None
    """Steps between evaluations, in addition to the end of each epoch (default: none)."""
    save_every: int | None = None
    """Steps between checkpoints, in addition to the end of each epoch (default: none)."""
    log_every: int = 10
    """Steps between lines of the log."""
    patience: int | None = None
    """Stop after N evaluations without improvement of the validation criterion (default: never)."""
    seed: int = 0
    """Seed of splits, weights, data order, dropout."""

    def __post_init__(self) -> None:
        require(self.epochs is None or 0 < self.epochs < math.inf, "epochs", self.epochs, "a positive number")
        for name in (
            "max_steps",
            "batch_size",
            "micro_batch_size",
            "micro_batch_tokens",
            "eval_every",
            "save_every",
            "log_every",
            "patience",
        ):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "1 or more")
        require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4,294,967,295")

    def epochs_of(self, steps_per_epoch: int) -> float:
        """Return the number of epochs: `epochs`, or without it the default for the number of rows."""
        if self.epochs is not None:
            return self.epochs
        rows = steps_per_epoch * self.batch_size
        return min(max(LEAST_EPOCHS, round(EPOCHS_OF_ONE_ROW / math.cbrt(rows))), MOST_EPOCHS)
