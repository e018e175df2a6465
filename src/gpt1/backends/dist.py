"""The processes that train one model together, the ranks of a run, and what they tell each other.

`torchrun` (PyTorch) or `msrun` (MindSpore) starts them and says in the environment which is which. Each computes a
share of every step, all do the same update, and rank 0 alone writes, so they need one file system.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from gpt1.errors import UserError

BUCKET_ELEMENTS = 1 << 24
"""Elements that are summed over the ranks in one message."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Place:
    """Which of the processes this one is."""

    rank: int = 0
    size: int = 1
    """How many there are."""
    local_rank: int = 0
    """Its number among those of its machine."""
    launcher: str = ""
    """What started it, if it is one of several: "torchrun" or "msrun"."""


VARIABLES = {"torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK"), "msrun": ("MS_NODE_ID", "MS_WORKER_NUM", "DEVICE_ID")}
"""Where each launcher says rank, size and local rank."""


def launcher() -> str:
    """Return what may have started this process as one of several; its `VARIABLES` say so."""
    return "msrun" if os.environ.get("MS_ROLE") else "torchrun"


def place() -> Place:
    """Return what `torchrun` or `msrun` says; rank 0 of 1 where neither started this process.

    `msrun` also starts a scheduler, with the same command: a rank 0 that leaves in `backends.joined`.

    Raises:
        UserError: the variables contradict each other, or `msrun` started one process beside the scheduler.
    """
    role, by = os.environ.get("MS_ROLE", ""), launcher()
    names = VARIABLES[by]
    found = [os.environ.get(name, "") for name in names]
    if role == "MS_SCHED":
        found[0] = found[2] = "0"
    if not any(found):
        return Place()
    if not all(value.isdecimal() for value in found) or not int(found[0]) < int(found[1]):
        said = " ".join(f"{name}={value}" for name, value in zip(names, found, strict=True))
        more = "; on several machines it needs --node_rank" if role else ""
        raise UserError(f"{said} in the environment: not what {by} sets; unset them, or start with {by}{more}")
    rank, size, local_rank = map(int, found)
    if role and size == 1:
        raise UserError("msrun --worker_num 1: starts a scheduler for one process; run without msrun")
    return Place(rank, size, local_rank, by)


class Ranks(Protocol):
    """The ranks of a run, as one of them sees them. Every rank makes the same calls in the same order."""

    rank: int
    size: int

    def total(self, *values: float) -> list[float]:
        """Return the sum of each value over all ranks, the same on each; waits for all of them.

        Raises:
            PeerLost: one of them is gone.
        """

    def close(self) -> None:
        """Part from the others, at the end."""


class Alone:
    """The one rank of a run of one process."""

    rank = 0
    size = 1

    def total(self, *values: float) -> list[float]:
        return [float(value) for value in values]

    def close(self) -> None:
        pass


@contextmanager
def first(ranks: Ranks) -> Iterator[None]:
    """Let rank 0 go through the body before the others: it makes the files that they find there."""
    if ranks.rank > 0:
        ranks.total()
    yield
    if ranks.rank == 0:
        ranks.total()


def buckets(tensors: Sequence[Item], sizes: Sequence[int]) -> Iterator[list[Item]]:
    """Yield the tensors, whose elements are counted in `sizes`, in the groups that make one message each."""
    bucket: list[Item] = []
    held = 0
    for tensor, size in zip(tensors, sizes, strict=True):
        if bucket and held + size > BUCKET_ELEMENTS:
            yield bucket
            bucket, held = [], 0
        bucket.append(tensor)
        held += size
    if bucket:
        yield bucket
