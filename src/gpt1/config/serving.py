"""Settings of the HTTP server."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from gpt1.config.checks import require


@dataclass(frozen=True)
class ServeConfig:
    """Address, API key and limits of the server."""

    host: str = "127.0.0.1"
    """Address to listen on. 0.0.0.0 listens on all networks; set an API key then."""
    port: int = 8000
    """Port to listen on; 0 chooses a free one and prints it."""
    name: str | None = None
    """Name of the model in responses (default: the name of its directory)."""
    api_key_file: Path | None = None
    """File whose first line is the API key that /v1 requires (default: the environment variable GPT1_API_KEY; without
    either, no key)."""
    max_inputs: int = 32
    """Maximum number of inputs per request; for completions, of prompts times `n`."""
    max_bytes: int = 2_000_000
    """Maximum size of a request's body in bytes."""
    max_tokens: int = 2_048
    """Maximum number of tokens that a completion may request."""
    max_request_tokens: int = 16_384
    """Maximum number of tokens of a request that is computed in one call: scoring texts, or occlusion of each word."""
    max_queue_size: int = 512
    """Maximum number of queued inputs; further requests get status 429."""
    batch_tokens: int | None = None
    """Maximum number of padded tokens per batch (default: half of the device's most efficient batch). A larger value
    makes short texts wait for long ones."""
    max_batch_size: int = 8
    """Maximum number of completions generated at once; others are queued. Each has a KV cache, 38 MB for GPT-1."""
    timeout: float = 60.0
    """Seconds after which an unanswered request gets status 504 and a streaming response ends."""
    body_timeout: float = 10.0
    """Seconds that a client may take to send a request's body."""
    shutdown_timeout: float = 30.0
    """Seconds that running requests may take after SIGTERM or Ctrl-C; new ones get status 503."""

    def __post_init__(self) -> None:
        require(0 <= self.port < 65_536, "port", self.port, "0 to 65,535")
        for name in (
            "max_inputs",
            "max_bytes",
            "max_tokens",
            "max_request_tokens",
            "max_queue_size",
            "batch_tokens",
            "max_batch_size",
        ):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "1 or more")
        for name in ("timeout", "body_timeout", "shutdown_timeout"):
            require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "a positive number of seconds")
        require(
            self.max_queue_size >= self.max_inputs,
            "max_queue_size",
            self.max_queue_size,
            f"--max-inputs {self.max_inputs} or more",
        )
