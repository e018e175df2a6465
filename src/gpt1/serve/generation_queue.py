"""Scheduling of text generation: queued requests, running and cancelled sequences."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from gpt1.inference.generator import GenerationBatch, SequenceState, TextDelta, TextGenerator


class GenerationRequest:
    """The sequences of one request."""

    def __init__(self, sequences: Sequence[SequenceState]):
        self.sequences = list(sequences)
        self.deltas: asyncio.Queue[TextDelta | Exception] = asyncio.Queue()
        """Generated text, with the original indices of the sequences."""
        self.n_started = 0
        """Number of sequences that have been added to the batch."""
        self.first_index = 0
        """Offset that the scheduler added to the indices of the sequences."""
        self.cancelled = False

    @property
    def waiting(self) -> int:
        """Number of sequences that are still queued."""
        return len(self.sequences) - self.n_started


class GenerationScheduler:
    """Continuous batching: a step generates one token of each running sequence and starts queued ones in free rows."""

    def __init__(self, generator: TextGenerator, max_batch_size: int):
        self.generator, self.max_batch_size = generator, max_batch_size
        self.queue: deque[GenerationRequest] = deque()
        self.running: dict[int, GenerationRequest] = {}
        """Index of a running sequence -> its request."""
        self._batch: GenerationBatch | None = None
        self._next_index = 0

    @property
    def busy(self) -> bool:
        """Whether sequences are queued or running."""
        return bool(self.queue or self.running)

    def add(self, request: GenerationRequest) -> None:
        """Append a request to the queue."""
        request.first_index = self._next_index
        for sequence in request.sequences:
            sequence.index += self._next_index
        self._next_index += len(request.sequences)
        self.queue.append(request)

    def step(self) -> list[tuple[GenerationRequest, TextDelta]]:
        """Generate one token of each sequence; return the new text, each delta with its request."""
        if self._batch is None:  # the KV caches are large, so they are allocated at the first request
            self._batch = GenerationBatch(self.generator, self.max_batch_size, self.generator.n_ctx)
        batch = self._batch
        for sequence in [each for each in batch.sequences if self.running[each.index].cancelled]:
            batch.remove(sequence)
            del self.running[sequence.index]
        deltas = self._with_requests(batch.step()) if batch.sequences else []
        while batch.free_rows and self.queue:
            request = self.queue[0]
            sequences = request.sequences[request.n_started : request.n_started + batch.free_rows]
            request.n_started += len(sequences)
            if not request.waiting:
                self.queue.popleft()
            self.running |= {sequence.index: request for sequence in sequences}
            deltas += self._with_requests(batch.add(sequences))
        return deltas

    def fail(self) -> list[GenerationRequest]:
        """Drop all running sequences after an error; return their requests."""
        lost = list({id(request): request for request in self.running.values()}.values())
        self.queue = deque(request for request in self.queue if request not in lost)
        self.running, self._batch = {}, None
        return lost

    def _with_requests(self, deltas: Sequence[TextDelta]) -> list[tuple[GenerationRequest, TextDelta]]:
        """Return each delta with its request and with the sequence's index within that request."""
        routed = []
        for delta in deltas:
            request = self.running.pop(delta.sequence) if delta.finish_reason else self.running[delta.sequence]
            routed.append((request, delta._replace(sequence=delta.sequence - request.first_index)))
        return routed
