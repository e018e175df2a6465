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
    """Label with the language model alone, without a head and without training (Radford et al. 2018, §5)."""

    zero_shot: bool = False
    """Use the language model alone, by a heuristic of the paper; no head is needed."""
    heuristic: Heuristic | None = None
    """What stands for a label (None: by the columns (choices) or the data's name (cola, sst2, imdb, reviews)).
    `acceptability`: mean log-probability of a text; `sentiment`: which of --label-words
    follows; `choice`: which choice."""
    threshold: float | None = None
    """Texts with a mean log-probability above it are acceptable (None: the best on the training split)."""
    label_words: str = "negative,positive"
    """Word for each label, in the order of their ids, for `sentiment`."""
    prompt_suffix: str = "very"
    """Text that is added to each text before the label words, for `sentiment`."""

    def __post_init__(self) -> None:
        require(self.threshold is None or math.isfinite(self.threshold), "threshold", self.threshold, "a number")
        if not self.zero_shot and any(getattr(self, item.name) != item.default for item in fields(self)):
            raise UserError(
                "--heuristic, --threshold, --label-words and --prompt-suffix go with --zero-shot: add it, or drop them"
            )
