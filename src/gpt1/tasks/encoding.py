"""Encoding of examples as token sequences: special tokens and truncation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from gpt1.config import Truncation
from gpt1.data.batching import EncodedExamples
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.tasks.base import Task
from gpt1.tasks.labels import Labels
from gpt1.tasks.unknown_text import unknown_and_all_bytes
from gpt1.tokenization.tokenizer import Tokenizer


def encode(
    task: Task, examples: Sequence[Example], tokenizer: Tokenizer, max_length: int, *, labels: Labels | None = None,
    segments: bool = False, truncation: Truncation = "longest",
) -> EncodedExamples:  # fmt: skip
    """Encode examples as `<bos> part <sep> part … <eos>`, with at most `max_length` tokens per sequence.

    Args:
        task: Task that arranges the texts of an example into sequences.
        examples: Examples to encode.
        tokenizer: Tokenizer.
        max_length: Maximum length of a sequence in tokens, including special tokens.
        labels: Mapping of labels to ids; None = no labels in the result.
        segments: Whether to add segment numbers (the index of its part for each token).
        truncation: "longest": texts are truncated at their end, the longest text first. "half": each of two parts is
            truncated separately to `max_length` // 2 - 2 tokens (openai/finetune-transformer-lm `train.py`); within a
            part of several texts (context and question) the longest text is truncated first. Special tokens are kept.

    Raises:
        UserError: multiple-choice examples differ in the number of choices, a label does not occur in the training
            split, or `max_length` is too small for the special tokens.
    """
    arranged = [task.sequences(example) for example in examples]
    per_example = len(arranged[0]) if arranged else 1
    for example, sequences in zip(examples, arranged, strict=True):
        if len(sequences) != per_example:
            raise UserError(
                f"{example.origin}: found {len(sequences)} choices, expected {per_example} as in the previous rows"
            )
    texts = [text for sequences in arranged for parts in sequences for part in parts for text in part]
    encoded = tokenizer.encode_batch(texts)
    ids, with_ids = iter(encoded), zip(texts, encoded, strict=True)
    out: list[NDArray[np.int32]] = []
    out_segments: list[NDArray[np.int32]] = []
    truncated = 0
    n_bytes = np.zeros((len(arranged), 2), np.int64)
    full_lengths: list[int] = []
    for row, sequences in zip(n_bytes, arranged, strict=True):
        lost = False
        distinct = dict(islice(with_ids, sum(len(part) for parts in sequences for part in parts)))
        row[:] = np.sum([unknown_and_all_bytes(tokenizer, *each) for each in distinct.items()], 0)
        for parts in sequences:
            part_tokens = [[next(ids) for _ in part] for part in parts]
            if max_length < len(parts) + 1:
                raise UserError(
                    f"--max-length {max_length}: too small for the {len(parts) + 1} special tokens of a sequence"
                )
            keep = iter(kept_of_parts([[len(text) for text in part] for part in part_tokens], max_length, truncation))
            flat = [[token for text in part for token in text[: next(keep)]] for part in part_tokens]
            full_lengths.append(len(parts) + 1 + sum(len(text) for part in part_tokens for text in part))
            lost |= sum(map(len, flat)) < full_lengths[-1] - len(parts) - 1
            tokens = [tokenizer.bos]
            numbers = [0]
            for number, part_ids in enumerate(flat):
                tokens += [*part_ids, tokenizer.sep if number < len(flat) - 1 else tokenizer.eos]
                numbers += [number] * (len(part_ids) + 1)
            out.append(np.array(tokens, np.int32))
            out_segments.append(np.array(numbers, np.int32))
        truncated += lost
    weights = np.array([example.weight for example in examples], np.float32)
    return EncodedExamples(
        sequences=out,
        per_example=per_example,
        segments=out_segments if segments else None,
        labels=None if labels is None else labels.ids(examples),
        weights=None if (weights == 1).all() else weights,
        truncated=truncated,
        full_lengths=np.array(full_lengths, np.int64).reshape(-1, per_example).max(1),
        unknown_bytes=n_bytes[:, 0],
        text_bytes=n_bytes[:, 1],
    )


def kept_of_parts(lengths: Sequence[Sequence[int]], max_length: int, truncation: Truncation) -> list[int]:
    """Return how many tokens of each text are kept, given the lengths of the texts of each part."""
    if truncation == "half" and len(lengths) == 2:
        return [kept for part in lengths for kept in kept_lengths(part, half(max_length))]
    return kept_lengths([length for part in lengths for length in part], max_length - len(lengths) - 1)


def half(max_length: int) -> int:
    """Return the maximum number of tokens of a part with truncation "half"."""
    return max(0, max_length // 2 - 2)


def limit(task: Task, max_length: int, truncation: Truncation) -> str:
    """Return the length to which sequences of the task are truncated, for messages."""
    return (
        f"{half(max_length)} tokens per part" if truncation == "half" and task.n_parts == 2 else f"{max_length} tokens"
    )


def kept_lengths(lengths: Sequence[int], room: int) -> list[int]:
    """Return how many tokens of each text are kept so that the total is at most `room`.

    Tokens are removed one at a time from the longest text. Ties are resolved in favour of removing from the text that
    was originally shorter, then from the earlier one. For two texts this is the strategy `longest_first` of Hugging
    Face's `tokenizers`.
    """
    kept = list(lengths)
    excess = sum(kept) - room
    while excess > 0:
        top = max(kept)
        longest = [i for i, n in enumerate(kept) if n == top]
        below = max((n for n in kept if n < top), default=0)
        if (level := (top - below) * len(longest)) <= excess:
            drop, rest = top - below, 0
            excess -= level
        else:
            drop, rest = divmod(excess, len(longest))
            excess = 0
        for i in longest:
            kept[i] -= drop
        for i in sorted(longest, key=lambda i: (lengths[i], i))[:rest]:
            kept[i] -= 1
    return kept
