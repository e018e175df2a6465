"""How a model is trained: dropout, losses, the update rule, the walk of the loop."""

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
    """Drop probabilities during training (Radford et al. 2018, §4.1: 0.1 everywhere)."""

    embd_pdrop: float = 0.1
    """On the sum of token, position and segment embeddings."""
    resid_pdrop: float = 0.1
    """On the output of each sub-layer before it is added to the residual stream."""
    attn_pdrop: float = 0.1
    """On the attention weights."""
    clf_pdrop: float = 0.1
    """On the state that the task's head reads."""
    embd_matrix: bool = False
    """Let `embd_pdrop` act on the whole embedding matrix (tokens, positions, segments) instead of on the sum (OpenAI).
    All occurrences of a token in a micro-batch lose the same elements, and so does the softmax of the LM loss."""
    clf_shared: bool = False
    """One mask of `clf_pdrop` for all choices of a question, instead of one for each (OpenAI)."""

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.name.endswith("_pdrop"):
                value = getattr(self, item.name)
                require(0.0 <= value < 1.0, item.name, value, "a probability in [0, 1)")

    @classmethod
    def none(cls) -> Self:
        return cls(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class LossConfig:
    """The auxiliary language-modelling loss of fine-tuning (Radford et al. 2018, §3.2)."""

    lm_coef: float = 0.5
    """Weight λ of the auxiliary language-modelling loss (eq. 5)."""
    lm_mean: LmMean = "token"
    """What the LM loss of a step is the mean over.
    `token`: all its tokens; `sequence`: each sequence's tokens, then the sequences (OpenAI)."""
    lm_over_positions: bool = False
    """Let the softmax of the LM loss also run over the rows of the position embedding.
    In OpenAI's code they stand in the same matrix as the tokens."""

    def __post_init__(self) -> None:
        require(0 <= self.lm_coef < math.inf, "lm_coef", self.lm_coef, "zero or more")
        require_one_of(LmMean, "lm_mean", self.lm_mean)


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with decay on matrices only, and the learning rate's schedule."""

    lr: float = 6.25e-5
    """Highest learning rate."""
    schedule: Schedule = "linear"
    """How the rate falls to zero: `linear` is 1 - t/T from step 0, `cosine` half a cosine, `constant` not at all."""
    warmup: float = 0.002
    """Linear warm-up: a share of all steps when below 1, a number of steps otherwise."""
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    """Decoupled decay on every parameter with two dimensions (embeddings too); never on biases and gains."""
    decay_with_correction: bool = False
    """Multiply the decay by the bias-corrected rate lr √(1 - β2^t) / (1 - β1^t) instead of lr (OpenAI)."""
    eps_outside_correction: bool = False
    """Add `eps` to √v itself instead of to the bias-corrected √v (OpenAI)."""
    max_grad_norm: float = 1.0
    """Largest global norm of the gradient: a larger one is clipped; 0 disables clipping."""

    def __post_init__(self) -> None:
        require(0 < self.lr < math.inf, "lr", self.lr, "a positive number")
        for name in ("warmup", "weight_decay", "max_grad_norm"):
            require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "zero or more")
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a number in [0, 1)")
        require(self.eps > 0, "eps", self.eps, "a positive number")


@dataclass(frozen=True)
class LoopConfig:
    """How the loop walks: epochs, batches, and when it evaluates, saves and stops."""

    epochs: float = 3
    """Passes over the training split (a fraction is allowed)."""
    max_steps: int | None = None
    """Stop after so many optimiser steps; the schedule then ends there."""
    batch_size: int = 32
    """Examples an optimiser step."""
    micro_batch_size: int | None = None
    """Examples that are computed at once; the gradients of a step are accumulated.
    None: the whole batch, or as many as `micro_batch_tokens` allows."""
    micro_batch_tokens: int = 8_192
    """Most tokens (padding included) that are computed at once when `micro_batch_size` is not given."""
    bucketing: bool = True
    """Batch texts of similar length together (sorted inside windows of a seeded shuffle)."""
    drop_last: bool = False
    """Leave out what is left of an epoch's shuffled examples when no whole batch is (OpenAI)."""
    pad_to: Padding = "bucket"
    """What a batch is padded to: its longest text (`longest`), the maximal length (`max`), or the next `bucket`.
    Buckets are what the backend works best with: multiples of 16 for PyTorch, twelve lengths for MindSpore on a CPU,
    one on Ascend."""
    eval_every: int | None = None
    """Also evaluate every so many steps (always at the end of an epoch)."""
    save_every: int | None = None
    """Also save a checkpoint every so many steps (always at the end of an epoch)."""
    log_every: int = 10
    """Steps between two lines of the log."""
    patience: int | None = None
    """Stop when so many evaluations in a row brought no better validation metric."""
    seed: int = 0
    """Seed of the splits, the initial weights, the order of the data and the dropout."""

    def __post_init__(self) -> None:
        require(0 < self.epochs < math.inf, "epochs", self.epochs, "a positive number")
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
