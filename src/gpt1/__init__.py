"""gpt1: the complete GPT-1 (Radford et al. 2018). No framework is imported before it is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpt1.text.bpe import Tokenizer

__all__ = ["tokenizer"]


def tokenizer(directory: str | Path) -> Tokenizer:
    """Load the tokenizer of a run, a model directory, a folder of OpenAI's release, a tokenizer directory, or `mini`.

    `encode`, `encode_batch`, `decode` and `tokens` are its methods. Raises UserError where there is none.
    """
    from gpt1.api import open_tokenizer

    return open_tokenizer(Path(directory))
