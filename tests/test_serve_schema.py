"""Valid and invalid requests generated from the server's OpenAPI document.

Run: pytest tests/test_serve_schema.py
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt1.serve.server import guarded_app
from support import served_models

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (gpt1[dev])")

EXAMPLES = 15
"""Requests per model kind and mode: enough for seconds of run time; thousands found nothing more."""


@contextmanager
def address(kind: str) -> Iterator[str]:
    """Run a server in a thread, with real connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(
            uvicorn.Config(guarded_app(served_models.service(kind, max_tokens=8)), log_level="error")
        )
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["single", "pair", "choices", "none"])
def test_nothing_that_the_document_allows_or_forbids_breaks_the_server(kind: str) -> None:
    with address(kind) as url:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
        every = [
            operation.ok().as_strategy(generation_mode=mode)
            for operation in schema.get_all_operations()
            for mode in modes
        ]

        @settings(
            max_examples=EXAMPLES * len(every), database=None, deadline=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=st.one_of(every))
        def holds(case: Any) -> None:
            response = case.call()
            assert response.status_code < 500, response.text
            assert response.status_code < 400 or "error" in response.json()

        holds()
