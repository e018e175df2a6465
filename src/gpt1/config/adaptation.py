"""Settings of the language-model training before a fine-tuning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from gpt1.config.checks import require
from gpt1.errors import UserError


@dataclass(frozen=True)
class AdaptConfig:
    """Adaptation: language-model training on the task's own texts before fine-tuning (Howard & Ruder 2018).

    Its texts are those of the training split, with the rows that --train-fraction leaves aside, and --unlabelled.
    """

    adapt: float | None = None
    """Epochs of language-model training on the texts before fine-tuning (default: none)."""
    unlabelled: Path | None = None
    """Further texts for --adapt, a table or .txt file or a folder of them. Validation and test texts are left out."""
    adapt_lr: float | None = None
    """Peak learning rate of --adapt (default: 1e-3, from 60 M parameters on 1e-4; less on little text)."""

    def __post_init__(self) -> None:
        require(
            self.adapt is None or 0 < self.adapt < math.inf, "adapt", self.adapt,
            "a positive number of epochs; leave the flag out for fine-tuning alone",
        )  # fmt: skip
        rate = self.adapt_lr
        require(rate is None or 0 < rate < math.inf, "adapt_lr", rate, "a positive number")
        for flag, value in (("unlabelled", self.unlabelled), ("adapt-lr", self.adapt_lr)):
            if value is not None and self.adapt is None:
                raise UserError(f"--{flag} {value}: only used with --adapt EPOCHS; add --adapt 1, or remove the flag")
