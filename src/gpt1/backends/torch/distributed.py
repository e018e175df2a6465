"""Ranks of a run on `torch.distributed`: NCCL between CUDA devices, Gloo between CPUs."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from gpt1.backends.dist import ProcessRank, SingleProcess, buckets, process_rank
from gpt1.backends.torch.device import TorchTraits, choose
from gpt1.config import DeviceConfig
from gpt1.errors import PeerLost, UserError

COLLECTIVE_TIMEOUT = timedelta(days=7)
"""Timeout of a collective. Ranks wait while rank 0 encodes a corpus; a rank that died is detected at once."""


class TorchRanks:
    """`dist.Ranks` of the processes that `torchrun` started."""

    def __init__(self, process: ProcessRank, device: torch.device, traits: TorchTraits):
        if not traits.process_group:
            raise UserError(
                f"torchrun: {traits.name(device)} does not support training with several processes; run without "
                "torchrun"
            )
        if not dist.is_available():
            raise UserError(f"torchrun: PyTorch {torch.__version__} on {platform.system()} has no torch.distributed")
        self.rank, self.size = process.rank, process.size
        if device.index is not None:
            torch.get_device_module(device).set_device(device)
        try:
            dist.init_process_group(traits.process_group, timeout=COLLECTIVE_TIMEOUT)
        except dist.DistError as error:
            reason = str(error).splitlines()[0]
            raise PeerLost(f"the processes of this run could not connect to each other ({reason})") from error

    def total(self, *values: float) -> list[float]:
        sums = torch.tensor(values or (0.0,), dtype=torch.float64)
        with _peers():
            dist.all_reduce(sums)
        return sums.tolist()[: len(values)]

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, bit for bit the same on each rank."""
        for bucket in buckets(tensors, [tensor.numel() for tensor in tensors]):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            with _peers():
                dist.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            torch._foreach_copy_(bucket, [part.view_as(tensor) for part, tensor in zip(parts, bucket, strict=True)])

    def close(self) -> None:
        self.total()  # wait for the others, which would take a rank that disconnects early for lost
        dist.destroy_process_group()


class TorchSingleProcess(SingleProcess):
    """The only rank of a run of one process."""

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        pass


def init_distributed(hardware: DeviceConfig) -> TorchRanks:
    """Connect the processes that `torchrun` started."""
    device, _, traits = choose(hardware, training=True)
    return TorchRanks(process_rank(), device, traits)


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerLost("another process of this run has exited or cannot be reached") from error
