"""ASGI middleware for all routes: shutdown, API key, limits on body size and time, request timeout, disconnection.

It reads the whole body, so that routes get a complete one within the limits, and it watches the connection, so that
work for a disconnected client is cancelled.
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
"""Prefixes of the paths that require the API key if one is set. A report contains texts of the data."""
ALWAYS = ("/health", "/ready", "/metrics")
"""Routes that remain available during shutdown."""


class RequestGuard:
    """The middleware around `app`; requests must have the API key `key` if there is one."""

    def __init__(self, app: ASGIApp, config: ServeConfig, key: str | None, metrics: Metrics):
        self.app, self.config, self.metrics = app, config, metrics
        self.expected = f"Bearer {key}".encode() if key else None
        self.draining = False
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request as ASGI defines it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.in_flight += scope["path"] not in ALWAYS
        self.metrics.in_flight.inc()
        started, status = time.perf_counter(), 499  # nginx's code for a connection closed by the client

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
            await self._refuse(scope, send, 503, "the server is shutting down; retry on another server", "draining")
            return
        if self.expected and scope["path"].startswith(KEYED) and not self._knows_key(headers):
            message = "missing or invalid API key; send the header Authorization: Bearer KEY"
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
            message = f"timeout: the body was not received within {self.config.body_timeout:g} s"
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
        """Return the whole body, None if it is too large."""
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
        """Run the route; cancel it at the timeout or when the client disconnects."""
        disconnected = asyncio.get_running_loop().create_future()
        unread = [{"type": "http.request", "body": body, "more_body": False}]
        response_started = False

        async def replay() -> Message:
            if unread:
                return unread.pop()
            await asyncio.shield(disconnected)
            return {"type": "http.disconnect"}

        async def noted(message: Message) -> None:
            nonlocal response_started
            response_started = True
            await send(message)

        async def wait_for_client() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            if not disconnected.done():
                disconnected.set_result(None)

        route = asyncio.ensure_future(self.app(scope, replay, noted))
        client = asyncio.ensure_future(wait_for_client())
        try:
            await asyncio.wait({route, client}, timeout=self.config.timeout, return_when=asyncio.FIRST_COMPLETED)
            if route.done():
                await route
                return
            await _cancelled(route)
            if not client.done() and not response_started:
                message = f"timeout: no response within {self.config.timeout:g} s"
                await self._refuse(scope, send, 504, message, "timeout")
        finally:
            await _cancelled(client)
            await _cancelled(route)
            disconnected.cancel()

    async def _refuse(self, scope: Scope, send: Send, status: int, message: str, code: str) -> None:
        refusal = response(status, message, code=code)
        refusal.headers["Connection"] = "close"  # the rest of the body is not read
        await refusal(scope, _nothing, send)

    async def _refuse_large(self, scope: Scope, send: Send) -> None:
        message = f"the body exceeds {self.config.max_bytes:,} bytes; send fewer or shorter inputs"
        await self._refuse(scope, send, 413, message, "payload_too_large")


async def _cancelled(task: asyncio.Future[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
