"""The update rules of training, in operators alone, so that one text runs on NumPy, PyTorch and MindSpore arrays.

A backend may use its framework's fused kernel instead where a test proves that it is the same rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from gpt1.config import OptimConfig

Array = Any
"""Anything with +, -, *, / and **: a NumPy array, a torch or MindSpore tensor."""


def learning_rate(step: int, total_steps: int, config: OptimConfig) -> float:
    """Return the learning rate of `step` (0-based) in a run of `total_steps`.

    The decay counts from step 0 and is not rescaled after the warm-up (openai/finetune-transformer-lm `opt.py`:
    `warmup_linear` (1 - t/T, times t/warm-up at first) and `warmup_cosine` (t/warm-up, then half a cosine of t/T)).
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
    """Return (eps, weight decay) with which AdamW's usual form does update number `step` (0-based).

    As `config` has them, unless it asks for the rule of OpenAI's code (openai/finetune-transformer-lm `opt.py`), with
    the rate lr_t = lr √(1 - β2^t) / (1 - β1^t): there the parameter loses lr_t (m / (√v + eps) + decay · parameter).
    Divided by √(1 - β2^t), √v + eps is AdamW's bias-corrected √v plus eps / √(1 - β2^t); and lr_t · decay is lr times
    decay √(1 - β2^t) / (1 - β1^t).
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

    Kingma & Ba 2015, algorithm 1, with the decoupled decay of Loshchilov & Hutter 2019; `decay` says whether this
    parameter is one that decays. All four arrays have one shape; nothing is changed in place. With the two switches of
    `corrections` it is the rule of OpenAI's code.
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
    """Return the Euclidean norm of all gradients taken as one vector."""
    return sum((grad * grad).sum() for grad in grads) ** 0.5


def clip_factor(norm: Array, max_grad_norm: float) -> Array:
    """Return the factor that brings gradients of global norm `norm` to at most `max_grad_norm` (0: no clipping)."""
    if max_grad_norm == 0:
        return norm * 0 + 1.0
    excess = norm / max_grad_norm
    return 1.0 / ((excess > 1.0) * excess + (excess <= 1.0))
