"""Zero-shot classification with the language model, without fine-tuning (Radford et al. 2018, §5).

A text or a choice is scored by the mean log-probability of its tokens. The paper's model had no special tokens before
fine-tuning, so none are used: as in `gpt1 score`, the first token has no log-probability and is not counted.

- `acceptability` (CoLA): predicts label id 1 if the mean over the text is above a threshold.
- `sentiment` (SST-2): appends "very" to the text and predicts the label whose word has the higher mean after it.
- `choice` (RACE, Story Cloze, COPA): predicts the choice with the highest mean after context and question.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1 import backends, console
from gpt1.checkpoint.model_dir import Model
from gpt1.config import DeviceConfig, Head, Heuristic, ZeroShotConfig
from gpt1.data.batching import Collator, EncodedExamples
from gpt1.data.example import Example
from gpt1.data.input_kinds import InputKind
from gpt1.data.paper_kinds import kind_of
from gpt1.errors import UserError
from gpt1.evaluation.scoring import score_split
from gpt1.inference.batched import mean_logprobs
from gpt1.tasks import TASKS, Labels, Task
from gpt1.tasks.metrics import METRICS, Metric, PairMetric

HEURISTIC_OF_DATA: dict[str, Heuristic] = {
    "cola": "acceptability", "sst2": "sentiment", "imdb": "sentiment", "reviews": "sentiment",
}  # fmt: skip
"""Name of a data set of single texts -> the paper's heuristic for it."""


@dataclass(frozen=True)
class HeuristicTask:
    """The task that a heuristic predicts labels for."""

    task: Task
    settings: tuple[str, ...] = ()
    """Fields of `ZeroShotConfig` that the heuristic uses."""

    @property
    def input_kind(self) -> InputKind:
        """Input kind of the task."""
        return self.task.input_kind


HEURISTICS: dict[Heuristic, HeuristicTask] = {
    "acceptability": HeuristicTask(TASKS["classification"], ("threshold",)),
    "sentiment": HeuristicTask(TASKS["classification"], ("label_words", "prompt_suffix")),
    "choice": HeuristicTask(TASKS["multiple-choice"]),
}

LOWEST = -1e30
"""Finite replacement for the -inf of a text without a log-probability: lower than any mean, valid in a softmax."""


def find_heuristic(config: ZeroShotConfig, data: str, examples: Sequence[Example]) -> Heuristic:
    """Return the heuristic of --heuristic, by default inferred from the examples' columns and the data set's name.

    Raises:
        UserError: it cannot be inferred, does not apply to the examples, or a flag of another heuristic was given.
    """
    path = Path(data if os.path.exists(data) else data.partition("@")[0])
    names = [path.resolve().name.partition(".")[0], path.resolve().parent.name if path.is_file() else ""]
    known = [HEURISTIC_OF_DATA[name.lower()] for name in names if name.lower() in HEURISTIC_OF_DATA]
    kind = kind_of(examples[0])
    suited: list[Heuristic] = [name for name, each in HEURISTICS.items() if each.input_kind == kind]
    if not suited:
        kinds = " and for ".join(dict.fromkeys(each.input_kind.plural for each in HEURISTICS.values()))
        raise UserError(f"--zero-shot: {data} holds {kind.plural}; the heuristics are for {kinds}")
    heuristic = config.heuristic or next((name for name in (suited if len(suited) == 1 else known)), None)
    if heuristic is None:
        raise UserError(
            f"--zero-shot: {data} holds {kind.plural}; choose how to label them: --heuristic {' or '.join(suited)}"
        )
    if heuristic not in suited:
        raise UserError(f"--heuristic {heuristic}: {data} holds {kind.plural}")
    for name in {name for each in HEURISTICS.values() for name in each.settings} - {*HEURISTICS[heuristic].settings}:
        if getattr(config, name) != getattr(ZeroShotConfig, name):
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} {getattr(config, name)}: not used by --heuristic {heuristic}; remove the flag")
    return heuristic


def find_labels(
    config: ZeroShotConfig, heuristic: Heuristic, examples: Sequence[Example], names: Sequence[str] | None = None
) -> Labels:
    """Return the labels of the examples; ids are in alphabetical order of the names, as in fine-tuning.

    `names` are the names of the labels 0, 1, … of a data set in the catalog.

    Raises:
        UserError: the number of labels differs from what the heuristic predicts.
    """
    labels = HEURISTICS[heuristic].task.labels(examples, names)
    if heuristic == "choice":
        return labels
    wanted = 2 if heuristic == "acceptability" else len(_words(config))
    if len(labels.names) != wanted:
        described = f"{len(labels.names)} ({', '.join(labels.names)})" if labels.names else "numbers with a fraction"
        words = f" --label-words {config.label_words}" if heuristic == "sentiment" else ""
        raise UserError(f"--heuristic {heuristic}{words}: predicts {wanted} labels, the data has {described}")
    return labels


def _words(config: ZeroShotConfig) -> list[str]:
    return [word.strip() for word in config.label_words.split(",")]


@dataclass
class _Sequences:
    """Token sequences, `per_example` of each example, with the start of the scored tokens in each."""

    n_ctx: int
    pad: int
    per_example: int
    tokens: list[NDArray[np.int32]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    truncated: list[bool] = field(default_factory=list)

    def add(self, before: Sequence[int], scored: Sequence[int]) -> None:
        """Append `before` + `scored`, truncated to `n_ctx` tokens: first at the start of `before`, then at the end."""
        kept = before[max(0, len(before) + len(scored) - self.n_ctx) :]
        tokens = [*kept, *scored[: self.n_ctx - len(kept)]]
        self.tokens.append(np.array(tokens or [self.pad], np.int32))
        self.starts.append(max(1, len(kept)))
        self.truncated.append(len(tokens) < len(before) + len(scored))

    def encoded(self) -> EncodedExamples:
        truncated = np.reshape(self.truncated, (-1, self.per_example)).any(1)
        return EncodedExamples(self.tokens, self.per_example, truncated=int(truncated.sum()))


@dataclass(frozen=True)
class Verdict:
    """Predictions of a heuristic for labelled examples."""

    logits: NDArray[np.float64]
    """(B, C); the largest is the prediction. Mean log-probabilities; `acceptability` has (0, mean - threshold)."""
    encoded: EncodedExamples
    """The scored sequences, with the examples' label ids."""
    head: Head
    labels: Labels
    settings: dict[str, Any]
    """The heuristic and its settings, for `metrics.json`."""

    def scores(self, examples: Sequence[Example], extra: Mapping[str, Metric]) -> dict[str, Any]:
        """Return the entry of `metrics.json` of a split: `scoring.score_split` without a loss, plus `settings`."""
        scored = score_split(self.logits.astype(np.float32), self.encoded, examples, self.head, self.labels, extra)
        return {name: value for name, value in scored.items() if name != "loss"} | self.settings


class ZeroShot:
    """Zero-shot classifier: a language model on one device."""

    def __init__(self, model: Model, config: ZeroShotConfig, hardware: DeviceConfig | None = None):
        self.tokenizer, self.n_ctx, self.config = model.tokenizer, model.config.n_ctx, config
        self.engine = backends.for_answers(model.config, model.params, hardware)
        self.collator = Collator(model.tokenizer.pad, model.config.n_ctx, buckets=self.engine.buckets, lm_targets=True)

    def judge(
        self, heuristic: Heuristic, examples: Sequence[Example], labels: Labels,
        train: Callable[[], list[Example]] | None = None,
    ) -> Verdict:  # fmt: skip
        """Predict labels by a heuristic; `labels` come from `find_labels`.

        `train` reads the training split, if there is one: `acceptability` selects its threshold on it.

        Raises:
            UserError: `acceptability` has neither a threshold nor a training split; a choice or a label word does not
                fit into the model's context.
        """
        match heuristic:
            case "acceptability":
                return self._acceptability(examples, labels, train)
            case "sentiment":
                return self._sentiment(examples, labels)
            case "choice":
                return self._choice(examples)

    def _acceptability(
        self, examples: Sequence[Example], labels: Labels, train: Callable[[], list[Example]] | None
    ) -> Verdict:
        threshold = self.config.threshold
        if threshold is None and train is None:
            raise UserError(
                "--threshold is required: the data has no training split to select it on; give a mean "
                "log-probability, such as --threshold -4, or a folder with train and test files"
            )
        learned: dict[str, Any] = {}
        if threshold is None:
            assert train is not None
            known = train()
            _, scores = self._whole_texts(known, "scoring train")
            threshold, matthews = best_threshold(scores[:, 0], labels.ids(known))
            learned = {"threshold_matthews": matthews}
            console.say(
                f"Threshold {threshold:.4f}, selected on {len(known):,} training examples "
                f"(Matthews correlation {matthews:.4f})."
            )
        console.say(f"Label {labels.names[1]!r} (id 1) means acceptable.")
        encoded, scores = self._whole_texts(examples, "scoring")
        logits = np.hstack([np.zeros_like(scores), scores - threshold])
        return self._verdict("acceptability", logits, encoded, examples, labels, {"threshold": threshold} | learned)

    def _whole_texts(self, examples: Sequence[Example], label: str) -> tuple[EncodedExamples, NDArray[np.float64]]:
        sequences = self._sequences(1)
        for ids in self.tokenizer.encode_batch([example.parts[0] for example in examples]):
            sequences.add([], ids)
        return self._scored(sequences, label, "only their first {n_ctx} tokens were used")

    def _sentiment(self, examples: Sequence[Example], labels: Labels) -> Verdict:
        words = _words(self.config)
        shown = ", ".join(f"{word!r} for label {name!r}" for word, name in zip(words, labels.names, strict=True))
        console.say(f"Words scored after {self.config.prompt_suffix!r}: {shown}.")
        ids_of_words = self.tokenizer.encode_batch(words)
        if not all(ids_of_words) or len({tuple(ids) for ids in ids_of_words}) < len(words):
            raise UserError(
                f"--label-words {self.config.label_words}: in this model's tokenizer, two are identical or one is empty"
            )
        if max(map(len, ids_of_words)) >= self.n_ctx:
            raise UserError(
                f"--label-words {self.config.label_words}: longer than the model's context of {self.n_ctx} tokens"
            )
        appended = self.tokenizer.encode(self.config.prompt_suffix)
        sequences = self._sequences(len(words))
        for ids in self.tokenizer.encode_batch([example.parts[0] for example in examples]):
            for word in ids_of_words:
                sequences.add([*ids, *appended], word)
        encoded, scores = self._scored(sequences, "scoring", "only their end was used")
        answers = dict(zip(labels.names, words, strict=True))
        settings = {"label_words": answers, "prompt_suffix": self.config.prompt_suffix}
        return self._verdict("sentiment", scores, encoded, examples, labels, settings)

    def _choice(self, examples: Sequence[Example]) -> Verdict:
        sequences = self._sequences(len(examples[0].choices))
        ids = iter(self.tokenizer.encode_batch([text for e in examples for text in e.texts]))
        for example in examples:
            before = [token for _ in example.parts for token in next(ids)]
            for choice in example.choices:
                scored = next(ids)
                if len(scored) >= self.n_ctx:
                    raise UserError(
                        f"{example.origin}: the choice {choice[:30]!r} … has {len(scored)} tokens, too many for the "
                        f"model's context of {self.n_ctx} tokens"
                    )
                sequences.add(before, scored)
        encoded, scores = self._scored(sequences, "scoring", "only the end of the context was used")
        return self._verdict("choice", scores, encoded, examples, Labels(), {})

    def _sequences(self, per_example: int) -> _Sequences:
        return _Sequences(self.n_ctx, self.tokenizer.pad, per_example)

    def _scored(self, sequences: _Sequences, label: str, how: str) -> tuple[EncodedExamples, NDArray[np.float64]]:
        encoded = sequences.encoded()
        starts = np.reshape(sequences.starts, (-1, sequences.per_example))
        scores = mean_logprobs(self.engine, encoded, starts, self.collator, label=label)
        if encoded.truncated:
            how = how.format(n_ctx=self.n_ctx)
            console.say(f"{encoded.truncated:,} of {len(encoded):,} examples were truncated: {how}.")
        if unknown := int(np.isneginf(scores).any(1).sum()):
            console.say(
                f"{unknown:,} of {len(encoded):,} examples have a text without a log-probability (it needs at least "
                "two tokens, or one after other text): it is treated as the least likely."
            )
        return encoded, np.maximum(scores, LOWEST)

    def _verdict(
        self, heuristic: Heuristic, logits: NDArray[np.float64], encoded: EncodedExamples, examples: Sequence[Example],
        labels: Labels, settings: dict[str, Any],
    ) -> Verdict:  # fmt: skip
        head = labels.head(HEURISTICS[heuristic].task.name)
        answered = replace(encoded, labels=labels.ids(examples))
        return Verdict(logits, answered, head, labels, {"heuristic": heuristic} | settings)


def best_threshold(scores: NDArray[np.float64], labels: NDArray[Any]) -> tuple[float, float]:
    """Return the threshold above which predicting label 1 has the highest Matthews correlation, and that correlation.

    `scores` and `labels` (0 or 1) are (N,). The threshold is midway between two neighbouring scores, the lowest of
    equally good ones.

    Raises:
        UserError: all scores are equal.
    """
    order = np.argsort(scores, kind="stable")
    ordered, truth = scores[order], labels[order].astype(np.int64)
    cuts = np.flatnonzero(np.diff(ordered) > 0) + 1  # number of scores below each candidate threshold
    if not len(cuts):
        raise UserError("all training texts have the same mean log-probability; give --threshold")
    ones_below = np.cumsum(truth)[cuts - 1]
    zeros_below, ones, zeros = cuts - ones_below, truth.sum(), len(truth) - truth.sum()
    matthews = METRICS["matthews"]
    assert isinstance(matthews, PairMetric)
    counts = np.stack([zeros_below, zeros - zeros_below, ones_below, ones - ones_below], axis=1)  # (R, K)
    values = matthews.of_counts(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), counts)
    best = int(values.argmax())
    return float(ordered[cuts[best] - 1] + ordered[cuts[best]]) / 2, float(values[best])
