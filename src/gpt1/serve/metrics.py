"""Metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SEQUENCES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one server, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        to = self.registry
        self.requests = Counter("gpt1_requests", "Requests by route and status.", ["route", "status"], registry=to)
        self.seconds = Histogram("gpt1_request_seconds", "Time to answer.", ["route"], buckets=SECONDS, registry=to)
        self.in_flight = Gauge("gpt1_requests_in_flight", "Requests that are being answered.", registry=to)
        self.waiting = Gauge("gpt1_inputs_waiting", "Inputs that wait to be computed.", registry=to)
        self.batches = Histogram("gpt1_batch_sequences", "Sequences of a batch.", buckets=SEQUENCES, registry=to)
        self.computed = Counter("gpt1_batch_tokens", "Tokens of all batches, padding included.", registry=to)
        self.read = Counter("gpt1_prompt_tokens", "Tokens of inputs and prompts.", registry=to)
        self.written = Counter("gpt1_generated_tokens", "Tokens generated.", registry=to)

    def watch(self, waiting: Callable[[], float]) -> None:
        """Read the number of queued inputs from `waiting` at each scrape."""
        self.waiting.set_function(waiting)

    def batch(self, sequences: int, tokens: int) -> None:
        """Count a batch of `sequences` x `tokens`."""
        self.batches.observe(sequences)
        self.computed.inc(sequences * tokens)

    def text(self) -> bytes:
        return generate_latest(self.registry)
