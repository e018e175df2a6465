"""Model shapes, heads and task names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from gpt1.config.checks import known, require

PAPER_TASKS = ("classification", "entailment", "similarity", "multiple-choice")
TaskName = str
"""One of `PAPER_TASKS`, or a task added by another package through the entry point group `gpt1.tasks`."""


SINGLE_LABEL_PROBLEM: Final = "single_label_classification"
REGRESSION_PROBLEM: Final = "regression"
ProblemName = Literal["single_label_classification", "regression"]
"""Problem types of `tasks.problem_types`, with Hugging Face's names."""


def problem_name(regression: bool) -> ProblemName:
    """Return the problem type of a task with numeric targets (`regression`) or with labels."""
    return REGRESSION_PROBLEM if regression else SINGLE_LABEL_PROBLEM


@dataclass(frozen=True)
class Pooling:
    """Combination of the `<eos>` states of an example's sequences into one row of scores."""

    sequences: int = 1
    """Number of sequences per example whose states are summed."""
    per_choice: bool = False
    """Whether each sequence gets one score and the example's row consists of these scores."""

    def columns(self, n_labels: int, per_example: int) -> int:
        """Return the number of scores per example."""
        return per_example if self.per_choice else n_labels

    def mask_shape(self, n_sequences: int, per_example: int, width: int, *, shared: bool) -> tuple[int, ...]:
        """Return the shape of the head's dropout mask.

        With `shared`, all choices of an example have the same mask.
        """
        if self.per_choice and shared:
            return n_sequences // per_example, 1, width
        return (n_sequences if self.per_choice else n_sequences // per_example), width

    def sequence_of(self, column: Any) -> int:
        """Return the index of the sequence, within its example, that a column of the scores belongs to."""
        return int(column) if self.per_choice else 0


ONE_SEQUENCE = Pooling()
POOLING: dict[TaskName, Pooling] = {"similarity": Pooling(2), "multiple-choice": Pooling(per_choice=True)}
"""Pooling of the tasks with several sequences per example."""


def pooling_of(task: TaskName) -> Pooling:
    """Return the pooling of a task; one sequence per example unless `POOLING` lists it."""
    return POOLING.get(task, ONE_SEQUENCE)


@dataclass(frozen=True)
class Head:
    """Task head, a linear layer on the `<eos>` state (Radford et al. 2018, eq. 3: softmax(h W_y))."""

    task: TaskName
    n_labels: int
    """Columns of W_y: the number of labels; 1 for regression and for multiple choice (one score per choice)."""
    regression: bool = False
    bias: bool = False
    """Whether the head has a bias, as in OpenAI's code; the paper's and Hugging Face's heads have none."""

    @property
    def problem_type(self) -> ProblemName:
        """Problem type that determines loss and predictions."""
        return problem_name(self.regression)

    @property
    def description(self) -> str:
        """Name of the task for messages; "regression" for a task with numeric targets."""
        return REGRESSION_PROBLEM if self.regression else self.task

    @property
    def pooling(self) -> Pooling:
        """Pooling of the head's task."""
        return pooling_of(self.task)


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a GPT-1, with the original code's names. The defaults are the paper's model."""

    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    n_ctx: int = 512
    vocab_size: int = 40_482
    """Number of tokens, special tokens included (40,478 + 4)."""
    n_segments: int = 0
    """Number of segment embeddings: rows after the tokens, initially zero, excluded from the softmax."""
    layer_norm_epsilon: float = 1e-5
    head: Head | None = None

    def __post_init__(self) -> None:
        for name in ("n_layer", "n_head", "n_embd", "n_ctx", "vocab_size"):
            require(getattr(self, name) > 0, name, getattr(self, name), "a positive number")
        require(self.n_embd % self.n_head == 0, "n_embd", self.n_embd, f"a multiple of n_head {self.n_head}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the shape stored as a dictionary in a configuration file."""
        values = dict(values)
        head = values.pop("head", None)
        return cls(**known(cls, values), head=Head(**known(Head, head)) if head else None)


SIZES: dict[str, ModelConfig] = {
    "gpt1": ModelConfig(),
    "mini": ModelConfig(n_layer=8, n_head=4, n_embd=256, vocab_size=8_192),
    "tiny": ModelConfig(n_layer=2, n_head=2, n_embd=64, vocab_size=2_048),
}
"""Named sizes; `random:SIZE` names a model of that size with random weights."""
