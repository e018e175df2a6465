"""A device pretended on a CPU, which knows the devices of all tensors.

PyTorch without CUDA cannot allocate on "cuda", and its fake tensors (`FakeTensorMode`) fail there at the first index or
gradient, which need the device's library. `PretendedDevice` records the device of each storage instead. Values are
real, so the results of a training step can be compared with those on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MAY_MIX = ("aten::copy_", "aten::_foreach_copy_")
"""Operators that copy from one device to another."""


class DeviceError(AssertionError):
    """A mix of devices that PyTorch refuses on hardware."""


class PretendedDevice(TorchFunctionMode):
    """Inside the block, tensors can be created on `device`, such as "cuda:0", and copied to it and back."""

    def __init__(self, device: str, monkeypatch: Any):
        super().__init__()
        self.device = torch.device(device)
        self.seeds: list[int] = []
        """Seeds of the device's generator, in order."""
        self.copied_from_pinned = 0
        self.autocasts: set[tuple[str, torch.dtype]] = set()
        self.operators: set[str] = set()
        """Names of the operators that ran on the device."""
        self._operators = _Operators(self)
        self._patch(monkeypatch)

    def _patch(self, monkeypatch: Any) -> None:
        get_device_module, autocast = torch.get_device_module, torch.autocast

        def module(device: Any = None) -> Any:
            if torch.device(device).type == self.device.type:
                return SimpleNamespace(manual_seed=self.seeds.append)
            return get_device_module(device)

        def cast(device_type: str, dtype: torch.dtype, enabled: bool = True) -> Any:
            if enabled:
                self.autocasts.add((device_type, dtype))
            return autocast("cpu", dtype, enabled=enabled)

        monkeypatch.setattr(torch, "get_device_module", module)
        monkeypatch.setattr(torch, "autocast", cast)

    def __enter__(self) -> Self:
        self._block = ExitStack()
        super().__enter__()
        self._block.enter_context(self._operators)
        return self

    def __exit__(self, *error: object) -> None:
        self._block.close()
        super().__exit__(*error)

    def of(self, tensor: Tensor) -> torch.device:
        """Return the device that a tensor pretends to be on."""
        with torch._C.DisableTorchFunction():
            return getattr(tensor.untyped_storage(), "pretended", tensor.device)

    def mark(self, tensor: Tensor, device: torch.device) -> None:
        """Record the device of a tensor's storage."""
        with torch._C.DisableTorchFunction():
            tensor.untyped_storage().pretended = device  # type: ignore[attr-defined]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return self.of(args[0])
        if func is Tensor.pin_memory:
            self.copied_from_pinned += 1
            return args[0]
        if func is Tensor.numpy and self.of(args[0]) == self.device:
            raise DeviceError("numpy() of a tensor on the device")
        target = self._target(func, args, kwargs)
        if target is None:
            with self._operators.inside(tree_leaves((args, kwargs))):
                return func(*args, **kwargs)
        if func in (Tensor.to, Tensor.cpu):
            kinds = [each for each in (*args[1:], *kwargs.values()) if isinstance(each, torch.dtype)]
            source = args[0]
            if self.of(source) == target:
                return source.to(*kinds)
            with torch._C.DisableTorchFunction(), self._operators.off():
                copy = source.detach().to(*kinds, copy=True) if kinds else source.detach().clone()
            self.mark(copy, target)
            return copy
        with self._operators.off():
            made = func(*args, **kwargs | {"device": "cpu"})
        self.mark(made, target)
        return made

    def _target(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> torch.device | None:
        """Return the device to which a call copies or on which it creates, if that is the pretended one or the CPU."""
        if func is Tensor.cpu:
            return torch.device("cpu")
        named = [kwargs.get("device"), *(args[1:] if func is Tensor.to else ())]
        devices = [torch.device(each) for each in named if isinstance(each, torch.device | str)]
        if not devices or devices[0].type not in ("cpu", self.device.type):
            return None
        if devices[0].type == "cuda" and devices[0].index is None:
            return torch.device("cuda", 0)  # the current device
        return devices[0]


class _Operators(TorchDispatchMode):
    """Propagates the device from the arguments of each operator to its results."""

    def __init__(self, pretended: PretendedDevice):
        super().__init__()
        self.pretended, self.active = pretended, True
        self.caller_is_on_device = False
        """Whether the function that runs has arguments on the device; it also creates tensors there."""

    @contextmanager
    def off(self) -> Iterator[None]:
        self.active, before = False, self.active
        try:
            yield
        finally:
            self.active = before

    @contextmanager
    def inside(self, arguments: Sequence[Any]) -> Iterator[None]:
        """Run a function with these arguments."""
        before = self.caller_is_on_device
        tensors = [each for each in arguments if isinstance(each, Tensor)]
        self.caller_is_on_device = any(self.pretended.of(each) == self.pretended.device for each in tensors)
        try:
            yield
        finally:
            self.caller_is_on_device = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not self.active:
            return out
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        name = func._schema.name
        device = self._common(name, tensors)
        if not tensors and self.caller_is_on_device:
            device = self.pretended.device
        if device is not None and device == self.pretended.device:
            self.pretended.operators.add(name)
            if name not in MAY_MIX:
                for result in tree_leaves(out):
                    if isinstance(result, Tensor):
                        self.pretended.mark(result, device)
        return out

    def _common(self, name: str, tensors: Sequence[Tensor]) -> torch.device | None:
        """Return the device of an operator's arguments; a number on the CPU may be combined with any other."""
        strict = "_foreach_" in name or "_fused_" in name
        devices = {self.pretended.of(each) for each in tensors if strict or each.dim()}
        if len(devices) > 1 and name not in MAY_MIX:
            raise DeviceError(f"{name} mixes {', '.join(sorted(map(str, devices)))}")
        numbers = {self.pretended.of(each) for each in tensors}
        return self.pretended.device if self.pretended.device in devices | numbers else None
