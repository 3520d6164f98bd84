"""Tiny encoders with random weights, as ONNX files."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Tiny(nn.Module):
    """Two convolutions and a mean over the pixels: (batch, 3, size, size) → (batch, embed)."""

    def __init__(self, embed: int = 12, channels: int = 3, last: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.last = last
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, embed, 3, padding=1)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        pictures = pictures.permute(0, 3, 1, 2) if self.last else pictures
        return self.layers(pictures).relu().mean(dim=(2, 3))


def write_encoder(path: Path, module: nn.Module | None = None, size: int = 32, opset: int = 18) -> nn.Module:
    """Export a module that takes float32 (batch, 3, size, size), or (batch, size, size, 3) where it has `last`."""
    module = (module or Tiny()).eval()
    shape = (2, size, size, 3) if getattr(module, "last", False) else (2, 3, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # the exporter of earlier years: it takes a tenth of the time
        torch.onnx.export(
            module,
            (torch.zeros(shape),),
            path,
            input_names=["image"],
            output_names=["out"],
            opset_version=opset,
            dynamic_axes={"image": {0: "batch"}, "out": {0: "batch"}},
            dynamo=False,
        )
    return module


def embedded(module: nn.Module, packed: Tensor) -> Tensor:
    """What torch makes of packed pictures, uint8 (batch, size, size, 3)."""
    x = (packed.float() / 255 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    with torch.no_grad():
        return module(x if getattr(module, "last", False) else x.movedim(-1, 1))
