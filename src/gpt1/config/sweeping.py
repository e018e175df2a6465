"""What `gpt1 sweep` searches, and for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpt1.config.checks import require

READY_SEARCH = "lr=1e-5..1e-3:log,epochs=2|3|4,lm_coef=0|0.25|0.5,batch_size=8|16|32,dropout=0..0.3"
"""Around the paper's fine-tuning (6.25e-5, 3 epochs, 0.5, 32, 0.1)."""


@dataclass(frozen=True)
class SweepConfig:
    """Which settings are searched; the others are those of the flags of `gpt1 finetune`."""

    search: str = READY_SEARCH
    """Settings of `gpt1 finetune` with their values, commas between them.
    `NAME=LOW..HIGH`, `NAME=LOW..HIGH:log` or `NAME=A|B|C`.
    `dropout` is all four at once, `seed=0|1|2` the luck of the draw."""
    trials: int = 20
    """Trials of all processes together."""
    timeout: float | None = None
    """Begin no trial after so many seconds."""
    prune: bool = True
    """End a trial whose validation is worse than the median of the others at the same point."""

    def __post_init__(self) -> None:
        require(self.trials >= 1, "trials", self.trials, "1 or more")
        limit = self.timeout
        require(limit is None or 0 < limit < math.inf, "timeout", limit, "a positive number of seconds")
