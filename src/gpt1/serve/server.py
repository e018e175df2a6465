"""The server process: address, API key, signals. SIGTERM and Ctrl-C finish the requests that have begun."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn

from gpt1 import console
from gpt1.config import DeviceConfig, ServeConfig
from gpt1.errors import UserError
from gpt1.serve.app import create_app
from gpt1.serve.errors import Refused
from gpt1.serve.middleware import RequestGuard
from gpt1.serve.service import Service

KEY_VARIABLE = "GPT1_API_KEY"
ERROR_DELIVERY = 0.2
"""Seconds for errors to reach clients whose requests are cancelled."""
KEEP_ALIVE = 75
"""Seconds that an idle connection stays open: longer than proxies keep theirs, so that they never use a closed one."""
SWITCH_INTERVAL = 0.0005
"""Seconds (Python's own: 0.005) after which the thread that computes gets Python back from the event loop."""


def serve(name: str | Path, config: ServeConfig, hardware: DeviceConfig | None = None) -> None:
    """Answer requests for a model until the process is told to end.

    Raises:
        UserError: the address is not available, the key cannot be read, or there is no such model.
    """
    key = api_key(config)
    with bound(config) as listener:
        service = Service.open(name, config, hardware)
        guard = guarded_app(service, key)
        host, port = listener.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"

        def announce() -> None:
            console.say(f"{service.name}: {service.engine.device}, {service.engine.dtype}", urgent=True)
            console.say(
                f"Playground {address}   API {address}/v1   documentation {address}/docs   (Ctrl-C ends)", urgent=True
            )
            if key is None and not is_loopback(host):
                console.say(
                    f"Other machines can reach {host}, and no key is set: {KEY_VARIABLE}=… gpt1 serve …", urgent=True
                )

        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            with console.muted(True):  # notices about single prompts
                server = Server(guard, announce)
                server.run(sockets=[listener])
        finally:
            sys.setswitchinterval(before)
    lost = (
        f"after {config.shutdown_timeout:g} s {server.cut} were cut"
        if server.cut
        else "every request that had begun was answered"
    )
    console.say(f"Stopped; {lost}.")


def guarded_app(service: Service, key: str | None = None) -> RequestGuard:
    """Return the whole ASGI application: the routes behind the request guard."""
    app = create_app(service)
    guard = RequestGuard(app, service.config, key, service.metrics)
    app.state.draining = lambda: guard.draining
    return guard


class Server(uvicorn.Server):
    """uvicorn that finishes running requests and refuses new ones at the first signal, and ends at the second."""

    def __init__(self, guard: RequestGuard, announce: Callable[[], None] = lambda: None):
        """`announce` is called when connections are accepted."""
        self.guard, self.announce, self.deadline = guard, announce, float("inf")
        self.service: Service = guard.app.state.service  # type: ignore[attr-defined]
        self.cut = 0
        """Requests that were cancelled because the time to shut down was over."""
        config = uvicorn.Config(
            guard, log_level="warning", access_log=False, timeout_keep_alive=KEEP_ALIVE, server_header=False,
            timeout_graceful_shutdown=1, lifespan="on",
        )  # fmt: skip
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.announce()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.guard.draining:
            self.should_exit = self.force_exit = True
        self.guard.draining = True
        self.deadline = time.monotonic() + self.guard.config.shutdown_timeout

    async def on_tick(self, counter: int) -> bool:
        if self.guard.draining and time.monotonic() > self.deadline:
            self.cut += self.service.worker.abandon(Refused(503, "the server was stopped", code="draining"))
            await asyncio.sleep(ERROR_DELIVERY)
            self.should_exit = True
        if self.guard.draining and not self.guard.in_flight:
            self.should_exit = True
        return await super().on_tick(counter)


@contextmanager
def bound(config: ServeConfig) -> Iterator[socket.socket]:
    """Bind the address, before a model is loaded in vain.

    Raises:
        UserError: another program uses it, or it is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        if os.name != "nt":  # there it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.host, config.port))
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"--host {config.host} --port {config.port}: {reason}; choose another one (--port 0 takes a free one)"
            ) from None
        yield listener


def api_key(config: ServeConfig) -> str | None:
    """Return the key that requests must send.

    Raises:
        UserError: the file cannot be read, or holds no key.
    """
    if config.api_key_file is None:
        return os.environ.get(KEY_VARIABLE) or None
    lines = config.api_key_file.read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0].strip():
        raise UserError(f"--api-key-file {config.api_key_file}: the first line is empty, a key expected")
    return lines[0].strip()


def is_loopback(host: str) -> bool:
    return host.startswith("127.") or host in ("::1", "localhost")
