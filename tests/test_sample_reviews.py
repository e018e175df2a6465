"""The sample reviews are balanced, contain no duplicates, and are neither too hard nor too easy for a bag of words."""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib.resources import files

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline

PER_LABEL = {"train": 120, "valid": 30, "test": 50}
"""Reviews of each label in each split (400 in total)."""
MAX_WORDS = 120
"""Maximum length, well below the 512 positions of the published model."""
SHARED_RUN = 6
"""Words. Shorter sequences ("at the end of the") recur by chance; one of this length would be a template or a copy."""
TOO_EASY = 0.85
"""Maximum accuracy of a bag of words, to leave room for improvement (measured: 0.81 on test, 0.79 over folds)."""
TOO_HARD = 0.62
"""Minimum accuracy of a bag of words, so that a small model can learn; chance level on 100 rows: 0.5 ± 0.05."""
FOLDS = 5
SHUFFLES = 3
"""The mean over shuffles varies by about 0.01, a single shuffle by about 0.02."""

Reviews = list[dict[str, str]]


def load(split: str) -> Reviews:
    path = files("gpt1") / "assets" / "reviews" / f"{split}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@pytest.fixture(scope="module")
def splits() -> dict[str, Reviews]:
    return {split: load(split) for split in PER_LABEL}


@pytest.fixture(scope="module")
def reviews(splits: dict[str, Reviews]) -> Reviews:
    return [review for split in splits.values() for review in split]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


def columns(reviews: Reviews) -> tuple[list[str], list[str]]:
    return [review["text"] for review in reviews], [review["label"] for review in reviews]


def bag_of_words() -> Pipeline:
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression())


@pytest.mark.parametrize("split", PER_LABEL)
def test_a_split_has_its_stated_size_and_as_many_positive_as_negative_reviews(
    split: str, splits: dict[str, Reviews]
) -> None:
    assert Counter(review["label"] for review in splits[split]) == dict.fromkeys(
        ("positive", "negative"), PER_LABEL[split]
    )


def test_a_row_has_a_text_and_a_label_and_nothing_else(reviews: Reviews) -> None:
    assert {tuple(review) for review in reviews} == {("text", "label")}


def test_every_text_is_non_empty_trimmed_and_of_moderate_length(reviews: Reviews) -> None:
    for text, _ in zip(*columns(reviews), strict=True):
        assert text == text.strip()
        assert 0 < len(words(text)) <= MAX_WORDS, text


def test_no_review_occurs_twice(reviews: Reviews) -> None:
    counts = Counter(tuple(words(review["text"])) for review in reviews)
    assert [text for text, count in counts.items() if count > 1] == []


def test_no_two_reviews_share_a_run_of_six_words(reviews: Reviews) -> None:
    owners: Counter[tuple[str, ...]] = Counter()
    for review in reviews:
        text = words(review["text"])
        owners.update({tuple(text[i : i + SHARED_RUN]) for i in range(len(text) - SHARED_RUN + 1)})
    assert [" ".join(run) for run, count in owners.items() if count > 1] == []


def test_a_bag_of_words_learns_the_train_split_but_does_not_solve_the_test_split(splits: dict[str, Reviews]) -> None:
    accuracy = bag_of_words().fit(*columns(splits["train"])).score(*columns(splits["test"]))
    assert TOO_HARD <= accuracy <= TOO_EASY


def test_a_bag_of_words_finds_the_whole_set_neither_hopeless_nor_trivial(reviews: Reviews) -> None:
    texts, labels = columns(reviews)
    scores = [
        cross_val_score(
            bag_of_words(), texts, labels, cv=StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        ).mean()
        for seed in range(SHUFFLES)
    ]
    assert TOO_HARD <= sum(scores) / SHUFFLES <= TOO_EASY
