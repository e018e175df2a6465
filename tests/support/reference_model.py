"""GPT-1 in NumPy float64 with gradients derived by hand: the reference for all backends.

It shares only `Batch` with the backends, and has no dropout. Each operation returns its result and a function
`backward(dy, grads)`: from the gradient dy of the loss by the result it adds the gradients by the operation's own
parameters to `grads` and returns the gradient by its input. Backpropagation is calling these in reverse order.

Dimensions: N sequences, T time, D width, H heads, K head size (D / H), B examples of k sequences, C columns of the
task's head, V vocabulary, M positions that have a target. A variable named dx is the gradient of the loss by x.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.base import IGNORE, Batch
from gpt1.backends.parameters import shapes
from gpt1.config import Head, ModelConfig

Array = NDArray[np.float64]
Integers = NDArray[Any]
Params = Mapping[str, NDArray[Any]]
"""Parameters by the names of `gpt1.backends.parameters`, of any floating dtype."""
Grads = dict[str, Array]
Backward = Callable[[Array, Grads], Array]


# ---- what the tests call


def hidden(params: Params, config: ModelConfig, tokens: Integers, segments: Integers | None = None) -> Array:
    """Return the states (N, T, D) of the last layer for `tokens` and `segments`, both (N, T)."""
    return decoder(_float64(params), config, tokens, segments)[0]


def task_logits(params: Params, config: ModelConfig, batch: Batch) -> Array:
    """Return (B, C) scores: C labels, 1 for a regression, k choices for multiple choice."""
    return task_head(_float64(params), config, hidden(params, config, batch.tokens, batch.segments), batch)[0]


def token_logprobs(params: Params, config: ModelConfig, batch: Batch) -> Array:
    """Return (N, T) natural-log probabilities of `lm_targets`, 0 where there is no target."""
    assert batch.lm_targets is not None
    logprobs = np.zeros(batch.tokens.shape)
    states = hidden(params, config, batch.tokens, batch.segments)
    logprobs[batch.lm_targets != IGNORE] = -lm_loss(_float64(params), config, states, batch.lm_targets)[0]
    return logprobs


def attributions(params: Params, config: ModelConfig, batch: Batch, weights: Array) -> Array:
    """Return (N, T) attributions: e · d(sum of `weights` (B, C) times the scores)/de for each token embedding e.

    Token, position and segment embeddings are summed, so their gradients are equal.
    """
    found = _float64(params)
    states, to_embeddings = decoder(found, config, batch.tokens, batch.segments)
    _, to_states = task_head(found, config, states, batch)
    nowhere = {name: np.zeros(shape) for name, shape in shapes(config).items()}
    gradient = to_embeddings(to_states(weights, nowhere), nowhere)
    every: Array = (found["tokens_embed.weight"][batch.tokens] * gradient).sum(-1)
    return every


def attention_weights(params: Params, config: ModelConfig, batch: Batch) -> Array:
    """Return the attention weights (n_layer, N, H, T, T) of every layer and head."""
    found = _float64(params)
    x, layers = embedded(found, looked_up(config, batch.tokens, batch.segments)), []
    for layer in range(config.n_layer):
        q, k, _ = heads_of(linear(x, found, f"h.{layer}.attn.c_attn")[0], config.n_head)
        layers.append(softmax_weights(q, k))
        x = block(x, found, f"h.{layer}.", config)[0]
    return np.stack(layers)


def mean_logprob(params: Params, config: ModelConfig, tokens: Sequence[int], start: int) -> float:
    """Return the mean natural-log probability of tokens[start:], each given all tokens before it."""
    states = hidden(params, config, np.array([tokens]))[0]
    embedding = np.asarray(params["tokens_embed.weight"][: config.vocab_size], np.float64)
    log_probs = log_softmax(states @ embedding.T)
    return float(np.mean([log_probs[place - 1, tokens[place]] for place in range(start, len(tokens))]))


def losses(
    params: Params, config: ModelConfig, batches: Sequence[Batch], lm_coef: float, **lm: Any
) -> dict[str, float]:
    """Return "loss" and its parts "task_loss" and "lm_loss", if the loss has them.

    The loss is that of `gpt1.backends.losses`, over all micro-batches of one step; `lm` are `lm_mean` and
    `lm_over_positions`, as there. A part without labels or targets is omitted, and so is the LM loss if its
    coefficient is 0.
    """
    return step_loss(_float64(params), config, batches, lm_coef, **lm)[0]


def gradients(
    params: Params, config: ModelConfig, batches: Sequence[Batch], lm_coef: float, **lm: Any
) -> tuple[dict[str, float], Grads]:
    """Return `losses` and the gradient of "loss" by every parameter (zeros where it has none)."""
    found, backward = step_loss(_float64(params), config, batches, lm_coef, **lm)
    grads = {name: np.zeros(shape) for name, shape in shapes(config).items()}
    backward(grads)
    return found, grads


def _float64(params: Params) -> dict[str, Array]:
    return {name: np.asarray(value, np.float64) for name, value in params.items()}


# ---- the decoder


def linear(x: Array, params: Params, name: str) -> tuple[Array, Backward]:
    """y = x W + b for x of shape (..., in) and W of shape (in, out)."""
    weight, bias = params[name + ".weight"], params[name + ".bias"]

    def backward(dy: Array, grads: Grads) -> Array:
        rows, drows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        grads[name + ".weight"] += rows.T @ drows
        grads[name + ".bias"] += drows.sum(0)
        return dy @ weight.T

    return x @ weight + bias, backward


def layer_norm(x: Array, params: Params, name: str, epsilon: float) -> tuple[Array, Backward]:
    """y = g (x - mean) / sqrt(variance + epsilon) + b for each row of x (..., D)."""
    gain, bias = params[name + ".weight"], params[name + ".bias"]
    centred = x - x.mean(-1, keepdims=True)
    std = np.sqrt(np.square(centred).mean(-1, keepdims=True) + epsilon)
    unit = centred / std

    def backward(dy: Array, grads: Grads) -> Array:
        rows = tuple(range(x.ndim - 1))
        grads[name + ".weight"] += (dy * unit).sum(rows)
        grads[name + ".bias"] += dy.sum(rows)
        dunit = dy * gain
        # y is invariant to shift and scale of x, so the gradient has no component along either.
        shift, stretch = dunit.mean(-1, keepdims=True), (dunit * unit).mean(-1, keepdims=True)
        dx: Array = (dunit - shift - unit * stretch) / std
        return dx

    return gain * unit + bias, backward


def gelu(x: Array) -> tuple[Array, Backward]:
    """y = x / 2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks & Gimpel 2016, section 2)."""
    scale = np.sqrt(2.0 / np.pi)
    tanh = np.tanh(scale * (x + 0.044715 * x**3))

    def backward(dy: Array, grads: Grads) -> Array:
        dtanh = (1.0 - tanh**2) * scale * (1.0 + 3.0 * 0.044715 * x**2)
        dx: Array = dy * 0.5 * (1.0 + tanh + x * dtanh)
        return dx

    return 0.5 * x * (1.0 + tanh), backward


def heads_of(qkv: Array, n_head: int) -> Array:
    """Split (N, T, 3 D), which is q, then k, then v, into (3, N, H, T, K)."""
    n, time, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    return qkv.reshape(n, time, 3, n_head, width // n_head).transpose(2, 0, 3, 1, 4)


def softmax_weights(q: Array, k: Array) -> Array:
    """Return softmax(q k^T / sqrt(K), future masked), (N, H, T, T)."""
    future = np.triu(np.ones((q.shape[2], q.shape[2]), bool), 1)
    return np.exp(log_softmax(np.where(future, -np.inf, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[3]))))


def attention(qkv: Array, n_head: int) -> tuple[Array, Backward]:
    """y = softmax(q k^T / sqrt(K), future masked) v for each head; qkv is (N, T, 3 D): all of q, then k, then v."""
    n, time, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    size = width // n_head
    q, k, v = heads_of(qkv, n_head)  # each (N, H, T, K)
    weights = softmax_weights(q, k)
    heads = weights @ v

    def backward(dy: Array, grads: Grads) -> Array:
        dheads = dy.reshape(n, time, n_head, size).swapaxes(1, 2)
        dweights = dheads @ v.swapaxes(-1, -2)
        dscores = weights * (dweights - (weights * dweights).sum(-1, keepdims=True)) / np.sqrt(size)
        dqkv = np.stack([dscores @ k, dscores.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ dheads])
        dx: Array = dqkv.transpose(1, 3, 0, 2, 4).reshape(qkv.shape)
        return dx

    return heads.swapaxes(1, 2).reshape(n, time, width), backward


def block(x: Array, params: Params, name: str, config: ModelConfig) -> tuple[Array, Backward]:
    """x = LN(x + attention(x)), then x = LN(x + MLP(x))."""
    qkv, qkv_backward = linear(x, params, name + "attn.c_attn")
    heads, heads_backward = attention(qkv, config.n_head)
    mixed, mixed_backward = linear(heads, params, name + "attn.c_proj")
    middle, ln_1_backward = layer_norm(x + mixed, params, name + "ln_1", config.layer_norm_epsilon)
    wide, wide_backward = linear(middle, params, name + "mlp.c_fc")
    active, gelu_backward = gelu(wide)
    narrow, narrow_backward = linear(active, params, name + "mlp.c_proj")
    out, ln_2_backward = layer_norm(middle + narrow, params, name + "ln_2", config.layer_norm_epsilon)

    def backward(dout: Array, grads: Grads) -> Array:
        dsum = ln_2_backward(dout, grads)  # the gradient of both terms of a residual sum
        dmiddle = dsum + wide_backward(gelu_backward(narrow_backward(dsum, grads), grads), grads)
        dsum = ln_1_backward(dmiddle, grads)
        return dsum + qkv_backward(heads_backward(mixed_backward(dsum, grads), grads), grads)

    return out, backward


def looked_up(config: ModelConfig, tokens: Integers, segments: Integers | None) -> list[Integers]:
    """Return the row numbers (N, T) in the token embedding: those of the tokens, and V + s for each segment s."""
    return [tokens] if segments is None else [tokens, config.vocab_size + segments]


def embedded(params: Params, rows: Sequence[Integers]) -> Array:
    """Return the input (N, T, D) of the first block: the sum of the embeddings of `rows` and of the positions."""
    x: Array = params["positions_embed.weight"][: rows[0].shape[1]]
    for index in rows:
        x = x + params["tokens_embed.weight"][index]  # (N, T, D)
    return x


def decoder(params: Params, config: ModelConfig, tokens: Integers, segments: Integers | None) -> tuple[Array, Backward]:
    """Return the states (N, T, D) (Radford et al. 2018, eq. 2)."""
    rows = looked_up(config, tokens, segments)
    x = embedded(params, rows)
    backwards = []
    for layer in range(config.n_layer):
        x, backward_of_block = block(x, params, f"h.{layer}.", config)
        backwards.append(backward_of_block)

    def backward(dx: Array, grads: Grads) -> Array:
        for backward_of_block in reversed(backwards):
            dx = backward_of_block(dx, grads)
        grads["positions_embed.weight"][: tokens.shape[1]] += dx.sum(0)
        for index in rows:
            np.add.at(grads["tokens_embed.weight"], index, dx)  # a token may occur many times
        return dx

    return x, backward


# ---- heads and losses


def log_softmax(x: Array) -> Array:
    """Return log(softmax(x)) over the last axis."""
    shifted = x - x.max(-1, keepdims=True)
    log_probs: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return log_probs


def cross_entropy(logits: Array, labels: Integers) -> tuple[Array, Array]:
    """Return -log softmax(logits)[label] of each row of (M, C) and its gradient by the logits, softmax - one-hot."""
    log_probs = log_softmax(logits)
    row = np.arange(len(labels))
    slope = np.exp(log_probs)
    slope[row, labels] -= 1.0
    return -log_probs[row, labels], slope


def task_head(params: Params, config: ModelConfig, states: Array, batch: Batch) -> tuple[Array, Backward]:
    """Return the task scores (B, C) and their backward function, which returns the gradient by all states (N, T, D).

    Similarity adds the `<eos>` states of both orders; multiple choice scores each choice (Radford et al. 2018, §3.3).
    """
    assert config.head is not None
    weight, k = params["score.weight"], batch.sequences_per_example
    eos = np.arange(len(states)), batch.eos_positions
    similarity, choice = config.head.task == "similarity", config.head.task == "multiple-choice"
    read = states[eos].reshape(-1, k, config.n_embd).sum(1) if similarity else states[eos]
    scores = read @ weight.T
    if config.head.bias:
        scores = scores + params["score.bias"]

    def backward(dlogits: Array, grads: Grads) -> Array:
        dscores = dlogits.reshape(scores.shape)
        if "score.bias" in grads:
            grads["score.bias"] += dscores.sum(0)
        grads["score.weight"] += dscores.T @ read
        dread = dscores @ weight
        dstates = np.zeros_like(states)
        dstates[eos] = np.repeat(dread, k, axis=0) if similarity else dread
        return dstates

    return scores.reshape(-1, k) if choice else scores, backward


def task_loss(logits: Array, labels: Integers, head: Head) -> tuple[Array, Array]:
    """Return the (B,) cross-entropies, or squared errors of a regression, and their gradients by the logits (B, C)."""
    if not head.regression:
        return cross_entropy(logits, labels)
    error = logits[:, 0] - labels
    return error**2, 2.0 * error[:, None]


def lm_loss(
    params: Params, config: ModelConfig, states: Array, targets: Integers, over_positions: bool = False
) -> tuple[Array, Backward]:
    """Return the (M,) cross-entropies of the targets (N, T) under the tied softmax, and their backward function.

    With `over_positions` the softmax is also over the position embedding, which has no targets.
    """
    wanted = targets != IGNORE
    words = config.vocab_size  # without segments
    embedding = params["tokens_embed.weight"][:words]
    if over_positions:
        embedding = np.concatenate([embedding, params["positions_embed.weight"]])
    found, slope = cross_entropy(states[wanted] @ embedding.T, targets[wanted])

    def backward(dlosses: Array, grads: Grads) -> Array:
        dlogits = dlosses[:, None] * slope  # (M, rows of the embedding)
        dembedding = dlogits.T @ states[wanted]
        grads["tokens_embed.weight"][:words] += dembedding[:words]
        if over_positions:
            grads["positions_embed.weight"] += dembedding[words:]
        dstates = np.zeros_like(states)
        dstates[wanted] = dlogits @ embedding
        return dstates

    return found, backward


def target_shares(batches: Sequence[Batch], lm_mean: str) -> list[Array]:
    """Return the weights (M,) of the targets in the LM loss for each micro-batch; those of a step sum to 1."""
    wanted = [np.zeros((1, 1), bool) if b.lm_targets is None else b.lm_targets != IGNORE for b in batches]
    if lm_mean == "token":
        tokens = max(1, sum(int(rows.sum()) for rows in wanted))
        return [np.full(int(rows.sum()), 1.0 / tokens) for rows in wanted]
    sequences = max(1, sum(int(rows.any(1).sum()) for rows in wanted))
    return [(rows / np.maximum(1, rows.sum(1, keepdims=True)))[rows] / sequences for rows in wanted]


def step_loss(
    params: Params, config: ModelConfig, batches: Sequence[Batch], lm_coef: float, lm_mean: str = "token",
    lm_over_positions: bool = False,
) -> tuple[dict[str, float], Callable[[Grads], None]]:  # fmt: skip
    """Return the losses of a step over its micro-batches, and a function that adds all gradients."""
    head = config.head
    lm_coef = lm_coef if head else 1.0
    weight = sum(batch.example_weight for batch in batches) if head else 0.0
    targets = sum(batch.target_count for batch in batches) if lm_coef else 0
    shares = target_shares(batches, lm_mean)
    task_total = lm_total = 0.0
    passed: list[tuple[Array, list[Callable[[Grads], Array]], Backward]] = []
    for batch, target_share in zip(batches, shares, strict=True):
        states, to_embeddings = decoder(params, config, batch.tokens, batch.segments)
        to_states: list[Callable[[Grads], Array]] = []  # backward functions of the heads
        if head and weight and batch.labels is not None:
            logits, head_backward = task_head(params, config, states, batch)
            task, slope = task_loss(logits, batch.labels, head)
            share = (np.ones(len(task)) if batch.weights is None else batch.weights.astype(np.float64)) / weight
            task_total += float(share @ task)
            to_states.append(partial(head_backward, share[:, None] * slope))
        if targets and batch.lm_targets is not None:
            lm, lm_backward = lm_loss(params, config, states, batch.lm_targets, lm_over_positions)
            lm_total += float(target_share @ lm)
            to_states.append(partial(lm_backward, lm_coef * target_share))
        passed.append((states, to_states, to_embeddings))

    def backward(grads: Grads) -> None:
        for states, to_states, to_embeddings in passed:
            to_embeddings(sum((branch(grads) for branch in to_states), np.zeros_like(states)), grads)

    parts = ({"task_loss": task_total} if weight else {}) | ({"lm_loss": lm_total} if targets else {})
    return {"loss": task_total + lm_coef * lm_total, **parts}, backward
