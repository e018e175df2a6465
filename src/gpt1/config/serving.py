"""How a model is served over HTTP: where, to whom, and how much of it at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from gpt1.config.checks import require


@dataclass(frozen=True)
class ServeConfig:
    """Where the server listens, and what it refuses so that it keeps answering."""

    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 is every network of this machine: give an API key then."""
    port: int = 8000
    """Port to listen at; 0 takes a free one, which is printed."""
    name: str | None = None
    """What the model is called in answers (None: the name of its directory)."""
    api_key_file: Path | None = None
    """File whose first line is the key that /v1 asks for (None: the variable GPT1_API_KEY, else no key)."""
    max_inputs: int = 32
    """Most inputs of a request (also prompts times --n of a completion)."""
    max_bytes: int = 2_000_000
    """Most bytes of a request's body."""
    max_tokens: int = 2_048
    """Most tokens that a completion may ask for."""
    max_request_tokens: int = 16_384
    """Most tokens of a request that is computed as a whole: the texts to score, or a text without each of its words."""
    max_queue_size: int = 512
    """Most inputs that wait; further requests get 429."""
    batch_tokens: int | None = None
    """Padded tokens that are computed at once (None: half of what the device computes fastest).
    More gains nothing and lets short texts wait for long ones."""
    max_batch_size: int = 8
    """Most completions that are generated at once; others wait. Each has a cache, 38 MB for the paper's model."""
    timeout: float = 60.0
    """Seconds until a request that is not answered gets 504, and one that streams is cut."""
    body_timeout: float = 10.0
    """Seconds that a client may take to send a request's body."""
    shutdown_timeout: float = 30.0
    """Most seconds that running requests still get after SIGTERM or Ctrl-C; new ones get 503."""

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
