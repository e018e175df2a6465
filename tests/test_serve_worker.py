"""Compute thread and request guard: batches, queues, disconnected clients, timeouts.

Run: pytest tests/test_serve_worker.py
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt1.backends.base import Batch
from gpt1.config import GenerateConfig
from gpt1.data.batching import Collator, EncodedExamples
from gpt1.data.example import Example
from gpt1.serve.batcher import MOST_PADDING, next_batch
from gpt1.serve.errors import Refused
from gpt1.serve.server import guarded_app
from gpt1.serve.worker import QueueFull, Worker
from support import served_models

PATIENCE = 20.0
"""Timeout of a hanging test in seconds, far more than any test takes."""


# ---- which examples go together


@pytest.mark.parametrize(
    ("widths", "budget", "expected"),
    [
        ([16], 512, [0]),
        ([16, 16, 16], 512, [0, 1, 2]),
        ([16] * 5, 64, [0, 1, 2, 3]),  # no more than the budget
        ([512, 16, 16], 512, [0]),  # a long one goes alone, though it was first
        ([16, 512, 16, 512], 512, [0, 2]),  # short ones that come later do not wait for it
        ([32, 16, 48, 32], 512, [0, 2, 3]),  # 48 for 32 is half of padding; 16 beside 48 would be two thirds
        ([600], 512, [0]),  # wider than the budget, alone
    ],
)
def test_examples_of_like_width_go_together(widths: list[int], budget: int, expected: list[int]) -> None:
    assert next_batch(widths, budget) == expected


@given(
    st.lists(st.integers(1, 32).map(lambda n: 16 * n), min_size=1, max_size=40), st.sampled_from([1, 256, 512, 4096])
)
def test_the_longest_waiting_is_in_every_batch_and_the_budget_holds(widths: list[int], budget: int) -> None:
    chosen = next_batch(widths, budget)
    taken = [widths[place] for place in chosen]
    assert chosen[0] == 0 and chosen == sorted(set(chosen))
    assert len(chosen) == 1 or len(chosen) * max(taken) <= budget
    assert max(taken) <= MOST_PADDING * min(taken)


# ---- the thread


class Held:
    """An engine that waits for permission to compute a batch; a sequence's scores are its first token."""

    tokens_at_once = 128

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []
        self.let = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.broken = False

    def logits(self, batch: Batch) -> Any:
        self.begun.release()
        assert self.let.acquire(timeout=PATIENCE)
        if self.broken:
            raise RuntimeError("broken")
        n, width = batch.tokens.shape
        self.shapes.append((n, width))
        return batch.tokens[:: batch.sequences_per_example, :1].astype(np.float32)


def example(first: int, length: int = 10) -> EncodedExamples:
    return EncodedExamples([np.full(length, first, np.int32)])


@asynccontextmanager
async def working(queue: int = 64) -> Any:
    engine = Held()
    worker = Worker(engine, Collator(0, 512), None, queue=queue)  # type: ignore[arg-type]
    worker.start()
    try:
        yield worker, engine
    finally:
        engine.let.release(100)
        await asyncio.to_thread(worker.stop)


def asynchronous(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def limited() -> None:
            async with asyncio.timeout(PATIENCE):
                await test()

        asyncio.run(limited())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def begun(engine: Held) -> None:
    assert await asyncio.to_thread(engine.begun.acquire, timeout=PATIENCE)


async def settled() -> None:
    """Run the event loop until new tasks reach their first await."""
    for _ in range(5):
        await asyncio.sleep(0)


@asynchronous
async def test_what_waits_meanwhile_is_computed_together() -> None:
    async with working() as (worker, engine):
        first = asyncio.ensure_future(worker.scores([example(1)]))
        await begun(engine)  # with one example: nobody waits for a batch to fill
        others = [asyncio.ensure_future(worker.scores([example(n), example(10 * n)])) for n in (2, 3)]
        await settled()
        engine.let.release(2)
        assert [float(row[0]) for row in await first] == [1]
        assert [[float(row[0]) for row in await each] for each in others] == [[2, 20], [3, 30]]
        assert engine.shapes == [(1, 16), (4, 16)]


@asynchronous
async def test_what_nobody_waits_for_is_not_computed() -> None:
    async with working() as (worker, engine):
        first = asyncio.ensure_future(worker.scores([example(1)]))
        await begun(engine)
        gone = asyncio.ensure_future(worker.scores([example(2)] * 3))
        call = asyncio.ensure_future(worker.call(lambda: pytest.fail("called")))
        await settled()
        gone.cancel()
        call.cancel()
        last = asyncio.ensure_future(worker.scores([example(4)]))
        await settled()
        assert worker.waiting == 1
        engine.let.release(2)
        await first
        await last
        assert engine.shapes == [(1, 16), (1, 16)]


@asynchronous
async def test_a_full_queue_refuses_and_then_takes_again() -> None:
    async with working(queue=2) as (worker, engine):
        first = asyncio.ensure_future(worker.scores([example(1)]))
        await begun(engine)
        waiting = asyncio.ensure_future(worker.scores([example(2)]))
        await settled()
        with pytest.raises(QueueFull):
            await worker.scores([example(3)] * 2)
        call = asyncio.ensure_future(worker.call(lambda: 7))
        await settled()
        with pytest.raises(QueueFull):
            await worker.call(lambda: 8)
        engine.let.release(3)
        await asyncio.gather(first, waiting)
        assert await call == 7
        assert [float(row[0]) for row in await worker.scores([example(5)] * 1)] == [5]


@asynchronous
async def test_a_failure_reaches_those_of_its_batch_alone() -> None:
    async with working() as (worker, engine):
        engine.broken = True
        engine.let.release()
        with pytest.raises(RuntimeError, match="broken"):
            await worker.scores([example(1)])
        engine.broken = False
        engine.let.release()
        assert [float(row[0]) for row in await worker.scores([example(2)])] == [2]
        assert worker.alive


@asynchronous
async def test_a_label_does_not_wait_for_the_end_of_a_long_text() -> None:
    service = served_models.service("single")
    service.generator.forbidden.append(served_models.tokenizer().eos)  # type: ignore[union-attr]
    service.worker.start()
    stream = service.generate([[]], GenerateConfig(max_tokens=2_000)).deltas()
    await anext(stream)
    encoded = service.classifier.encode([Example(("a good day",))])  # type: ignore[union-attr]
    await service.worker.scores([encoded])
    assert service.worker.scheduler and service.worker.scheduler.busy
    await stream.aclose()  # and one that nobody reads is not written to its end
    await idle(service)
    await asyncio.to_thread(service.worker.stop)


@asynchronous
async def test_texts_that_join_later_are_those_written_alone() -> None:
    async def text(service: Any, prompt: str, seed: int, after: int) -> str:
        await asyncio.sleep(after / 1000)
        ids = await service.prompts([prompt])
        continuations = service.generate(ids, GenerateConfig(max_tokens=20, seed=seed))
        return "".join([piece.text async for piece in continuations.deltas()])

    jobs = [("a good", 1, 0), ("it", 2, 3), ("the sun", 3, 6), ("", 4, 9), ("a", 5, 9)]
    service = served_models.service("none", max_batch_size=3)
    service.worker.start()
    together = await asyncio.gather(*(text(service, *job) for job in jobs))
    alone = [await text(service, *job) for job in jobs]
    assert together == alone
    await asyncio.to_thread(service.worker.stop)


async def idle(service: Any) -> None:
    """Wait until the thread has dropped every text, long before 2,000 tokens."""
    for _ in range(100):
        if not service.worker.scheduler.busy:
            return
        await service.worker.call(lambda: None)
    pytest.fail("it still writes")


# ---- the guard


class Client:
    """An ASGI client that sends given messages and disconnects on request."""

    def __init__(self, *messages: dict[str, Any], path: str = "/v1/classify"):
        self.messages = list(messages)
        self.gone = asyncio.Event()
        self.sent: list[dict[str, Any]] = []
        self.scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": [(b"content-type", b"application/json")], "http_version": "1.1", "scheme": "http",
        }  # fmt: skip

    async def receive(self) -> dict[str, Any]:
        if self.messages:
            return self.messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])


def body(value: Any, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": json.dumps(value).encode(), "more_body": more}


@asynccontextmanager
async def served_app(**settings: Any) -> Any:
    service = served_models.service("single", **settings)
    service.generator.forbidden.append(served_models.tokenizer().eos)  # type: ignore[union-attr]
    guard = guarded_app(service)
    service.worker.start()
    try:
        yield guard, service
    finally:
        await asyncio.to_thread(service.worker.stop)


@asynchronous
async def test_a_client_that_goes_away_ends_its_request() -> None:
    async with served_app() as (guard, service):
        client = Client(body({"prompt": "a", "max_tokens": 2000}), path="/v1/completions")
        request = asyncio.ensure_future(guard(client.scope, client.receive, client.send))
        while not service.worker.scheduler.busy:
            await asyncio.sleep(0.001)
        client.gone.set()
        await request
        await idle(service)
        assert guard.in_flight == 0 and not client.sent


@asynchronous
async def test_a_client_that_reads_no_further_ends_its_stream() -> None:
    async with served_app() as (guard, service):
        asked = {"prompt": "a", "max_tokens": 2000, "stream": True}
        client = Client(body(asked), path="/v1/completions")
        request = asyncio.ensure_future(guard(client.scope, client.receive, client.send))
        while len(client.sent) < 3:
            await asyncio.sleep(0.001)
        client.gone.set()
        await request
        await idle(service)
        assert guard.in_flight == 0


@asynchronous
async def test_a_body_that_comes_too_slowly_gets_408() -> None:
    async with served_app(body_timeout=0.05) as (guard, _):
        client = Client(body({}, more=True))
        await guard(client.scope, client.receive, client.send)
        assert client.status == 408


@asynchronous
async def test_an_answer_that_takes_too_long_gets_504_and_is_given_up() -> None:
    async with served_app(timeout=0.1) as (guard, service):
        client = Client(body({"prompt": "a", "max_tokens": 2000}), path="/v1/completions")
        await guard(client.scope, client.receive, client.send)
        assert client.status == 504
        await idle(service)


@asynchronous
async def test_what_does_not_end_in_time_is_told_so() -> None:
    """A stream that is cancelled by the shutdown ends with an error event."""
    async with served_app() as (guard, service):
        client = Client(body({"prompt": "a", "max_tokens": 2000, "stream": True}), path="/v1/completions")
        request = asyncio.ensure_future(guard(client.scope, client.receive, client.send))
        while len(client.sent) < 3:
            await asyncio.sleep(0.001)
        assert service.worker.abandon(Refused(503, "the server was stopped", code="draining")) == 1
        await request
        text = b"".join(message.get("body", b"") for message in client.sent).decode()
        *_, last, done, end = text.split("\n\n")
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "draining"
        assert (done, end) == ("data: [DONE]", "")
