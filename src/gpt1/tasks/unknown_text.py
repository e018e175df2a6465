"""Text that a vocabulary does not know: its share of the bytes, and what is said about it.

The share is that of the UTF-8 bytes, blanks excluded, that became `<unk>`. A vocabulary with byte fallback has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt1.config import FinetuneConfig
from gpt1.data.batching import EncodedExamples
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.tokenization.pretokenizers import valid_unicode
from gpt1.tokenization.tokenizer import Tokenizer

NOTED_SHARE = 0.05
"""Share of unknown bytes from which a text, or a set of training texts, gets a notice."""
MOST_UNKNOWN = 0.5
"""Share of unknown bytes from which training texts are refused without --allow-unknown, and other splits noted."""


def unknown_and_all_bytes(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> tuple[int, int]:
    """Return the UTF-8 bytes of `text` that became `<unk>` in its token ids, and all without blanks."""
    n_bytes = len(valid_unicode("".join(text.split())).encode())
    return min(tokenizer.unknown_bytes(text, ids), n_bytes), n_bytes


def unknown_share(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> float:
    """Return the share of a text's bytes that became `<unk>` in its token ids."""
    unknown, n_bytes = unknown_and_all_bytes(tokenizer, text, ids)
    return unknown / max(1, n_bytes)


def unknown_shares(encoded: EncodedExamples) -> NDArray[np.float64]:
    """Return the (B,) shares of unknown bytes of the examples."""
    assert encoded.unknown_bytes is not None and encoded.text_bytes is not None
    shares: NDArray[np.float64] = encoded.unknown_bytes / np.maximum(encoded.text_bytes, 1)
    return shares


def share_of_all(encoded: EncodedExamples) -> float:
    """Return the share of unknown bytes of all examples together."""
    assert encoded.unknown_bytes is not None and encoded.text_bytes is not None
    return float(encoded.unknown_bytes.sum() / max(1, encoded.text_bytes.sum()))


def _first_unknown(examples: Sequence[Example], encoded: EncodedExamples) -> str:
    """Return the origin of the first example with unknown bytes."""
    assert encoded.unknown_bytes is not None
    return examples[int(np.flatnonzero(encoded.unknown_bytes)[0])].origin


# ---- training


def check_texts(
    config: FinetuneConfig, splits: Mapping[str, Sequence[Example]], encoded: Mapping[str, EncodedExamples], *,
    resumed: bool = False,
) -> list[str]:  # fmt: skip
    """Return notices about the unknown share of the training texts and of splits that are mostly unknown, unlike these.

    Raises:
        UserError: see `check_training_texts`.
    """
    in_training = check_training_texts(config, splits["train"], encoded["train"], resumed=resumed)
    notices = [in_training] if in_training else []
    train_share = share_of_all(encoded["train"])
    for split, part in encoded.items():
        if (share := share_of_all(part)) >= MOST_UNKNOWN > train_share:
            first = _first_unknown(splits[split], part)
            notices.append(
                f"{split}: {share:.1%} of the bytes of the texts are unknown to the vocabulary and become <unk> "
                f"(first: {first}), {train_share:.1%} in train; the model can read little of these texts, so train on "
                "texts of their kind, too."
            )
    return notices


def check_training_texts(
    config: FinetuneConfig, examples: Sequence[Example], encoded: EncodedExamples, *, resumed: bool = False
) -> str | None:
    """Return a notice about the unknown share of all training texts, None below `NOTED_SHARE`.

    Raises:
        UserError: the share is `MOST_UNKNOWN` or more, the settings do not allow it, and it is not a `resumed` run.
    """
    share = share_of_all(encoded)
    if share < NOTED_SHARE:
        return None
    found = (
        f"{share:.1%} of the bytes of the training texts are unknown to the vocabulary and become <unk> (first: "
        f"{_first_unknown(examples, encoded)}); {_ways(config)}"
    )
    if share < MOST_UNKNOWN or config.split.allow_unknown or resumed:
        return found
    raise UserError(f"{found}; --allow-unknown (Python: allow_unknown=True) trains on them as they are")


def _ways(config: FinetuneConfig) -> str:
    """Return what gives a vocabulary that knows the texts, for the settings of a run."""
    pretrain = (
        "or pretrain on text of the same kind with a vocabulary of its own: gpt1 tokenizer train --byte-fallback, then "
        "gpt1 pretrain --tokenizer"
    )
    if not config.model.startswith("random:"):
        return f"--model random:mini learns a vocabulary from these texts, {pretrain}"
    if config.tokenizer:
        return (
            f"without --tokenizer {config.tokenizer} a vocabulary is learned from these texts, or pass one trained "
            "with gpt1 tokenizer train --byte-fallback"
        )
    return (
        "a larger --vocab-size has more of their characters, or pass --tokenizer DIR, trained with gpt1 tokenizer "
        "train --byte-fallback --out DIR"
    )


# ---- inference


@dataclass
class UnknownCount:
    """Number of examples whose unknown share is `NOTED_SHARE` or more."""

    noted: int = 0

    def add(self, shares: NDArray[np.float64]) -> None:
        """Count examples by their shares of unknown bytes."""
        self.noted += int((shares >= NOTED_SHARE).sum())

    def notice(self, n_examples: int, unit: str) -> str | None:
        """Return how many of the examples, called `unit`, are affected; None if none is."""
        if not self.noted:
            return None
        return (
            f"{self.noted:,} of {n_examples:,} {unit}: {NOTED_SHARE:.0%} of the bytes or more are unknown to the "
            "model's vocabulary and became <unk> (unknown_share); predictions depend on the rest alone."
        )


def require_known(examples: Sequence[Example], encoded: EncodedExamples) -> None:
    """Check that the vocabulary knows something of each example that is predicted by itself.

    Raises:
        UserError: every byte of an example is unknown, so that the prediction would not depend on the text.
    """
    for example, share in zip(examples, unknown_shares(encoded), strict=True):
        if share == 1:
            raise UserError(f"{example.origin}: {NOTHING_KNOWN}")


NOTHING_KNOWN = (
    "every character is unknown to the model's vocabulary (<unk>), so a prediction would not depend on the text; "
    "fine-tune a model whose vocabulary knows it: one trained by gpt1 tokenizer train --byte-fallback knows every text"
)
"""Reason for which a text of which nothing is known is refused."""
