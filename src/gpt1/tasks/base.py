"""What a task is: how its examples become token sequences, and what its labels mean (Radford et al. 2018, §3.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gpt1.config import Head, TaskName, Truncation
from gpt1.data.batching import Encoded
from gpt1.data.dataset import Example
from gpt1.errors import UserError
from gpt1.tokenization.tokenizer import Tokenizer

Kind = Literal["single", "pair", "choices"]
"""Shape of an example, as `data.tables` detects it."""

Part = tuple[str, ...]
"""Texts that follow each other without a separator."""

MOST_LABELS = 1_000
"""More different labels than this are taken for a column that is no label."""


class Task(Protocol):
    """One kind of task: a file of this folder each."""

    name: ClassVar[TaskName]
    kind: ClassVar[Kind]

    def sequences(self, example: Example) -> list[list[Part]]:
        """Return the sequences of one example; the parts of a sequence are joined by `<sep>`."""


@dataclass(frozen=True)
class Labels:
    """What the labels are: names with ids, or numbers to be predicted as they are."""

    names: tuple[str, ...] = ()
    """Label names in the order of their ids; empty for a regression and for multiple choice."""
    regression: bool = False

    @classmethod
    def of(cls, task: TaskName, train: Sequence[Example], given: Sequence[str] | None = None) -> Labels:
        """Return the labels that the training examples have; numbers with a fraction make it a regression.

        `given` names integer labels 0, 1, … (a catalogue's names).

        Raises:
            UserError: one label only, or a column of all-different values.
        """
        if task == "multiple-choice":
            return cls()
        values = Counter(example.label for example in train)
        numbers = all(isinstance(value, int | float) for value in values)
        if numbers and any(not float(value).is_integer() for value in values):  # type: ignore[arg-type]
            return cls(regression=True)
        where = train[0].origin
        if len(values) == 1:
            raise UserError(
                f"--data: every training example has the label {train[0].label!r} (first: {where}); "
                "at least two labels are needed, name the column with --label"
            )
        if len(values) > MOST_LABELS or (len(values) == len(train) and len(train) > 2):
            raise UserError(
                f"--data: {len(values):,} different labels in {len(train):,} training examples (first: {where}, "
                f"{str(train[0].label)[:40]!r}): this column is no label; name the right one with --label"
            )
        names = sorted(values, key=float) if numbers else sorted(values, key=str)  # type: ignore[arg-type]
        if given and numbers and all(0 <= int(value) < len(given) for value in names):  # type: ignore[arg-type]
            return cls(tuple(given))
        return cls(tuple(_name(value) for value in names))

    def head(self, task: TaskName) -> Head:
        """Return the head that predicts these labels."""
        return Head(task, len(self.names) or 1, self.regression)

    def ids(self, task: TaskName, examples: Sequence[Example]) -> NDArray[np.generic]:
        """Return (B,) int64 ids, or float32 values of a regression.

        Raises:
            UserError: a label that training never had.
        """
        if self.regression:
            return np.array([_number(example) for example in examples], np.float32)
        if task == "multiple-choice":
            return np.array([example.label for example in examples], np.int64)
        ids: dict[object, int] = {name: index for index, name in enumerate(self.names)}
        if not any(name.lstrip("-").isdigit() for name in self.names):
            ids |= {index: index for index in ids.values()}  # where the names are words, numbers count them
        found = [ids.get(e.label, ids.get(_name(e.label), -1)) for e in examples]
        for example, index in zip(examples, found, strict=True):
            if index < 0:
                known = ", ".join(self.names[:10]) + (" …" if len(self.names) > 10 else "")
                raise UserError(
                    f"{example.origin}: label {example.label!r} does not occur in the training split (known: {known})"
                )
        return np.array(found, np.int64)


def _name(label: str | float | int | None) -> str:
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _number(example: Example) -> float:
    if not isinstance(example.label, int | float):
        raise UserError(
            f"{example.origin}: label {example.label!r} found, a number expected (the task is a regression)"
        )
    return float(example.label)


def encode(
    task: Task, examples: Sequence[Example], tokenizer: Tokenizer, max_length: int, *, labels: Labels | None = None,
    segments: bool = False, truncation: Truncation = "longest",
) -> Encoded:  # fmt: skip
    """Return the examples as token ids: `<bos> part <sep> part … <eos>`, at most `max_length` tokens a sequence.

    Special tokens are never cut: texts lose tokens at their end, the longest text first. With `truncation` "half" each
    of two parts is cut by itself, to `max_length` // 2 - 2 tokens (openai/finetune-transformer-lm `train.py`); a part
    of several texts (context and question) loses those of its longest text first. `labels` maps the labels; without
    it they are left out. With `segments`, a part's number stands beside each of its tokens.

    Raises:
        UserError: multiple-choice examples with different numbers of choices; a label that training never had.
    """
    arranged = [task.sequences(example) for example in examples]
    per_example = len(arranged[0]) if arranged else 1
    for example, sequences in zip(examples, arranged, strict=True):
        if len(sequences) != per_example:
            raise UserError(
                f"{example.origin}: {len(sequences)} choices found, {per_example} expected as in the rows before"
            )
    texts = [text for sequences in arranged for parts in sequences for part in parts for text in part]
    ids = iter(tokenizer.encode_batch(texts))
    out: list[NDArray[np.int32]] = []
    out_segments: list[NDArray[np.int32]] = []
    truncated = 0
    for sequences in arranged:
        lost = False
        for parts in sequences:
            pieces = [[next(ids) for _ in part] for part in parts]
            if max_length < len(parts) + 1:
                raise UserError(f"--max-length {max_length}: the special tokens alone are {len(parts) + 1}")
            keep = iter(kept_of_parts([[len(piece) for piece in part] for part in pieces], max_length, truncation))
            flat = [[token for piece in part for token in piece[: next(keep)]] for part in pieces]
            lost |= sum(map(len, flat)) < sum(len(piece) for part in pieces for piece in part)
            tokens = [tokenizer.bos]
            numbers = [0]
            for number, part_ids in enumerate(flat):
                tokens += [*part_ids, tokenizer.sep if number < len(flat) - 1 else tokenizer.eos]
                numbers += [number] * (len(part_ids) + 1)
            out.append(np.array(tokens, np.int32))
            out_segments.append(np.array(numbers, np.int32))
        truncated += lost
    weights = np.array([example.weight for example in examples], np.float32)
    return Encoded(
        sequences=out,
        per_example=per_example,
        segments=out_segments if segments else None,
        labels=None if labels is None else labels.ids(task.name, examples),
        weights=None if (weights == 1).all() else weights,
        truncated=truncated,
    )


def kept_of_parts(lengths: Sequence[Sequence[int]], max_length: int, truncation: Truncation) -> list[int]:
    """Return how many tokens each text keeps, part after part, of parts that hold `lengths` tokens in their texts."""
    if truncation == "half" and len(lengths) == 2:
        return [kept for part in lengths for kept in kept_lengths(part, half(max_length))]
    return kept_lengths([length for part in lengths for length in part], max_length - len(lengths) - 1)


def half(max_length: int) -> int:
    """Return the most tokens of a part that is cut by itself: half the length, without two special tokens."""
    return max(0, max_length // 2 - 2)


def limit(task: Task, max_length: int, truncation: Truncation) -> str:
    """Return what the task's sequences are cut to, for people."""
    return (
        f"{half(max_length)} tokens a part"
        if truncation == "half" and task.kind != "single"
        else f"{max_length} tokens"
    )


def kept_lengths(lengths: Sequence[int], room: int) -> list[int]:
    """Return how many tokens each text keeps so that all fit into `room`: the longest gives first, one at a time.

    Among equally long ones the text that was shorter to begin with gives, then the earlier one; for two texts this is
    the `longest_first` of Hugging Face's `tokenizers`, so that their pipelines cut as we do.
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
