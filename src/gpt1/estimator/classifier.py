"""GPT-1 as a classifier of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from gpt1.checkpoint.model_dir import Model
from gpt1.config import FinetuneConfig
from gpt1.errors import UserError
from gpt1.estimator.base import Estimator
from gpt1.estimator.validation import checked_choices, checked_targets, checked_weights, labelled
from gpt1.tasks import SINGLE_LABEL, Labels, task_of_values
from gpt1.tasks.metrics import probabilities


class GPT1Classifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """GPT-1, fine-tuned by `fit`, as a classifier of scikit-learn.

    X is a list (array, Series) of texts; of pairs (text, text), also an array of two columns; or of (context, [choice,
    choice, …]), where y counts the right choice from 0. Labels come back as they were. Long texts are cut to
    `max_length` tokens, and `n_truncated_` counts those of the training.

    >>> import gpt1
    >>> texts = ["warm and funny", "dull and slow", "a funny film", "a slow film"] * 4
    >>> classifier = gpt1.GPT1Classifier("random:tiny", epochs=2).fit(texts, ["good", "bad"] * 8)
    >>> classifier.classes_.tolist(), classifier.predict_proba(["a warm film"]).shape
    (['bad', 'good'], (1, 2))

    Args:
        model: as `--model`: `mini`, `random:SIZE`, a directory, or a model of the hub (`openai-gpt`, OWNER/NAME, each
            also with @REVISION). None: the recipe's, `mini`.
        recipe: name of a recipe, or all settings: `gpt1.recipe("paper-finetune", clf_pdrop=0.2)`.
        task: classification, entailment, similarity or multiple-choice; None: what the shape of X poses.
        epochs, lr, batch_size, max_length, lm_coef: as the flags of `gpt1 finetune`; None: the recipe's.
        validation_fraction: share of the rows on which the best epoch is chosen; None: the recipe's, which mostly has
            none: all rows are trained on and the last weights are the model.
        class_weight: None, "balanced" or {label: weight}, times `sample_weight`.
        random_state: seed, or a NumPy generator that draws one; None: the recipe's, 0.
        backend, device, dtype: as the flags. `fit` computes in bfloat16 where that is fast, and predictions in float32,
            unless `dtype` says otherwise.
        out: run directory that keeps log, checkpoints and model: the same `fit` goes on there. None: nothing is kept.
        verbose: 0 says nothing, 1 what `gpt1 finetune` says.

    Attributes:
        classes_ (C,); model_: a `LoadedModel`, as `gpt1.load` gives it; n_truncated_.

    Raises:
        UserError (a ValueError): X, y, weights or settings cannot be used. NotFittedError: predicting before `fit`.
    """

    problem_type = SINGLE_LABEL
    other_model = "this model is no classifier with named labels; gpt1.load(DIR).predict(…) takes it"
    classes_: NDArray[Any]

    def __init__(
        self, model: str | Path | None = None, *, recipe: str | FinetuneConfig = "quickstart", task: str | None = None,
        epochs: float | None = None, lr: float | None = None, batch_size: int | None = None,
        max_length: int | None = None, lm_coef: float | None = None, validation_fraction: float | None = None,
        class_weight: Any = None, random_state: Any = None, backend: str | None = None, device: str | None = None,
        dtype: str | None = None, out: str | Path | None = None, verbose: int = 0,
    ):  # fmt: skip
        super().__init__(
            model, recipe=recipe, task=task, epochs=epochs, lr=lr, batch_size=batch_size, max_length=max_length,
            lm_coef=lm_coef, validation_fraction=validation_fraction, random_state=random_state, backend=backend,
            device=device, dtype=dtype, out=out, verbose=verbose,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Fine-tune on texts with labels; `sample_weight` (n,) weighs the examples in the loss."""
        config = self._config()
        task, examples = task_of_values(X, self.problem_type, config.task, type(self).__name__)
        targets = checked_targets(self, y, len(examples))
        check_classification_targets(targets)
        weights = checked_weights(sample_weight, len(examples))
        classes, ids = np.unique(targets, return_inverse=True)
        if task.pooling.per_choice:
            classes, ids = np.arange(len(examples[0].choices)), checked_choices(targets, examples)
            row_labels: Sequence[Any] = ids.tolist()
            labels = Labels()
        else:
            if len(classes) < 2:
                raise UserError(f"y holds one class, {classes.tolist()[0]!r}: a classifier needs at least 2 classes")
            labels = Labels(tuple(map(str, classes.tolist())))
            if len(set(labels.names)) < len(classes):
                raise UserError(f"y: two of the classes {classes.tolist()} are written alike")
            row_labels = [labels.names[index] for index in ids]
        if self.class_weight is not None:
            weights = weights * compute_sample_weight(self.class_weight, targets)
        self._train(labelled(examples, row_labels, weights), task, labels, config)
        self.classes_ = classes
        if self._directory:
            self._note(Path(self._directory))
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the scores before the softmax: (n, C), and of two classes (n,), the second minus the first."""
        logits = self._scores(X).astype(np.float64)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return (n, C) probabilities in the order of `classes_`."""
        likely: NDArray[np.float64] = probabilities(self._scores(X))
        return likely

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return the likeliest label of each example, of the type that `fit` was given."""
        best = self._scores(X).argmax(1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _scores(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        logits = self._logits(X)
        if logits.shape[1] != len(self.classes_):
            raise UserError(f"X: {logits.shape[1]} choices found, {len(self.classes_)} expected as in the training")
        return logits

    def _described(self) -> dict[str, Any]:
        described = super()._described()
        if isinstance(self.class_weight, dict):
            described["params"]["class_weight"] = [
                [getattr(item, "item", lambda item=item: item)() for item in pair] for pair in self.class_weight.items()
            ]
        classes = getattr(self, "classes_", np.array([]))
        return described | {"classes": {"dtype": classes.dtype.str, "values": classes.tolist()}}

    def _restore(self, model: Model, described: dict[str, Any]) -> None:
        super()._restore(model, described)
        classes = described.get("classes", {"dtype": "O", "values": list(model.label_names)})
        self.classes_ = np.array(classes["values"], np.dtype(classes["dtype"].replace("|O", "O")))
        if not len(self.classes_):
            raise UserError(self.other_model)
