"""Baselines: a linear model on simple features, and a constant prediction, scored on the same data.

The task selects the features (`FEATURES`: TF-IDF of the texts, word overlap of pairs or choices), the problem type
selects the linear model and the constant (majority class or mean). Fitting takes seconds for thousands of texts.

Dimensions: N texts or pairs, F features, k choices per question.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpt1.data.example import Example
from gpt1.tasks.problem_types import SINGLE_LABEL, ProblemType

Array = NDArray[Any]

MAX_TRAIN_CHARACTERS = 50_000_000
"""Larger training splits are subsampled to this, to bound time (IMDB's 33 million: 20 seconds) and memory."""
MAX_COEFFICIENTS = 2_000_000
"""Maximum number of terms times labels of a logistic regression, to bound its memory."""
INVERSE_REGULARISATION = 3.0
"""`C` of the logistic regressions."""
ROWS_FOR_RARE_TERMS = 100
"""Minimum number of training texts from which on terms that occur in one text only are dropped."""

WORD = r"(?u)\w+"
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""A letter of a script without spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
NEGATION = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|neither|nor|without|cannot)\b|n['\u2019 ]t\b", re.IGNORECASE
)
OVERLAP_TERMS: tuple[dict[str, Any], ...] = (
    {"token_pattern": WORD, "ngram_range": (1, 2)},
    {"analyzer": "char_wb", "ngram_range": (2, 3)},  # inflected forms, and scripts without spaces
    {"token_pattern": r"\d+"},
)


@dataclass(frozen=True)
class BaselineResult:
    """Predictions of one baseline for the test examples."""

    name: str
    """Display name; it includes the number of training rows if they were subsampled."""
    predictions: Array
    """Label ids (N,) int64, or values (N,) float64 of a regression."""
    seconds: float
    """Time to fit and predict."""


def fit_baselines(
    baseline: str,
    train: Sequence[Example],
    train_labels: Array,
    test: Sequence[Example],
    problem_type: ProblemType = SINGLE_LABEL,
    *,
    seed: int = 0,
) -> list[BaselineResult]:
    """Fit the baselines of a task on `train` and predict `test`: the linear model first, majority class or mean last.

    `baseline` is a key of `FEATURES`. `train_labels` (N,) are label ids, indices of the correct choice, or floats of a
    regression. Example weights are used in the linear model, the majority and the mean, not in term frequencies.
    `seed` selects the rows of a subsample. If all rows have the same label, only the majority class is returned.
    """
    if baseline not in FEATURES:
        raise ValueError(f"baseline {baseline!r}: expected {', '.join(FEATURES)}")
    features, model = FEATURES[baseline], LINEAR_MODELS[problem_type.linear_model]
    weights = np.array([example.weight for example in train], dtype=np.float64)
    rows = _affordable_rows(train, seed)
    results: list[BaselineResult] = []
    if features.can_learn(model, train_labels[rows]):
        start = time.perf_counter()
        part = [train[row] for row in rows]
        predictions = features.fit_predict(model, part, train_labels[rows], weights[rows], test)
        name = f"{features.name} + {model.name}"
        if len(rows) < len(train):
            name += f" (on {len(rows):,} of {len(train):,} rows)"
        results.append(BaselineResult(name, predictions, time.perf_counter() - start))
    start = time.perf_counter()
    name, answer = problem_type.constant(train_labels, weights)
    results.append(BaselineResult(name, np.full(len(test), answer), time.perf_counter() - start))
    return results


def _affordable_rows(examples: Sequence[Example], seed: int) -> Array:
    """Return sorted indices of all rows, or of a random subsample within MAX_TRAIN_CHARACTERS."""
    sizes = np.array([sum(map(len, e.parts)) * max(1, len(e.choices)) + sum(map(len, e.choices)) for e in examples])
    if sizes.sum() <= MAX_TRAIN_CHARACTERS:
        return np.arange(len(examples))
    order = np.random.default_rng(seed).permutation(len(examples))
    affordable = int(np.searchsorted(np.cumsum(sizes[order]), MAX_TRAIN_CHARACTERS, side="right"))
    return np.sort(order[: max(1, affordable)])


class LogisticModel:
    """Logistic regression on label ids."""

    name = "logistic regression"
    dtype: DTypeLike = np.int64

    def n_outputs(self, labels: Array) -> int:
        """Return the number of distinct labels."""
        return len(np.unique(labels))

    def can_learn(self, labels: Array) -> bool:
        """Return whether there are at least two distinct labels."""
        return self.n_outputs(labels) > 1

    def unfitted(self) -> Any:
        """Return a new scikit-learn estimator."""
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000)


class RidgeModel:
    """Ridge regression on values."""

    name = "ridge regression"
    dtype: DTypeLike = np.float64

    def n_outputs(self, labels: Array) -> int:
        """Return 1."""
        return 1

    def can_learn(self, labels: Array) -> bool:
        """Return True."""
        return True

    def unfitted(self) -> Any:
        """Return a new scikit-learn estimator."""
        from sklearn.linear_model import Ridge

        return Ridge()


LinearModel = LogisticModel | RidgeModel
LINEAR_MODELS: dict[str, LinearModel] = {"logistic": LogisticModel(), "ridge": RidgeModel()}
"""Linear models by name (`ProblemType.linear_model`)."""


class Features(ABC):
    """Feature extraction from examples, and fitting of a linear model on the features."""

    name: str

    @abstractmethod
    def of(self, train: Sequence[Example], test: Sequence[Example], n_outputs: int) -> tuple[Any, Any]:
        """Return the features (N, F) of `train` and of `test`; `n_outputs` limits F."""

    def can_learn(self, model: LinearModel, labels: Array) -> bool:
        """Return whether `labels` (N,) are sufficient to fit `model`."""
        return model.can_learn(labels)

    def fit_predict(
        self, model: LinearModel, train: Sequence[Example], labels: Array, weights: Array, test: Sequence[Example]
    ) -> Array:
        """Fit `model` on weighted examples; return its predictions (N,) for `test`."""
        features, test_features = self.of(train, test, model.n_outputs(labels))
        fitted = _fit(model, features, labels, weights / weights.mean())
        return np.asarray(fitted.predict(test_features), dtype=model.dtype)


class TfidfFeatures(Features):
    """TF-IDF of an example's texts."""

    name = "TF-IDF"

    def of(self, train: Sequence[Example], test: Sequence[Example], n_outputs: int) -> tuple[Any, Any]:
        """Return sparse TF-IDF matrices (N, F) of `train` and of `test`."""
        vectoriser, features = _tfidf(["\n".join(e.texts) for e in train], n_outputs)
        return features, vectoriser.transform(["\n".join(e.texts) for e in test])


class OverlapFeatures(Features):
    """Word overlap of two texts, standardised."""

    name = "word overlap"

    def of(self, train: Sequence[Example], test: Sequence[Example], n_outputs: int) -> tuple[Any, Any]:
        """Return overlap features (N, F) of `train` and of `test`, scaled to mean 0 and variance 1 on `train`."""
        from sklearn.preprocessing import StandardScaler

        overlap = _Overlap([text for e in train for text in e.texts])
        scaler = StandardScaler()
        return scaler.fit_transform(self.describe(overlap, train)), scaler.transform(self.describe(overlap, test))

    def describe(self, overlap: _Overlap, examples: Sequence[Example]) -> Array:
        """Return unscaled features (N, F)."""
        return overlap([e.parts[0] for e in examples], [e.parts[1] for e in examples])


class ChoiceOverlapFeatures(OverlapFeatures):
    """Word overlap of each choice with context and question, minus the mean over the question's choices."""

    def describe(self, overlap: _Overlap, examples: Sequence[Example]) -> Array:
        """Return unscaled features (N k, F)."""
        choices = [choice for e in examples for choice in e.choices]
        contexts = [e.parts[0] for e in examples for _ in e.choices]
        questions = [e.parts[1] if len(e.parts) > 1 else "" for e in examples for _ in e.choices]
        features = np.concatenate([overlap(contexts, choices), overlap(questions, choices)], axis=1)
        by_question = features.reshape(len(examples), -1, features.shape[1])  # (N, k, F)
        return np.reshape(by_question - by_question.mean(axis=1, keepdims=True), features.shape)

    def can_learn(self, model: LinearModel, labels: Array) -> bool:
        """Return True: every question has correct and incorrect choices."""
        return True

    def fit_predict(
        self, model: LinearModel, train: Sequence[Example], labels: Array, weights: Array, test: Sequence[Example]
    ) -> Array:
        """Fit `model` on choices labelled correct or incorrect; return the best choices (N,) of `test`."""
        features, test_features = self.of(train, test, model.n_outputs(labels))
        k = len(train[0].choices)
        correct = (np.arange(k) == labels[:, None]).ravel()
        fitted = _fit(model, features, correct, np.repeat(weights / weights.mean(), k))
        scores = fitted.decision_function(test_features).reshape(len(test), -1)
        return np.asarray(scores.argmax(axis=1), dtype=np.int64)


FEATURES: dict[str, Features] = {
    "tf-idf": TfidfFeatures(), "overlap": OverlapFeatures(), "choice-overlap": ChoiceOverlapFeatures(),
}  # fmt: skip
"""Features by name (`Task.baseline`)."""


def _fit(model: LinearModel, features: Any, labels: Array, weights: Array) -> Any:
    """Return a fitted scikit-learn model; `weights` must have mean 1, or their scale changes the regularisation."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # With other busy processes on the machine, BLAS threads make these small products ten times slower.
    with threadpool_limits(1, user_api="blas"):
        return model.unfitted().fit(features, labels, sample_weight=weights)


def _tfidf(texts: Sequence[str], n_outputs: int) -> tuple[Any, Any]:
    """Return a fitted vectoriser of word 1- and 2-grams (of characters without words) and its matrix (N, F)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [text or " " for text in texts]  # a space is a term, so the vocabulary is never empty
    words = {"token_pattern": WORD, "ngram_range": (1, 2), "min_df": 2 if len(texts) >= ROWS_FOR_RARE_TERMS else 1}
    characters = {"analyzer": "char", "ngram_range": (1, 3)}
    common = {"sublinear_tf": True, "max_features": MAX_COEFFICIENTS // n_outputs, "dtype": np.float32}
    sample = " ".join(texts[:1000])
    if 2 * len(UNSPACED.findall(sample)) <= len(re.findall(r"\w", sample)):
        vectoriser = TfidfVectorizer(**words, **common)
        try:
            return vectoriser, vectoriser.fit_transform(texts)
        except ValueError:  # no words, or no word that occurs in two texts
            pass
    vectoriser = TfidfVectorizer(**characters, **common)
    return vectoriser, vectoriser.fit_transform(texts)


class _Overlap:
    """Overlap features of pairs of texts: words, character n-grams, numbers. `texts` are used for the IDF."""

    def __init__(self, texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfTransformer

        texts = list(dict.fromkeys(texts))
        self._tfidf = [TfidfTransformer().fit(_occurrences(texts, terms)) for terms in OVERLAP_TERMS]

    def __call__(self, a: Sequence[str], b: Sequence[str]) -> Array:
        """Features (N, F) float64 of N pairs of texts."""
        columns = []
        for terms, tfidf in zip(OVERLAP_TERMS, self._tfidf, strict=True):
            in_a, in_b = _occurrences(a, terms), _occurrences(b, terms)
            in_both = in_a.multiply(in_b)
            n_a, n_b, n_both = (np.asarray(matrix.sum(axis=1)).ravel() for matrix in (in_a, in_b, in_both))
            columns += [n_both / np.maximum(n_a, 1), n_both / np.maximum(n_b, 1)]  # fractions of a in b, of b in a
            columns += [n_both / np.maximum(n_a + n_b - n_both, 1)]  # Jaccard
            columns += [n_a > n_both, n_b > n_both]  # has a term that the other text does not have
            columns += [np.log1p(n_a), np.log1p(n_b), np.minimum(n_a, n_b) / np.maximum(np.maximum(n_a, n_b), 1)]
            cosine = tfidf.transform(in_a).multiply(tfidf.transform(in_b)).sum(axis=1)
            columns.append(np.asarray(cosine).ravel())
        negated_a, negated_b = (np.array([bool(NEGATION.search(text)) for text in side]) for side in (a, b))
        columns += [negated_a, negated_b, negated_a != negated_b]
        return np.stack(columns, axis=1, dtype=np.float64)


def _occurrences(texts: Sequence[str], terms: dict[str, Any]) -> Any:
    """Return term occurrences, sparse (N, 2^20) of 0 and 1; terms are hashed, so unseen test terms are included."""
    from sklearn.feature_extraction.text import HashingVectorizer

    distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}  # contexts repeat
    vectoriser = HashingVectorizer(binary=True, norm=None, alternate_sign=False, dtype=np.float32, **terms)
    return vectoriser.transform(list(distinct))[[distinct[text] for text in texts]]
