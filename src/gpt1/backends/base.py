"""The seam between gpt1 and a framework: NumPy crosses it, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.parameters import Params
from gpt1.config import ModelConfig

IGNORE = -1
"""The value in `lm_targets` of a position that no loss looks at."""

BUCKETS = range(16, 1 << 16, 16)
"""Padded lengths where any shape of batch is as good as another: multiples of 16."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, in one shape for every task: B examples of k sequences each, N = B * k sequences of T tokens.

    k is 1 for classification and entailment, 2 for similarity (both orders), the number of choices for multiple choice.
    The sequences of an example stand next to each other. Padding is on the right, so that under a causal mask no real
    token sees a pad and no attention mask is needed.
    """

    tokens: NDArray[np.int32]
    """(N, T) token ids, right-padded."""
    eos_positions: NDArray[np.int32]
    """(N,) index of `<eos>`, the paper's extract token, whose state the head reads."""
    labels: NDArray[np.generic] | None = None
    """(B,) int64 label ids, or float32 values for a regression."""
    weights: NDArray[np.float32] | None = None
    """(B,) weight of each example in the loss; `None` is 1 for each."""
    lm_targets: NDArray[np.int32] | None = None
    """(N, T) the token that should follow each position; `IGNORE` where no loss looks."""
    segments: NDArray[np.int32] | None = None
    """(N, T) segment numbers, where the model has segment embeddings."""
    sequences_per_example: int = 1
    """k."""
    batches_of_this_shape: int = 1
    """How many batches of this shape are scored together: whether it pays to compile inference for it."""

    @property
    def example_weight(self) -> float:
        """Sum of the examples' weights; 0 where the batch has no labels."""
        if self.labels is None:
            return 0.0
        return float(len(self.labels) if self.weights is None else self.weights.sum(dtype=np.float64))

    @property
    def target_count(self) -> int:
        """Number of positions that the language-modelling loss looks at."""
        return 0 if self.lm_targets is None else int((self.lm_targets != IGNORE).sum())

    @property
    def target_sequences(self) -> int:
        """Number of sequences that have such a position."""
        return 0 if self.lm_targets is None else int((self.lm_targets != IGNORE).any(1).sum())


@dataclass(frozen=True, slots=True)
class StepResult:
    """Losses and gradient norm of one optimiser step. Reading it may wait for the device; not reading it never does."""

    read: Callable[[], dict[str, float]]
    """Returns {"loss", "task_loss", "lm_loss", "grad_norm"}, those that apply; the norm is the one before clipping."""


class Decoder(Protocol):
    """N sequences that a model writes on, with the keys and values of their tokens kept on the device.

    A sequence starts empty, at position 0. Logits are over the tokens (segments have none), without dropout, and do not
    depend on the other sequences but for the order of sums.
    """

    def prefill(
        self, tokens: NDArray[np.int32], lengths: NDArray[np.int64], rows: Sequence[int]
    ) -> NDArray[np.float32]:
        """Begin the sequences `rows` (M,) anew with `tokens` (M, T), right-padded, of which `lengths` (M,) are real.

        Returns (M, V) logits of what follows each one's last token. T is at most the decoder's length.
        """

    def step(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Add one token to each of the first M sequences, `tokens` (M,); return the (M, V) logits of what follows it.

        Each must hold fewer tokens than the decoder's length.
        """

    def copy(self, source: int, target: int) -> None:
        """Make the sequence in row `target` the same as the one in row `source`."""


class Engine(Protocol):
    """One model on one device: forward, losses, gradients, updates.

    The loss of an optimiser step over its micro-batches is

        sum_i w_i * task_loss_i / sum_i w_i  +  lm_coef * lm_loss

    where lm_loss is, by `lm_mean` of `config.LossConfig`,

        token      sum_t lm_loss_t / (number of targets)
        sequence   sum_s (sum_t lm_loss_st / number of targets of s) / (number of sequences s that have a target)

    with all denominators but that of one sequence taken over the *whole* step, so that accumulation equals the big
    batch on unequal lengths. lm_loss_t is the cross-entropy of a target under softmax(state · Eᵀ), E the rows of the
    token embedding that are tokens and, with `lm_over_positions`, below them all rows of the position embedding.
    `lm_coef` is 1 where the model has no head (pretraining).

    Dropout stands where `config.DropoutConfig` says. With `embd_matrix` each micro-batch multiplies the whole token
    embedding (segment rows too) and the whole position embedding by one mask each, and E is made of these; with
    `clf_shared` the k choices of a multiple-choice example have one mask of (1, D).

    An update is `optim.adamw` on the clipped gradients, with the decay of `params.decays`.
    """

    config: ModelConfig
    device: str
    """For people: "cpu", "cuda (NVIDIA H100)"."""
    dtype: str
    """"float32", "bfloat16" or "float16": what matrix products compute in. Weights are float32."""
    tokens_at_once: int
    """Padded tokens of an inference batch that the device computes fastest."""
    buckets: Sequence[int]
    """Padded lengths that `--pad-to bucket` has here, ascending; few where each shape of batch is compiled."""

    def train_step(self, batches: Sequence[Batch], *, lr: float, step: int) -> StepResult:
        """Apply one update. The dropout of micro-batch i is a function of (seed, step, i), so no RNG state is kept."""

    def gradients(self, batches: Sequence[Batch], *, step: int = 0) -> tuple[dict[str, float], Params]:
        """Return the losses and the float32 gradient of every parameter, unclipped, and update nothing."""

    def logits(self, batch: Batch) -> NDArray[np.float32]:
        """Return (B, C) task scores: C labels, 1 for a regression, k choices for multiple choice. No dropout."""

    def token_logprobs(self, batch: Batch) -> NDArray[np.float32]:
        """Return (N, T) natural-log probabilities of `lm_targets`, 0 where ignored. No dropout."""

    def attributions(self, batch: Batch, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, T) gradient x input of sum_bc weights_bc logit_bc at each token: what the token itself adds to it.

        It is e_t · d(sum)/d(e_t) for the token embedding e_t of position t alone (Denil et al. 2014; Shrikumar et al.
        2016): the position embedding beside it would be there whatever word stood there. To the first order that is the
        change of the sum where e_t becomes 0. `weights` is (B, C). No dropout; exactly 0 at pads. Products are float32
        with PyTorch, and in `dtype` with MindSpore, whose cells have one.
        """

    def attention(self, batch: Batch) -> NDArray[np.float32]:
        """Return the softmax weights of every layer and head, (n_layer, N, H, T, T): row t is what position t looks at.

        Exactly 0 for what comes after t. No dropout, products as for `attributions`. The model needs no head.
        """

    def decoder(self, n_sequences: int, length: int) -> Decoder:
        """Return a decoder for sequences of up to `length` tokens (n_ctx at most); good until the weights change."""

    def parameters(self) -> Params:
        """Return a float32 copy of every parameter."""

    def load_parameters(self, params: Mapping[str, NDArray[np.float32]]) -> None:
        """Replace every parameter; the moments stay."""

    def optimizer_state(self) -> Params:
        """Return a copy of the moments as "first.NAME" and "second.NAME"."""

    def load_optimizer_state(self, state: Mapping[str, NDArray[np.float32]], step: int) -> None:
        """Replace the moments; `step` updates have been applied so far."""
