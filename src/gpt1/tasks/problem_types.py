"""Problem types: what the answers of a task are, from labels to losses, predictions, metrics and errors.

Letters: N examples, C columns of the logits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpt1.config import REGRESSION_PROBLEM, SINGLE_LABEL_PROBLEM, ProblemName
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.tasks.metrics import probabilities

Array = NDArray[Any]

NAMES_LISTED = 20
"""Most label names in a message."""


class ProblemType(ABC):
    """What the answers of a task are. `names` are those of the labels in the order of their ids, if they have names."""

    name: ClassVar[ProblemName]
    """Hugging Face's word for it, as in `config.json`."""
    linear_model: ClassVar[str]
    """Model of the baseline to compare with: a key of `evaluation.baselines.LINEAR_MODELS`."""
    loss_unit: ClassVar[str]
    worst_title: ClassVar[str]
    """Title of a list of the worst answers."""
    margin: ClassVar[str]
    """What the weights of an explanation add to, for people."""
    effects: ClassVar[tuple[str, str]]
    """What a word of positive and of negative weight did to a wrong answer, for people."""

    @abstractmethod
    def description(self, names: Sequence[str]) -> str:
        """Return the labels for people: "3 labels"."""

    @abstractmethod
    def metrics(self, n_labels: int) -> tuple[str, ...]:
        """Return the metrics to report; the first one selects the best model."""

    @abstractmethod
    def targets(self, examples: Sequence[Example], names: Sequence[str]) -> Array:
        """Return what the loss takes for labels: (N,) int64 ids or float32 values.

        Raises:
            UserError: a label that training never had, or that is no number where one is expected.
        """

    @abstractmethod
    def losses(self, logits: Array, targets: Array) -> Array:
        """Return the loss (N,) float64 of each example, of logits (N, C)."""

    @abstractmethod
    def predictions(self, logits: Array) -> Array:
        """Return (N,) label ids int64, or values float64, of logits (N, C)."""

    @abstractmethod
    def outputs(self, logits: Array) -> Array:
        """Return (N, C) float64: probabilities, or the values as they are."""

    @abstractmethod
    def prediction(self, logits: Array, names: Sequence[str]) -> dict[str, Any]:
        """Return {"label", "score", "scores": {label: probability}} of one example's logits (C,)."""

    @abstractmethod
    def answers(self, names: Sequence[str], n_choices: int) -> Sequence[str]:
        """Return the labels that an example can have; none where the answer is a value."""

    @abstractmethod
    def answer(self, target: Any, names: Sequence[str]) -> str | int | float:
        """Return the label, the index of a choice, or the value that a target or prediction stands for."""

    @abstractmethod
    def label_of_answer(self, answer: Any) -> Any:
        """Return the label to explain for what `answer` gave; None where it is a value."""

    @abstractmethod
    def column(self, label: str | int | None, logits: Array, names: Sequence[str]) -> int:
        """Return the column of one example's logits (C,) that stands for a label; None: for the predicted one.

        Raises:
            UserError: there is no such label.
        """

    @abstractmethod
    def label_of_column(self, column: int, names: Sequence[str]) -> str | int | None:
        """Return the label that a column stands for; None where it is the value."""

    @abstractmethod
    def errors(self, predicted: Array, targets: Array) -> tuple[Array, str]:
        """Return (N,) whether each answer is right, or how far off it is, and the metric that is the mean of these."""

    @abstractmethod
    def worst(self, logits: Array, predicted: Array, targets: Array) -> list[tuple[int, dict[str, float]]]:
        """Return the wrong answers, the worst first: (index of the example, {"confidence"} where there is one)."""

    @abstractmethod
    def constant(self, targets: Array, weights: Array) -> tuple[str, Any]:
        """Return the name and the answer of the best baseline that gives the same answer for all examples."""

    def label_counts(self, targets: Array, names: Sequence[str]) -> dict[str, int]:
        """Return how many examples have each label; nothing where labels have no names."""
        return {}


class SingleLabel(ProblemType):
    """One label of several, or one of an example's choices: cross-entropy over the columns."""

    name = SINGLE_LABEL_PROBLEM
    linear_model = "logistic"
    loss_unit = "nats"
    worst_title = "Most confident mistakes"
    margin = "the score of that answer over the others"
    effects = ("spoke for the wrong answer", "spoke against it")

    def description(self, names: Sequence[str]) -> str:
        return f"{len(names)} labels" if names else "choices"

    def metrics(self, n_labels: int) -> tuple[str, ...]:
        return ("accuracy", "f1" if n_labels == 2 else "macro_f1", "matthews")

    def targets(self, examples: Sequence[Example], names: Sequence[str]) -> Array:
        if not names:  # indices of choices
            return np.array([example.label for example in examples], np.int64)
        ids: dict[object, int] = {name: index for index, name in enumerate(names)}
        if not any(name.lstrip("-").isdigit() for name in names):
            ids |= {index: index for index in ids.values()}  # where the names are words, numbers count them
        targets = [ids.get(e.label, ids.get(label_name(e.label), -1)) for e in examples]
        for example, index in zip(examples, targets, strict=True):
            if index < 0:
                known = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
                raise UserError(
                    f"{example.origin}: label {example.label!r} does not occur in the training split (known: {known})"
                )
        return np.array(targets, np.int64)

    def losses(self, logits: Array, targets: Array) -> Array:
        likely = probabilities(logits)[np.arange(len(targets)), targets]
        return np.asarray(-np.log(np.maximum(likely, np.finfo(np.float64).tiny)))

    def predictions(self, logits: Array) -> Array:
        return np.asarray(np.argmax(logits, axis=1), dtype=np.int64)

    def outputs(self, logits: Array) -> Array:
        return probabilities(logits)

    def prediction(self, logits: Array, names: Sequence[str]) -> dict[str, Any]:
        row = probabilities(logits)
        best = int(row.argmax())
        scores = {name: float(value) for name, value in zip(self.answers(names, len(row)), row, strict=True)}
        return {"label": self.label_of_column(best, names), "score": float(row[best]), "scores": scores}

    def answers(self, names: Sequence[str], n_choices: int) -> Sequence[str]:
        return names or [str(index) for index in range(n_choices)]

    def answer(self, target: Any, names: Sequence[str]) -> str | int:
        return self.label_of_column(int(target), names)

    def label_of_answer(self, answer: Any) -> Any:
        return answer

    def column(self, label: str | int | None, logits: Array, names: Sequence[str]) -> int:
        if label is None:
            return int(logits.argmax())
        known = list(self.answers(names, len(logits)))
        if str(label) not in known:
            raise UserError(f"--label {label}: unknown; expected one of {', '.join(known[:NAMES_LISTED])}")
        return known.index(str(label))

    def label_of_column(self, column: int, names: Sequence[str]) -> str | int:
        return names[column] if names else column

    def errors(self, predicted: Array, targets: Array) -> tuple[Array, str]:
        return predicted == targets, "accuracy"

    def worst(self, logits: Array, predicted: Array, targets: Array) -> list[tuple[int, dict[str, float]]]:
        confidence = probabilities(logits).max(1)
        wrong = np.flatnonzero(predicted != targets)
        order = wrong[np.argsort(-confidence[wrong], kind="stable")]
        return [(int(index), {"confidence": float(confidence[index])}) for index in order]

    def constant(self, targets: Array, weights: Array) -> tuple[str, Any]:
        return "majority class", np.bincount(targets, weights=weights).argmax()

    def label_counts(self, targets: Array, names: Sequence[str]) -> dict[str, int]:
        counts = np.bincount(targets, minlength=len(names))
        return {name: int(count) for name, count in zip(names, counts, strict=False)}


class Regression(ProblemType):
    """A number: squared error of the only column."""

    name = REGRESSION_PROBLEM
    linear_model = "ridge"
    loss_unit = "label units²"
    worst_title = "Largest errors"
    margin = "the predicted value"
    effects = ("raised the value", "lowered it")

    def description(self, names: Sequence[str]) -> str:
        return "regression"

    def metrics(self, n_labels: int) -> tuple[str, ...]:
        return ("pearson", "spearman", "mse")

    def targets(self, examples: Sequence[Example], names: Sequence[str]) -> Array:
        return np.array([_number(example) for example in examples], np.float32)

    def losses(self, logits: Array, targets: Array) -> Array:
        return np.asarray((logits[:, 0].astype(np.float64) - targets) ** 2)

    def predictions(self, logits: Array) -> Array:
        if logits.ndim != 2 or logits.shape[1] != 1:
            raise ValueError(f"logits {logits.shape}: a regression has one column")
        return np.asarray(logits[:, 0], dtype=np.float64)

    def outputs(self, logits: Array) -> Array:
        return logits.astype(np.float64)

    def prediction(self, logits: Array, names: Sequence[str]) -> dict[str, Any]:
        return {"label": None, "score": float(logits[0]), "scores": {}}

    def answers(self, names: Sequence[str], n_choices: int) -> Sequence[str]:
        return ()

    def answer(self, target: Any, names: Sequence[str]) -> float:
        return float(target)

    def label_of_answer(self, answer: Any) -> None:
        return None

    def column(self, label: str | int | None, logits: Array, names: Sequence[str]) -> int:
        if label is not None:
            raise UserError(f"--label {label}: this model gives a value and has no labels; leave the flag out")
        return 0

    def label_of_column(self, column: int, names: Sequence[str]) -> None:
        return None

    def errors(self, predicted: Array, targets: Array) -> tuple[Array, str]:
        return np.abs(predicted - targets), "mae"

    def worst(self, logits: Array, predicted: Array, targets: Array) -> list[tuple[int, dict[str, float]]]:
        return [(int(index), {}) for index in np.argsort(-np.abs(predicted - targets), kind="stable")]

    def constant(self, targets: Array, weights: Array) -> tuple[str, Any]:
        return "mean", np.average(targets, weights=weights)


SINGLE_LABEL = SingleLabel()
REGRESSION = Regression()
PROBLEM_TYPES: dict[ProblemName, ProblemType] = {each.name: each for each in (SINGLE_LABEL, REGRESSION)}
"""By Hugging Face's names. `multi_label_classification` is refused: rows with several labels are an error."""


def problem_type_of(names: Collection[str]) -> ProblemType:
    """Return the problem type of a record whose keys hold the names of its metrics."""
    known = (each for each in PROBLEM_TYPES.values() if set(each.metrics(n_labels=2)) & set(names))
    return next(known, SINGLE_LABEL)


def label_name(label: str | float | int | None) -> str:
    """Return the name of a label: integers without a fraction."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _number(example: Example) -> float:
    if not isinstance(example.label, int | float):
        raise UserError(
            f"{example.origin}: label {example.label!r} found, a number expected (the task is a regression)"
        )
    return float(example.label)
