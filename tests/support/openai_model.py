"""Forward pass of OpenAI's fine-tuning code in NumPy float64: the reference for `gpt1`'s `openai` recipe.

Transcribed from `train.py` of openai/finetune-transformer-lm, without dropout. It shares no code with gpt1: the weights
are the original's variables, the batch is the original's pairs of a token and a position.

Dimensions: B examples of k sequences each, N = B k sequences, T positions (`n_ctx`), D width, W rows of `we`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[Any]

BLOCK = (
    "attn/c_attn/w", "attn/c_attn/b", "attn/c_proj/w", "attn/c_proj/b", "ln_1/g", "ln_1/b",
    "mlp/c_fc/w", "mlp/c_fc/b", "mlp/c_proj/w", "mlp/c_proj/b", "ln_2/g", "ln_2/b",
)  # fmt: skip
"""Variables of a block in the order in which the graph creates them, which is that of the release."""


class Inputs(NamedTuple):
    """Batch in the original's form."""

    X: Integers
    """(B, k, T, 2): rows of `we` for each token and its position; padding is token 0."""
    M: Array
    """(B, k, T): 1 for tokens, 0 for padding."""


class Losses(NamedTuple):
    clf: Array
    """(B,) cross-entropies of the labels."""
    lm: Array
    """(N,) means over the predicted tokens of each sequence."""
    total: float
    """mean(clf) + lm_coef · mean(lm), the loss to differentiate."""


@dataclass(frozen=True)
class Original:
    """Variables and hyperparameters of the original's graph."""

    we: Array
    """(W, D): tokens, special tokens, and positions up to `n_ctx`, in one matrix."""
    blocks: tuple[Mapping[str, Array], ...]
    """Variables of each block by the names in `BLOCK`; matrices are (in, out)."""
    n_head: int
    n_ctx: int
    clf_w: Array | None = None
    """(D, columns)."""
    clf_b: Array | None = None

    # ---- where the variables come from

    @classmethod
    def from_release(
        cls, folder: Path, n_head: int, special: Array, n_ctx: int | None = None, clf: tuple[Array, Array] | None = None
    ) -> Original:
        """Load a release folder as the original does; `special` (rows, D) are the rows that it initializes randomly.

        Only the first `n_ctx` positions are kept, so the softmax of the language model is over fewer rows.
        """
        shapes = json.loads((folder / "params_shapes.json").read_text())
        vector = np.concatenate([np.load(folder / f"params_{i}.npy", allow_pickle=False) for i in range(10)])
        ends = np.cumsum([np.prod(shape) for shape in shapes])
        positions, tokens, *rest = (
            part.reshape(shape).astype(np.float64)
            for part, shape in zip(np.split(vector, ends[:-1]), shapes, strict=True)
        )
        squeezed = [value[0] if value.ndim == 3 else value for value in rest]
        blocks = tuple(
            dict(zip(BLOCK, squeezed[start : start + 12], strict=True)) for start in range(0, len(squeezed), 12)
        )
        n_ctx = n_ctx or len(positions)
        return cls(np.concatenate([tokens, special, positions[:n_ctx]]), blocks, n_head, n_ctx, *(clf or ()))

    @classmethod
    def from_params(cls, params: Mapping[str, NDArray[Any]], n_head: int, n_ctx: int | None = None) -> Original:
        """Convert gpt1's parameters, whose embedding includes the special tokens, of a model without segments.

        `score.weight` (columns, D) becomes the classifier, if there is one, and `score.bias` its bias (default: zero).
        """
        values = {name: np.asarray(value, np.float64) for name, value in params.items()}
        positions = values["positions_embed.weight"]
        n_ctx = n_ctx or len(positions)
        n_layer = 1 + max(int(name.split(".")[1]) for name in values if name.startswith("h."))
        blocks = tuple({name: values[_ours(layer, name)] for name in BLOCK} for layer in range(n_layer))
        we = np.concatenate([values["tokens_embed.weight"], positions[:n_ctx]])
        if "score.weight" not in values:
            return cls(we, blocks, n_head, n_ctx)
        clf_w = values["score.weight"].T
        return cls(we, blocks, n_head, n_ctx, clf_w, values.get("score.bias", np.zeros(clf_w.shape[1])))

    # ---- what the original feeds

    def inputs(self, examples: Sequence[Sequence[Sequence[int]]]) -> Inputs:
        """Return the batch of B examples of k sequences of token ids, special tokens included, padded to `n_ctx`."""
        size = len(examples), len(examples[0])
        x, m = np.zeros((*size, self.n_ctx, 2), np.int64), np.zeros((*size, self.n_ctx))
        for i, sequences in enumerate(examples):
            for j, ids in enumerate(sequences):
                x[i, j, : len(ids), 0] = ids
                m[i, j, : len(ids)] = 1.0
        x[..., 1] = np.arange(len(self.we) - self.n_ctx, len(self.we))
        return Inputs(x, m)

    # ---- what the original computes

    def states(self, batch: Inputs) -> Array:
        """Return the states (N, T, D) of the last block."""
        h: Array = self.we[batch.X.reshape(-1, self.n_ctx, 2)].sum(2)  # rows of token and position
        for variables in self.blocks:
            a = attention(conv1d(h, variables, "attn/c_attn"), self.n_head)
            n = norm(h + conv1d(a, variables, "attn/c_proj"), variables, "ln_1")
            m = conv1d(gelu(conv1d(n, variables, "mlp/c_fc")), variables, "mlp/c_proj")
            h = norm(n + m, variables, "ln_2")
        return h

    def lm_logits(self, batch: Inputs) -> Array:
        """Return (N, T - 1, W) scores of the next token over all rows of `we`, with special tokens and positions."""
        logits: Array = self.states(batch)[:, :-1] @ self.we.T
        return logits

    def lm_losses(self, batch: Inputs) -> Array:
        """Return the (N,) mean cross-entropies of each sequence's tokens except the first, with special tokens."""
        targets = batch.X.reshape(-1, self.n_ctx, 2)[:, 1:, 0]
        mask = batch.M.reshape(-1, self.n_ctx)[:, 1:]
        losses: Array = (cross_entropy(self.lm_logits(batch), targets) * mask).sum(1) / mask.sum(1)
        return losses

    def logits(self, batch: Inputs, clf_token: int) -> Array:
        """Return the scores (B, k · columns) from the states of the first `clf_token` of each sequence."""
        assert self.clf_w is not None and self.clf_b is not None, "this model has no classifier"
        is_clf = batch.X.reshape(-1, self.n_ctx, 2)[:, :, 0] == clf_token
        h = self.states(batch)
        pooled = h[np.arange(len(h)), is_clf.argmax(1)]  # (N, D)
        scores: Array = (pooled @ self.clf_w + self.clf_b).reshape(len(batch.X), -1)
        return scores

    def clf_losses(self, batch: Inputs, labels: Integers, clf_token: int) -> Array:
        """Return the (B,) cross-entropies of `labels`."""
        return cross_entropy(self.logits(batch, clf_token), labels)

    def losses(self, batch: Inputs, labels: Integers, clf_token: int, lm_coef: float) -> Losses:
        """Return all losses; the total excludes the LM loss if `lm_coef` is 0."""
        clf, lm = self.clf_losses(batch, labels, clf_token), self.lm_losses(batch)
        return Losses(clf, lm, float(clf.mean() + (lm_coef * lm.mean() if lm_coef > 0 else 0.0)))


# ---- the operations


def conv1d(x: Array, variables: Mapping[str, Array], scope: str) -> Array:
    """Convolution of width 1: x w + b."""
    return x @ variables[scope + "/w"] + variables[scope + "/b"]


def norm(x: Array, variables: Mapping[str, Array], scope: str, e: float = 1e-5) -> Array:
    u = x.mean(-1, keepdims=True)
    s = np.square(x - u).mean(-1, keepdims=True)
    normed: Array = (x - u) / np.sqrt(s + e) * variables[scope + "/g"] + variables[scope + "/b"]
    return normed


def gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def attention(c: Array, n_head: int) -> Array:
    """Map (N, T, 3 D) to (N, T, D). The scores of later positions are set to 0 and -1e9 is added, not -inf."""
    q, k, v = (np.stack(np.split(part, n_head, -1), 1) for part in np.split(c, 3, -1))  # each (N, heads, T, D / heads)
    w = q @ k.swapaxes(-1, -2) / np.sqrt(v.shape[-1])
    b = np.tril(np.ones(w.shape[-2:]))
    a = softmax(w * b - 1e9 * (1.0 - b)) @ v
    return np.concatenate(list(a.swapaxes(0, 1)), -1)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    weights: Array = e / e.sum(-1, keepdims=True)
    return weights


def log_softmax(x: Array) -> Array:
    shifted = x - x.max(-1, keepdims=True)
    logprobs: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logprobs


def cross_entropy(logits: Array, labels: Integers) -> Array:
    """Return -log softmax(logits)[label], of the shape of `labels`."""
    losses: Array = -np.take_along_axis(log_softmax(logits), labels[..., None], -1)[..., 0]
    return losses


def _ours(layer: int, name: str) -> str:
    """Return gpt1's name of a block's variable."""
    kinds = {"w": "weight", "b": "bias", "g": "weight"}
    scope, _, kind = name.rpartition("/")
    return f"h.{layer}.{scope.replace('/', '.')}.{kinds[kind]}"
