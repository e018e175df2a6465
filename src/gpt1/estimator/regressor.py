"""scikit-learn regressor."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin

from gpt1.errors import UserError
from gpt1.estimator.base import Estimator
from gpt1.estimator.validation import checked_targets, checked_weights, labelled
from gpt1.tasks import REGRESSION, Labels, task_of_values


class GPT1Regressor(RegressorMixin, Estimator):  # type: ignore[misc]
    """Regressor that fine-tunes a GPT-1 with the squared error.

    X is as for `GPT1Classifier`, without multiple choice; pairs are encoded in both orders (task similarity). y is not
    scaled: use `sklearn.compose.TransformedTargetRegressor` if its values are far from 0. Parameters and attributes are
    those of `GPT1Classifier` without `class_weight` and `classes_`.

    >>> import gpt1
    >>> pairs = [("a cat sleeps", "a cat rests"), ("a cat sleeps", "stocks fell")] * 8
    >>> regressor = gpt1.GPT1Regressor("random:tiny", epochs=2).fit(pairs, [0.9, 0.1] * 8)
    >>> regressor.predict([("a dog sleeps", "a dog rests")]).shape
    (1,)

    Raises:
        UserError: X, y, weights or settings are invalid (a ValueError).
        NotFittedError: The estimator predicts before `fit`.
    """

    problem_type = REGRESSION
    other_model = "this model is a classifier, not a regressor; load it with gpt1.GPT1Classifier.load"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Fine-tune on n texts or pairs with numeric targets; `sample_weight` (n,) holds their weights in the loss."""
        config = self._config()
        task, examples = task_of_values(X, self.problem_type, config.task, type(self).__name__)
        targets = checked_targets(self, y, len(examples))
        try:
            values = np.asarray(targets, np.float64)
        except (TypeError, ValueError):
            raise UserError(
                f"y holds {targets[0]!r}: a regressor requires numbers; use GPT1Classifier for labels"
            ) from None
        weights = checked_weights(sample_weight, len(examples))
        self._train(labelled(examples, values.tolist(), weights), task, Labels(regression=True), config)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the predicted value of each example, (n,)."""
        values: NDArray[np.float64] = self._logits(X)[:, 0].astype(np.float64)
        return values
