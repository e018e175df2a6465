"""How a model is used: what it writes, how it labels without a head, how it is stored."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpt1.config.checks import require

MOST_SAMPLES = 64
"""Samples of one prompt: each has a cache of its own, 38 MB in float32 for 512 tokens of the paper's model."""


@dataclass(frozen=True)
class GenerateConfig:
    """How a model writes on from a prompt. `<pad> <bos> <sep> <unk>` are never written; `<eos>` ends a text."""

    max_tokens: int = 128
    """Most tokens to write."""
    temperature: float = 0.8
    """What the logits are divided by: below 1 likely tokens become likelier; 0 always takes the likeliest (greedy)."""
    top_k: int | None = None
    """Draw among so many of the likeliest tokens (None: all)."""
    top_p: float = 0.95
    """Draw among the fewest of the likeliest tokens whose probabilities sum to this share, after --top-k; 1: all."""
    repetition_penalty: float = 1.0
    """Above 1 there is less repetition (Keskar et al. 2019, §4.1).
    A positive logit of a token that stands in the prompt or the text is divided by it, a negative one multiplied."""
    seed: int = 0
    """Seed of the draws: token t of sample i is a function of (seed, i, t) and the logits, whatever else is written."""
    stop: tuple[str, ...] = ()
    """End the text before this string (may be given again for others); in lower case, as all text is here."""
    n: int = 1
    """Samples to write."""

    def __post_init__(self) -> None:
        require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "1 or more")
        require(0 <= self.temperature < math.inf, "temperature", self.temperature, "zero or more")
        require(self.top_k is None or self.top_k >= 1, "top_k", self.top_k, "1 or more")
        require(0 < self.top_p <= 1, "top_p", self.top_p, "a number in (0, 1]")
        penalty = self.repetition_penalty
        require(0 < penalty < math.inf, "repetition_penalty", penalty, "a positive number")
        require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4,294,967,295")
        require(all(self.stop), "stop", repr(""), "a text that is not empty")
        require(1 <= self.n <= MOST_SAMPLES, "n", self.n, f"1 to {MOST_SAMPLES}")
