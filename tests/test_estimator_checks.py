"""scikit-learn's own checks, of an estimator whose numbers are words. Run: pytest tests/test_estimator_checks.py"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator
from sklearn.utils.validation import check_is_fitted, validate_data

from gpt1 import GPT1Classifier, GPT1Regressor
from gpt1.estimator import EXPECTED_FAILED_CHECKS

pytest.importorskip("torch", reason="one backend is enough here: MindSpore compiles for each of many short runs")

QUICK = {"model": "random:tiny", "epochs": 1}
LEARNING = {"model": "random:tiny", "epochs": 6, "lr": 3e-3, "batch_size": 16, "lm_coef": 0.0}
"""For the checks that ask for a good score."""
ASKS_FOR_A_SCORE = ("check_classifiers_train", "check_class_weight_classifiers")


def words(numbers: NDArray[Any]) -> list[str]:
    """A word a column: its letter, and the number rounded to one of nineteen."""
    bins = np.clip(np.round(np.asarray(numbers, float)), -9, 9).astype(int) + 9
    return [" ".join(f"{chr(97 + column % 26)}{value}" for column, value in enumerate(row)) for row in bins]


class NumbersAsWords:
    """Reads the checks' tables of numbers as texts: all that comes after is the estimator's own."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        super().fit(words(validate_data(self, X)), y, sample_weight)  # type: ignore[misc]
        return self

    def _logits(self, X: Any) -> Any:  # noqa: N803
        check_is_fitted(self)
        return super()._logits(words(validate_data(self, X, reset=False)))  # type: ignore[misc]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array = True
        tags.input_tags.string = tags.input_tags.one_d_array = False
        if tags.regressor_tags:  # R² > 0.5 of 200 rows in 10 features takes it half a minute, three times
            tags.regressor_tags.poor_score = True
        return tags


class Classifier(NumbersAsWords, GPT1Classifier):
    pass


class Regressor(NumbersAsWords, GPT1Regressor):
    pass


def name_of(check: Callable[..., Any]) -> str:
    return str(getattr(check, "func", check).__name__)


def checks_of(kind: type) -> list[Any]:
    """Every check that there is for the estimator, an expected failure or not."""
    every = [check for _, check in estimator_checks_generator(kind(**QUICK))]
    return [pytest.param(kind, check, id=f"{kind.__name__}-{i}-{name_of(check)}") for i, check in enumerate(every)]


@pytest.mark.parametrize(("kind", "check"), [*checks_of(Classifier), *checks_of(Regressor)])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_check_passes_or_is_an_expected_failure(kind: type, check: Callable[..., Any]) -> None:
    settings = LEARNING if name_of(check) in ASKS_FOR_A_SCORE else QUICK
    if name_of(check) in EXPECTED_FAILED_CHECKS:
        with pytest.raises((AssertionError, ValueError)):  # one that passes is to be taken out of the dict
            check(kind(**settings))
    else:
        check(kind(**settings))


def test_an_estimator_of_texts_says_by_its_tags_that_it_takes_no_tables() -> None:
    tags = GPT1Classifier().__sklearn_tags__()
    assert tags.input_tags.string and not tags.input_tags.two_d_array
    with pytest.warns(match="Can't test estimator GPT1Classifier"):
        assert not check_estimator(GPT1Classifier(), on_skip=None)[1:]  # the clone alone
