"""OpenAI's completions: the response as one JSON document, or streamed as server-sent events."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Self

from gpt1.config import GenerateConfig
from gpt1.serve.errors import INTERNAL_ERROR, Refused, body
from gpt1.serve.service import Continuations, Service


class Completion:
    """A request to /v1/completions; `echoed` are the prompts of all sequences as text."""

    def __init__(self, name: str, request: Any, continuations: Continuations, echoed: Sequence[str]):
        self.name, self.request, self.continuations, self.echoed = name, request, continuations, echoed
        self.id, self.created = f"cmpl-{uuid.uuid4().hex}", int(time.time())

    @classmethod
    async def of(cls, service: Service, request: Any) -> Self:
        """Return the completion of a validated request; generation has not started.

        Raises:
            Refused: the request has too many sequences, or a prompt is longer than the context.
        """
        prompts, config = as_prompts(request.prompt), sampling(request)
        if len(prompts) * config.n > service.config.max_inputs:
            message = f"n: {len(prompts)} prompts with n {config.n} exceed the maximum of "
            raise Refused(422, f"{message}{service.config.max_inputs} texts per request", param="n")
        echoed = [each if isinstance(each, str) else service.model.tokenizer.decode(each) for each in prompts]
        continuations = service.generate(await service.prompts(prompts), config)
        return cls(service.name, request, continuations, [text for text in echoed for _ in range(config.n)])

    async def whole(self) -> dict[str, Any]:
        """Generate all text and return the response body."""
        texts, reasons = self._starts(), [""] * len(self.continuations.sequences)
        async with aclosing(self.continuations.deltas()) as deltas:
            async for delta in deltas:
                texts[delta.sequence] += delta.text
                reasons[delta.sequence] = delta.finish_reason or ""
        choices = [self._choice(i, text, reason) for i, (text, reason) in enumerate(zip(texts, reasons, strict=True))]
        return self._document(choices) | {"usage": self._usage()}

    async def events(self) -> AsyncGenerator[str, None]:
        """Yield the response as server-sent events."""
        options = self.request.stream_options
        counted = {"usage": None} if options and options.include_usage else {}
        try:
            for number, text in enumerate(self._starts()):
                if text:
                    yield event(self._document([self._choice(number, text, None)]) | counted)
            async with aclosing(self.continuations.deltas()) as deltas:
                async for delta in deltas:
                    choice = self._choice(delta.sequence, delta.text, delta.finish_reason)
                    yield event(self._document([choice]) | counted)
            if counted:
                yield event(self._document([]) | {"usage": self._usage()})
        except Refused as error:  # the status has been sent, so the error is sent as an event
            yield event(body(error.status, error.message, code=error.code))
        except Exception:
            yield event(body(500, INTERNAL_ERROR, code="internal_error"))
        yield "data: [DONE]\n\n"

    def _starts(self) -> list[str]:
        return [text if self.request.echo else "" for text in self.echoed]

    def _document(self, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id, "object": "text_completion", "created": self.created, "model": self.name,
            "choices": choices,
        }  # fmt: skip

    def _choice(self, number: int, text: str, finish_reason: str | None) -> dict[str, Any]:
        return {"index": number, "text": text, "logprobs": None, "finish_reason": finish_reason}

    def _usage(self) -> dict[str, int]:
        prompt, completion = self.continuations.prompt_tokens, self.continuations.tokens
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def as_prompts(prompt: Any) -> list[str | list[int]]:
    """Return a list of prompts from OpenAI's four forms: a text, texts, token ids, lists of token ids."""
    if isinstance(prompt, str):
        return [prompt]
    if prompt and isinstance(prompt[0], int):
        return [list(prompt)]
    return list(prompt) or [""]


def sampling(request: Any) -> GenerateConfig:
    """Return the sampling settings of a request; without a seed, a random one is used."""
    default = GenerateConfig()
    stop = request.stop if isinstance(request.stop, list) else [request.stop] if request.stop else []
    seed = random.getrandbits(32) if request.seed is None else request.seed % 2**32
    return GenerateConfig(
        max_tokens=16 if request.max_tokens is None else request.max_tokens,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_k=request.top_k,
        top_p=1.0 if request.top_p is None else request.top_p,
        repetition_penalty=request.repetition_penalty or default.repetition_penalty,
        seed=seed,
        stop=tuple(stop),
        n=request.n or default.n,
    )


def event(document: dict[str, Any]) -> str:
    """Return a server-sent event with JSON data."""
    return f"data: {json.dumps(document, ensure_ascii=False)}\n\n"
