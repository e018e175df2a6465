"""Ranks: the processes that train one model together, and their sums.

`torchrun` (PyTorch) or `msrun` (MindSpore) starts them and sets the rank of each in its environment. Each computes a
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
class ProcessRank:
    """Rank of this process among those of its run."""

    rank: int = 0
    size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Rank among the processes of this machine."""
    launcher: str = ""
    """Program that started the processes: "torchrun" or "msrun"; empty for a single process."""


VARIABLES = {"torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK"), "msrun": ("MS_NODE_ID", "MS_WORKER_NUM", "DEVICE_ID")}
"""Environment variables in which each launcher gives rank, size and local rank."""


def launcher() -> str:
    """Return the launcher whose `VARIABLES` say whether this process is one of several."""
    return "msrun" if os.environ.get("MS_ROLE") else "torchrun"


def process_rank() -> ProcessRank:
    """Return the rank that `torchrun` or `msrun` set in the environment; rank 0 of 1 where neither did.

    `msrun` also starts a scheduler, with the same command: a rank 0 that ends in `backends.init_distributed`.

    Raises:
        UserError: the variables contradict each other, or `msrun` started one process beside the scheduler.
    """
    role, by = os.environ.get("MS_ROLE", ""), launcher()
    names = VARIABLES[by]
    values = [os.environ.get(name, "") for name in names]
    if role == "MS_SCHED":
        values[0] = values[2] = "0"
    if not any(values):
        return ProcessRank()
    if not all(value.isdecimal() for value in values) or not int(values[0]) < int(values[1]):
        settings = " ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
        more = "; on several machines it needs --node_rank" if role else ""
        raise UserError(f"{settings} in the environment: not what {by} sets; unset them, or start with {by}{more}")
    rank, size, local_rank = map(int, values)
    if role and size == 1:
        raise UserError("msrun --worker_num 1: starts a scheduler for one process; run without msrun")
    return ProcessRank(rank, size, local_rank, by)


class Ranks(Protocol):
    """Communication between the ranks of a run. Every rank makes the same calls in the same order."""

    rank: int
    size: int

    def total(self, *values: float) -> list[float]:
        """Return the sum of each value over all ranks, the same on each; waits for all of them.

        Raises:
            PeerLost: one of them is gone.
        """

    def close(self) -> None:
        """Disconnect, at the end of the run."""


class SingleProcess:
    """The one rank of a run of one process."""

    rank = 0
    size = 1

    def total(self, *values: float) -> list[float]:
        return [float(value) for value in values]

    def close(self) -> None:
        pass


@contextmanager
def rank_zero_first(ranks: Ranks) -> Iterator[None]:
    """Run the body on rank 0 before the other ranks, which read the files that it writes."""
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
