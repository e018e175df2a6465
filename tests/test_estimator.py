"""GPT1Classifier and GPT1Regressor beside scikit-learn's own estimators. Run: pytest tests/test_estimator.py"""

from __future__ import annotations

import copy
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import gpt1
from gpt1 import GPT1Classifier, GPT1Regressor, UserError

pytest.importorskip("torch", reason="one backend is enough here: MindSpore compiles for each of many short runs")

TEXTS = ["warm and funny", "dull and slow", "a funny film", "a slow film"] * 6
LABELS = ["good", "bad"] * 12
PAIRS = [("a cat sleeps", "a cat rests"), ("a cat sleeps", "stocks fell")] * 8
CHOICES = [("it rains", ["take a coat", "swim"]), ("it burns", ["sing", "run out"])] * 8

ROUNDING = 1e-5
"""Between the sums of two float32 computations in another order."""


def tiny(**settings: Any) -> GPT1Classifier:
    return GPT1Classifier(**({"model": "random:tiny", "epochs": 1} | settings))


def learning(**settings: Any) -> GPT1Classifier:
    return tiny(**({"epochs": 6, "lr": 3e-3, "batch_size": 4, "lm_coef": 0.0} | settings))


@pytest.fixture(scope="module")
def fitted() -> GPT1Classifier:
    return learning().fit(TEXTS, LABELS)


# ---- fit and predict


def test_it_learns_and_gives_labels_back_as_they_were(fitted: GPT1Classifier) -> None:
    assert fitted.score(TEXTS, LABELS) == 1.0
    numbers = learning().fit(TEXTS, np.array([2.5, -1.0] * 12) > 0)
    assert numbers.predict(TEXTS).dtype == bool and numbers.score(TEXTS, np.array([True, False] * 12)) == 1.0


@pytest.mark.parametrize("names", [[7, -3], [1.0, 0.0], [True, False], ["b", "a"], ["10", "9"]])
def test_classes_keep_type_and_value(names: list[Any]) -> None:
    found = tiny().fit(TEXTS, names * 12)
    assert found.classes_.tolist() == sorted(names)
    assert found.predict(TEXTS[:1]).dtype == np.array(names).dtype


def test_probabilities_are_those_of_the_classes_in_their_order(fitted: GPT1Classifier) -> None:
    probabilities, decision = fitted.predict_proba(TEXTS[:4]), fitted.decision_function(TEXTS[:4])
    assert probabilities.shape == (4, 2) and decision.shape == (4,)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=ROUNDING)
    np.testing.assert_allclose(np.log(probabilities[:, 1] / probabilities[:, 0]), decision, rtol=ROUNDING)
    assert (fitted.classes_[probabilities.argmax(1)] == fitted.predict(TEXTS[:4])).all()


def test_arrays_series_and_columns_are_lists_of_texts(fitted: GPT1Classifier) -> None:
    expected = fitted.predict_proba(TEXTS)
    column = np.array(TEXTS).reshape(-1, 1)
    for given in (np.array(TEXTS), np.array(TEXTS, object), tuple(TEXTS), pl.Series(TEXTS), column):
        np.testing.assert_array_equal(fitted.predict_proba(given), expected)


def test_pairs_are_lists_of_two_or_two_columns() -> None:
    labels = [1, 0] * 8
    found = tiny().fit(PAIRS, labels)
    assert found.model_.model.config.head.task == "entailment"
    expected = found.predict_proba(PAIRS)
    for given in (np.array(PAIRS), pl.DataFrame(PAIRS, orient="row"), [list(pair) for pair in PAIRS]):
        np.testing.assert_array_equal(found.predict_proba(given), expected)
    alike = tiny(task="similarity").fit(PAIRS, labels)
    swapped = [(b, a) for a, b in PAIRS]
    np.testing.assert_allclose(alike.predict_proba(swapped), alike.predict_proba(PAIRS), rtol=ROUNDING)


def test_choices_are_learned_and_counted_from_zero() -> None:
    found = learning(epochs=20).fit(CHOICES, [0, 1] * 8)
    assert found.classes_.tolist() == [0, 1] and found.score(CHOICES, [0, 1] * 8) == 1.0
    with pytest.raises(UserError, match=r"X: 3 choices found, 2 expected as in training"):
        found.predict([("it rains", ["a", "b", "c"])])
    with pytest.raises(UserError, match=r"y\[1\] is 2, expected a choice, 0 to 1"):
        tiny().fit(CHOICES, [0, 2] * 8)


def test_the_regressor_learns_numbers_of_texts_and_of_pairs() -> None:
    settings: dict[str, Any] = {"epochs": 15, "lr": 3e-3, "batch_size": 4, "lm_coef": 0.0}
    values = np.array([0.9, 0.1] * 8)
    for given in (PAIRS, TEXTS[:16]):
        found = GPT1Regressor("random:tiny", **settings).fit(given, values)
        assert found.score(given, values) > 0.8
    with pytest.raises(UserError, match="GPT1Regressor with task=None does not accept them"):
        GPT1Regressor("random:tiny").fit(CHOICES, values)
    with pytest.raises(UserError, match="a regressor requires numbers; use GPT1Classifier for labels"):
        GPT1Regressor("random:tiny").fit(TEXTS, LABELS)


def test_the_same_seed_gives_the_same_model_and_another_one_another() -> None:
    first, again, other = (tiny(random_state=seed).fit(TEXTS, LABELS).predict_proba(TEXTS) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    drawn = [tiny(random_state=np.random.RandomState(5)).fit(TEXTS, LABELS).predict_proba(TEXTS) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
    assert (drawn[0] != tiny(random_state=0).fit(TEXTS, LABELS).predict_proba(TEXTS)).any()


# ---- weights


def test_a_row_without_weight_changes_nothing() -> None:
    """In one batch without dropout, and where nothing but the labels teaches."""
    settings = gpt1.recipe(
        "quickstart", lm_coef=0.0, batch_size=64, epochs=3, embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0,
        clf_pdrop=0.0, tokenizer="mini", dtype="float32",
    )  # fmt: skip
    more, labels = [*TEXTS, "a warm film"], [*LABELS, "bad"]
    weights = [1.0] * len(TEXTS) + [0.0]
    weighted = tiny(recipe=settings, epochs=None).fit(more, labels, sample_weight=weights)
    without = tiny(recipe=settings, epochs=None).fit(TEXTS, LABELS)
    np.testing.assert_allclose(weighted.predict_proba(TEXTS), without.predict_proba(TEXTS), rtol=1e2 * ROUNDING)
    unweighted = tiny(recipe=settings, epochs=None).fit(more, labels).predict_proba(TEXTS)
    assert np.abs(unweighted / without.predict_proba(TEXTS) - 1).max() > 1e2 * ROUNDING


def test_class_weight_multiplies_sample_weight() -> None:
    by_class = tiny(class_weight={"good": 3.0, "bad": 0.5}).fit(TEXTS, LABELS, sample_weight=[2.0] * 24)
    by_row = tiny().fit(TEXTS, LABELS, sample_weight=[6.0, 1.0] * 12)
    np.testing.assert_array_equal(by_class.predict_proba(TEXTS), by_row.predict_proba(TEXTS))
    plain, balanced = tiny().fit(TEXTS, LABELS), tiny(class_weight="balanced").fit(TEXTS, LABELS)
    np.testing.assert_allclose(plain.predict_proba(TEXTS), balanced.predict_proba(TEXTS), rtol=ROUNDING)


# ---- beside scikit-learn's own


def test_it_stands_in_pipelines_searches_votes_and_cross_validation() -> None:
    scores = cross_val_score(learning(), TEXTS, LABELS, cv=3)
    assert scores.shape == (3,) and scores.mean() > 0.6
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    assert make_pipeline(lower, learning()).fit(TEXTS, LABELS).score(TEXTS, LABELS) == 1.0
    search = GridSearchCV(learning(), {"lr": np.array([1e-9, 3e-3]), "epochs": [np.int64(6)]}, cv=2)
    assert search.fit(TEXTS, LABELS).best_params_["lr"] == 3e-3
    counts = make_pipeline(TfidfVectorizer(), LogisticRegression())
    vote = VotingClassifier([("gpt1", learning()), ("counts", counts)], voting="soft").fit(TEXTS, LABELS)
    assert vote.score(TEXTS, LABELS) == 1.0


def test_parameters_are_read_set_and_cloned(fitted: GPT1Classifier) -> None:
    copied = clone(fitted)
    assert copied.get_params() == fitted.get_params() and not hasattr(copied, "model_")
    assert copied.set_params(lr=1e-3).get_params()["lr"] == 1e-3
    recipe = gpt1.recipe("paper-finetune", clf_pdrop=0.2)
    assert clone(GPT1Classifier(recipe=recipe)).recipe == recipe


# ---- settings


def test_validation_rows_choose_the_best_epoch(capfd: pytest.CaptureFixture[str]) -> None:
    found = learning(validation_fraction=0.25).fit(TEXTS, LABELS)
    assert found.score(TEXTS, LABELS) == 1.0
    patient = gpt1.recipe("quickstart", patience=1)
    standing = learning(validation_fraction=0.25, recipe=patient, lr=1e-9, verbose=1).fit(TEXTS, LABELS)
    assert capfd.readouterr().err.count("valid  loss") == 2
    assert standing.model_.model.provenance["step"] == 5  # the first epoch of 18 rows in batches of 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"recipe": "quick"}, "--recipe quick: unknown; expected one of paper-finetune"),
        ({"recipe": "mindspore-imdb"}, "recipe: train_fraction is 0.1, which fit cannot use"),
        ({"recipe": gpt1.recipe("quickstart", patience=2)}, "patience is 2, which fit cannot use without valid"),
        ({"recipe": gpt1.recipe("quickstart", data="reviews")}, "recipe: data is reviews, which fit cannot use"),
        ({"recipe": gpt1.recipe("quickstart", track="mlflow")}, "recipe: track is mlflow, which fit cannot use"),
        ({"lr": -1.0}, "lr=-1.0: expected a positive number"),
        ({"epochs": "two"}, "epochs='two': expected a number"),
        ({"max_length": 4096}, "--max-length 4096: the model's context has"),
        ({"task": "entailment"}, "X contains texts; GPT1Classifier with task='entailment' does not accept them"),
        ({"dtype": "float8"}, "dtype='float8': expected one of auto, float32"),
        ({"model": "random:huge"}, "--model random:huge: unknown size"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        tiny(**settings).fit(TEXTS, LABELS)


def test_what_was_cut_is_counted() -> None:
    found = tiny(max_length=8).fit([*TEXTS[:-1], "word " * 40], LABELS)
    assert found.n_truncated_ == 1


def test_it_is_silent_unless_it_is_asked_to_speak(capfd: pytest.CaptureFixture[str]) -> None:
    tiny(validation_fraction=0.25).fit(TEXTS, LABELS).predict(TEXTS)
    assert capfd.readouterr() == ("", "")
    tiny(validation_fraction=0.25, verbose=1).fit(TEXTS, LABELS)
    assert "valid  loss" in capfd.readouterr().err


# ---- what cannot be learned from


@pytest.mark.parametrize(
    ("X", "y", "said"),
    [
        ([], [], "X has 0 examples; at least 1 is required"),
        ("a text", ["good"], "X is 'a text' (str): expected a list of texts"),
        ([1.0, 2.0], ["a", "b"], "X[0] is 1.0 (float): expected a list of texts"),
        (np.zeros((2, 3)), ["a", "b"], "X has the shape (2, 3): expected a list of texts"),
        (["one", float("nan")], ["a", "b"], "X[1] is nan (float): expected a list of texts"),
        (["one", None], ["a", "b"], "X[1] is None (NoneType): expected a list of texts"),
        (["one", " "], ["a", "b"], "X[1] is empty"),
        (["one", "\ud800"], ["a", "b"], "X[1] contains half of a character (\\ud800 alone)"),
        (["one", ("two", "three")], ["a", "b"], "X[1] is a pair of texts, expected a text as in the previous rows"),
        ([("one", ["a", 2])], [0], "X[0] is 2 (int), expected a text"),
        ([("one", ["a", "b"]), ("two", ["a", "b", "c"])], [0, 1], "X[1]: found 3 choices, expected 2 as in the"),
        (["one", "two"], ["a"], "X and y are of unequal lengths: 2 examples, 1 labels"),
        (["one", "two"], ["a", "a"], "y holds one class, 'a': a classifier needs at least 2 classes"),
        (["one", "two"], None, "GPT1Classifier requires y to be passed, but the target y is None"),
        (["one", "two"], [0.5, 1.5], "Unknown label type: continuous"),
        (["one", "two"], [1, "a"], "y mixes texts and numbers: y[0] is 1, y[1] is 'a'"),
        (["one", "two"], ["a", None], "y[1] is None: a label expected"),
        (["one", "two"], [1.0, float("nan")], "Input y contains NaN"),
        (["one", "two"], [[1, 0], [0, 1]], "y should be a 1d array"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_named_as_a_value_error(X: Any, y: Any, said: str) -> None:  # noqa: N803
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        tiny().fit(X, y)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1.0], "sample_weight has the shape (1,), (24,) expected"),
        ([-1.0] * 24, "a weight that is negative"),
        ([float("nan")] * 24, "or not finite"),
        ([0.0] * 24, "all weights are zero"),
    ],
)
def test_weights_that_weigh_nothing_are_named(weights: list[float], said: str) -> None:
    with pytest.raises(UserError) as raised:
        tiny().fit(TEXTS, LABELS, sample_weight=weights)
    assert said in str(raised.value)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function", "save"])
def test_before_fit_nothing_is_predicted_or_saved(method: str) -> None:
    with pytest.raises(NotFittedError, match="GPT1Classifier instance is not fitted yet"):
        getattr(GPT1Classifier(), method)(TEXTS)


def test_pairs_are_refused_by_a_model_of_texts(fitted: GPT1Classifier) -> None:
    with pytest.raises(
        UserError, match=r"X: found pairs of texts; this model's task is classification, which expects texts"
    ):
        fitted.predict(PAIRS)


def test_ctrl_c_is_no_failed_fit_that_cross_validation_would_pass_over(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpt1.data.batching import TrainingBatches

    usual = TrainingBatches.micro_batches

    def interrupted(self: TrainingBatches, step: int) -> Any:
        signal.raise_signal(signal.SIGINT)
        return usual(self, step)

    monkeypatch.setattr(TrainingBatches, "micro_batches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cross_val_score(tiny(), TEXTS, LABELS, cv=2)


# ---- save, load, pickle


@pytest.mark.parametrize("labels", [LABELS, [2, 1] * 12, [True, False] * 12, [1.5, 0.5] * 12])
def test_load_gives_back_what_save_wrote(labels: list[Any], tmp_path: Path) -> None:
    if isinstance(labels[0], float):
        labels = [float(int(label)) for label in labels]
    settings = gpt1.recipe("quickstart", clf_pdrop=0.2, dtype="float32")
    found = tiny(recipe=settings, class_weight={labels[0]: 2.0, labels[1]: 1.0}).fit(TEXTS, labels)
    found.save(tmp_path / "model")
    loaded = GPT1Classifier.load(tmp_path / "model")
    assert loaded.get_params() == found.get_params()
    assert (
        loaded.classes_.dtype == found.classes_.dtype
        and loaded.predict(TEXTS).tolist() == found.predict(TEXTS).tolist()
    )
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), found.predict_proba(TEXTS))
    assert not {path.suffix for path in (tmp_path / "model").iterdir()} & {".pkl", ".pickle", ".joblib", ".pt", ".bin"}
    with pytest.raises(UserError, match=r"a GPT1Classifier; load it with gpt1\.GPT1Classifier\.load"):
        GPT1Regressor.load(tmp_path / "model")


def test_the_regressor_is_saved_too(tmp_path: Path) -> None:
    found = GPT1Regressor("random:tiny", epochs=1).fit(PAIRS, [0.5, 1.0] * 8)
    found.save(tmp_path / "model")
    np.testing.assert_array_equal(GPT1Regressor.load(tmp_path / "model").predict(PAIRS), found.predict(PAIRS))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).predict(PAIRS), found.predict(PAIRS))


def test_weights_are_never_pickled_but_a_directory_is(fitted: GPT1Classifier, tmp_path: Path) -> None:
    model = copy.copy(tiny()).fit(TEXTS, LABELS)
    with pytest.raises(UserError, match=r"not pickled with its weights: save it first, model\.save\(DIR\)"):
        pickle.dumps(model)
    assert pickle.loads(pickle.dumps(tiny())).get_params() == tiny().get_params()  # one that is not fitted
    model.save(tmp_path / "model")
    pickled = pickle.dumps(model)
    assert len(pickled) < 5_000
    np.testing.assert_array_equal(pickle.loads(pickled).predict_proba(TEXTS), model.predict_proba(TEXTS))
    tiny(random_state=3).fit(TEXTS, LABELS).save(tmp_path / "model")
    with pytest.raises(UserError, match="the model that this pickle refers to was deleted or replaced"):
        pickle.loads(pickled)
    model.fit(TEXTS, LABELS)  # what was saved is another model now
    with pytest.raises(UserError, match="not pickled with its weights"):
        pickle.dumps(model)


def test_a_copy_has_the_model_and_keeps_it(fitted: GPT1Classifier) -> None:
    copied = copy.deepcopy(fitted)
    before = fitted.predict_proba(TEXTS)
    np.testing.assert_array_equal(copied.predict_proba(TEXTS), before)
    copied.set_params(random_state=5).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(fitted.predict_proba(TEXTS), before)
    assert fitted.random_state != 5
    assert np.abs(copied.predict_proba(TEXTS) - before).max() > 0


def test_threads_share_the_work_of_a_vote() -> None:
    import joblib
    from sklearn.ensemble import VotingClassifier

    vote = VotingClassifier([("a", tiny()), ("b", tiny(random_state=1))], voting="soft", n_jobs=2)
    with joblib.parallel_config("threading"):
        vote.fit(TEXTS, LABELS)
    assert set(vote.predict(TEXTS)) <= set(LABELS)


def test_a_fit_with_out_is_a_run_that_goes_on_and_is_pickled(tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = tiny(out=out, epochs=2).fit(TEXTS, LABELS)
    again = tiny(out=out, epochs=2, verbose=0).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), found.predict_proba(TEXTS))
    np.testing.assert_array_equal(found.predict_proba(TEXTS), tiny(epochs=2).fit(TEXTS, LABELS).predict_proba(TEXTS))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).predict(TEXTS), found.predict(TEXTS))
    assert GPT1Classifier.load(out).classes_.tolist() == ["bad", "good"]
    assert gpt1.predict(out, TEXTS[:1])[0]["label"] in LABELS
    with pytest.raises(UserError, match="contains a different run"):
        tiny(out=out, epochs=2).fit(TEXTS[2:], LABELS[2:])


def test_a_fine_tuned_run_is_loaded_as_an_estimator(tmp_path: Path) -> None:
    config = gpt1.recipe(
        "quickstart", data="reviews", out=tmp_path / "run", model="random:tiny", max_examples=20, epochs=1
    )
    gpt1.finetune(config)
    found = GPT1Classifier.load(tmp_path / "run", dtype="float32")
    told = gpt1.load(tmp_path / "run").predict(["Warm and funny."])[0]
    assert found.predict(["Warm and funny."])[0] == told["label"]


def test_a_loaded_model_says_what_it_is_and_whether_its_run_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    gpt1.finetune(gpt1.recipe("quickstart", data="reviews", out=run, model="random:tiny", max_examples=20, epochs=1))
    capsys.readouterr()
    assert re.fullmatch(
        r"<gpt1 classification \(negative, positive\), \d\.\d M parameters, cpu.*, float32>", repr(gpt1.load(run))
    )
    assert capsys.readouterr().err == ""
    (run / "metrics.json").unlink()
    gpt1.load(run)
    assert re.search(r"run is not finished; using its best model so far \(step \d", capsys.readouterr().err)


# ---- gpt1.load


def test_one_object_predicts_explains_scores_and_writes(fitted: GPT1Classifier, tmp_path: Path) -> None:
    fitted.model_.save(tmp_path / "model")
    model = gpt1.load(tmp_path / "model")
    assert model.predict(TEXTS[:2]) == fitted.model_.predict(TEXTS[:2])
    assert model.predict(TEXTS[:1])[0]["label"] == "good"
    assert [word["text"] for word in model.explain(TEXTS[:1])[0]["texts"][0]["words"]] == TEXTS[0].split()
    assert model.score(TEXTS[:1])[0]["perplexity"] > 1
    assert len(model.next("a", top=3)) == 3
    written = model.generate("a", max_tokens=4, temperature=0, stop=["zzz"], n=2)
    assert len(written) == 2 and written[0]["text"] == written[1]["text"]
    for wrong, said in (
        (lambda: model.predict(PAIRS), "examples: found pairs"),
        (
            lambda: model.generate("a", max_token=3),
            "max_token: unknown setting; did you mean max_tokens? (gpt1 generate --help-all",
        ),
        (lambda: model.generate("a", stop="zzz"), "stop='zzz': expected a list, each item a string"),
        (lambda: model.score("one text"), "texts 'one text': expected a list of texts"),
        (lambda: gpt1.load(tmp_path / "none"), "no such directory"),
        (lambda: gpt1.load(None), "None: expected the name or path of a model"),  # type: ignore[arg-type]
        (lambda: model.generate(["a"]), "prompt \"['a']\": expected a text"),  # type: ignore[arg-type]
        (lambda: model.next("a", top=0), "top=0: expected 1 or more"),
        (lambda: gpt1.load(tmp_path / "model", dtype="float8"), "dtype='float8'"),
    ):
        with pytest.raises(UserError) as raised:
            wrong()
        assert said in str(raised.value)


def test_a_bare_language_model_writes_and_does_not_predict() -> None:
    model = gpt1.load("mini")
    assert model.next("The sun rises in the", top=1)[0]["token"] == "sky</w>"
    for act in (model.predict, model.explain):
        with pytest.raises(UserError, match="a language model without a task; fine-tune it first"):
            act(["a text"])
    with pytest.raises(UserError, match="a language model without a task"):
        GPT1Classifier.load("mini")


def test_import_gpt1_brings_no_scikit_learn() -> None:
    program = "import sys, gpt1; print('sklearn' in sys.modules); gpt1.GPT1Classifier; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
