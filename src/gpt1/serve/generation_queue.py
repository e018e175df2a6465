"""Scheduling of text generation in the server: waiting requests, the sequences that run, cancelled ones."""

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
        """Generated text, with the indices that the sequences had at first."""
        self.n_started = 0
        """How many of the sequences have been added to the batch."""
        self.first_index = 0
        """Offset that the scheduler added to the indices of the sequences."""
        self.cancelled = False

    @property
    def waiting(self) -> int:
        return len(self.sequences) - self.n_started


class GenerationScheduler:
    """Generates one more token of each running sequence at each step, and starts waiting ones where rows are free."""

    def __init__(self, generator: TextGenerator, max_batch_size: int):
        self.generator, self.max_batch_size = generator, max_batch_size
        self.queue: deque[GenerationRequest] = deque()
        self.running: dict[int, GenerationRequest] = {}
        """Index of a running sequence -> its request."""
        self._batch: GenerationBatch | None = None
        self._next_index = 0

    @property
    def busy(self) -> bool:
        return bool(self.queue or self.running)

    def add(self, request: GenerationRequest) -> None:
        """Append a request to the queue."""
        request.first_index = self._next_index
        for sequence in request.sequences:
            sequence.index += self._next_index
        self._next_index += len(request.sequences)
        self.queue.append(request)

    def step(self) -> list[tuple[GenerationRequest, TextDelta]]:
        """Generate one token of each sequence; return the text that this adds, with its request."""
        if self._batch is None:  # the caches are large: none are allocated before the first request
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
        """Give up every running sequence; return the requests that lose one."""
        lost = list({id(request): request for request in self.running.values()}.values())
        self.queue = deque(request for request in self.queue if request not in lost)
        self.running, self._batch = {}, None
        return lost

    def _with_requests(self, deltas: Sequence[TextDelta]) -> list[tuple[GenerationRequest, TextDelta]]:
        """Return each delta with its request, and with the index that its sequence has there."""
        routed = []
        for delta in deltas:
            request = self.running.pop(delta.sequence) if delta.finish_reason else self.running[delta.sequence]
            routed.append((request, delta._replace(sequence=delta.sequence - request.first_index)))
        return routed
