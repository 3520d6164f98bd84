"""Shared networks: pure functions from weights and examples to embeddings."""

from __future__ import annotations

from metaloom.config import NetworkSettings
from metaloom.networks.base import Network, Tensors
from metaloom.networks.conv4 import Conv4
from metaloom.networks.gru import Gru
from metaloom.networks.mlp import Mlp
from metaloom.networks.resnet12 import ResNet12
from metaloom.networks.shifted import Shifted

__all__ = ["NETWORKS", "Conv4", "Gru", "Mlp", "Network", "ResNet12", "Shifted", "Tensors", "build_network"]

NETWORKS: dict[str, type[Network]] = {"conv4": Conv4, "resnet12": ResNet12, "mlp": Mlp, "gru": Gru}


def build_network(settings: NetworkSettings, norm: str, channels: int, image_size: int) -> Network:
    """The network that params name, with a method's norm, for square images of this size."""
    options = settings.model_dump(exclude={"name"})
    return NETWORKS[settings.name](norm=norm, channels=channels, image_size=image_size, **options)
