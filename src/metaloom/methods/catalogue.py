"""Names of methods, as params write them, and their classes."""

from __future__ import annotations

from typing import Any

from metaloom.config import PRETRAIN, MethodSettings
from metaloom.methods.anil import Anil
from metaloom.methods.bank import Bank
from metaloom.methods.base import Method
from metaloom.methods.maml import Maml
from metaloom.methods.protonet import ProtoNet
from metaloom.methods.reptile import Reptile
from metaloom.methods.ridge import Ridge
from metaloom.methods.shared import Shared
from metaloom.networks import Network

METHOD_CLASSES: dict[str, Any] = {
    "protonet": ProtoNet,
    "ridge": Ridge,
    "maml": Maml,
    "anil": Anil,
    "reptile": Reptile,
    "shared": Shared,
    "bank": Bank,
}


def method_class(name: str) -> Any:
    """The class of a method, or of what `pretrain` trains."""
    return Shared if name == PRETRAIN else METHOD_CLASSES[name]


def build_method(name: str, network: Network, settings: MethodSettings, **shape: int) -> Method:
    """`shape` is what a method has learned the size of: a bank's members."""
    return method_class(name)(network, settings, **shape)
