"""Update rule of training: learning-rate schedule, AdamW, gradient clipping.

It uses operators only, so the same code runs on NumPy, PyTorch and MindSpore arrays. A backend may use a fused kernel
of its framework instead if a test proves that it computes the same rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from gpt1.config import OptimConfig

Array = Any
"""NumPy array, PyTorch or MindSpore tensor: anything with +, -, *, / and **."""


def learning_rate(step: int, total_steps: int, config: OptimConfig) -> float:
    """Return the learning rate of `step` (0-based) in a run of `total_steps`.

    The decay starts at step 0 and is not rescaled after the warm-up, as in openai/finetune-transformer-lm `opt.py`:
    `warmup_linear` is 1 - t/T, times t/warm-up during the warm-up; `warmup_cosine` is t/warm-up, then half a cosine of
    t/T.
    """
    warmup = config.warmup * total_steps if config.warmup < 1 else config.warmup
    ramp = min(1.0, step / warmup) if warmup > 0 else 1.0
    done = step / total_steps
    match config.schedule:
        case "linear":
            return config.lr * ramp * (1.0 - done)
        case "cosine":
            return config.lr * (ramp if step <= warmup else 0.5 * (1.0 + math.cos(math.pi * done)))
        case "constant":
            return config.lr * ramp


def corrections(step: int, config: OptimConfig) -> tuple[float, float]:
    """Return (eps, weight decay) of AdamW's usual form for update number `step` (0-based).

    They are those of `config`, unless its switches select the rule of openai/finetune-transformer-lm `opt.py`. With
    lr_t = lr √(1 - β2^t) / (1 - β1^t), that rule subtracts lr_t (m / (√v + eps) + decay · parameter). In AdamW's form
    its eps is eps / √(1 - β2^t), because √v / √(1 - β2^t) is the bias-corrected √v, and its decay is
    decay √(1 - β2^t) / (1 - β1^t), because lr_t · decay = lr · that.
    """
    t = step + 1
    second = math.sqrt(1.0 - config.beta2**t)
    eps = config.eps / second if config.eps_outside_correction else config.eps
    if config.decay_with_correction:
        return eps, config.weight_decay * second / (1.0 - config.beta1**t)
    return eps, config.weight_decay


def adamw(
    param: Array, grad: Array, first: Array, second: Array, *, step: int, lr: float, decay: bool, config: OptimConfig
) -> tuple[Array, Array, Array]:
    """Return (param, first moment, second moment) after update number `step` (0-based) of AdamW.

    Kingma & Ba 2015, algorithm 1, with the decoupled weight decay of Loshchilov & Hutter 2019, or OpenAI's rule (see
    `corrections`). `decay`: whether weight decay applies. All four arrays have one shape; none is changed in place.
    """
    t = step + 1
    eps, weight_decay = corrections(step, config)
    if decay:
        param = param * (1.0 - lr * weight_decay)
    first = config.beta1 * first + (1.0 - config.beta1) * grad
    second = config.beta2 * second + (1.0 - config.beta2) * grad * grad
    unbiased_first = first / (1.0 - config.beta1**t)
    unbiased_second = second / (1.0 - config.beta2**t)
    return param - lr * unbiased_first / (unbiased_second**0.5 + eps), first, second


def global_norm(grads: Iterable[Array]) -> Array:
    """Return the Euclidean norm of the concatenation of all gradients."""
    return sum((grad * grad).sum() for grad in grads) ** 0.5


def clip_factor(norm: Array, max_grad_norm: float) -> Array:
    """Return min(1, max_grad_norm / norm), the factor of gradients of global norm `norm`; 1 if `max_grad_norm` is 0."""
    if max_grad_norm == 0:
        return norm * 0 + 1.0
    excess = norm / max_grad_norm
    return 1.0 / ((excess > 1.0) * excess + (excess <= 1.0))
