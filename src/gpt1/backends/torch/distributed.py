"""Ranks of a run on `torch.distributed`: NCCL between CUDA devices, Gloo between CPUs."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from gpt1.backends.dist import ProcessRank, SingleProcess, buckets, process_rank
from gpt1.backends.torch.device import TorchTraits, choose
from gpt1.backends.torch.functional import gradient_of
from gpt1.config import DeviceConfig
from gpt1.errors import PeerLost, UserError

COLLECTIVE_TIMEOUT = timedelta(days=7)
"""Timeout of a collective. Ranks wait while rank 0 encodes a corpus; a rank that died is detected at once."""

OVERLAPPED_ELEMENTS = 1 << 22
"""Maximum number of gradients in a sum that overlaps with the backward pass: 16 MiB, about half a block of GPT-1."""


class TorchRanks:
    """`dist.Ranks` of the processes that `torchrun` started."""

    def __init__(self, process: ProcessRank, device: torch.device, traits: TorchTraits):
        if not traits.process_group:
            raise UserError(
                f"torchrun: {traits.name(device)} does not support training with several processes; use --device cpu, "
                "or run without torchrun"
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
            _copy_parts(flat, bucket)

    def gradient_sum(self, params: Iterable[Tensor]) -> GradientSum:
        """Return the sum of the gradients of `params`, which overlaps with the backward pass."""
        return GradientSum(params)

    def close(self) -> None:
        self.total()  # wait for the others, which would take a rank that disconnects early for lost
        dist.destroy_process_group()


class TorchSingleProcess(SingleProcess):
    """The only rank of a run of one process."""

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        pass

    def gradient_sum(self, params: Iterable[Tensor]) -> NoGradientSum:
        return NoGradientSum()


class GradientSum:
    """Sum of gradients over all ranks that overlaps with the backward pass, as in DDP (Li et al. 2020, section 3.2).

    Every rank sums the same buckets in the same order, the reverse of `params`. Inside `overlapped`, a bucket is sent
    as soon as its gradients and those of the buckets before it are complete; `finish` sends the others, also those
    of parameters that got no gradient on this rank.
    """

    def __init__(self, params: Iterable[Tensor]):
        last_first = list(params)[::-1]
        self._buckets = list(buckets(last_first, [p.numel() for p in last_first], OVERLAPPED_ELEMENTS))
        self._bucket_of = {p: number for number, bucket in enumerate(self._buckets) for p in bucket}
        self._missing = [len(bucket) for bucket in self._buckets]
        self._sent: list[tuple[Tensor, dist.Work]] = []
        self._backward = False
        for p in last_first:
            p.register_post_accumulate_grad_hook(self._complete)  # type: ignore[no-untyped-call]

    @contextmanager
    def overlapped(self, last: bool) -> Iterator[None]:
        """Run a backward pass; only after the `last` one of a step are the gradients complete."""
        self._backward = last
        yield
        self._backward = False

    def finish(self) -> None:
        """Send the remaining buckets, and replace each gradient by its sum over all ranks."""
        while len(self._sent) < len(self._buckets):
            self._send()
        for bucket, (flat, work) in zip(self._buckets, self._sent, strict=True):
            with _peers():
                work.wait()
            _copy_parts(flat, [gradient_of(p) for p in bucket])
        self._sent.clear()
        self._missing = [len(bucket) for bucket in self._buckets]

    def _complete(self, p: Tensor) -> None:
        if not self._backward:
            return
        self._missing[self._bucket_of[p]] -= 1
        while len(self._sent) < len(self._buckets) and not self._missing[len(self._sent)]:
            self._send()

    def _send(self) -> None:
        flat = torch.cat([gradient_of(p).flatten() for p in self._buckets[len(self._sent)]])
        with _peers():
            work = dist.all_reduce(flat, async_op=True)
        assert work is not None
        self._sent.append((flat, work))


class NoGradientSum:
    """The gradient sum of a single process."""

    def overlapped(self, last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def finish(self) -> None:
        pass


def init_distributed(hardware: DeviceConfig) -> TorchRanks:
    """Connect the processes that `torchrun` started."""
    device, _, traits = choose(hardware, training=True)
    return TorchRanks(process_rank(), device, traits)


def _copy_parts(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    """Copy the consecutive parts of a vector to `tensors`."""
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(list(tensors), [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerLost("another process of this run has exited or cannot be reached") from error
