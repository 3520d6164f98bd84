"""Shared networks: pure functions from weights and examples to embeddings."""

from __future__ import annotations

import torch

from metaloom.config import NetworkSettings
from metaloom.errors import MetaloomError
from metaloom.networks.base import Network, Tensors
from metaloom.networks.conv4 import Conv4
from metaloom.networks.engine import described
from metaloom.networks.gru import Gru
from metaloom.networks.identity import Identity
from metaloom.networks.linear import Linear
from metaloom.networks.matrix import Matrix
from metaloom.networks.mlp import Mlp
from metaloom.networks.resnet12 import ResNet12
from metaloom.networks.whiten import Whiten

__all__ = ["NETWORKS", "Conv4", "Gru", "Linear", "Mlp", "Network", "ResNet12", "Tensors", "build_network", "ran_by"]

NETWORKS: dict[str, type[Network]] = {
    "conv4": Conv4,
    "resnet12": ResNet12,
    "mlp": Mlp,
    "gru": Gru,
    "linear": Linear,
    "identity": Identity,
    "whiten": Whiten,
    "matrix": Matrix,
}


def ran_by(name: str, device: torch.device) -> str:
    """All that decides the last bits of a network there: the device's type, on a CPU the engine of its convolutions."""
    convolves = device.type == "cpu" and NETWORKS[name].convolutions
    return f"{device.type}, {described()}" if convolves else device.type


def build_network(settings: NetworkSettings, norm: str, shape: tuple[int, ...]) -> Network:
    """The network that params name, with a method's norm, for examples of this shape.

    Raises:
        MetaloomError: it does not take examples with so many axes.
    """
    network = NETWORKS[settings.name]
    if len(shape) not in network.axes:
        fitting = ", ".join(name for name, each in NETWORKS.items() if len(shape) in each.axes)
        raise MetaloomError(
            f"params.yaml: network.name is {settings.name}, which does not take examples of shape {shape}: "
            f"set network.name to {fitting}"
        )
    return network(shape=shape, norm=norm, **settings.model_dump(exclude={"name"}))
