"""What simple methods reach on the same data: the figures that a fine-tuned GPT-1 has to beat.

Single texts get TF-IDF with a linear model, pairs and choices get features of word overlap with a linear model, and
every task gets the majority class or the mean. scikit-learn does the work, in seconds for thousands of texts.

Letters: N texts or pairs, F features, k choices a question.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1.data.dataset import Example

Array = NDArray[Any]

MAX_TRAIN_CHARACTERS = 50_000_000
"""More training text than this is sampled: it bounds a baseline's time (IMDB's 33 million: 20 seconds) and memory."""
MAX_COEFFICIENTS = 2_000_000
"""Terms times labels of a logistic regression: bounds its memory when there are many labels."""
INVERSE_REGULARISATION = 3.0
"""`C` of the logistic regressions."""
ROWS_FOR_RARE_TERMS = 100
"""With at least so many training texts, terms that occur in only one of them are dropped."""

WORD = r"(?u)\w+"
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""A letter of a script without blanks between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
NEGATION = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|neither|nor|without|cannot)\b|n['\u2019 ]t\b", re.IGNORECASE
)
OVERLAP_TERMS: tuple[dict[str, Any], ...] = (
    {"token_pattern": WORD, "ngram_range": (1, 2)},
    {"analyzer": "char_wb", "ngram_range": (2, 3)},  # inflected forms, and scripts without blanks
    {"token_pattern": r"\d+"},
)


@dataclass(frozen=True)
class BaselineResult:
    """What one baseline predicts for the test examples."""

    name: str
    """for a table; says so where only a part of the training rows was used"""
    predictions: Array
    """label ids (N,) int64, or values (N,) float64 of a regression"""
    seconds: float
    """to fit and predict"""


def fit_baselines(
    kind: str,
    train: Sequence[Example],
    train_labels: Array,
    test: Sequence[Example],
    *,
    regression: bool,
    seed: int = 0,
) -> list[BaselineResult]:
    """Fit the baselines of a task on `train` and predict `test`; the strongest kind first, majority class or mean last.

    `kind` is single, pair or choices. `train_labels` (N,) are label ids, indices of the right choice, or floats of a
    regression. The examples' weights count in every fit (term frequencies aside), in the majority and in the mean.
    `seed` draws the rows when there are too many. Where the rows have only one label there is nothing to learn, and
    only the majority class is returned.
    """
    if kind not in ("single", "pair", "choices"):
        raise ValueError(f"kind {kind!r}: expected single, pair or choices")
    weights = np.array([example.weight for example in train], dtype=np.float64)
    rows = _affordable_rows(train, seed)
    results: list[BaselineResult] = []
    if regression or kind == "choices" or len(np.unique(train_labels[rows])) > 1:
        start = time.perf_counter()
        part = [train[row] for row in rows]
        predictions = _fit_predict(kind, part, train_labels[rows], weights[rows], test, regression)
        name = "TF-IDF" if kind == "single" else "word overlap"
        name += " + ridge regression" if regression else " + logistic regression"
        if len(rows) < len(train):
            name += f" (on {len(rows):,} of {len(train):,} rows)"
        results.append(BaselineResult(name, predictions, time.perf_counter() - start))
    start = time.perf_counter()
    if regression:
        name, predictions = "mean", np.full(len(test), np.average(train_labels, weights=weights))
    else:
        name, predictions = "majority class", np.full(len(test), np.bincount(train_labels, weights=weights).argmax())
    results.append(BaselineResult(name, predictions, time.perf_counter() - start))
    return results


def _affordable_rows(examples: Sequence[Example], seed: int) -> Array:
    """Indices, in order, of all rows or of as many random ones as MAX_TRAIN_CHARACTERS allows."""
    sizes = np.array([sum(map(len, e.parts)) * max(1, len(e.choices)) + sum(map(len, e.choices)) for e in examples])
    if sizes.sum() <= MAX_TRAIN_CHARACTERS:
        return np.arange(len(examples))
    order = np.random.default_rng(seed).permutation(len(examples))
    affordable = int(np.searchsorted(np.cumsum(sizes[order]), MAX_TRAIN_CHARACTERS, side="right"))
    return np.sort(order[: max(1, affordable)])


def _fit_predict(
    kind: str, train: Sequence[Example], labels: Array, weights: Array, test: Sequence[Example], regression: bool
) -> Array:
    from sklearn.linear_model import LogisticRegression, Ridge
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    features, test_features = _features(kind, train, test, 1 if regression else len(np.unique(labels)))
    model = Ridge() if regression else LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000)
    weights = weights / weights.mean()  # else their scale would be a second regularisation
    # Beside other busy processes, BLAS threads make these small products ten times slower.
    with threadpool_limits(1, user_api="blas"):
        if kind == "choices":
            k = len(train[0].choices)
            right = (np.arange(k) == labels[:, None]).ravel()
            model.fit(features, right, sample_weight=np.repeat(weights, k))
            scores = model.decision_function(test_features).reshape(len(test), -1)
            return np.asarray(scores.argmax(axis=1), dtype=np.int64)
        model.fit(features, labels, sample_weight=weights)
        return np.asarray(model.predict(test_features), dtype=np.float64 if regression else np.int64)


def _features(kind: str, train: Sequence[Example], test: Sequence[Example], n_outputs: int) -> tuple[Any, Any]:
    """Of train and test: sparse (N, F) for single texts, standardised (N, F) for pairs, (N k, F) for choices."""
    if kind == "single":
        vectoriser, features = _tfidf([e.parts[0] for e in train], n_outputs)
        return features, vectoriser.transform([e.parts[0] for e in test])
    from sklearn.preprocessing import StandardScaler

    overlap = _Overlap([text for e in train for text in (*e.parts, *e.choices)])
    describe = _pair_features if kind == "pair" else _choice_features
    scaler = StandardScaler()
    return scaler.fit_transform(describe(overlap, train)), scaler.transform(describe(overlap, test))


def _tfidf(texts: Sequence[str], n_outputs: int) -> tuple[Any, Any]:
    """A fitted vectoriser of word 1- and 2-grams, or of characters where no words are found, and its matrix (N, F)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [text or " " for text in texts]  # a blank is a term of its own, so that no vocabulary is empty
    words = {"token_pattern": WORD, "ngram_range": (1, 2), "min_df": 2 if len(texts) >= ROWS_FOR_RARE_TERMS else 1}
    characters = {"analyzer": "char", "ngram_range": (1, 3)}
    common = {"sublinear_tf": True, "max_features": MAX_COEFFICIENTS // n_outputs, "dtype": np.float32}
    sample = " ".join(texts[:1000])
    if 2 * len(UNSPACED.findall(sample)) <= len(re.findall(r"\w", sample)):
        vectoriser = TfidfVectorizer(**words, **common)
        try:
            return vectoriser, vectoriser.fit_transform(texts)
        except ValueError:  # no words, or none that occurs in two texts
            pass
    vectoriser = TfidfVectorizer(**characters, **common)
    return vectoriser, vectoriser.fit_transform(texts)


class _Overlap:
    """How much of one text stands in another, for words, groups of letters, and numbers. `texts` give the IDF."""

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
            columns += [n_both / np.maximum(n_a, 1), n_both / np.maximum(n_b, 1)]  # shares of a in b, of b in a
            columns += [n_both / np.maximum(n_a + n_b - n_both, 1)]  # Jaccard
            columns += [n_a > n_both, n_b > n_both]  # something that the other text does not have
            columns += [np.log1p(n_a), np.log1p(n_b), np.minimum(n_a, n_b) / np.maximum(np.maximum(n_a, n_b), 1)]
            cosine = tfidf.transform(in_a).multiply(tfidf.transform(in_b)).sum(axis=1)
            columns.append(np.asarray(cosine).ravel())
        negated_a, negated_b = (np.array([bool(NEGATION.search(text)) for text in side]) for side in (a, b))
        columns += [negated_a, negated_b, negated_a != negated_b]
        return np.stack(columns, axis=1, dtype=np.float64)


def _occurrences(texts: Sequence[str], terms: dict[str, Any]) -> Any:
    """Which terms stand in which text: sparse (N, 2^20) of 0 and 1. Hashed, so that words new in the test count too."""
    from sklearn.feature_extraction.text import HashingVectorizer

    distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}  # contexts repeat
    vectoriser = HashingVectorizer(binary=True, norm=None, alternate_sign=False, dtype=np.float32, **terms)
    return vectoriser.transform(list(distinct))[[distinct[text] for text in texts]]


def _pair_features(overlap: _Overlap, examples: Sequence[Example]) -> Array:
    return overlap([e.parts[0] for e in examples], [e.parts[1] for e in examples])


def _choice_features(overlap: _Overlap, examples: Sequence[Example]) -> Array:
    """(N k, F): how each choice overlaps context and question, less the mean over the question's choices."""
    choices = [choice for e in examples for choice in e.choices]
    contexts = [e.parts[0] for e in examples for _ in e.choices]
    questions = [e.parts[1] if len(e.parts) > 1 else "" for e in examples for _ in e.choices]
    features = np.concatenate([overlap(contexts, choices), overlap(questions, choices)], axis=1)
    by_question = features.reshape(len(examples), -1, features.shape[1])  # (N, k, F)
    return np.reshape(by_question - by_question.mean(axis=1, keepdims=True), features.shape)
