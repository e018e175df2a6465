"""Settings of text generation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpt1.config.checks import require

MOST_SAMPLES = 64
"""Maximum number of samples per prompt. Each has its own KV cache: 38 MB in float32 for 512 tokens of GPT-1."""


@dataclass(frozen=True)
class GenerateConfig:
    """Settings of text generation.

    `<pad>`, `<bos>`, `<sep>` and `<unk>` are never generated; `<eos>` ends a text.
    """

    max_tokens: int = 128
    """Maximum number of tokens to generate."""
    temperature: float = 0.8
    """Divisor of the logits. Below 1, likely tokens become more likely; 0 is greedy decoding."""
    top_k: int | None = None
    """Sample from the K most likely tokens (default: all)."""
    top_p: float = 0.95
    """Sample from the smallest set of most likely tokens whose probabilities sum to P, after --top-k; 1 disables it."""
    repetition_penalty: float = 1.0
    """Penalty on tokens that occur in the prompt or the text; 1 disables it. Their positive logits are divided by it,
    negative ones multiplied (Keskar et al. 2019, §4.1)."""
    seed: int = 0
    """Seed of the sampling. Token t of sample i depends on (seed, i, t) and its logits only."""
    stop: tuple[str, ...] = ()
    """String before which the text ends, in lower case like all generated text. Repeatable."""
    n: int = 1
    """Number of samples to generate."""

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
