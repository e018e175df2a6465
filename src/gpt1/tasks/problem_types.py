"""Problem types (single label, regression): targets, losses, predictions, metrics and errors.

Letters: N examples, C columns of the logits.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpt1.config import REGRESSION_PROBLEM, SINGLE_LABEL_PROBLEM, ProblemName
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.tasks.label_ids import LabelIds, require_known
from gpt1.tasks.metrics import probabilities

Array = NDArray[Any]

NAMES_LISTED = 20
"""Maximum number of label names in a message."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?", re.IGNORECASE)


class ProblemType(ABC):
    """Interface of a problem type; `names` are the label names in the order of their ids, empty if there are none."""

    name: ClassVar[ProblemName]
    """Hugging Face's `problem_type`, as in `config.json`."""
    linear_model: ClassVar[str]
    """Linear model of the baseline: a key of `evaluation.baselines.LINEAR_MODELS`."""
    loss_unit: ClassVar[str]
    worst_title: ClassVar[str]
    """Title of the list of worst errors."""
    margin: ClassVar[str]
    """The quantity to which the weights of an explanation contribute, for messages."""
    effects: ClassVar[tuple[str, str]]
    """Captions for words with positive and with negative weight in a wrong prediction."""

    @abstractmethod
    def description(self, names: Sequence[str]) -> str:
        """Return a short description of the labels: "3 labels"."""

    @abstractmethod
    def metrics(self, n_labels: int) -> tuple[str, ...]:
        """Return the metrics to report; the first one selects the best model."""

    @abstractmethod
    def targets(self, examples: Sequence[Example], names: Sequence[str]) -> Array:
        """Return the targets of the loss: label ids (N,) int64 or values (N,) float32.

        Raises:
            UserError: a label does not occur in the training split, or is not a number in a regression.
        """

    @abstractmethod
    def losses(self, logits: Array, targets: Array) -> Array:
        """Return the loss (N,) float64 of each example for logits (N, C)."""

    @abstractmethod
    def predictions(self, logits: Array) -> Array:
        """Return the predicted label ids (N,) int64, or values (N,) float64, for logits (N, C)."""

    @abstractmethod
    def outputs(self, logits: Array) -> Array:
        """Return probabilities (N, C) float64, or the values of a regression."""

    @abstractmethod
    def prediction(self, logits: Array, names: Sequence[str]) -> dict[str, Any]:
        """Return {"label", "score", "scores": {label: probability}} for the logits (C,) of one example."""

    @abstractmethod
    def answers(self, names: Sequence[str], n_choices: int) -> Sequence[str]:
        """Return the possible labels of an example; empty for a regression."""

    @abstractmethod
    def answer(self, target: Any, names: Sequence[str]) -> str | int | float:
        """Return the label, index of a choice, or value of a target or prediction."""

    @abstractmethod
    def label_of_answer(self, answer: Any) -> Any:
        """Return the label to explain for a result of `answer`; None for a regression."""

    @abstractmethod
    def column(self, label: str | int | None, logits: Array, names: Sequence[str]) -> int:
        """Return the column of a label in the logits (C,) of one example; None selects the predicted label.

        Raises:
            UserError: the label is unknown.
        """

    @abstractmethod
    def label_of_column(self, column: int, names: Sequence[str]) -> str | int | None:
        """Return the label of a column; None for a regression."""

    @abstractmethod
    def errors(self, predicted: Array, targets: Array) -> tuple[Array, str]:
        """Return correctness or absolute error (N,) of each prediction, and the name of the metric that is its mean."""

    @abstractmethod
    def worst(self, logits: Array, predicted: Array, targets: Array) -> list[tuple[int, dict[str, float]]]:
        """Return the errors, worst first: (index of the example, {"confidence": …} or {})."""

    @abstractmethod
    def constant(self, targets: Array, weights: Array) -> tuple[str, Any]:
        """Return the name and the prediction of the best constant baseline."""

    def label_counts(self, targets: Array, names: Sequence[str]) -> dict[str, int]:
        """Return the number of examples of each label; empty if labels have no names."""
        return {}


class SingleLabel(ProblemType):
    """Classification into one of several labels, or choices: cross-entropy over the columns."""

    name = SINGLE_LABEL_PROBLEM
    linear_model = "logistic"
    loss_unit = "nats"
    worst_title = "Most confident mistakes"
    margin = "the score of the predicted label relative to the others"
    effects = ("supports the wrong prediction", "opposes it")

    def description(self, names: Sequence[str]) -> str:
        """Return "3 labels", or "choices" if labels have no names."""
        return f"{len(names)} labels" if names else "choices"

    def metrics(self, n_labels: int) -> tuple[str, ...]:
        """Return accuracy, F1 (macro-averaged unless there are two labels) and Matthews' correlation."""
        return ("accuracy", "f1" if n_labels == 2 else "macro_f1", "matthews")

    def targets(self, examples: Sequence[Example], names: Sequence[str]) -> Array:
        """Return label ids (N,) int64; raise UserError for a label that is not in `names`."""
        if not names:  # indices of choices
            return np.array([example.label for example in examples], np.int64)
        ids = LabelIds(names)
        targets = [ids[example.label] for example in examples]
        if -1 in targets:
            require_known(examples, names)
        return np.array(targets, np.int64)

    def losses(self, logits: Array, targets: Array) -> Array:
        """Return the cross-entropy (N,) float64 in nats."""
        likely = probabilities(logits)[np.arange(len(targets)), targets]
        return np.asarray(-np.log(np.maximum(likely, np.finfo(np.float64).tiny)))

    def predictions(self, logits: Array) -> Array:
        """Return the most probable label ids (N,) int64."""
        return np.asarray(np.argmax(logits, axis=1), dtype=np.int64)

    def outputs(self, logits: Array) -> Array:
        """Return the softmax (N, C) float64."""
        return probabilities(logits)

    def prediction(self, logits: Array, names: Sequence[str]) -> dict[str, Any]:
        """Return the most probable label, its probability, and the probabilities of all labels."""
        row = probabilities(logits)
        best = int(row.argmax())
        scores = {name: float(value) for name, value in zip(self.answers(names, len(row)), row, strict=True)}
        return {"label": self.label_of_column(best, names), "score": float(row[best]), "scores": scores}

    def answers(self, names: Sequence[str], n_choices: int) -> Sequence[str]:
        """Return the label names, or the indices of the choices as strings."""
        return names or [str(index) for index in range(n_choices)]

    def answer(self, target: Any, names: Sequence[str]) -> str | int:
        """Return the label name, or the index of a choice."""
        return self.label_of_column(int(target), names)

    def label_of_answer(self, answer: Any) -> Any:
        """Return `answer` itself."""
        return answer

    def column(self, label: str | int | None, logits: Array, names: Sequence[str]) -> int:
        """Return the index of the label; raise UserError if it is unknown."""
        if label is None:
            return int(logits.argmax())
        known = list(self.answers(names, len(logits)))
        if str(label) not in known:
            raise UserError(f"--label {label}: unknown; expected one of {', '.join(known[:NAMES_LISTED])}")
        return known.index(str(label))

    def label_of_column(self, column: int, names: Sequence[str]) -> str | int:
        """Return the label name, or the index of a choice."""
        return names[column] if names else column

    def errors(self, predicted: Array, targets: Array) -> tuple[Array, str]:
        """Return whether each prediction is correct (N,) bool, and "accuracy"."""
        return predicted == targets, "accuracy"

    def worst(self, logits: Array, predicted: Array, targets: Array) -> list[tuple[int, dict[str, float]]]:
        """Return the wrong predictions with their confidence, most confident first."""
        confidence = probabilities(logits).max(1)
        wrong = np.flatnonzero(predicted != targets)
        order = wrong[np.argsort(-confidence[wrong], kind="stable")]
        return [(int(index), {"confidence": float(confidence[index])}) for index in order]

    def constant(self, targets: Array, weights: Array) -> tuple[str, Any]:
        """Return the majority class."""
        return "majority class", np.bincount(targets, weights=weights).argmax()

    def label_counts(self, targets: Array, names: Sequence[str]) -> dict[str, int]:
        """Return the number of examples of each label name."""
        counts = np.bincount(targets, minlength=len(names))
        return {name: int(count) for name, count in zip(names, counts, strict=False)}


class Regression(ProblemType):
    """Regression: squared error of a single column."""

    name = REGRESSION_PROBLEM
    linear_model = "ridge"
    loss_unit = "label units²"
    worst_title = "Largest errors"
    margin = "the predicted value"
    effects = ("raises the predicted value", "lowers it")

    def description(self, names: Sequence[str]) -> str:
        """Return "regression"."""
        return "regression"

    def metrics(self, n_labels: int) -> tuple[str, ...]:
        """Return Pearson's and Spearman's correlation and the mean squared error."""
        return ("pearson", "spearman", "mse")

    def targets(self, examples: Sequence[Example], names: Sequence[str]) -> Array:
        """Return the values (N,) float32; raise UserError for a label that is not a number."""
        return np.array([_number(example) for example in examples], np.float32)

    def losses(self, logits: Array, targets: Array) -> Array:
        """Return the squared errors (N,) float64."""
        return np.asarray((logits[:, 0].astype(np.float64) - targets) ** 2)

    def predictions(self, logits: Array) -> Array:
        """Return the only column, (N,) float64."""
        if logits.ndim != 2 or logits.shape[1] != 1:
            raise ValueError(f"logits {logits.shape}: a regression has one column")
        return np.asarray(logits[:, 0], dtype=np.float64)

    def outputs(self, logits: Array) -> Array:
        """Return the values (N, 1) float64."""
        return logits.astype(np.float64)

    def prediction(self, logits: Array, names: Sequence[str]) -> dict[str, Any]:
        """Return the predicted value as the score, without a label."""
        return {"label": None, "score": float(logits[0]), "scores": {}}

    def answers(self, names: Sequence[str], n_choices: int) -> Sequence[str]:
        """Return an empty tuple."""
        return ()

    def answer(self, target: Any, names: Sequence[str]) -> float:
        """Return the value."""
        return float(target)

    def label_of_answer(self, answer: Any) -> None:
        """Return None, since a regression has no labels."""

    def column(self, label: str | int | None, logits: Array, names: Sequence[str]) -> int:
        """Return 0; raise UserError if a label is given."""
        if label is not None:
            raise UserError(f"--label {label}: this model predicts a value and has no labels; remove the flag")
        return 0

    def label_of_column(self, column: int, names: Sequence[str]) -> None:
        """Return None, since a regression has no labels."""

    def errors(self, predicted: Array, targets: Array) -> tuple[Array, str]:
        """Return the absolute errors (N,), and "mae"."""
        return np.abs(predicted - targets), "mae"

    def worst(self, logits: Array, predicted: Array, targets: Array) -> list[tuple[int, dict[str, float]]]:
        """Return all predictions, largest absolute error first."""
        return [(int(index), {}) for index in np.argsort(-np.abs(predicted - targets), kind="stable")]

    def constant(self, targets: Array, weights: Array) -> tuple[str, Any]:
        """Return the weighted mean of the targets."""
        return "mean", np.average(targets, weights=weights)


SINGLE_LABEL = SingleLabel()
REGRESSION = Regression()
PROBLEM_TYPES: dict[ProblemName, ProblemType] = {each.name: each for each in (SINGLE_LABEL, REGRESSION)}
"""Problem types by Hugging Face's names. `multi_label_classification` is not supported."""


def problem_type_of(names: Collection[str]) -> ProblemType:
    """Infer the problem type of a record from the names of its metrics."""
    known = (each for each in PROBLEM_TYPES.values() if set(each.metrics(n_labels=2)) & set(names))
    return next(known, SINGLE_LABEL)


def _number(example: Example) -> float:
    label = example.label
    if isinstance(label, str) and _NUMBER.fullmatch(label) and math.isfinite(float(label)):
        return float(label)
    if not isinstance(label, int | float):
        raise UserError(f"{example.origin}: found label {label!r}, expected a number (the task is a regression)")
    return float(label)
