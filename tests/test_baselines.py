"""Baselines: accuracy on easy data, example weights, unusual data. Run: pytest tests/test_baselines.py"""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from gpt1.data.example import Example
from gpt1.evaluation import baselines
from gpt1.evaluation.baselines import fit_baselines
from gpt1.tasks import REGRESSION
from support.shared_data import SHARED_DATA as DATA

FLOAT32 = 1e-6
"""Tolerance of metrics computed in float32."""
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the real data sets are not here")
GOOD = "a warm and funny story", "the warm light was lovely", "funny lovely people", "what a lovely evening"
BAD = "a dull and noisy story", "the cold room was dirty", "noisy dirty people", "what a dull evening"


def single(texts: Sequence[str], weight: float = 1.0) -> list[Example]:
    return [Example((text,), weight=weight) for text in texts]


def pairs(*texts: tuple[str, str]) -> list[Example]:
    return [Example(parts) for parts in texts]


def test_single_texts_are_told_apart_by_their_words() -> None:
    train, labels = single(GOOD + BAD), np.array([1] * 4 + [0] * 4)
    learned, majority = fit_baselines("tf-idf", train, labels, single(["lovely story", "dirty story"]))
    assert learned.name == "TF-IDF + logistic regression"
    assert majority.name == "majority class"
    assert learned.predictions.tolist() == [1, 0]
    assert learned.predictions.dtype == np.int64
    assert majority.predictions.shape == (2,)
    assert majority.predictions.dtype == np.int64
    assert learned.seconds > 0


def test_a_regression_gets_ridge_and_the_mean() -> None:
    train, labels = single(GOOD + BAD), np.array([5.0] * 4 + [1.0] * 4)
    learned, mean = fit_baselines("tf-idf", train, labels, single(["lovely story", "dirty story"]), REGRESSION)
    assert learned.name == "TF-IDF + ridge regression"
    assert mean.name == "mean"
    assert learned.predictions[0] > 3.0 > learned.predictions[1]
    assert mean.predictions.tolist() == [3.0, 3.0]
    assert learned.predictions.dtype == mean.predictions.dtype == np.float64


def test_pairs_are_told_apart_by_their_overlap_and_not_by_their_words() -> None:
    train = pairs(
        ("the cat sat on the mat", "a cat sat on a mat"),
        ("two men play chess", "two men are playing chess"),
        ("it rains in paris", "it is raining in paris"),
        ("the cat sat on the mat", "two men are playing chess"),
        ("two men play chess", "it is raining in paris"),
        ("it rains in paris", "a cat sat on a mat"),
    )
    labels = np.array([1, 1, 1, 0, 0, 0])
    test = pairs(("dogs bark at night", "a dog barks at night"), ("dogs bark at night", "she sold seven shells"))
    learned, majority = fit_baselines("overlap", train, labels, test)
    assert learned.name == "word overlap + logistic regression"
    assert majority.name == "majority class"
    assert learned.predictions.tolist() == [1, 0]
    ridge, mean = fit_baselines("overlap", train, 5.0 * labels, test, REGRESSION)
    assert ridge.name == "word overlap + ridge regression"
    assert ridge.predictions[0] > 2.5 > ridge.predictions[1]
    assert mean.predictions.tolist() == [2.5, 2.5]


def test_overlap_features_show_shared_words_negation_and_numbers_that_differ() -> None:
    a = ["it cost 20 pounds", "it didn't cost 20 pounds"]
    b = ["pounds cost 20", "they never paid 35 pounds"]
    features = baselines._Overlap(a + b)(a, b)
    words, letters, numbers = (features[:, 9 * block : 9 * block + 9] for block in range(3))
    # The first columns of a block: share of a's terms in b, share of b's in a, Jaccard; for words also of 2-grams.
    np.testing.assert_allclose(words[0, :3], [4 / 7, 4 / 5, 4 / 8], rtol=FLOAT32)
    assert letters[0, 0] > letters[1, 0]
    assert numbers[:, :3].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert features[:, -3:].tolist() == [[0, 0, 0], [1, 1, 0]]  # a negated, b negated, only one of them


def test_choices_are_ranked_within_their_question() -> None:
    def question(context: str, right: str, wrong: str, label: int) -> Example:
        return Example((context, "what happened?"), (right, wrong) if label == 0 else (wrong, right), label)

    train = [
        question("the dog chased the ball", "the dog caught the ball", "rain fell all day", 0),
        question("anna baked a cake", "anna ate the cake", "the train was late", 1),
        question("snow covered the road", "the road was closed by snow", "he bought a shirt", 0),
        question("the king lost his crown", "the crown of the king was found", "she sings well", 1),
    ]
    test = [
        question("the boat sank in the storm", "a storm sank the boat", "grass is green", 1),
        question("tom lost his watch", "tom looked for his watch", "it was a sunny day", 0),
        question("the piano was old", "the old piano sounded bad", "we ate fish", 1),
    ]
    labels = np.array([example.label for example in train])
    learned, majority = fit_baselines("choice-overlap", train, labels, test)
    assert learned.name == "word overlap + logistic regression"
    assert majority.name == "majority class"
    assert learned.predictions.tolist() == [1, 0, 1]
    assert learned.predictions.dtype == np.int64


def test_choices_may_have_no_question_and_another_number_of_choices_in_the_test() -> None:
    train = [Example(("the dog chased the ball",), ("the dog caught the ball", "rain fell")) for _ in range(3)]
    test = [Example(("anna baked a cake", "why?"), ("rain fell", "a train", "anna ate the cake"))]
    learned, _ = fit_baselines("choice-overlap", train, np.zeros(3, dtype=int), test)
    assert learned.predictions.tolist() == [2]


def test_the_heavier_examples_win() -> None:
    train = single(["good", "bad"], weight=1.0) + single(["good", "bad"], weight=9.0)
    labels = np.array([1, 0, 0, 1])
    learned, _ = fit_baselines("tf-idf", train, labels, single(["good", "bad"]))
    assert learned.predictions.tolist() == [0, 1]
    train = single(GOOD[:3], weight=1.0) + single(BAD[:1], weight=5.0)
    assert fit_baselines("tf-idf", train, np.array([0, 0, 0, 1]), train)[1].predictions[0] == 1
    assert fit_baselines("tf-idf", train, np.array([0.0, 0, 0, 8]), train, REGRESSION)[1].predictions[0] == 5.0


def test_the_scale_of_the_weights_does_not_matter() -> None:
    labels = np.array([5.0] * 4 + [1.0] * 4)
    test = single(["lovely story", "dirty story"])
    results = [
        fit_baselines("tf-idf", single(GOOD + BAD, weight), labels, test, REGRESSION)[0] for weight in (1.0, 1e-6)
    ]
    np.testing.assert_allclose(results[0].predictions, results[1].predictions, rtol=1e-3)  # ridge's iterative solver


def test_chinese_without_blanks_is_read_by_characters() -> None:
    good = ["这部电影很好看", "我非常喜欢这家餐厅", "很好的一本书", "服务很好下次再来"]
    bad = ["这部电影太差了", "我讨厌这家餐厅", "太差的一本书", "服务太差不会再来"]
    labels = np.array([1] * 4 + [0] * 4)
    learned, _ = fit_baselines("tf-idf", single(good + bad), labels, single(["味道很好", "味道太差"]))
    assert learned.predictions.tolist() == [1, 0]


@pytest.mark.parametrize(
    "texts",
    [
        ["!!!", "?", ":-)", "..."],
        ["", "", "", ""],
        [" ", "\n", " ", "b"],
        [f"word{row}" for row in range(baselines.ROWS_FOR_RARE_TERMS + 2)],  # no word occurs twice
        ["一", "二", "a", "👍"],
    ],
    ids=["punctuation", "empty", "blank", "no word twice", "single characters"],
)
@pytest.mark.parametrize("baseline", baselines.FEATURES)
def test_odd_texts_give_predictions_and_not_an_error(baseline: str, texts: list[str]) -> None:
    parts = {"tf-idf": 1, "overlap": 2, "choice-overlap": 1}[baseline]
    examples = [Example((text,) * parts, (text, "b") if baseline == "choice-overlap" else ()) for text in texts]
    labels = np.arange(len(texts)) % 2
    for result in fit_baselines(baseline, examples, labels, examples):
        assert result.predictions.shape == (len(texts),)
        assert set(result.predictions.tolist()) <= {0, 1}
    if baseline != "choice-overlap":
        for result in fit_baselines(baseline, examples, labels.astype(float), examples, REGRESSION):
            assert np.isfinite(result.predictions).all()


def test_one_label_only_leaves_the_majority_class() -> None:
    results = fit_baselines("tf-idf", single(GOOD), np.ones(4, dtype=int), single(BAD))
    assert [result.name for result in results] == ["majority class"]
    assert results[0].predictions.tolist() == [1, 1, 1, 1]


def test_too_much_training_text_is_sampled_and_the_name_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    train, labels = single((GOOD + BAD) * 10), np.array(([1] * 4 + [0] * 4) * 10)
    monkeypatch.setattr(baselines, "MAX_TRAIN_CHARACTERS", 700)
    learned, _ = fit_baselines("tf-idf", train, labels, train, seed=3)
    rows = baselines._affordable_rows(train, 3)
    assert 700 - 25 < sum(len(train[row].parts[0]) for row in rows) <= 700  # no text has more than 25 characters
    assert learned.name == f"TF-IDF + logistic regression (on {len(rows)} of 80 rows)"
    assert (
        rows.tolist() == baselines._affordable_rows(train, 3).tolist() != baselines._affordable_rows(train, 4).tolist()
    )


def test_an_unknown_baseline_is_refused() -> None:
    with pytest.raises(ValueError, match="expected tf-idf, overlap, choice-overlap"):
        fit_baselines("triple", single(GOOD), np.array([0, 1, 0, 1]), single(BAD))


def test_importing_the_baselines_loads_no_scikit_learn() -> None:
    code = "import sys, gpt1.evaluation.baselines; print({'sklearn', 'scipy', 'torch', 'polars'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def read(path: str) -> list[Example]:
    with lzma.open(DATA / path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    names = ("text", "text_a", "text_b", "context", "question")
    return [
        Example(tuple(row[name] for name in names if row.get(name)), tuple(row.get("choices", ())), row["label"])
        for row in rows
    ]


@needs_data
@pytest.mark.parametrize(
    ("baseline", "train", "test", "floor"),
    [
        # a little under what was measured on 2026-11-23: 0.819, 0.746, 0.593 (majority class: 0.509, 0.665, 0.513)
        ("tf-idf", "sst2/train", "sst2/dev", 0.80),
        ("overlap", "mrpc/train", "mrpc/test", 0.73),
        ("choice-overlap", "storycloze/val", "storycloze/test", 0.57),
    ],
)
def test_real_data_is_learned_in_seconds(baseline: str, train: str, test: str, floor: float) -> None:
    splits = [read(f"{name}.jsonl.xz") for name in (train, test)]
    labels, truth = (np.array([example.label for example in split]) for split in splits)
    learned, _ = fit_baselines(baseline, splits[0], labels, splits[1])
    assert (learned.predictions == truth).mean() >= floor
    assert learned.seconds < 30
