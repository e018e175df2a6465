"""Settings of `gpt1 sweep`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpt1.config.checks import require

READY_SEARCH = "lr=1e-5..1e-3:log,lm_coef=0|0.25|0.5,batch_size=8|16|32,dropout=0..0.3"
"""Default search space, around the paper's values (lr 6.25e-5, λ 0.5, batch size 32, dropout 0.1)."""


@dataclass(frozen=True)
class SweepConfig:
    """Search space and number of trials; all other settings are flags of `gpt1 finetune`."""

    search: str = READY_SEARCH
    """Search space, a list of settings of `gpt1 finetune` separated by commas. Each is `NAME=LOW..HIGH`,
    `NAME=LOW..HIGH:log` or `NAME=A|B|C`; `dropout` sets all four dropout probabilities."""
    trials: int = 20
    """Number of trials, of all processes together."""
    timeout: float | None = None
    """Seconds after which no further trial starts (default: no limit)."""
    prune: bool = True
    """Stop a trial whose validation metric is worse than the median of the other trials at the same step."""

    def __post_init__(self) -> None:
        require(self.trials >= 1, "trials", self.trials, "1 or more")
        limit = self.timeout
        require(limit is None or 0 < limit < math.inf, "timeout", limit, "a positive number of seconds")
