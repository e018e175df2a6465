"""Server process: address, API key, signals. SIGTERM and Ctrl-C stop it after the running requests."""

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
"""Seconds for errors to reach the clients of cancelled requests."""
KEEP_ALIVE = 75
"""Seconds until an idle connection is closed; longer than in common proxies, so that they never reuse a closed one."""
SWITCH_INTERVAL = 0.0005
"""Thread switch interval in seconds (Python's default: 0.005), so that the compute thread waits less for the GIL."""


def serve(name: str | Path, config: ServeConfig, hardware: DeviceConfig | None = None) -> None:
    """Serve a model over HTTP until SIGTERM or Ctrl-C.

    Raises:
        UserError: the address is not available, the API key cannot be read, or the model does not exist.
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
                f"Playground {address}   API {address}/v1   Docs {address}/docs   (Ctrl-C to stop)", urgent=True
            )
            if key is None and not is_loopback(host):
                console.say(
                    f"Warning: {host} can be reached from other machines, and no API key is set; "
                    f"set one with {KEY_VARIABLE}=… gpt1 serve …",
                    urgent=True,
                )

        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            with console.muted(True):  # no notices about single prompts
                server = Server(guard, announce)
                server.run(sockets=[listener])
        finally:
            sys.setswitchinterval(before)
    outcome = (
        f"running requests cancelled after {config.shutdown_timeout:g} s: {server.cancelled}"
        if server.cancelled
        else "all running requests were completed"
    )
    console.say(f"Stopped; {outcome}.")


def guarded_app(service: Service, key: str | None = None) -> RequestGuard:
    """Return the complete ASGI application: the routes behind the request guard."""
    app = create_app(service)
    guard = RequestGuard(app, service.config, key, service.metrics)
    app.state.draining = lambda: guard.draining
    return guard


class Server(uvicorn.Server):
    """uvicorn server with graceful shutdown: the first signal stops after running requests, the second at once.

    New requests are rejected during shutdown. `announce` is called once connections are accepted.
    """

    def __init__(self, guard: RequestGuard, announce: Callable[[], None] = lambda: None):
        self.guard, self.announce, self.deadline = guard, announce, float("inf")
        self.service: Service = guard.app.state.service  # type: ignore[attr-defined]
        self.cancelled = 0
        """Number of requests that were cancelled at the shutdown timeout."""
        config = uvicorn.Config(
            guard, log_level="warning", access_log=False, timeout_keep_alive=KEEP_ALIVE, server_header=False,
            timeout_graceful_shutdown=1, lifespan="on",
        )  # fmt: skip
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections, then call `announce`."""
        await super().startup(sockets)
        self.announce()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM, without raising them again afterwards as uvicorn does."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the graceful shutdown; at the second signal, exit at once."""
        if self.guard.draining:
            self.should_exit = self.force_exit = True
        self.guard.draining = True
        self.deadline = time.monotonic() + self.guard.config.shutdown_timeout

    async def on_tick(self, counter: int) -> bool:
        """Exit when all requests are complete, or cancel them at the shutdown timeout."""
        if self.guard.draining and time.monotonic() > self.deadline:
            self.cancelled += self.service.worker.abandon(Refused(503, "the server was stopped", code="draining"))
            await asyncio.sleep(ERROR_DELIVERY)
            self.should_exit = True
        if self.guard.draining and not self.guard.in_flight:
            self.should_exit = True
        return await super().on_tick(counter)


@contextmanager
def bound(config: ServeConfig) -> Iterator[socket.socket]:
    """Bind the address; done before the model is loaded, so that an error is reported at once.

    Raises:
        UserError: the address is in use, or is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        if os.name != "nt":  # on Windows it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.host, config.port))
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"--host {config.host} --port {config.port}: {reason}; choose another (--port 0 selects a free port)"
            ) from None
        yield listener


def api_key(config: ServeConfig) -> str | None:
    """Return the API key of --api-key-file or the environment, None if there is none.

    Raises:
        UserError: the file has no key in its first line.
    """
    if config.api_key_file is None:
        return os.environ.get(KEY_VARIABLE) or None
    lines = config.api_key_file.read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0].strip():
        raise UserError(f"--api-key-file {config.api_key_file}: the first line is empty, an API key expected")
    return lines[0].strip()


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`."""
    return host.startswith("127.") or host in ("::1", "localhost")
