"""What OpenAI's fine-tuning code computes forward, in NumPy float64: the oracle for "as the original did".

Transcribed from `train.py` of openai/finetune-transformer-lm, without dropout. It shares nothing with gpt1: the weights
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
"""The variables of a block as the graph creates them, which is the order of the release."""


class Inputs(NamedTuple):
    """A batch as the original feeds it."""

    X: Integers
    """(B, k, T, 2): the rows of `we` for each token and its position; pads are token 0."""
    M: Array
    """(B, k, T): 1 for tokens, 0 for pads."""


class Losses(NamedTuple):
    clf: Array
    """(B,) cross-entropies of the labels."""
    lm: Array
    """(N,) means over the predicted tokens of each sequence."""
    total: float
    """mean(clf) + lm_coef · mean(lm), what is differentiated."""


@dataclass(frozen=True)
class Original:
    """The original's variables and the few numbers that its graph is built from."""

    we: Array
    """(W, D): the tokens, the special tokens, then the positions up to `n_ctx`, in one matrix."""
    blocks: tuple[Mapping[str, Array], ...]
    """Of each block, the variables by the names in `BLOCK`; matrices are (in, out)."""
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
        """Start from a release folder as the original does: `special` (rows, D) are the rows that it draws.

        Only the first `n_ctx` positions are kept, and so the softmax of the language model shrinks with them.
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
        """Take gpt1's parameters: its embedding already holds the special tokens' rows, and it must have no segments.

        `score.weight` (columns, D), where there is one, becomes the classifier; `score.bias` its bias, zero without.
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
        """Return the last block's states (N, T, D)."""
        h: Array = self.we[batch.X.reshape(-1, self.n_ctx, 2)].sum(2)  # a token's row and its position's
        for variables in self.blocks:
            a = attention(conv1d(h, variables, "attn/c_attn"), self.n_head)
            n = norm(h + conv1d(a, variables, "attn/c_proj"), variables, "ln_1")
            m = conv1d(gelu(conv1d(n, variables, "mlp/c_fc")), variables, "mlp/c_proj")
            h = norm(n + m, variables, "ln_2")
        return h

    def lm_logits(self, batch: Inputs) -> Array:
        """Return (N, T - 1, W) scores of the next row, over the whole of `we`: special tokens and positions too."""
        logits: Array = self.states(batch)[:, :-1] @ self.we.T
        return logits

    def lm_losses(self, batch: Inputs) -> Array:
        """Return the (N,) mean cross-entropies of each sequence's tokens but the first; special tokens count."""
        targets = batch.X.reshape(-1, self.n_ctx, 2)[:, 1:, 0]
        mask = batch.M.reshape(-1, self.n_ctx)[:, 1:]
        losses: Array = (cross_entropy(self.lm_logits(batch), targets) * mask).sum(1) / mask.sum(1)
        return losses

    def logits(self, batch: Inputs, clf_token: int) -> Array:
        """Return the scores (B, k · columns) of the states where `clf_token` first stands in a sequence."""
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
        """Return all losses; the language model's share is left out where `lm_coef` is 0."""
        clf, lm = self.clf_losses(batch, labels, clf_token), self.lm_losses(batch)
        return Losses(clf, lm, float(clf.mean() + (lm_coef * lm.mean() if lm_coef > 0 else 0.0)))


# ---- the operations


def conv1d(x: Array, variables: Mapping[str, Array], scope: str) -> Array:
    """A convolution of width 1: x w + b."""
    return x @ variables[scope + "/w"] + variables[scope + "/b"]


def norm(x: Array, variables: Mapping[str, Array], scope: str, e: float = 1e-5) -> Array:
    u = x.mean(-1, keepdims=True)
    s = np.square(x - u).mean(-1, keepdims=True)
    normed: Array = (x - u) / np.sqrt(s + e) * variables[scope + "/g"] + variables[scope + "/b"]
    return normed


def gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def attention(c: Array, n_head: int) -> Array:
    """(N, T, 3 D) to (N, T, D). What lies ahead is not minus infinity but -1e9, after its score is set to 0."""
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
    """-log softmax(logits)[label]; the shape of `labels`."""
    losses: Array = -np.take_along_axis(log_softmax(logits), labels[..., None], -1)[..., 0]
    return losses


def _ours(layer: int, name: str) -> str:
    """gpt1's name of a block's variable."""
    kinds = {"w": "weight", "b": "bias", "g": "weight"}
    scope, _, kind = name.rpartition("/")
    return f"h.{layer}.{scope.replace('/', '.')}.{kinds[kind]}"
