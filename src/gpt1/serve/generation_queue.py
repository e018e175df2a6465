"""The texts that a server writes side by side: who waits, who is at the desk, who left."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from gpt1.inference.generator import Desk, Draft, Piece, Writer


class Writing:
    """The texts of one request."""

    def __init__(self, drafts: Sequence[Draft]):
        self.drafts = list(drafts)
        self.pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        """What has been written, numbered as the drafts were."""
        self.begun = 0
        """How many of the drafts have gone to the desk."""
        self.first_number = 0
        """What the scribe added to the drafts' numbers."""
        self.cancelled = False

    @property
    def waiting(self) -> int:
        return len(self.drafts) - self.begun


class Scribe:
    """Writes one more token of each text at each turn, and begins waiting ones where there is room."""

    def __init__(self, writer: Writer, texts_at_once: int):
        self.writer, self.texts_at_once = writer, texts_at_once
        self.queue: deque[Writing] = deque()
        self.at_desk: dict[int, Writing] = {}
        """Number of a text that is being written -> its request."""
        self._desk: Desk | None = None
        self._numbers = 0

    @property
    def busy(self) -> bool:
        return bool(self.queue or self.at_desk)

    def add(self, writing: Writing) -> None:
        """Let the texts of a request wait for their turn."""
        writing.first_number = self._numbers
        for draft in writing.drafts:
            draft.number += self._numbers
        self._numbers += len(writing.drafts)
        self.queue.append(writing)

    def turn(self) -> list[tuple[Writing, Piece]]:
        """Write one token of each text; return what that adds to whom."""
        if self._desk is None:  # the caches are large: there are none before somebody asks for a text
            self._desk = Desk(self.writer, self.texts_at_once, self.writer.n_ctx)
        desk = self._desk
        for draft in [draft for draft in desk.drafts if self.at_desk[draft.number].cancelled]:
            desk.drop(draft)
            del self.at_desk[draft.number]
        told = self._told(desk.step()) if desk.drafts else []
        while desk.room and self.queue:
            writing = self.queue[0]
            drafts = writing.drafts[writing.begun : writing.begun + desk.room]
            writing.begun += len(drafts)
            if not writing.waiting:
                self.queue.popleft()
            self.at_desk |= {draft.number: writing for draft in drafts}
            told += self._told(desk.begin(drafts))
        return told

    def fail(self) -> list[Writing]:
        """Give up every text at the desk; return the requests that lose one."""
        lost = list({id(writing): writing for writing in self.at_desk.values()}.values())
        self.queue = deque(writing for writing in self.queue if writing not in lost)
        self.at_desk, self._desk = {}, None
        return lost

    def _told(self, pieces: Sequence[Piece]) -> list[tuple[Writing, Piece]]:
        told = []
        for piece in pieces:
            writing = self.at_desk.pop(piece.number) if piece.finish_reason else self.at_desk[piece.number]
            told.append((writing, piece._replace(number=piece.number - writing.first_number)))
        return told
