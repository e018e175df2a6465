"""The ranks of a run over MindSpore's collectives: HCCL between Ascend devices, its own ring between CPUs.

On CPUs a message that waits 30 s for a rank is an error, and so is one to a rank that has ended, after the same 30 s.
But ranks wait long: while rank 0 encodes a corpus, or another one compiles a graph. So they meet over sockets of their
own, where the end of a rank is seen at once, and only then sum gradients.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address

import mindspore
import numpy as np
from mindspore import Tensor, ops
from mindspore.communication import init

from gpt1.backends.dist import ProcessRank, SingleProcess, buckets, process_rank
from gpt1.backends.mindspore.device import choose
from gpt1.config import DeviceConfig
from gpt1.errors import PeerLost

CONNECTING = 60.0
"""Seconds that rank 0 waits for the others' connections: they were all there just before."""


class HostSockets:
    """Sockets between rank 0 and each other rank, over which the hosts sum a few numbers."""

    def __init__(self, rank: int, sockets: Sequence[socket.socket]):
        self.rank, self.sockets = rank, sockets
        """Those of rank 0 are in the order of the ranks; the others have one, to rank 0."""

    def total(self, *values: float) -> list[float]:
        """Return the sum of each value over all ranks, in their order; waits for all of them.

        Raises:
            PeerLost: one of them is gone.
        """
        sums = np.array(values or (0.0,), np.float64)  # with nothing to sum they meet all the same
        with _peers():
            if self.rank == 0:
                for connection in self.sockets:
                    sums += _received(connection, sums)
            for connection in self.sockets:
                connection.sendall(sums.tobytes())
            if self.rank > 0:
                sums = _received(self.sockets[0], sums)
        totals: list[float] = sums.tolist()
        return totals[: len(values)]

    def close(self) -> None:
        for connection in self.sockets:
            connection.close()


class MindSporeRanks:
    """The processes that `msrun` started (see `dist.Ranks`)."""

    def __init__(self, process: ProcessRank):
        self.rank, self.size = process.rank, process.size
        try:
            init()  # in msrun's scheduler, which runs the same command, the process ends in here
            self.hosts = _connect_hosts(process)
        except (RuntimeError, OSError) as error:
            raise PeerLost(
                f"the processes of this run did not meet, or one has ended ({str(error).strip().splitlines()[0]})"
            ) from error

    def total(self, *values: float) -> list[float]:
        return self.hosts.total(*values)

    def sum(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the sum of each float32 tensor over all ranks: the same bits on each of them."""
        self.total()
        sums: list[Tensor] = []
        for bucket in buckets(tensors, [tensor.size for tensor in tensors]):
            with _peers():
                flat = ops.AllReduce()(ops.cat([tensor.reshape(-1) for tensor in bucket]))
            start = 0
            for tensor in bucket:
                sums.append(flat[start : start + tensor.size].reshape(tensor.shape))
                start += tensor.size
        return tuple(sums)

    def close(self) -> None:
        self.total()  # a rank that leaves early would look lost to the others
        self.hosts.close()


class MindSporeSingleProcess(SingleProcess):
    """The one rank of a run of one process."""

    def sum(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensors)


def init_distributed(hardware: DeviceConfig) -> MindSporeRanks | MindSporeSingleProcess:
    """Connect the processes that `msrun` started, if it did."""
    process = process_rank()
    if process.size == 1:
        return MindSporeSingleProcess()
    choose(hardware)
    return MindSporeRanks(process)


def _connect_hosts(process: ProcessRank) -> HostSockets:
    """Connect the ranks; rank 0 listens where it reaches the scheduler from, and tells it to the others."""
    with socket.socket() as listener:
        if process.rank == 0:
            with socket.socket(type=socket.SOCK_DGRAM) as route:
                route.connect((os.environ["MS_SCHED_HOST"], int(os.environ["MS_SCHED_PORT"])))
                listener.bind((route.getsockname()[0], 0))
            listener.listen(process.size)
            listener.settimeout(CONNECTING)
        host, port = listener.getsockname()
        address = Tensor([int(IPv4Address(host)), port], mindspore.int64)
        host, port = ops.AllGather()(address).asnumpy()[:2].tolist()  # rank 0's
        connections = {}
        if process.rank > 0:
            connections[0] = socket.create_connection((str(IPv4Address(host)), port))
            connections[0].sendall(np.array([process.rank], np.float64).tobytes())
        while process.rank == 0 and len(connections) < process.size - 1:
            connection, _ = listener.accept()
            connections[int(_received(connection, np.zeros(1))[0])] = connection
    for connection in connections.values():
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a lost machine closes no connection
    return HostSockets(process.rank, [connections[rank] for rank in sorted(connections)])


def _received(connection: socket.socket, like: np.ndarray) -> np.ndarray:
    """Return as many float64 numbers as `like` has."""
    data = b""
    while len(data) < like.nbytes:
        more = connection.recv(like.nbytes - len(data))
        if not more:
            raise ConnectionResetError("a connection was closed")
        data += more
    return np.frombuffer(data, np.float64).copy()


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:
        raise PeerLost("another process of this run has ended, or cannot be reached") from error
