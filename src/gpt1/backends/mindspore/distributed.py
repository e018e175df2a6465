"""Ranks of a run on MindSpore's collectives: HCCL between Ascend devices, its own ring between CPUs.

On CPUs a collective fails if a rank takes longer than 30 s or has exited. But ranks have to wait longer, while rank 0
encodes a corpus or another rank compiles a graph. So they first synchronise over sockets of their own, which wait
without a limit and detect at once that a rank has exited, and then sum gradients.
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
"""Timeout in seconds of rank 0 for the connections of the others, which took part in a collective just before."""


class HostSockets:
    """Sockets between rank 0 and every other rank, for sums of a few numbers on the hosts.

    Rank 0 has one socket for each other rank, in their order; the others have one, to rank 0.
    """

    def __init__(self, rank: int, sockets: Sequence[socket.socket]):
        self.rank, self.sockets = rank, sockets

    def total(self, *values: float) -> list[float]:
        """Return the sum of each value over all ranks, added in the order of the ranks; wait for all of them.

        Raises:
            PeerLost: a rank has exited.
        """
        sums = np.array(values or (0.0,), np.float64)  # without values the ranks only wait for each other
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
    """`dist.Ranks` of the processes that `msrun` started."""

    def __init__(self, process: ProcessRank):
        self.rank, self.size = process.rank, process.size
        try:
            init()  # msrun's scheduler, which runs the same command, exits in here
            self.hosts = _connect_hosts(process)
        except (RuntimeError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise PeerLost(
                f"the processes of this run could not connect to each other, or one has exited ({reason})"
            ) from error

    def total(self, *values: float) -> list[float]:
        return self.hosts.total(*values)

    def sum(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the sum of each float32 tensor over all ranks, bit for bit the same on each rank."""
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
        self.total()  # wait for the others, which would take a rank that disconnects early for lost
        self.hosts.close()


class MindSporeSingleProcess(SingleProcess):
    """The only rank of a run of one process."""

    def sum(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensors)


def init_distributed(hardware: DeviceConfig) -> MindSporeRanks | MindSporeSingleProcess:
    """Connect the processes that `msrun` started; return a single process if it started none."""
    process = process_rank()
    if process.size == 1:
        return MindSporeSingleProcess()
    choose(hardware)
    return MindSporeRanks(process)


def _connect_hosts(process: ProcessRank) -> HostSockets:
    """Connect every rank to rank 0, which listens on the address from which it reaches the scheduler."""
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
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a crashed machine closes no connection
    return HostSockets(process.rank, [connections[rank] for rank in sorted(connections)])


def _received(connection: socket.socket, like: np.ndarray) -> np.ndarray:
    """Receive as many float64 numbers as `like` has."""
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
        raise PeerLost("another process of this run has exited or cannot be reached") from error
