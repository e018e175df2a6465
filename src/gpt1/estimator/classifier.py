"""scikit-learn classifier."""

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
    """Classifier that fine-tunes a GPT-1.

    X is a list, array or Series of n examples: texts; pairs (text, text), or an array (n, 2); or questions (context,
    [choice, choice, …]), for which y is the index of the correct choice. y holds labels of any type that NumPy can
    sort; `predict` returns that type. Examples are truncated to `max_length` tokens; `n_truncated_` counts the
    truncated training examples.

    >>> import gpt1
    >>> texts = ["warm and funny", "dull and slow", "a funny film", "a slow film"] * 4
    >>> classifier = gpt1.GPT1Classifier("random:tiny", epochs=2).fit(texts, ["good", "bad"] * 8)
    >>> classifier.classes_.tolist(), classifier.predict_proba(["a warm film"]).shape
    (['bad', 'good'], (1, 2))

    Args:
        model: Model to start from: `mini`, `random:SIZE`, a directory, or a model of the hub (`openai-gpt`, OWNER/NAME,
            each also with @REVISION). None: the recipe's, `mini`.
        recipe: Name of a recipe, or all settings: `gpt1.recipe("paper-finetune", clf_pdrop=0.2)`. None: chosen as
            `gpt1.recipe` does, by the size of the model.
        task: classification, entailment, similarity or multiple-choice. None: inferred from the shape of X.
        epochs, lr, batch_size, max_length, lm_coef: As the flags of `gpt1 finetune`. None: the recipe's.
        adapt: Epochs of language-model training on the texts of X, and on `unlabelled`, before fine-tuning. Fits with
            the same texts share the adapted model, in `out` or for the lifetime of the process. None: the recipe's,
            none.
        unlabelled: Further texts for `adapt`: a list, or the path of a file or folder.
        validation_fraction: Share of the examples used to select the best epoch. None: the recipe's. Recipes without
            one train on all examples and keep the last weights.
        class_weight: None, "balanced" or {label: weight}; multiplied with `sample_weight`.
        random_state: Seed, or a NumPy generator that one is drawn from. None: the recipe's, 0.
        backend, device, dtype: As the flags of `gpt1 finetune`. Without `dtype`, `fit` computes in bfloat16 on devices
            with fast bfloat16, and predictions are computed in float32.
        allow_unknown: Train although the vocabulary does not know half or more of the texts. None: the recipe's, False.
        out: Run directory for log, checkpoints and model, from which the same `fit` resumes. None: nothing is stored.
        verbose: 1 prints the notices of `gpt1 finetune`, 0 nothing.

    Attributes:
        classes_: (C,) sorted labels.
        model_: `LoadedModel`, as returned by `gpt1.load`.
        n_truncated_: Number of truncated training examples.

    Raises:
        UserError: X, y, weights or settings are invalid (a ValueError).
        NotFittedError: The estimator predicts before `fit`.
    """

    problem_type = SINGLE_LABEL
    other_model = "this model is not a classifier with named labels; use gpt1.load(DIR).predict(…)"
    classes_: NDArray[Any]

    def __init__(
        self, model: str | Path | None = None, *, recipe: str | FinetuneConfig | None = None, task: str | None = None,
        epochs: float | None = None, lr: float | None = None, batch_size: int | None = None,
        max_length: int | None = None, lm_coef: float | None = None, adapt: float | None = None,
        unlabelled: str | Path | Sequence[str] | None = None, validation_fraction: float | None = None,
        class_weight: Any = None, random_state: Any = None, backend: str | None = None, device: str | None = None,
        dtype: str | None = None, allow_unknown: bool | None = None, out: str | Path | None = None, verbose: int = 0,
    ):  # fmt: skip
        super().__init__(
            model, recipe=recipe, task=task, epochs=epochs, lr=lr, batch_size=batch_size, max_length=max_length,
            lm_coef=lm_coef, adapt=adapt, unlabelled=unlabelled, validation_fraction=validation_fraction,
            random_state=random_state, backend=backend, device=device, dtype=dtype, allow_unknown=allow_unknown,
            out=out, verbose=verbose,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Fine-tune on n labelled examples; `sample_weight` (n,) holds their weights in the loss."""
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
                raise UserError(f"y: two of the classes {classes.tolist()} are equal as text")
            row_labels = [labels.names[index] for index in ids]
        if self.class_weight is not None:
            weights = weights * compute_sample_weight(self.class_weight, targets)
        self._train(labelled(examples, row_labels, weights), task, labels, config)
        self.classes_ = classes
        if self._directory:
            self._note(Path(self._directory))
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the scores before the softmax, (n, C); for two classes their difference, second minus first, (n,)."""
        logits = self._scores(X).astype(np.float64)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the (n, C) probabilities in the order of `classes_`."""
        likely: NDArray[np.float64] = probabilities(self._scores(X))
        return likely

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return the most likely label of each example, (n,), with the dtype of the training labels."""
        best = self._scores(X).argmax(1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _scores(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        logits = self._logits(X)
        if logits.shape[1] != len(self.classes_):
            raise UserError(f"X: {logits.shape[1]} choices found, {len(self.classes_)} expected as in training")
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
