"""Ranks: the processes of a distributed run, and sums over them.

`torchrun` (PyTorch) or `msrun` (MindSpore) starts the processes and sets the rank of each in its environment. Each
computes some micro-batches of every step, and all apply the same update. Only rank 0 writes files, so all need a common
file system.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from gpt1.errors import UserError

BUCKET_ELEMENTS = 1 << 24
"""Maximum number of elements that one message sums over the ranks."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class ProcessRank:
    """Rank of this process in its run."""

    rank: int = 0
    size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Rank among the processes on this machine."""
    launcher: str = ""
    """Program that started the processes: "torchrun" or "msrun"; empty for a single process."""


VARIABLES = {"torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK"), "msrun": ("MS_NODE_ID", "MS_WORKER_NUM", "DEVICE_ID")}
"""Environment variables in which each launcher sets rank, size and local rank."""


def launcher() -> str:
    """Return the launcher by whose `VARIABLES` to determine the rank of this process."""
    return "msrun" if os.environ.get("MS_ROLE") else "torchrun"


def process_rank() -> ProcessRank:
    """Return the rank that `torchrun` or `msrun` set in the environment; rank 0 of 1 without a launcher.

    `msrun` also starts a scheduler with the same command: it gets rank 0, and exits in `backends.init_distributed`.

    Raises:
        UserError: the variables are inconsistent, or `msrun` started a single process besides the scheduler.
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
        raise UserError(
            f"{settings} in the environment: not values that {by} sets; unset them, or start with {by}{more}"
        )
    rank, size, local_rank = map(int, values)
    if role and size == 1:
        raise UserError("msrun --worker_num 1: one process needs no scheduler; run without msrun")
    return ProcessRank(rank, size, local_rank, by)


class Ranks(Protocol):
    """Communication between the ranks of a run. All ranks must make the same calls in the same order."""

    rank: int
    size: int

    def total(self, *values: float) -> list[float]:
        """Return the sum of each value over all ranks, the same on each rank; wait for all ranks.

        Raises:
            PeerLost: a rank has exited.
        """

    def close(self) -> None:
        """Disconnect, at the end of the run."""


class SingleProcess:
    """The only rank of a run of one process."""

    rank = 0
    size = 1

    def total(self, *values: float) -> list[float]:
        """Return `values`."""
        return [float(value) for value in values]

    def close(self) -> None:
        """Do nothing."""


def require_work(batch_size: int) -> None:
    """Check that each process of the run has at least one example of a batch.

    Raises:
        UserError: the launcher started more processes than `batch_size`.
    """
    process = process_rank()
    if process.size > batch_size:
        raise UserError(
            f"--batch-size {batch_size}: fewer than the {process.size} processes that {process.launcher} started; "
            f"start at most {batch_size}, or use --batch-size {process.size}"
        )


@contextmanager
def rank_zero_first(ranks: Ranks) -> Iterator[None]:
    """Run the body on rank 0 first, then on the other ranks, which read the files that rank 0 writes."""
    if ranks.rank > 0:
        ranks.total()
    yield
    if ranks.rank == 0:
        ranks.total()


def buckets(tensors: Sequence[Item], sizes: Sequence[int], most: int = BUCKET_ELEMENTS) -> Iterator[list[Item]]:
    """Group tensors into messages of at most `most` elements, or one tensor; `sizes` are their numbers of elements."""
    bucket: list[Item] = []
    held = 0
    for tensor, size in zip(tensors, sizes, strict=True):
        if bucket and held + size > most:
            yield bucket
            bucket, held = [], 0
        bucket.append(tensor)
        held += size
    if bucket:
        yield bucket
