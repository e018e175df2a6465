"""The compute thread, which owns the model. The event loop queues work and awaits futures.

The thread alternates between three queues, so that none blocks another: one batch of examples to score, one function
call, one token of each text that is being generated.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt1.backends.base import Engine
from gpt1.data.batching import Collator, EncodedExamples, concatenate
from gpt1.inference.generator import SequenceState, TextDelta, TextGenerator
from gpt1.serve.batcher import next_batch
from gpt1.serve.generation_queue import GenerationRequest, GenerationScheduler

log = logging.getLogger(__name__)

Scores = NDArray[np.float32]
Future = asyncio.Future[Any]


class QueueFull(Exception):
    """The queue has reached its maximum size."""


@dataclass(eq=False, slots=True)
class Request:
    """The examples of a request; its future is set when all of them have scores."""

    future: Future
    scores: list[Scores | None]

    def put(self, index: int, scores: Scores) -> bool:
        """Store the scores (C,) of one example; return whether all examples have scores."""
        self.scores[index] = scores
        return all(each is not None for each in self.scores)


@dataclass(eq=False, slots=True)
class Waiting:
    """A queued example."""

    encoded: EncodedExamples
    width: int
    """Total padded tokens of its k sequences."""
    request: Request
    index: int


@dataclass(eq=False, slots=True)
class Call:
    """A queued function call."""

    function: Callable[[], Any]
    future: Future


class Worker:
    """The compute thread with its queues.

    `generator` is None if the model cannot generate text. `queue` is the maximum number of queued inputs.
    `batch_tokens` limits the padded tokens of a batch (default: half of what the engine computes at once).
    `on_batch` is called with the shape (sequences, T) of each batch.
    """

    def __init__(
        self,
        engine: Engine,
        collator: Collator,
        generator: TextGenerator | None,
        *,
        queue: int,
        batch_tokens: int | None = None,
        max_batch_size: int = 8,
        on_batch: Callable[[int, int], None] = lambda sequences, tokens: None,
    ):
        self.engine, self.collator = engine, collator
        self.limit, self.on_batch = queue, on_batch
        self.scheduler = GenerationScheduler(generator, max_batch_size) if generator else None
        self.budget = batch_tokens or max(1, engine.tokens_at_once // 2)
        self._examples: list[Waiting] = []
        self._calls: deque[Call] = deque()
        self._change = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="gpt1-worker", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the thread; must be called in the event loop that awaits the results."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its current computation."""
        with self._change:
            self._stopping = True
            self._change.notify()
        self._thread.join()

    def abandon(self, error: Exception) -> int:
        """Fail all queued and running requests with `error` and return their number; call it in the event loop."""
        with self._change:
            futures = {each.request.future for each in self._examples} | {call.future for call in self._calls}
            requests = [*self.scheduler.queue, *self.scheduler.running.values()] if self.scheduler else []
        waiting = {id(each): each for each in requests if not each.cancelled}
        for request in waiting.values():
            request.cancelled = True
            request.deltas.put_nowait(error)
        left = [future for future in futures if not future.done()]
        for future in left:
            future.set_exception(error)
        return len(left) + len(waiting)

    @property
    def alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Number of queued inputs."""
        texts = sum(each.waiting for each in list(self.scheduler.queue) if not each.cancelled) if self.scheduler else 0
        jobs = [each.request.future for each in self._examples] + [call.future for call in self._calls]
        return sum(not future.done() for future in jobs) + texts

    # ---- from the event loop

    async def scores(self, examples: Sequence[EncodedExamples]) -> list[Scores]:
        """Return the scores (C,) of examples, each of which is one object.

        Raises:
            QueueFull: the queue has no room for them.
        """
        request = Request(self._new_future(), [None] * len(examples))
        new = [
            Waiting(each, self.collator.width(int(each.lengths[0])) * each.per_example, request, index)
            for index, each in enumerate(examples)
        ]
        with self._admitted(len(new)):
            self._examples += new
        scores: list[Scores] = await request.future
        return scores

    async def call(self, function: Callable[[], Any]) -> Any:
        """Call `function` in the compute thread and return its result.

        Raises:
            QueueFull: the queue is full.
        """
        call = Call(function, self._new_future())
        with self._admitted(1):
            self._calls.append(call)
        return await call.future

    async def generate(self, sequences: Sequence[SequenceState]) -> AsyncGenerator[TextDelta, None]:
        """Yield the text of `sequences` as it is generated; closing the iterator cancels the rest.

        Raises:
            QueueFull: the queue has no room for them.
        """
        assert self.scheduler
        request = GenerationRequest(sequences)
        with self._admitted(len(sequences)):
            self.scheduler.add(request)
        unfinished = len(sequences)
        try:
            while unfinished:
                delta = await request.deltas.get()
                if isinstance(delta, Exception):
                    raise delta
                unfinished -= delta.finish_reason is not None
                yield delta
        finally:
            request.cancelled = True

    def _new_future(self) -> Future:
        return asyncio.get_running_loop().create_future()

    @contextmanager
    def _admitted(self, count: int) -> Iterator[None]:
        """Lock the queues while `count` inputs are added, then wake the thread."""
        with self._change:
            if self.waiting + count > self.limit:
                raise QueueFull
            yield
            self._change.notify()

    # ---- in the thread

    def _run(self) -> None:
        while True:
            with self._change:
                self._forget_cancelled()
                while not (self._examples or self._calls or self._generates() or self._stopping):
                    self._change.wait()
                if self._stopping:
                    return
                batch = self._take_batch()
                call = self._calls.popleft() if self._calls else None
            if batch:
                self._score(batch)
            if call:
                self._answer(call)
            if self._generates():
                self._generate()

    def _forget_cancelled(self) -> None:
        """Drop the queued work of cancelled requests."""
        self._examples = [waiting for waiting in self._examples if not waiting.request.future.done()]
        self._calls = deque(call for call in self._calls if not call.future.done())
        if self.scheduler:
            self.scheduler.queue = deque(request for request in self.scheduler.queue if not request.cancelled)

    def _generates(self) -> bool:
        return self.scheduler is not None and self.scheduler.busy

    def _take_batch(self) -> list[Waiting]:
        if not self._examples:
            return []
        k = self._examples[0].encoded.per_example  # a batch has questions with the same number of choices only
        candidates = [waiting for waiting in self._examples if waiting.encoded.per_example == k]
        chosen = next_batch([waiting.width for waiting in candidates], self.budget)
        batch = [candidates[index] for index in chosen]
        taken = set(map(id, batch))
        self._examples = [waiting for waiting in self._examples if id(waiting) not in taken]
        return batch

    def _score(self, batch: list[Waiting]) -> None:
        try:
            encoded = concatenate([waiting.encoded for waiting in batch])
            arrays = self.collator(encoded, np.arange(len(batch)))
            self.on_batch(*arrays.tokens.shape)
            logits = self.engine.logits(arrays)
        except Exception as error:
            log.exception("a batch of %d examples failed", len(batch))
            self._settle([(waiting.request.future, error) for waiting in batch])
            return
        done = []
        for waiting, scores in zip(batch, logits, strict=True):
            if waiting.request.put(waiting.index, scores):
                done.append((waiting.request.future, waiting.request.scores))
        self._settle(done)

    def _answer(self, call: Call) -> None:
        try:
            result = call.function()
        except Exception as error:
            result = error
        self._settle([(call.future, result)])

    def _generate(self) -> None:
        assert self.scheduler
        try:
            deltas: Sequence[tuple[GenerationRequest, TextDelta | Exception]] = self.scheduler.step()
        except Exception as error:
            log.exception("generation failed")
            deltas = [(request, error) for request in self.scheduler.fail()]

        def put() -> None:
            for request, delta in deltas:
                request.deltas.put_nowait(delta)

        if deltas:
            self._call_in_loop(put)

    def _settle(self, results: Sequence[tuple[Future, Any]]) -> None:
        """Set the results of futures, or their exceptions."""

        def settle() -> None:
            for future, result in results:
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

        if results:
            self._call_in_loop(settle)

    def _call_in_loop(self, callback: Callable[[], None]) -> None:
        assert self._loop
        with suppress(RuntimeError):  # the loop is closed, so no request waits
            self._loop.call_soon_threadsafe(callback)
