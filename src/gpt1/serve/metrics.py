"""Metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SEQUENCES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Metrics of one server in a separate registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        to = self.registry
        self.requests = Counter("gpt1_requests", "Requests by route and status.", ["route", "status"], registry=to)
        self.seconds = Histogram("gpt1_request_seconds", "Request latency.", ["route"], buckets=SECONDS, registry=to)
        self.in_flight = Gauge("gpt1_requests_in_flight", "Requests in progress.", registry=to)
        self.waiting = Gauge("gpt1_inputs_waiting", "Queued inputs.", registry=to)
        self.batches = Histogram("gpt1_batch_sequences", "Sequences per batch.", buckets=SEQUENCES, registry=to)
        self.computed = Counter("gpt1_batch_tokens", "Tokens of all batches, including padding.", registry=to)
        self.read = Counter("gpt1_prompt_tokens", "Tokens of inputs and prompts.", registry=to)
        self.unknown = Counter("gpt1_unknown_inputs", "Inputs with much text unknown to the vocabulary.", registry=to)
        self.written = Counter("gpt1_generated_tokens", "Generated tokens.", registry=to)

    def watch(self, waiting: Callable[[], float]) -> None:
        """Call `waiting` at each scrape for the number of queued inputs."""
        self.waiting.set_function(waiting)

    def batch(self, sequences: int, tokens: int) -> None:
        """Record a batch of shape (sequences, tokens)."""
        self.batches.observe(sequences)
        self.computed.inc(sequences * tokens)

    def text(self) -> bytes:
        """Return all metrics in Prometheus text format."""
        return generate_latest(self.registry)
