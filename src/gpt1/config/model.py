"""The shape of a model, and the shapes that have names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from gpt1.config.checks import known, require

PAPER_TASKS = ("classification", "entailment", "similarity", "multiple-choice")
TaskName = str
"""One of `PAPER_TASKS`, or a task that another package adds (`gpt1.tasks`)."""


SINGLE_LABEL_PROBLEM: Final = "single_label_classification"
REGRESSION_PROBLEM: Final = "regression"
ProblemName = Literal["single_label_classification", "regression"]
"""Problem types of `tasks.problem_types`, by Hugging Face's words."""


def problem_name(regression: bool) -> ProblemName:
    return REGRESSION_PROBLEM if regression else SINGLE_LABEL_PROBLEM


@dataclass(frozen=True)
class Pooling:
    """How the `<eos>` states of an example's sequences become one row of scores."""

    sequences: int = 1
    """Sequences of an example, whose states are added."""
    per_choice: bool = False
    """Whether each sequence has a score of its own instead, of which the example's row consists."""

    def columns(self, n_labels: int, per_example: int) -> int:
        """Return the columns of an example's scores."""
        return per_example if self.per_choice else n_labels

    def mask_shape(self, n_sequences: int, per_example: int, width: int, *, shared: bool) -> tuple[int, ...]:
        """Return the shape of the head's dropout mask; `shared`: one mask for all choices of an example."""
        if self.per_choice and shared:
            return n_sequences // per_example, 1, width
        return (n_sequences if self.per_choice else n_sequences // per_example), width

    def sequence_of(self, column: Any) -> int:
        """Return which of an example's sequences a column of its scores is about."""
        return int(column) if self.per_choice else 0


ONE_SEQUENCE = Pooling()
POOLING: dict[TaskName, Pooling] = {"similarity": Pooling(2), "multiple-choice": Pooling(per_choice=True)}
"""Of the tasks with several sequences an example."""


def pooling_of(task: TaskName) -> Pooling:
    return POOLING.get(task, ONE_SEQUENCE)


@dataclass(frozen=True)
class Head:
    """What stands on the `<eos>` state (Radford et al. 2018, eq. 3: softmax(h W_y))."""

    task: TaskName
    n_labels: int
    """Columns of W_y: the number of labels; 1 for a regression and for multiple choice (one score a choice)."""
    regression: bool = False
    bias: bool = False
    """Whether it adds a bias, as OpenAI's code does; the paper's head and Hugging Face's have none."""

    @property
    def problem_type(self) -> ProblemName:
        return problem_name(self.regression)

    @property
    def description(self) -> str:
        """The task for people; of a regression, that it is one."""
        return REGRESSION_PROBLEM if self.regression else self.task

    @property
    def pooling(self) -> Pooling:
        return pooling_of(self.task)


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a GPT-1 (names as in the original code). The defaults are the paper's model."""

    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    n_ctx: int = 512
    vocab_size: int = 40_482
    """Rows of the token embedding that are tokens: the vocabulary and the special tokens (40,478 + 4)."""
    n_segments: int = 0
    """Segment embeddings: extra rows after the tokens, zero at the start, left out of the softmax."""
    layer_norm_epsilon: float = 1e-5
    head: Head | None = None

    def __post_init__(self) -> None:
        for name in ("n_layer", "n_head", "n_embd", "n_ctx", "vocab_size"):
            require(getattr(self, name) > 0, name, getattr(self, name), "a positive number")
        require(self.n_embd % self.n_head == 0, "n_embd", self.n_embd, f"a multiple of n_head {self.n_head}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        values = dict(values)
        head = values.pop("head", None)
        return cls(**known(cls, values), head=Head(**known(Head, head)) if head else None)


SIZES: dict[str, ModelConfig] = {
    "gpt1": ModelConfig(),
    "mini": ModelConfig(n_layer=8, n_head=4, n_embd=256, vocab_size=8_192),
    "tiny": ModelConfig(n_layer=2, n_head=2, n_embd=64, vocab_size=2_048),
}
"""Named sizes; `random:SIZE` builds one from random weights."""
