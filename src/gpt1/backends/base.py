"""Interface to a framework: `Batch`, `Engine` and `Decoder`. Arguments and results are NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.parameters import Params
from gpt1.config import ModelConfig

IGNORE = -1
"""Value in `lm_targets` of a position without a target."""

BUCKETS = range(16, 1 << 16, 16)
"""Padded lengths on a backend that is fast with any shape: multiples of 16."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Batch of any task: B examples of k sequences each, N = B * k sequences of T tokens.

    k is 1 for classification and entailment, 2 for similarity (both orders), the number of choices for multiple choice.
    The sequences of an example are consecutive rows. Padding is on the right, so no attention mask is needed: under the
    causal mask no token attends to padding.
    """

    tokens: NDArray[np.int32]
    """(N, T) token ids, right-padded."""
    eos_positions: NDArray[np.int32]
    """(N,) index of `<eos>`, the paper's extract token; its state is the input of the head."""
    labels: NDArray[np.generic] | None = None
    """(B,) int64 label ids, or float32 values for a regression."""
    weights: NDArray[np.float32] | None = None
    """(B,) weights of the examples in the loss; `None`: 1 each."""
    lm_targets: NDArray[np.int32] | None = None
    """(N, T) next token of each position, the target of the LM loss; `IGNORE` for no target."""
    segments: NDArray[np.int32] | None = None
    """(N, T) segment numbers, for a model with segment embeddings."""
    sequences_per_example: int = 1
    """k."""
    batches_of_this_shape: int = 1
    """Number of batches of this shape in the call, by which a backend decides whether to compile inference for it."""

    @property
    def example_weight(self) -> float:
        """Sum of the examples' weights; 0 without labels."""
        if self.labels is None:
            return 0.0
        return float(len(self.labels) if self.weights is None else self.weights.sum(dtype=np.float64))

    @property
    def target_count(self) -> int:
        """Number of LM targets."""
        return 0 if self.lm_targets is None else int((self.lm_targets != IGNORE).sum())

    @property
    def target_sequences(self) -> int:
        """Number of sequences with at least one LM target."""
        return 0 if self.lm_targets is None else int((self.lm_targets != IGNORE).any(1).sum())


@dataclass(frozen=True, slots=True)
class StepResult:
    """Losses and gradient norm of one optimizer step, left on the device until they are read."""

    read: Callable[[], dict[str, float]]
    """Wait for the device and return those of "loss", "task_loss", "lm_loss" and "grad_norm" (before clipping) that
    the step has."""


class Decoder(Protocol):
    """Incremental decoding of N sequences with a KV cache on the device.

    A sequence starts empty, at position 0. Logits are over the vocabulary (without segments), without dropout. They do
    not depend on the other sequences, except for the order of floating-point sums.
    """

    def prefill(
        self, tokens: NDArray[np.int32], lengths: NDArray[np.int64], rows: Sequence[int]
    ) -> NDArray[np.float32]:
        """Restart the sequences `rows` (M,) with `tokens` (M, T), right-padded; their lengths are `lengths` (M,).

        Return the (M, V) logits of the token after each sequence. T is at most the decoder's length.
        """

    def step(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Append `tokens` (M,) to the first M sequences; return the (M, V) logits of the tokens after them.

        Each of these sequences must be shorter than the decoder's length.
        """

    def copy(self, source: int, target: int) -> None:
        """Copy the sequence in row `source` to row `target`."""


class Engine(Protocol):
    """One model on one device: inference, losses, gradients, updates.

    The loss of an optimizer step is defined in `backends.losses`, the update rule in `backends.optim`: `adamw` on the
    clipped gradients, with weight decay for the parameters of `parameters.decays`.

    Dropout is placed by `config.DropoutConfig`. With `embd_matrix` one mask per micro-batch multiplies the whole token
    embedding (with the segments' rows) and another the whole position embedding; the look-ups and the softmax of the LM
    loss use the results. With `clf_shared` the k choices of a multiple-choice example share one mask (1, D).
    """

    config: ModelConfig
    device: str
    """Name of the device for messages: "cpu", "cuda (NVIDIA H100)"."""
    dtype: str
    """Dtype of matrix products: "float32", "bfloat16" or "float16". Weights are float32."""
    tokens_at_once: int
    """Padded tokens of an inference batch with which the device is fastest."""
    buckets: Sequence[int]
    """Padded lengths of `--pad-to bucket`, ascending; few on a backend that compiles each shape."""

    def train_step(self, batches: Sequence[Batch], *, lr: float, step: int) -> StepResult:
        """Apply one update from the micro-batches of update number `step` (0-based).

        The dropout of micro-batch i is a function of (seed, step, i), so there is no RNG state.
        """

    def gradients(self, batches: Sequence[Batch], *, step: int = 0) -> tuple[dict[str, float], Params]:
        """Return the losses and the float32 gradient of every parameter, unclipped, without an update."""

    def logits(self, batch: Batch) -> NDArray[np.float32]:
        """Return (B, C) task scores: C labels, 1 for a regression, k choices for multiple choice. No dropout."""

    def token_logprobs(self, batch: Batch) -> NDArray[np.float32]:
        """Return (N, T) natural-log probabilities of `lm_targets`, 0 where there is no target. No dropout."""

    def attributions(self, batch: Batch, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the (N, T) attributions of sum_bc weights_bc logit_bc to the tokens; `weights` is (B, C).

        Gradient x input (Denil et al. 2014; Shrikumar et al. 2016): e_t · d(sum)/d(e_t), where e_t is the token
        embedding at position t without the position embedding, which does not depend on the token. To first order it
        is the change of the sum if e_t is set to 0. No dropout; exactly 0 at padding. Products are float32 with
        PyTorch, and in `dtype` with MindSpore.
        """

    def attention(self, batch: Batch) -> NDArray[np.float32]:
        """Return the attention weights of every layer and head, (n_layer, N, H, T, T); row t are those of query t.

        Exactly 0 for keys after t. No dropout; dtypes as in `attributions`. The model may have no head.
        """

    def decoder(self, n_sequences: int, length: int) -> Decoder:
        """Create a decoder for sequences of up to `length` tokens (at most n_ctx), valid until the weights change."""

    def parameters(self) -> Params:
        """Return a float32 copy of every parameter."""

    def load_parameters(self, params: Mapping[str, NDArray[np.float32]]) -> None:
        """Replace every parameter; the optimizer's moments are kept."""

    def optimizer_state(self) -> Params:
        """Return a copy of the optimizer's moments as "first.NAME" and "second.NAME"."""

    def load_optimizer_state(self, state: Mapping[str, NDArray[np.float32]], step: int) -> None:
        """Replace the optimizer's moments; `step` is the number of updates applied so far."""
