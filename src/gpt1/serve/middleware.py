"""ASGI middleware before every route: shutdown, API key, limits on the body's size and time, timeout, disconnection.

The body is read here once, so that a route gets a complete one within the limits, and the connection is watched, so
that nothing is computed for a client that has disconnected.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpt1.config import ServeConfig
from gpt1.serve.errors import response
from gpt1.serve.metrics import Metrics

KEYED = ("/v1", "/report")
"""Prefixes of the paths that need the API key, where one is set: a report quotes the data."""
ALWAYS = ("/health", "/ready", "/metrics")
"""Routes that answer while the server shuts down."""


class RequestGuard:
    """The middleware; `app` is the application that it protects."""

    def __init__(self, app: ASGIApp, config: ServeConfig, key: str | None, metrics: Metrics):
        self.app, self.config, self.metrics = app, config, metrics
        self.expected = f"Bearer {key}".encode() if key else None
        self.draining = False
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.in_flight += scope["path"] not in ALWAYS
        self.metrics.in_flight.inc()
        started, status = time.perf_counter(), 499  # as nginx has it: the client closed the connection

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answer(scope, receive, watched)
        finally:
            self.in_flight -= scope["path"] not in ALWAYS
            self.metrics.in_flight.dec()
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if self.draining and scope["path"] not in ALWAYS:
            await self._refuse(scope, send, 503, "the server is shutting down; ask another one", "draining")
            return
        if self.expected and scope["path"].startswith(KEYED) and not self._knows_key(headers):
            message = "no valid API key: send the header Authorization: Bearer KEY"
            await self._refuse(scope, send, 401, message, "invalid_api_key")
            return
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.config.max_bytes:
            await self._refuse_large(scope, send)
            return
        try:
            async with asyncio.timeout(self.config.body_timeout):
                body = await self._body(receive)
        except TimeoutError:
            message = f"the body did not arrive within {self.config.body_timeout:g} s"
            await self._refuse(scope, send, 408, message, "body_timeout")
            return
        if body is None:
            await self._refuse_large(scope, send)
            return
        await self._in_time(scope, body, receive, send)

    def _knows_key(self, headers: dict[bytes, bytes]) -> bool:
        assert self.expected
        return hmac.compare_digest(headers.get(b"authorization", b""), self.expected)

    async def _body(self, receive: Receive) -> bytes | None:
        """Return the whole body; None of one that is too large."""
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return b"".join(chunks)
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self.config.max_bytes:
                return None
            if not message.get("more_body"):
                return b"".join(chunks)

    async def _in_time(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Run the route until it has answered, the time is over, or the client has gone."""
        gone = asyncio.get_running_loop().create_future()
        unread = [{"type": "http.request", "body": body, "more_body": False}]
        begun = False

        async def replay() -> Message:
            if unread:
                return unread.pop()
            await asyncio.shield(gone)
            return {"type": "http.disconnect"}

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        async def wait_for_client() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            if not gone.done():
                gone.set_result(None)

        route = asyncio.ensure_future(self.app(scope, replay, noted))
        client = asyncio.ensure_future(wait_for_client())
        try:
            await asyncio.wait({route, client}, timeout=self.config.timeout, return_when=asyncio.FIRST_COMPLETED)
            if route.done():
                await route
                return
            await _cancelled(route)
            if not client.done() and not begun:
                message = f"no answer within {self.config.timeout:g} s"
                await self._refuse(scope, send, 504, message, "timeout")
        finally:
            await _cancelled(client)
            await _cancelled(route)
            gone.cancel()

    async def _refuse(self, scope: Scope, send: Send, status: int, message: str, code: str) -> None:
        answer = response(status, message, code=code)
        answer.headers["Connection"] = "close"  # what is left of the body stays unread
        await answer(scope, _nothing, send)

    async def _refuse_large(self, scope: Scope, send: Send) -> None:
        message = f"the body is larger than {self.config.max_bytes:,} bytes; send fewer or shorter inputs"
        await self._refuse(scope, send, 413, message, "payload_too_large")


async def _cancelled(task: asyncio.Future[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
