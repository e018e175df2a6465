"""The thread that computes. The event loop hands it work and awaits futures; nothing is computed elsewhere.

It goes round three queues, and takes a turn of each at a time, so that none waits for the end of another: a batch of
examples to score, one call, one more token for each text that is being written.
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
from gpt1.data.batching import Collator, Encoded, joined
from gpt1.inference.generator import Draft, Piece, Writer
from gpt1.serve.batcher import next_batch
from gpt1.serve.generation_queue import Scribe, Writing

log = logging.getLogger(__name__)

Scores = NDArray[np.float32]
Future = asyncio.Future[Any]


class QueueFull(Exception):
    """More inputs wait than the server lets wait."""


@dataclass(eq=False, slots=True)
class Request:
    """A request's examples: its future has their scores when the last one has come."""

    future: Future
    scores: list[Scores | None]

    def put(self, place: int, scores: Scores) -> bool:
        """Keep the scores (C,) of one example; say whether they are complete."""
        self.scores[place] = scores
        return all(each is not None for each in self.scores)


@dataclass(eq=False, slots=True)
class Waiting:
    """One example that waits to be scored."""

    encoded: Encoded
    width: int
    """Padded tokens of its k sequences together."""
    request: Request
    place: int


@dataclass(eq=False, slots=True)
class Call:
    function: Callable[[], Any]
    future: Future


class Worker:
    """One model in one thread."""

    def __init__(
        self,
        engine: Engine,
        collator: Collator,
        writer: Writer | None,
        *,
        queue: int,
        batch_tokens: int | None = None,
        texts_at_once: int = 8,
        on_batch: Callable[[int, int], None] = lambda sequences, tokens: None,
    ):
        """`writer` is None for a model that cannot write; `on_batch` is told the shape (sequences, T) of each batch."""
        self.engine, self.collator = engine, collator
        self.limit, self.on_batch = queue, on_batch
        self.scribe = Scribe(writer, texts_at_once) if writer else None
        self.budget = batch_tokens or max(1, engine.tokens_at_once // 2)
        self._examples: list[Waiting] = []
        self._calls: deque[Call] = deque()
        self._change = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="gpt1-worker", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to compute; called in the event loop that the answers go to."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End the thread after what it computes just now."""
        with self._change:
            self._stopping = True
            self._change.notify()
        self._thread.join()

    def abandon(self, error: Exception) -> int:
        """Give everybody who waits `error` instead of an answer; called in the event loop. Return how many they are."""
        with self._change:
            futures = {each.request.future for each in self._examples} | {call.future for call in self._calls}
            writings = [*self.scribe.queue, *self.scribe.at_desk.values()] if self.scribe else []
        waiting = {id(each): each for each in writings if not each.cancelled}
        for writing in waiting.values():
            writing.cancelled = True
            writing.pieces.put_nowait(error)
        left = [future for future in futures if not future.done()]
        for future in left:
            future.set_exception(error)
        return len(left) + len(waiting)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Inputs that have not begun to be computed."""
        texts = sum(each.waiting for each in list(self.scribe.queue) if not each.cancelled) if self.scribe else 0
        jobs = [each.request.future for each in self._examples] + [call.future for call in self._calls]
        return sum(not future.done() for future in jobs) + texts

    # ---- from the event loop

    async def scores(self, examples: Sequence[Encoded]) -> list[Scores]:
        """Return the (C,) scores of examples, each encoded by itself.

        Raises:
            QueueFull: too much waits already.
        """
        request = Request(self._new_future(), [None] * len(examples))
        new = [
            Waiting(each, self.collator.width(int(each.lengths[0])) * each.per_example, request, place)
            for place, each in enumerate(examples)
        ]
        with self._admitted(len(new)):
            self._examples += new
        found: list[Scores] = await request.future
        return found

    async def call(self, function: Callable[[], Any]) -> Any:
        """Return what `function` returns, called in the thread that owns the model.

        Raises:
            QueueFull: too much waits already.
        """
        call = Call(function, self._new_future())
        with self._admitted(1):
            self._calls.append(call)
        return await call.future

    async def pieces(self, drafts: Sequence[Draft]) -> AsyncGenerator[Piece, None]:
        """Yield what is written of some texts as it comes; closing the iterator stops the writing.

        Raises:
            QueueFull: too much waits already.
        """
        assert self.scribe
        writing = Writing(drafts)
        with self._admitted(len(drafts)):
            self.scribe.add(writing)
        unfinished = len(drafts)
        try:
            while unfinished:
                piece = await writing.pieces.get()
                if isinstance(piece, Exception):
                    raise piece
                unfinished -= piece.finish_reason is not None
                yield piece
        finally:
            writing.cancelled = True

    def _new_future(self) -> Future:
        return asyncio.get_running_loop().create_future()

    @contextmanager
    def _admitted(self, count: int) -> Iterator[None]:
        """Hold the queues while `count` more inputs are put into them, and wake the thread."""
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
                while not (self._examples or self._calls or self._writes() or self._stopping):
                    self._change.wait()
                if self._stopping:
                    return
                batch = self._take_batch()
                call = self._calls.popleft() if self._calls else None
            if batch:
                self._score(batch)
            if call:
                self._answer(call)
            if self._writes():
                self._write()

    def _forget_cancelled(self) -> None:
        """Drop what nobody waits for any more."""
        self._examples = [waiting for waiting in self._examples if not waiting.request.future.done()]
        self._calls = deque(call for call in self._calls if not call.future.done())
        if self.scribe:
            self.scribe.queue = deque(writing for writing in self.scribe.queue if not writing.cancelled)

    def _writes(self) -> bool:
        return self.scribe is not None and self.scribe.busy

    def _take_batch(self) -> list[Waiting]:
        if not self._examples:
            return []
        k = self._examples[0].encoded.per_example  # of multiple choice, only questions with as many choices go together
        alike = [waiting for waiting in self._examples if waiting.encoded.per_example == k]
        batch = [alike[place] for place in next_batch([waiting.width for waiting in alike], self.budget)]
        taken = set(map(id, batch))
        self._examples = [waiting for waiting in self._examples if id(waiting) not in taken]
        return batch

    def _score(self, batch: list[Waiting]) -> None:
        try:
            encoded = joined([waiting.encoded for waiting in batch])
            arrays = self.collator(encoded, np.arange(len(batch)))
            self.on_batch(*arrays.tokens.shape)
            logits = self.engine.logits(arrays)
        except Exception as error:
            log.exception("a batch of %d examples failed", len(batch))
            self._settle([(waiting.request.future, error) for waiting in batch])
            return
        done = []
        for waiting, scores in zip(batch, logits, strict=True):
            if waiting.request.put(waiting.place, scores):
                done.append((waiting.request.future, waiting.request.scores))
        self._settle(done)

    def _answer(self, call: Call) -> None:
        try:
            result = call.function()
        except Exception as error:
            result = error
        self._settle([(call.future, result)])

    def _write(self) -> None:
        assert self.scribe
        try:
            told: Sequence[tuple[Writing, Piece | Exception]] = self.scribe.turn()
        except Exception as error:
            log.exception("writing failed")
            told = [(writing, error) for writing in self.scribe.fail()]

        def put() -> None:
            for writing, piece in told:
                writing.pieces.put_nowait(piece)

        if told:
            self._tell(put)

    def _settle(self, results: Sequence[tuple[Future, Any]]) -> None:
        """Give futures their results, or raise them where they are exceptions."""

        def settle() -> None:
            for future, result in results:
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

        if results:
            self._tell(settle)

    def _tell(self, callback: Callable[[], None]) -> None:
        assert self._loop
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(callback)
