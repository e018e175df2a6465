"""Operations of the served model: plain Python values in and out; only the worker's thread computes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from gpt1 import backends
from gpt1.backends.base import Engine
from gpt1.backends.parameters import count
from gpt1.checkpoint.loading import open_model, resolve_model
from gpt1.checkpoint.model_dir import Model
from gpt1.config import DeviceConfig, GenerateConfig, ServeConfig
from gpt1.data.batching import EncodedExamples
from gpt1.data.example import Example
from gpt1.data.input_kinds import InputKind
from gpt1.inference.classifier import Classifier
from gpt1.inference.explainer import MOST_TOKENS, attention, sequence_of, sequence_of_text
from gpt1.inference.generator import TextDelta, TextGenerator
from gpt1.inference.loaded_model import LoadedModel
from gpt1.serve.errors import Refused
from gpt1.serve.metrics import Metrics
from gpt1.serve.worker import Scores, Worker
from gpt1.tasks.unknown_text import NOTED_SHARE, NOTHING_KNOWN, unknown_shares

ENCODED_INLINE = 4_000
"""Maximum characters that are encoded in the event loop; longer texts go to a thread, so the loop is not blocked."""

SCORED_AT_ONCE = 4
"""Texts that /v1/score computes in one call of the worker, so that other requests run in between."""

OCCLUDED_AT_ONCE = 32
"""Occlusion variants of a text that are queued together."""

T = TypeVar("T")


class Service:
    """The served model on one engine, with its worker and metrics."""

    def __init__(self, name: str, model: Model, engine: Engine, config: ServeConfig, backend: str):
        self.name, self.model, self.engine, self.config, self.backend = name, model, engine, config, backend
        self.created = int(time.time())
        self.report: Path | None = None
        """report.html of the served run, if it exists."""
        self.metrics = Metrics()
        loaded = LoadedModel(model, engine)
        self.classifier, self.explainer = loaded.classifier, loaded.explainer
        self.scorer, self.generator = loaded.scorer, loaded.generator
        self.worker = Worker(
            engine, (self.classifier or self.scorer).collator, self.generator, queue=config.max_queue_size,
            batch_tokens=config.batch_tokens, max_batch_size=config.max_batch_size, on_batch=self.metrics.batch,
        )  # fmt: skip
        self.metrics.watch(lambda: self.worker.waiting)
        self._encoder = ThreadPoolExecutor(1, "gpt1-encoder")

    @classmethod
    def open(cls, name: str | Path, config: ServeConfig, hardware: DeviceConfig | None = None) -> Self:
        """Load a model (`loading.resolve_model`); its served name is `config.name` or the last part of `name`.

        The dtype is float32 unless `hardware` sets one.
        """
        path = resolve_model(name)
        model = open_model(path)
        engine = backends.for_answers(model.config, model.params, hardware)
        title = config.name or (path.resolve().name if path == Path(name) else Path(str(name).partition("@")[0]).name)
        service = cls(title, model, engine, config, backends.chosen(hardware or DeviceConfig()))
        service.report = path / "report.html" if (path / "report.html").is_file() else None
        return service

    @property
    def input_kind(self) -> InputKind | None:
        """Input kind of the model's task, None for a language model without a task head."""
        return self.classifier.task.input_kind if self.classifier else None

    def described(self) -> dict[str, Any]:
        """Return the entry of /v1/models: OpenAI's fields, with details of the model under `gpt1`."""
        shape, head = self.model.config, self.model.config.head
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "gpt1",
            "gpt1": {
                "task": head.task if head else None,
                "kind": self.input_kind.name if self.input_kind else None,
                "fields": _described_fields(self.input_kind) if self.input_kind else None,
                "labels": list(self.model.label_names),
                "regression": head.regression if head else False,
                "n_layer": shape.n_layer,
                "n_head": shape.n_head,
                "n_embd": shape.n_embd,
                "n_ctx": shape.n_ctx,
                "vocab_size": shape.vocab_size,
                "parameters": count(shape),
                "max_length": self.model.max_length,
                "backend": self.backend,
                "device": self.engine.device,
                "dtype": self.engine.dtype,
                "report": self.report is not None,
            },
        }

    # ---- classify

    async def classify(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Return {"data": [{index, label, score, scores, unknown_share, truncated}], "usage"} for examples of the task.

        Raises:
            Refused: there is one example, and the vocabulary knows nothing of it.
        """
        classifier = self._classifier()
        encoded = await self._encoded(examples)
        shares = [float(unknown_shares(each)[0]) for each in encoded]
        self.metrics.unknown.inc(sum(share >= NOTED_SHARE for share in shares))
        if len(shares) == 1:
            _require_known(shares[0])
        scores = await self.worker.scores(encoded)
        data = [
            {"index": index, **classifier.prediction(row, share), "truncated": bool(each.truncated)}
            for index, (row, share, each) in enumerate(zip(scores, shares, encoded, strict=True))
        ]
        return {"data": data, "usage": self._usage(sum(len(ids) for each in encoded for ids in each.sequences))}

    async def _encoded(self, examples: Sequence[Example]) -> list[EncodedExamples]:
        """Return the encoded examples, one object each."""
        classifier = self._classifier()

        def encode() -> list[EncodedExamples]:
            return [classifier.encode([example]) for example in examples]

        return await self._in_thread(encode, [text for each in examples for text in each.texts])

    async def _in_thread(self, encode: Callable[[], T], texts: Sequence[str]) -> T:
        """Return `encode()`, called in a thread if `texts` are long."""
        if sum(map(len, texts)) <= ENCODED_INLINE:
            return encode()
        return await asyncio.get_running_loop().run_in_executor(self._encoder, encode)

    def _require_little(self, param: str, tokens: int) -> None:
        if tokens > self.config.max_request_tokens:
            most = self.config.max_request_tokens
            message = f"{param}: {tokens:,} tokens to compute, at most {most:,} allowed per request; send less text"
            raise Refused(422, message, param=param, code="too_long")

    def _classifier(self) -> Classifier:
        if self.classifier is None:
            raise Refused(
                400, f"{self.name} is a language model without a task head; serve a fine-tuned model to classify",
                param="model", code="wrong_model",
            )  # fmt: skip
        return self.classifier

    async def explain(self, example: Example, label: str | None, occlusion: bool) -> dict[str, Any]:
        """Return the weights of the words for `label`, by default the predicted one (`explainer.Explainer.explain`).

        Raises:
            Refused: the model has no such label, its vocabulary knows nothing of the example, or occlusion would exceed
                the tokens of a request.
        """
        labels = self._classifier().labels
        assert self.explainer
        [encoded] = await self._encoded([example])
        _require_known(float(unknown_shares(encoded)[0]))
        known = labels.problem_type.answers(labels.names, len(example.choices))
        if label is not None and label not in known:
            labels_found = f"choose one of {', '.join(known[:20])}" if known else "the model predicts a value"
            message = f"label: {label!r} not found; {labels_found}"
            raise Refused(422, message, param="label", code="invalid_value")
        explanation: dict[str, Any] = await self.worker.call(partial(self.explainer.explain, example, label))
        if occlusion:
            variants = await self._in_thread(partial(self.explainer.without_words, example), example.texts)
            self._require_little("occlusion", sum(len(ids) for each in variants for ids in each.sequences))
            scores: list[Scores] = []
            for start in range(0, len(variants), OCCLUDED_AT_ONCE):  # other requests run in between
                scores += await self.worker.scores(variants[start : start + OCCLUDED_AT_ONCE])
            self.explainer.add_occlusion(explanation, example, scores)
        return explanation

    async def attention(self, example: Example | str, layer: int, choice: int) -> dict[str, Any]:
        """Return the attention weights of one layer (`explainer.attention`); a string is plain text, not an example.

        Raises:
            Refused: `choice` is out of range, or the input is too long.
        """
        segments: Sequence[int] | None = None
        if isinstance(example, str):
            ids = await self._in_thread(partial(sequence_of_text, self.model.tokenizer, example), [example])
        else:
            if choice >= max(1, len(example.choices)):
                message = f"choice: {choice} is out of range; the question has {len(example.choices)} choices, from 0"
                raise Refused(422, message, param="choice", code="invalid_value")
            encode = partial(sequence_of, self._classifier(), example, choice)
            ids, segments = await self._in_thread(encode, example.texts)
        most = min(MOST_TOKENS, self.model.config.n_ctx)
        if len(ids) > most:
            message = f"input: {len(ids):,} tokens, attention is limited to {most}; shorten the text"
            raise Refused(422, message, param="input", code="too_long")
        result: dict[str, Any] = await self.worker.call(
            partial(attention, self.engine, self.model.tokenizer, ids, layer, segments)
        )
        return result

    # ---- the language model

    async def score(self, texts: Sequence[str]) -> dict[str, Any]:
        """Return {"data": [{index, text, ids, tokens, logprobs, perplexity, …}], "usage"} (`score.Scorer.score`)."""
        sizes = [len(ids) for ids in await self._in_thread(partial(self.model.tokenizer.encode_batch, texts), texts)]
        self._require_little("input", sum(sizes))
        scores: list[dict[str, Any]] = []
        for start in range(0, len(texts), SCORED_AT_ONCE):  # other requests run in between
            scores += await self.worker.call(partial(self.scorer.score, texts[start : start + SCORED_AT_ONCE]))
        data = [{"index": index, **each} for index, each in enumerate(scores)]
        return {"data": data, "usage": self._usage(sum(len(each["ids"]) for each in scores))}

    async def next(self, prompt: str, top: int) -> dict[str, Any]:
        """Return {"tokens": [{token, id, probability}]}, sorted from the most likely."""
        await self.prompts([prompt])  # rejects a prompt that is too long
        return {"tokens": await self.worker.call(partial(self._generator().next, prompt, top))}

    async def prompts(self, prompts: Sequence[str | Sequence[int]]) -> list[list[int]]:
        """Return the token ids of prompts, which are texts or token ids.

        Raises:
            Refused: a prompt is longer than the model's context.
        """
        tokenizer = self.model.tokenizer

        def encode() -> list[list[int]]:
            return [tokenizer.encode(each) if isinstance(each, str) else list(each) for each in prompts]

        encoded = await self._in_thread(encode, [each for each in prompts if isinstance(each, str)])
        n_ctx = self.model.config.n_ctx
        for ids in encoded:
            if len(ids) > n_ctx:
                message = f"prompt: {len(ids):,} tokens, the model's context is {n_ctx}; shorten the prompt"
                raise Refused(422, message, param="prompt", code="context_length_exceeded")
        self.metrics.read.inc(sum(map(len, encoded)))
        return encoded

    def generate(self, prompts: Sequence[Sequence[int]], config: GenerateConfig) -> Continuations:
        """Return the n continuations of each prompt; generation has not started."""
        return Continuations(self, prompts, config)

    def _generator(self) -> TextGenerator:
        if self.generator is None:
            raise Refused(
                400, f"{self.name}: the context of {self.model.config.n_ctx} tokens is too short to generate text"
            )
        return self.generator

    def _usage(self, tokens: int) -> dict[str, int]:
        self.metrics.read.inc(tokens)
        return {"prompt_tokens": tokens, "total_tokens": tokens}


def _require_known(share: float) -> None:
    """Raise Refused if the vocabulary knows nothing of an input, whose share of unknown bytes is `share`."""
    if share == 1:
        raise Refused(422, f"input: {NOTHING_KNOWN}", param="input", code="unknown_text")


def _described_fields(kind: InputKind) -> list[dict[str, Any]]:
    """Return the fields of one input in order."""
    fields = kind.json_fields.items()
    return [{"name": name, "required": required, "list": is_list} for name, (required, is_list) in fields]


class Continuations:
    """Texts that are being generated; index i is sample i % n of prompt i // n."""

    def __init__(self, service: Service, prompts: Sequence[Sequence[int]], config: GenerateConfig):
        self.service = service
        self.sequences = service._generator().sequences(prompts, config)
        self.prompt_tokens = sum(map(len, prompts))

    async def deltas(self) -> AsyncGenerator[TextDelta, None]:
        """Yield text as it is generated; closing the iterator cancels the rest."""
        try:
            async with aclosing(self.service.worker.generate(self.sequences)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            self.service.metrics.written.inc(self.tokens)

    @property
    def tokens(self) -> int:
        """Number of tokens generated so far."""
        return sum(len(sequence.generated) for sequence in self.sequences)
