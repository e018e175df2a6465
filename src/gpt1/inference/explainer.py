"""Which words moved the label, and where attention looks: gradient x input, occlusion, softmax weights.

A word's weight is the sum over its tokens of e · d(margin)/de, e their embeddings (`Engine.attributions`; Denil et al.
2014, Shrikumar et al. 2016): to the first order, what the word adds to the margin. The margin is the score (logit) of
the label that is explained minus the mean of the others: for two labels their log odds, for a regression the value.
Weights are slopes at one point, and no proof: occlusion takes a word out and looks what the probability does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.base import Batch, Engine
from gpt1.data.batching import EncodedExamples, concatenate, inference_batches
from gpt1.data.example import Example
from gpt1.errors import UserError
from gpt1.inference.classifier import Classifier
from gpt1.tasks.encoding import kept_of_parts
from gpt1.tokenization.offsets import Word
from gpt1.tokenization.pretokenizers import valid_unicode
from gpt1.tokenization.tokenizer import Tokenizer

TOKENS_AT_ONCE = 8_192
"""Padded tokens of a batch at most: a gradient keeps what every layer computed."""
MOST_TOKENS = 192
"""Tokens of which attention is shown: it grows with their square."""
NEGLIGIBLE = 0.02
"""Of the largest weight of an example: smaller ones are not stored with a mistake."""

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Text:
    """One of an example's texts: its words, and where its tokens stand in the example's sequences."""

    name: str
    text: str
    words: Sequence[Word]
    spans: Sequence[tuple[int, int, int]]
    """(sequence, first position, how many of the text's tokens stand there)."""

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Behind which of the text's tokens each word ends."""
        return np.cumsum([word.size for word in self.words], dtype=np.int64)

    @property
    def size(self) -> int:
        """How many tokens it is."""
        return int(self.ends[-1]) if self.words else 0

    @property
    def truncated(self) -> bool:
        """Whether tokens are missing in a sequence."""
        return any(kept < self.size for _, _, kept in self.spans)

    def as_dict(self, weights: Sequence[float]) -> dict[str, Any]:
        """Return the text and its words with their weights, without occlusion."""
        return {
            "name": self.name,
            "text": self.text,
            "words": [
                {"text": word.text, "start": word.start, "end": word.end, "weight": weight, "occlusion": None}
                for word, weight in zip(self.words, weights, strict=True)
            ],
        }

    def weights(self, attributions: Sequence[NDArray[np.float32]]) -> list[float]:
        """Return the weight of each word: the sum over its tokens in all sequences, 0 for what was cut off."""
        each = np.zeros(self.size)
        for sequence, start, kept in self.spans:
            each[:kept] += attributions[sequence][start : start + kept]
        return [float(part.sum()) for part in np.split(each, self.ends[:-1])] if self.words else []

    def positions(self, index: int) -> list[tuple[int, slice]]:
        """Return (sequence, positions) of a word's tokens that were not cut off."""
        end = int(self.ends[index])
        before = end - self.words[index].size
        return [
            (sequence, slice(start + before, start + min(kept, end)))
            for sequence, start, kept in self.spans
            if before < kept
        ]


class Explainer:
    """Explains what a classifier answers."""

    def __init__(self, classifier: Classifier):
        self.classifier, self.engine = classifier, classifier.engine
        self.problem_type, self.label_names = classifier.problem_type, classifier.labels.names

    def explain(self, example: Example, label: str | int | None = None, occlusion: bool = False) -> dict[str, Any]:
        """Return which words speak for `label`, the predicted one where it is None, and which against.

        {"label", "score", "scores"} as `Classifier.predict`, "explained" (the label explained; None of a regression),
        "truncated", and "texts": {"name", "text", "words": [{"text", "start", "end", "weight", "occlusion"}]} of each
        text in the order of the example. `start` and `end` count code points of the text; a word of pre-tokenizer
        `openai` that was not found there (a line break, repaired text) has None. Words that were cut off weigh 0.

        With `occlusion`, how much the probability of the label (of a regression, the value) falls where the word's
        tokens are taken out, and with them its place: `<unk>` instead of it would be a token that the model hardly ever
        saw. A word counts as often as it stands in the sequences: a context for each choice, similarity in both orders.

        Raises:
            UserError: there is no such label.
        """
        return self.explain_all([example], [label], occlusion=occlusion)[0]

    def explain_all(
        self, examples: Sequence[Example], labels: Sequence[str | int | None] | None = None, *, occlusion: bool = False
    ) -> list[dict[str, Any]]:
        """Return `explain` of each example; the examples are computed in batches."""
        encoded = self.classifier.encode(examples)
        logits = self.classifier.logits(encoded)
        names = labels or [None] * len(examples)
        columns = [
            self.problem_type.column(name, row, self.label_names) for name, row in zip(names, logits, strict=True)
        ]
        attributions = self._attributions(encoded, logits, columns)
        results = []
        for index, (example, row) in enumerate(zip(examples, logits, strict=True)):
            of_tokens = attributions[index * encoded.per_example : (index + 1) * encoded.per_example]
            texts = self._texts(example)
            explanation = {
                **self.classifier.prediction(row),
                "explained": self.problem_type.label_of_column(columns[index], self.label_names),
                "texts": [text.as_dict(text.weights(of_tokens)) for text in texts],
                "truncated": any(text.truncated for text in texts),
            }
            if occlusion:
                variants = concatenate(self.without_words(example))
                self.add_occlusion(explanation, example, [*self.classifier.logits(variants, label="occluding")])
            results.append(explanation)
        return results

    def _attributions(
        self, encoded: EncodedExamples, logits: Scores, columns: Sequence[int]
    ) -> list[NDArray[np.float32]]:
        """Return what each token of each sequence adds to the margin of its example."""
        margins = np.full(logits.shape, -1.0 / max(1, logits.shape[1] - 1), np.float32)
        margins[np.arange(len(columns)), columns] = 1.0
        out: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(encoded.sequences)
        at_once = min(self.engine.tokens_at_once, TOKENS_AT_ONCE)
        for indices, batch in inference_batches(encoded, self.classifier.collator, at_once):
            attributions = self.engine.attributions(batch, margins[indices])
            k = encoded.per_example
            for row, sequence in enumerate((indices[:, None] * k + np.arange(k)).ravel()):
                out[sequence] = attributions[row]
        return out

    def _texts(self, example: Example) -> list[Text]:
        names = self.classifier.task.input_kind.names_of(example)
        model = self.classifier.model
        texts = dict(zip(names.texts, example.texts, strict=True))
        words = {name: model.tokenizer.encode_with_words(text)[1] for name, text in texts.items()}
        spans: dict[str, list[tuple[int, int, int]]] = {name: [] for name in texts}

        def size(name: str) -> int:
            if name not in words:  # a text of the task's own
                return len(model.tokenizer.encode(name))
            return sum(word.size for word in words[name])

        for number, parts in enumerate(self.classifier.task.sequences(names)):
            lengths = [[size(name) for name in part] for part in parts]
            kept = iter(kept_of_parts(lengths, model.max_length, model.truncation))
            start = 1  # after <bos>
            for part in parts:
                for name in part:
                    length = next(kept)
                    if name in spans:
                        spans[name].append((number, start, length))
                    start += length
                start += 1  # <sep> or <eos>
        return [Text(name, valid_unicode(text), words[name], spans[name]) for name, text in texts.items()]

    def without_words(self, example: Example) -> list[EncodedExamples]:
        """Return the example, and then the example without each word that was not cut off, in the order of its texts.

        The scores of these are what `add_occlusion` takes; who has to share the engine computes them by and by.
        """
        whole = self.classifier.encode([example])
        positions = [text.positions(index) for text in self._texts(example) for index in range(len(text.words))]
        return [whole, *(_without(whole, removed) for removed in positions if removed)]

    def add_occlusion(self, explanation: dict[str, Any], example: Example, scores: Sequence[Scores]) -> None:
        """Write into the words of `explain`'s result what the probability (or value) loses without each of them.

        `scores` are the (C,) scores of each of `without_words`.
        """
        logits = np.stack(scores)
        column = self.problem_type.column(explanation["explained"], logits[0], self.label_names)
        values = self.problem_type.outputs(logits)[:, column]
        drops = iter(values[0] - values[1:])
        for result, text in zip(explanation["texts"], self._texts(example), strict=True):
            for index, word in enumerate(result["words"]):
                word["occlusion"] = float(next(drops)) if text.positions(index) else 0.0


def _without(one: EncodedExamples, removed: Sequence[tuple[int, slice]]) -> EncodedExamples:
    """Return an example whose sequences lack the tokens at some places."""
    sequences = [*one.sequences]
    segments = None if one.segments is None else [*one.segments]
    for number, positions in removed:
        sequences[number] = np.delete(sequences[number], positions)
        if segments is not None:
            segments[number] = np.delete(segments[number], positions)
    return EncodedExamples(sequences, one.per_example, segments)


# ---- mistakes


def explain_mistakes(explainer: Explainer, mistakes: Sequence[dict[str, Any]]) -> None:
    """Add "words" to the entries of `score_split`'s "mistakes": what spoke for the wrong answer, and against it.

    {name of a text: [{"text", "start", "end", "weight"}]}, without the words that hardly weigh anything.
    """
    examples = [Example(tuple(entry["texts"]), tuple(entry.get("choices", ()))) for entry in mistakes]
    labels = [explainer.problem_type.label_of_answer(entry["predicted"]) for entry in mistakes]
    explanations = explainer.explain_all(examples, labels) if mistakes else ()
    for entry, explanation in zip(mistakes, explanations, strict=True):
        largest = max((abs(word["weight"]) for text in explanation["texts"] for word in text["words"]), default=0.0)
        entry["words"] = {
            text["name"]: [
                {key: word[key] for key in ("text", "start", "end")} | {"weight": float(f"{word['weight']:.4g}")}
                for word in text["words"]
                if abs(word["weight"]) > NEGLIGIBLE * largest
            ]
            for text in explanation["texts"]
        }


# ---- attention


def attention(
    engine: Engine, tokenizer: Tokenizer, ids: Sequence[int], layer: int, segments: Sequence[int] | None = None
) -> dict[str, Any]:
    """Return where each of the first `MOST_TOKENS` of `ids` looks: {"layer", "tokens", "heads", "truncated"}.

    Each head is rows: row t has the t + 1 weights, which sum to 1, of the tokens up to t. `segments` are those of the
    ids, of a model that has them (0 where none are given).

    Raises:
        UserError: the model has no such layer.
    """
    if not 0 <= layer < engine.config.n_layer:
        raise UserError(f"layer {layer}: this model has the layers 0 to {engine.config.n_layer - 1}")
    weights = attention_weights(engine, ids, segments)[layer]
    return {
        "layer": layer,
        "tokens": tokenizer.tokens(ids[: weights.shape[-1]]),
        "heads": [[row[: t + 1] for t, row in enumerate(head)] for head in weights.round(6).tolist()],
        "truncated": len(ids) > weights.shape[-1],
    }


def attention_weights(engine: Engine, ids: Sequence[int], segments: Sequence[int] | None = None) -> NDArray[np.float64]:
    """Return (n_layer, H, T, T) softmax weights over the first T tokens of `ids`, `MOST_TOKENS` at most."""
    tokens = np.array([ids[:MOST_TOKENS]], np.int32)
    rows = None
    if engine.config.n_segments:
        rows = np.zeros_like(tokens) if segments is None else np.array([segments[:MOST_TOKENS]], np.int32)
    batch = Batch(tokens, eos_positions=np.array([tokens.shape[1] - 1], np.int32), segments=rows)
    return engine.attention(batch)[:, 0].astype(np.float64)


def sequence_of_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return what a language model reads of a text: `<bos>` and its tokens."""
    return [tokenizer.bos, *tokenizer.encode(text)]


def sequence_of(classifier: Classifier, example: Example, index: int = 0) -> tuple[list[int], list[int] | None]:
    """Return the ids and the segments of one of an example's sequences: `index` counts the choices (or both orders).

    Raises:
        UserError: there are fewer.
    """
    encoded = classifier.encode([example])
    if not 0 <= index < len(encoded.sequences):
        raise UserError(f"choice {index}: this example has the choices 0 to {len(encoded.sequences) - 1}")
    segments = None if encoded.segments is None else encoded.segments[index].tolist()
    return encoded.sequences[index].tolist(), segments
