"""The processes that train one model together, the ranks of a run, and what they tell each other.

`torchrun` starts them and says in the environment which is which. Each computes a share of every step, all do the same
update, and rank 0 alone writes, so they need one file system.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from gpt1.errors import UserError


@dataclass(frozen=True)
class Place:
    """Which of the processes this one is."""

    rank: int = 0
    size: int = 1
    """How many there are."""
    local_rank: int = 0
    """Its number among those of its machine."""


def place() -> Place:
    """Return what `torchrun` says; rank 0 of 1 where it did not start this process.

    Raises:
        UserError: its variables contradict each other.
    """
    names = {"rank": "RANK", "size": "WORLD_SIZE", "local_rank": "LOCAL_RANK"}
    found = {field: os.environ.get(name, "") for field, name in names.items()}
    if not any(found.values()):
        return Place()
    if not all(value.isdecimal() for value in found.values()) or not int(found["rank"]) < int(found["size"]):
        said = " ".join(f"{name}={found[field]}" for field, name in names.items())
        raise UserError(f"{said} in the environment: not what torchrun sets; unset them, or start with torchrun")
    return Place(**{field: int(value) for field, value in found.items()})


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
