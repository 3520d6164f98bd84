"""A device that is none: the tensors of device "meta" get numbers behind them, and rules as strict as a GPU's.

What meets there has to be there (but for numbers without axes), what Python reads travels to the host first, and on
request there is no float64, as on Apple's GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, partialmethod
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from metaloom.kinds import scaled

DEVICE = torch.device("meta")
MOVES = {"_to_copy", "copy_"}  # between host and device
READS = {"_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "_unique2"}  # the host waits


class There(Tensor):
    """A tensor on the device; its numbers are in `inside`."""

    inside: Tensor

    @staticmethod
    def __new__(cls, inside: Tensor) -> There:
        made = Tensor._make_wrapper_subclass(
            cls,
            inside.size(),
            strides=inside.stride(),
            storage_offset=inside.storage_offset(),
            dtype=inside.dtype,
            device=DEVICE,
        )
        made.inside = inside
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of the device's mode")


class Device(TorchDispatchMode):
    """Does the work of the device.

    Args:
        doubles: whether it knows float64.
    """

    def __init__(self, doubles: bool = True) -> None:
        super().__init__()
        self.doubles = doubles
        self.moved: list[str] = []  # to the device, and what the host read, since it was last emptied

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, dict(kwargs or {})
        given: list[Tensor] = []
        tree_map_only(Tensor, given.append, (args, kwargs))
        there = [each for each in given if isinstance(each, There)]
        host = [each for each in given if not isinstance(each, There) and each.dim()]
        if there and host and name not in MOVES:
            raise RuntimeError(f"{name}: tensors on the host and on the device")
        wanted = kwargs.get("device")
        on_device = wanted == DEVICE or (bool(there) and wanted is None)
        if name == "copy_":
            on_device = isinstance(args[0], There)
        if (name in MOVES and on_device and len(there) < len(given)) or (name in READS and there):
            self.moved.append(name)
        if wanted == DEVICE:
            kwargs["device"] = torch.device("cpu")
        if name in MOVES and there and not on_device:
            kwargs.pop("non_blocking", None)
        bare = tree_map_only(There, lambda each: each.inside, (args, kwargs))
        done = func(*bare[0], **bare[1])
        if not on_device:
            return tree_map_only(Tensor, Tensor.clone, done) if there and isinstance(done, Tensor) else done
        return tree_map_only(Tensor, lambda each: self._back(each, there), done)

    def _back(self, inside: Tensor, there: list[There]) -> Tensor:
        if inside.dtype == torch.float64 and not self.doubles:
            raise TypeError("the device has no float64")
        same = next((each for each in there if each.inside is inside), None)  # what was written in place
        return There(inside) if same is None else same


@contextmanager
def device(monkeypatch: pytest.MonkeyPatch, doubles: bool = True) -> Iterator[Device]:
    """Within it networks take the form of a GPU there, though a mode is on, which otherwise means tracing."""
    monkeypatch.setattr("metaloom.networks.layers.traced", lambda: False)
    for name in ("tensor", "as_tensor"):  # which pass no mode on their way to a device
        monkeypatch.setattr(torch, name, partial(_brought, getattr(torch, name)))
    scaled._on.cache_clear()
    with Device(doubles) as mode:
        monkeypatch.setattr(Tensor, "tolist", partialmethod(_told, Tensor.tolist, mode))
        yield mode
    scaled._on.cache_clear()


def _told(tensor: Tensor, tolist: Callable[[Tensor], Any], mode: Device) -> Any:
    if isinstance(tensor, There):
        mode.moved.append("tolist")
    return tolist(tensor.inside if isinstance(tensor, There) else tensor)


def _brought(make: Callable[..., Tensor], data: Any, *, device: Any = None, **rest: Any) -> Tensor:
    made = make(data, **rest)
    return made if device is None else made.to(device)
