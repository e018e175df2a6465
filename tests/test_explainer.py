"""Explanations: word weights, occlusion, mistakes, attention. Run: pytest tests/test_explainer.py

test_backend_attributions.py compares the gradients with the reference; this file tests their sums over words.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gpt1 import backends
from gpt1.backends.parameters import initialise
from gpt1.checkpoint.model_dir import Model
from gpt1.config import DropoutConfig, Head, ModelConfig
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.inference.classifier import Classifier
from gpt1.inference.explainer import (
    MOST_TOKENS,
    NEGLIGIBLE,
    Explainer,
    attention,
    explain_mistakes,
    sequence_of,
    sequence_of_text,
)
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.tokenization.trainer import train
from support.engines import hardware
from support.model_cases import random_params

SUMMED = 1e-5
"""float32 on both sides; batches of other shapes sum in a different order. Weights are about 1."""

TEXTS = ("a warm story about a fine old house", "what a dull film, said the man in the old house", "warm and fine")
HEADS = {
    "classification": Head("classification", 2),
    "three labels": Head("classification", 3),
    "entailment": Head("entailment", 3),
    "similarity": Head("similarity", 2),
    "regression": Head("similarity", 1, regression=True),
    "multiple-choice": Head("multiple-choice", 1),
}
EXAMPLES = {
    "classification": Example((TEXTS[0],)),
    "three labels": Example((TEXTS[1],)),
    "entailment": Example(TEXTS[:2]),
    "similarity": Example(TEXTS[1:]),
    "regression": Example((TEXTS[0], TEXTS[2])),
    "multiple-choice": Example((TEXTS[0], TEXTS[2]), (TEXTS[1], TEXTS[2], "the man")),
}
NAMES = {
    "classification": ["text"], "three labels": ["text"], "entailment": ["text_a", "text_b"],
    "similarity": ["text_a", "text_b"], "regression": ["text_a", "text_b"],
    "multiple-choice": ["context", "question", "choice 0", "choice 1", "choice 2"],
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(TEXTS * 3, 60)


def classifier(tokenizer: Tokenizer, case: str, backend: str, max_length: int = 64) -> Classifier:
    head = HEADS[case]
    config = ModelConfig(2, 2, 16, 64, tokenizer.vocab_size, n_segments=2, head=head)
    params = {name: value.astype(np.float32) for name, value in random_params(config, scale=0.3).items()}
    names = () if head.regression or head.task == "multiple-choice" else ("bad", "good", "mixed")[: head.n_labels]
    model = Model(config, params, tokenizer, names, max_length)
    return Classifier(model, backends.get(config, params, hardware=hardware(backend)))


def words(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [word for text in found["texts"] for word in text["words"]]


def weights(found: dict[str, Any]) -> np.ndarray:
    return np.array([word["weight"] for word in words(found)])


@pytest.mark.parametrize("case", HEADS)
def test_the_answer_is_that_of_predict_and_the_words_are_those_of_the_texts(
    tokenizer: Tokenizer, case: str, backend: str
) -> None:
    model, example = classifier(tokenizer, case, backend), EXAMPLES[case]
    found = Explainer(model).explain(example)
    [told] = model.predict([example])
    assert {key: found[key] for key in told} == told
    assert found["explained"] == found["label"]
    assert not found["truncated"]
    assert [text["name"] for text in found["texts"]] == NAMES[case]
    assert [text["text"] for text in found["texts"]] == [*example.parts, *example.choices]
    for text in found["texts"]:
        assert [word["text"] for word in text["words"]] == text["text"].replace(",", " ,").split()
        assert [text["text"][word["start"] : word["end"]] for word in text["words"]] == [
            word["text"] for word in text["words"]
        ]
        assert all(word["occlusion"] is None for word in text["words"])


@pytest.mark.parametrize("max_length", [64, 20])
@pytest.mark.parametrize("case", HEADS)
def test_weights_of_the_words_sum_to_those_of_the_tokens(
    tokenizer: Tokenizer, case: str, backend: str, max_length: int
) -> None:
    """Over all sequences: a context occurs in the sequence of each choice, similarity uses both orders."""
    model, example = classifier(tokenizer, case, backend, max_length), EXAMPLES[case]
    encoded = model.encode([example])
    logits = model.logits(encoded)[0]
    margin = np.full((1, len(logits)), -1.0 / max(1, len(logits) - 1), np.float32)
    margin[0, logits.argmax()] = 1.0
    batch = model.collator(encoded, np.array([0]))
    each = model.engine.attributions(batch, margin)
    special = np.isin(batch.tokens, [tokenizer.bos, tokenizer.sep, tokenizer.eos])
    found = Explainer(model).explain(example)
    assert weights(found).sum() == pytest.approx(float(each[~special].sum()), abs=SUMMED)
    assert found["truncated"] == (encoded.truncated > 0)


def test_a_word_weighs_what_its_tokens_do(tokenizer: Tokenizer, backend: str) -> None:
    model, example = classifier(tokenizer, "classification", backend), EXAMPLES["classification"]
    [text] = example.parts
    batch = model.collator(model.encode([example]), np.array([0]))
    each = iter(model.engine.attributions(batch, np.array([[1.0, -1.0]], np.float32))[0, 1:])
    expected = [sum(next(each) for _ in tokenizer.encode(word)) for word in text.split()]
    found = weights(Explainer(model).explain(example, "bad"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=SUMMED)


def test_weights_for_all_labels_cancel(tokenizer: Tokenizer, backend: str) -> None:
    """A margin is a logit minus the mean of the others: margins sum to zero, those of two labels are opposite."""
    for case, labels in (("classification", ("bad", "good")), ("three labels", ("bad", "good", "mixed"))):
        explainer = Explainer(classifier(tokenizer, case, backend))
        every = [weights(explainer.explain(EXAMPLES[case], label)) for label in labels]
        assert np.abs(every).max() > 0.01
        np.testing.assert_allclose(np.sum(every, 0), 0.0, atol=SUMMED)


@pytest.mark.parametrize("case", ["classification", "similarity", "regression", "multiple-choice"])
def test_occlusion_is_the_prediction_without_the_word(tokenizer: Tokenizer, case: str, backend: str) -> None:
    """The word's tokens are deleted from every sequence of its text."""
    model, example = classifier(tokenizer, case, backend), EXAMPLES[case]
    found = Explainer(model).explain(example, occlusion=True)
    of = (lambda told: told["score"]) if found["label"] is None else lambda told: told["scores"][str(found["label"])]
    texts = [*example.parts, *example.choices]
    for place, text in enumerate(found["texts"]):
        for word in text["words"]:
            without = [*texts]
            without[place] = (text["text"][: word["start"]] + text["text"][word["end"] :]).strip()
            parts = len(example.parts)
            [told] = model.predict([Example(tuple(without[:parts]), tuple(without[parts:]))])
            assert word["occlusion"] == pytest.approx(of(found) - of(told), abs=SUMMED)


def test_words_that_were_cut_off_weigh_nothing(tokenizer: Tokenizer, backend: str) -> None:
    model = classifier(tokenizer, "classification", backend, max_length=8)
    found = Explainer(model).explain(EXAMPLES["classification"], occlusion=True)
    assert found["truncated"]
    read = 6  # of 8 tokens, two are special
    for word in words(found):
        end = len(tokenizer.encode(TEXTS[0][: word["start"]]))
        assert (word["weight"] != 0) == (end < read), word
        assert (word["occlusion"] != 0) == (end < read), word


def test_examples_are_explained_in_batches_as_they_are_alone(tokenizer: Tokenizer, backend: str) -> None:
    explainer = Explainer(classifier(tokenizer, "classification", backend))
    examples = [Example((text,)) for text in TEXTS]
    for found, example in zip(explainer.explain_all(examples, ["good", None, "bad"]), examples, strict=True):
        alone = explainer.explain(example, found["explained"])
        np.testing.assert_allclose(weights(found), weights(alone), atol=SUMMED)
    assert [found["explained"] for found in explainer.explain_all(examples, ["good", "bad", "bad"])] == [
        "good", "bad", "bad",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "label", "said"),
    [
        ("classification", "fine", "--label fine: unknown; expected one of bad, good"),
        ("regression", "3", "--label 3: this model predicts a value and has no labels"),
        ("multiple-choice", "3", "--label 3: unknown; expected one of 0, 1, 2"),
    ],
)
def test_a_label_that_is_not_there_is_refused(tokenizer: Tokenizer, case: str, label: str, said: str) -> None:
    explainer = Explainer(classifier(tokenizer, case, backends.installed()[0]))
    with pytest.raises(UserError, match=said):
        explainer.explain(EXAMPLES[case], label)


def test_the_word_that_decides_weighs_most(tokenizer: Tokenizer, backend: str) -> None:
    """A small model learns that one word decides, at any position; most explanations give it the largest weight."""
    config = ModelConfig(2, 2, 32, 16, tokenizer.vocab_size, head=HEADS["classification"])
    engine = backends.get(config, initialise(config, 0), hardware=hardware(backend), dropout=DropoutConfig.none())
    model = Classifier(Model(config, engine.parameters(), tokenizer, ("bad", "good"), 16), engine)
    stream = np.random.default_rng(0)
    fillers = ["a", "story", "about", "the", "old", "house", "man", "film"]

    def draw(count: int) -> list[Example]:
        labels = stream.integers(0, 2, count)
        texts = [[*stream.choice(fillers, 4), ("dull", "warm")[label]] for label in labels]
        return [
            Example((" ".join(stream.permutation(text)),), label=("bad", "good")[label])
            for text, label in zip(texts, labels, strict=True)
        ]

    for step in range(60):
        batch = model.collator(model.encode(draw(16), labelled=True), np.arange(16))
        engine.train_step([batch], lr=3e-3, step=step)
    examples = draw(40)
    explained = Explainer(model).explain_all(examples)
    assert np.mean([found["label"] == example.label for found, example in zip(explained, examples, strict=True)]) > 0.95
    top = [max(words(found), key=lambda word: word["weight"])["text"] for found in explained]
    assert np.mean([word in ("dull", "warm") for word in top]) > 0.8


# ---- mistakes


def test_mistakes_come_with_the_words_for_the_wrong_answer(tokenizer: Tokenizer, backend: str) -> None:
    explainer = Explainer(classifier(tokenizer, "classification", backend))

    def explained() -> list[dict[str, Any]]:
        mistakes = [
            {"texts": [text], "label": "good", "predicted": "bad", "confidence": 0.9, "origin": "row"} for text in TEXTS
        ]
        explain_mistakes(explainer, mistakes)
        return mistakes

    found = explained()
    assert found == explained()
    for entry in found:
        whole = Explainer(explainer.classifier).explain(Example(tuple(entry["texts"])), "bad")
        largest = np.abs(weights(whole)).max()
        kept = [word for word in words(whole) if abs(word["weight"]) > NEGLIGIBLE * largest]
        assert [(word["start"], word["end"]) for word in entry["words"]["text"]] == [
            (word["start"], word["end"]) for word in kept
        ]
        assert [word["weight"] for word in entry["words"]["text"]] == pytest.approx(
            [word["weight"] for word in kept], rel=1e-3
        )
    explain_mistakes(explainer, [])


def test_mistakes_of_choices_and_values_are_explained_too(tokenizer: Tokenizer, backend: str) -> None:
    for case, predicted in (("multiple-choice", 1), ("regression", 0.5)):
        example = EXAMPLES[case]
        entry: dict[str, Any] = {"texts": list(example.parts), "label": 0, "predicted": predicted}
        if example.choices:
            entry["choices"] = list(example.choices)
        explain_mistakes(Explainer(classifier(tokenizer, case, backend)), [entry])
        assert list(entry["words"]) == NAMES[case]


# ---- attention


def language_model(tokenizer: Tokenizer, n_segments: int = 0, n_ctx: int = 256) -> ModelConfig:
    return ModelConfig(2, 2, 16, n_ctx, tokenizer.vocab_size, n_segments=n_segments)


@pytest.mark.parametrize("n_segments", [0, 1])
def test_attention_of_a_language_model_is_rows_that_sum_to_one(
    tokenizer: Tokenizer, backend: str, n_segments: int
) -> None:
    config = language_model(tokenizer, n_segments)
    engine = backends.get(config, initialise(config, 0), hardware=hardware(backend))
    ids = sequence_of_text(tokenizer, "a warm story")
    found = attention(engine, tokenizer, ids, 1)
    assert (found["layer"], found["truncated"]) == (1, False)
    assert found["tokens"] == tokenizer.tokens(ids)
    assert found["tokens"][0] == "<bos>"
    assert len(found["heads"]) == 2
    for head in found["heads"]:
        assert [len(row) for row in head] == list(range(1, len(ids) + 1))
        assert [sum(row) for row in head] == pytest.approx([1.0] * len(ids), abs=1e-4)


def test_attention_shows_so_many_tokens_and_no_more(tokenizer: Tokenizer, backend: str) -> None:
    config = language_model(tokenizer)
    engine = backends.get(config, initialise(config, 0), hardware=hardware(backend))
    found = attention(engine, tokenizer, [tokenizer.bos] * (MOST_TOKENS + 1), 0)
    assert found["truncated"]
    assert len(found["tokens"]) == len(found["heads"][0]) == MOST_TOKENS


def test_attention_of_an_example_is_that_of_one_of_its_sequences(tokenizer: Tokenizer, backend: str) -> None:
    model, example = classifier(tokenizer, "multiple-choice", backend), EXAMPLES["multiple-choice"]
    encoded = model.encode([example])
    assert encoded.segments is not None
    for choice in range(3):
        ids, segments = sequence_of(model, example, choice)
        found = attention(model.engine, tokenizer, ids, 0, segments)
        batch = model.collator(replace(encoded, per_example=1), np.array([choice]))
        expected = model.engine.attention(batch)[0, 0, :, len(ids) - 1, : len(ids)]
        np.testing.assert_allclose([head[-1] for head in found["heads"]], expected, atol=SUMMED)


def test_a_layer_or_a_choice_that_is_not_there_is_refused(tokenizer: Tokenizer) -> None:
    model = classifier(tokenizer, "multiple-choice", backends.installed()[0])
    for layer in (-1, 2):
        with pytest.raises(UserError, match=f"layer {layer}: this model has the layers 0 to 1"):
            attention(model.engine, tokenizer, [1, 2], layer)
    with pytest.raises(UserError, match="choice 3: this example has the choices 0 to 2"):
        sequence_of(model, EXAMPLES["multiple-choice"], 3)
