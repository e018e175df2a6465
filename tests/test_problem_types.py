"""Problem types, pooling and validation of texts. Run: pytest tests/test_problem_types.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt1.backends.parameters import initialise
from gpt1.checkpoint import huggingface
from gpt1.config import DropoutConfig, Head, ModelConfig
from gpt1.data.example import Example, usable_text
from gpt1.data.paper_kinds import CHOICES, INPUT_KINDS, PAIR, SINGLE
from gpt1.errors import UserError
from gpt1.tasks import REGRESSION, SINGLE_LABEL, TASKS, InputKind, ProblemType, default_task
from gpt1.tasks.problem_types import PROBLEM_TYPES, problem_type_of

NAMES = ("bad", "good")
LOGITS = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 0.5]], np.float32)


def test_the_loss_of_a_label_is_the_cross_entropy() -> None:
    targets = np.array([0, 0, 1])
    wide = LOGITS.astype(np.float64)
    expected = np.log(np.exp(wide).sum(1)) - wide[np.arange(3), targets]
    np.testing.assert_allclose(SINGLE_LABEL.losses(LOGITS, targets), expected, rtol=1e-12)


def test_the_loss_of_a_value_is_the_squared_error() -> None:
    assert REGRESSION.losses(LOGITS[:, :1], np.array([1.0, 1.0, 1.0], np.float32)).tolist() == [1.0, 1.0, 0.0]


def test_a_prediction_names_the_label_or_counts_the_choices() -> None:
    assert SINGLE_LABEL.prediction(LOGITS[1], NAMES)["label"] == "good"
    of_choices = SINGLE_LABEL.prediction(LOGITS[1], ())
    assert of_choices["label"] == 1
    assert list(of_choices["scores"]) == ["0", "1"]
    assert REGRESSION.prediction(LOGITS[1, 1:], ()) == {"label": None, "score": 3.0, "scores": {}}


def test_wrong_answers_come_with_the_most_confident_first() -> None:
    predicted = SINGLE_LABEL.predictions(LOGITS)
    worst = SINGLE_LABEL.worst(LOGITS, predicted, np.array([1, 1, 1]))
    assert [index for index, _ in worst] == [0, 2]
    assert worst[0][1]["confidence"] == pytest.approx(1 / (1 + np.exp(-2.0)))


def test_errors_of_values_come_with_the_largest_first() -> None:
    logits = np.array([[1.0], [5.0], [2.0]])
    assert [index for index, _ in REGRESSION.worst(logits, logits[:, 0], np.array([1.0, 1.0, 0.0]))] == [1, 2, 0]


def test_labels_are_counted_under_their_names() -> None:
    assert SINGLE_LABEL.label_counts(np.array([1, 1, 1]), NAMES) == {"bad": 0, "good": 3}
    assert SINGLE_LABEL.label_counts(np.array([0, 2]), ()) == {}
    assert REGRESSION.label_counts(np.array([0.5]), ()) == {}


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES.values(), ids=PROBLEM_TYPES)
def test_a_record_of_its_metrics_tells_the_problem_type(problem_type: ProblemType) -> None:
    assert problem_type_of({"loss", "step", problem_type.metrics(2)[0]}) is problem_type


@pytest.mark.parametrize(
    ("kind", "problem_type", "task"),
    [
        (SINGLE, SINGLE_LABEL, "classification"), (SINGLE, REGRESSION, "classification"),
        (PAIR, SINGLE_LABEL, "entailment"), (PAIR, REGRESSION, "similarity"),
        (CHOICES, SINGLE_LABEL, "multiple-choice"), (CHOICES, REGRESSION, None),
    ],
)  # fmt: skip
def test_data_without_a_named_task_pose_the_papers(
    kind: InputKind, problem_type: ProblemType, task: str | None
) -> None:
    found = default_task(kind, problem_type)
    assert (found.name if found else None) == task


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_pooling_says_how_many_sequences_an_example_has(task: Any) -> None:
    sequences = task.sequences(task.input_kind.sample())
    pooling = task.pooling
    assert len(sequences) == (2 if pooling.per_choice else pooling.sequences)  # the sample has two choices
    assert pooling == Head(task.name, 1).pooling


def test_a_model_for_several_labels_an_example_is_refused(tmp_path: Path) -> None:
    config = huggingface_config(tmp_path)
    config["problem_type"] = "multi_label_classification"
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(
        UserError, match="problem_type 'multi_label_classification' found; gpt1 supports single_label_class"
    ):
        huggingface.read(tmp_path)


def huggingface_config(folder: Path) -> dict[str, Any]:
    """Write a tiny classifier in Hugging Face's layout; return its configuration."""
    config = ModelConfig(1, 1, 4, 8, 5, head=Head("classification", 2))
    huggingface.write_weights(folder / "model.safetensors", initialise(config, 0))
    return huggingface.config_json(config, DropoutConfig(), {}, NAMES)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "X is 5 (int), expected a text"), (None, "X is null, expected a text"), ("", "X is empty"),
        (" \n", "X is empty"), ("a\ud800", "X contains half of a character (\\ud800 alone)"),
    ],
)  # fmt: skip
def test_a_text_that_cannot_be_used_is_named(value: object, message: str) -> None:
    with pytest.raises(UserError) as error:
        usable_text(value, "X")
    assert str(error.value) == message


@pytest.mark.parametrize("kind", INPUT_KINDS, ids=lambda kind: kind.name)
def test_an_example_in_json_is_that_of_the_command_line(kind: InputKind) -> None:
    given = kind.from_arguments([f"text {i}" for i in range(kind.n_required + len(kind.sample().choices))], "x")
    assert given is not None and kind.holds(given)
    names = [name for name, (required, is_list) in kind.json_fields.items() if required and not is_list]
    values: dict[str, Any] = dict(zip(names, given.parts, strict=True))
    values |= {name: list(given.choices) for name, (_, is_list) in kind.json_fields.items() if is_list}
    assert kind.from_json(values, "x") == given


def test_an_examples_texts_are_its_parts_and_choices() -> None:
    assert Example(("a", "b"), ("c", "d")).texts == ("a", "b", "c", "d")
