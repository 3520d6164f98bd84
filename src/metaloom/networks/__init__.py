"""Shared networks: pure functions from weights and images to embeddings."""

from __future__ import annotations

from metaloom.config import NetworkSettings
from metaloom.networks.conv4 import Conv4, Tensors

Network = Conv4

__all__ = ["Conv4", "Network", "Tensors", "build_network"]


def build_network(settings: NetworkSettings, norm: str, channels: int, image_size: int) -> Network:
    """The network that params name, with a method's norm, for square images of this size."""
    options = settings.model_dump(exclude={"name"})
    return Conv4(norm=norm, channels=channels, image_size=image_size, **options)
