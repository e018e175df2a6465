"""Explanations: word attributions (gradient x input, occlusion) and attention weights.

A word's weight is the sum over its tokens of e · d(margin)/de, with e the token's embedding (`Engine.attributions`;
Denil et al. 2014, Shrikumar et al. 2016): a first-order estimate of what the word adds to the margin. The margin is the
logit of the explained label minus the mean of the others: the log odds for two labels, the value for a regression.
Weights are local slopes, no proof; occlusion removes a word and measures the change of the probability.
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
from gpt1.tasks.unknown_text import unknown_shares
from gpt1.tokenization.offsets import Word
from gpt1.tokenization.pretokenizers import valid_unicode
from gpt1.tokenization.tokenizer import Tokenizer

TOKENS_AT_ONCE = 8_192
"""Maximum of padded tokens in a batch: a gradient keeps the activations of every layer."""
MOST_TOKENS = 192
"""Maximum of tokens whose attention is returned: its size is their square."""
NEGLIGIBLE = 0.02
"""Share of an example's largest weight below which a word is not stored with a mistake."""

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Text:
    """One of an example's texts: its words, and the positions of its tokens in the example's sequences."""

    name: str
    text: str
    words: Sequence[Word]
    spans: Sequence[tuple[int, int, int]]
    """(sequence, first position, number of the text's tokens that were kept there)."""

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """End of each word, as an exclusive index into the text's tokens."""
        return np.cumsum([word.size for word in self.words], dtype=np.int64)

    @property
    def size(self) -> int:
        """Number of tokens."""
        return int(self.ends[-1]) if self.words else 0

    @property
    def truncated(self) -> bool:
        """Whether the text was truncated in a sequence."""
        return any(kept < self.size for _, _, kept in self.spans)

    def as_dict(self, weights: Sequence[float]) -> dict[str, Any]:
        """Return the text and its words with their weights; `occlusion` is None."""
        return {
            "name": self.name,
            "text": self.text,
            "words": [
                {"text": word.text, "start": word.start, "end": word.end, "weight": weight, "occlusion": None}
                for word, weight in zip(self.words, weights, strict=True)
            ],
        }

    def weights(self, attributions: Sequence[NDArray[np.float32]]) -> list[float]:
        """Return the weight of each word: the sum over its tokens in all sequences, 0 for truncated words."""
        each = np.zeros(self.size)
        for sequence, start, kept in self.spans:
            each[:kept] += attributions[sequence][start : start + kept]
        return [float(part.sum()) for part in np.split(each, self.ends[:-1])] if self.words else []

    def positions(self, index: int) -> list[tuple[int, slice]]:
        """Return (sequence, positions) of a word's tokens that were not truncated."""
        end = int(self.ends[index])
        before = end - self.words[index].size
        return [
            (sequence, slice(start + before, start + min(kept, end)))
            for sequence, start, kept in self.spans
            if before < kept
        ]


class Explainer:
    """Explains the predictions of a classifier."""

    def __init__(self, classifier: Classifier):
        self.classifier, self.engine = classifier, classifier.engine
        self.problem_type, self.label_names = classifier.problem_type, classifier.labels.names

    def explain(self, example: Example, label: str | int | None = None, occlusion: bool = False) -> dict[str, Any]:
        """Return how much each word contributes to `label` (default: the predicted one); positive weights support it.

        {"label", "score", "scores"} as `Classifier.predict`, "explained" (the explained label; None for a regression),
        "truncated", and "texts": {"name", "text", "words": [{"text", "start", "end", "weight", "occlusion"}]} of each
        text in the example's order. `start` and `end` are code point offsets in the text; they are None for a word of
        the pre-tokenizer `openai` that does not occur there (a line break, repaired text). Truncated words weigh 0.

        With `occlusion`, each word has the decrease of the label's probability (for a regression, of the value) when
        its tokens are deleted from all sequences. They are not replaced by `<unk>`, which the model hardly ever saw.
        A word contributes once per sequence: a context once per choice, similarity in both orders.

        Raises:
            UserError: there is no such label.
        """
        return self.explain_all([example], [label], occlusion=occlusion)[0]

    def explain_all(
        self, examples: Sequence[Example], labels: Sequence[str | int | None] | None = None, *, occlusion: bool = False
    ) -> list[dict[str, Any]]:
        """Return the explanation of each example (see `explain`), computed in batches."""
        encoded = self.classifier.encode(examples)
        logits = self.classifier.logits(encoded)
        names = labels or [None] * len(examples)
        columns = [
            self.problem_type.column(name, row, self.label_names) for name, row in zip(names, logits, strict=True)
        ]
        attributions = self._attributions(encoded, logits, columns)
        results = []
        shares = unknown_shares(encoded)
        for index, (example, row, share) in enumerate(zip(examples, logits, shares, strict=True)):
            of_tokens = attributions[index * encoded.per_example : (index + 1) * encoded.per_example]
            texts = self._texts(example)
            explanation = {
                **self.classifier.prediction(row, share),
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
        """Return the contribution of each token of each sequence to its example's margin."""
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
            if name not in words:  # a constant text of the task
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
        """Return the example, followed by a copy without each word that was not truncated, in the order of the texts.

        Their logits are the input of `add_occlusion`; the server computes them in slices.
        """
        whole = self.classifier.encode([example])
        positions = [text.positions(index) for text in self._texts(example) for index in range(len(text.words))]
        return [whole, *(_without(whole, removed) for removed in positions if removed)]

    def add_occlusion(self, explanation: dict[str, Any], example: Example, scores: Sequence[Scores]) -> None:
        """Fill in "occlusion" of the words of an explanation: the decrease of the probability (or value) without them.

        `scores` are the logits (C,) of each entry of `without_words`.
        """
        logits = np.stack(scores)
        column = self.problem_type.column(explanation["explained"], logits[0], self.label_names)
        values = self.problem_type.outputs(logits)[:, column]
        drops = iter(values[0] - values[1:])
        for result, text in zip(explanation["texts"], self._texts(example), strict=True):
            for index, word in enumerate(result["words"]):
                word["occlusion"] = float(next(drops)) if text.positions(index) else 0.0


def _without(one: EncodedExamples, removed: Sequence[tuple[int, slice]]) -> EncodedExamples:
    """Return an example without the tokens at the given (sequence, positions)."""
    sequences = [*one.sequences]
    segments = None if one.segments is None else [*one.segments]
    for number, positions in removed:
        sequences[number] = np.delete(sequences[number], positions)
        if segments is not None:
            segments[number] = np.delete(segments[number], positions)
    return EncodedExamples(sequences, one.per_example, segments)


# ---- mistakes


def explain_mistakes(explainer: Explainer, mistakes: Sequence[dict[str, Any]]) -> None:
    """Add "words" to the entries of `score_split`'s "mistakes": the contribution of each word to the wrong prediction.

    {name of a text: [{"text", "start", "end", "weight"}]}, without words of negligible weight.
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
    """Return the attention of a layer over the first `MOST_TOKENS` of `ids`: {"layer", "tokens", "heads", "truncated"}.

    Each head is a list of rows: row t has the t + 1 weights of the tokens up to t, which sum to 1. `segments` are the
    segments of the ids for a model that has them (default: 0).

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
    """Return softmax weights (n_layer, H, T, T) over the first T tokens of `ids`, at most `MOST_TOKENS`."""
    tokens = np.array([ids[:MOST_TOKENS]], np.int32)
    rows = None
    if engine.config.n_segments:
        rows = np.zeros_like(tokens) if segments is None else np.array([segments[:MOST_TOKENS]], np.int32)
    batch = Batch(tokens, eos_positions=np.array([tokens.shape[1] - 1], np.int32), segments=rows)
    return engine.attention(batch)[:, 0].astype(np.float64)


def sequence_of_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the input of a language model for a text: `<bos>` and the text's token ids."""
    return [tokenizer.bos, *tokenizer.encode(text)]


def sequence_of(classifier: Classifier, example: Example, index: int = 0) -> tuple[list[int], list[int] | None]:
    """Return token ids and segments of one of an example's sequences; `index` is the choice (or one of both orders).

    Raises:
        UserError: `index` is out of range.
    """
    encoded = classifier.encode([example])
    if not 0 <= index < len(encoded.sequences):
        raise UserError(f"choice {index}: this example has the choices 0 to {len(encoded.sequences) - 1}")
    segments = None if encoded.segments is None else encoded.segments[index].tolist()
    return encoded.sequences[index].tolist(), segments
