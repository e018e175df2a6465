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
    max_work: int = 16_384
    """Most tokens of a request that cannot be cut: the texts to be scored, or a text without each of its words."""
    queue: int = 512
    """Inputs that may wait; further requests get 429."""
    batch_tokens: int | None = None
    """Padded tokens that are computed at once (None: half of what the device computes fastest).
    More gains nothing and lets short texts wait for long ones."""
    texts_at_once: int = 8
    """Completions that are written side by side; others wait. Each has a cache, 38 MB for the paper's model."""
    timeout: float = 60.0
    """Seconds until a request that is not answered gets 504, and one that streams is cut."""
    body_timeout: float = 10.0
    """Seconds that a client may take to send a request's body."""
    drain: float = 30.0
    """Seconds that requests may still take after SIGTERM or Ctrl-C; new ones get 503 meanwhile."""

    def __post_init__(self) -> None:
        require(0 <= self.port < 65_536, "port", self.port, "0 to 65,535")
        for name in ("max_inputs", "max_bytes", "max_tokens", "max_work", "queue", "batch_tokens", "texts_at_once"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "1 or more")
        for name in ("timeout", "body_timeout", "drain"):
            require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "a positive number of seconds")
        require(self.queue >= self.max_inputs, "queue", self.queue, f"--max-inputs {self.max_inputs} or more")
