"""Settings of zero-shot labelling (Radford et al. 2018, §5)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from gpt1.config.checks import require
from gpt1.errors import UserError

Heuristic = Literal["acceptability", "sentiment", "choice"]


@dataclass(frozen=True)
class ZeroShotConfig:
    """Zero-shot labelling with the language model (Radford et al. 2018, §5)."""

    zero_shot: bool = False
    """Label with the language model alone, by a heuristic of the paper; no fine-tuning is required."""
    heuristic: Heuristic | None = None
    """Heuristic (default: inferred from the columns or the data set's name). `acceptability`: mean log-probability of
    the text; `sentiment`: the more likely of --label-words after the text; `choice`: the more likely choice."""
    threshold: float | None = None
    """Mean log-probability above which a text is acceptable (default: the best on the training split)."""
    label_words: str = "negative,positive"
    """Words for the labels, in the order of the label ids, for `sentiment`."""
    prompt_suffix: str = "very"
    """Text appended to each input before the label words, for `sentiment`."""

    def __post_init__(self) -> None:
        require(self.threshold is None or math.isfinite(self.threshold), "threshold", self.threshold, "a number")
        if not self.zero_shot and any(getattr(self, item.name) != item.default for item in fields(self)):
            raise UserError(
                "--heuristic, --threshold, --label-words and --prompt-suffix require --zero-shot: add it or remove them"
            )
