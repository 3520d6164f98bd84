"""What a step costs in multiply-adds, and how many the machine can do: the bounds of any implementation."""

from __future__ import annotations

import time
from functools import partial

import torch
import torch.nn.functional as F

BLOCKS = 4


def conv4_macs(channels: int, width: int, size: int) -> tuple[int, int]:
    """Multiply-adds of conv4's convolutions for one image, forward: all four, and the first alone.

    A 3×3 convolution that keeps the size costs height · width · in · out · 9; each block halves the side, rounding
    down. Norms, ReLU, pooling and heads are left out: together under 1% of the multiply-adds.
    """
    costs = []
    for block in range(BLOCKS):
        costs.append(size * size * (channels if block == 0 else width) * width * 9)
        size //= 2
    return sum(costs), costs[0]


def training_macs(forward: int, first: int) -> int:
    """Forward and backward of one image: y = x∗w, then the gradients for w and for x, each as much as y.

    The first block's x is the image, which needs no gradient.
    """
    return 3 * forward - first


def twice_macs(forward: int, first: int) -> int:
    """One image through an inner step whose gradient is differentiated again.

    The inner step has three products: y = x∗w, g_x = g_y∗w and g_w = x∗g_y. The outer backward pass has two for
    each of them, one for each factor: nine in all. In the first block x is data: g_x and its two are not there, nor
    are the gradients for x from y and from g_w, which leaves four.
    """
    return 9 * forward - 5 * first


def maml_macs(support: int, query: int, steps: int, first_order: bool, network: tuple[int, int]) -> int:
    """One task: inner steps on the support set, forward and backward on the queries.

    Not counted: what batch norm's statistics of the adapted network cost on top, which only we compute.
    """
    inner = training_macs(*network) if first_order else twice_macs(*network)
    return steps * support * inner + query * training_macs(*network)


class ConvPeak:
    """The best rate of a 64→64 3×3 convolution, forward, in multiply-adds a second.

    The first call looks for the best of a few shapes and layouts; later ones measure that.
    """

    def __init__(self) -> None:
        self._candidates = [
            partial(_rate, images, size, layout)
            for images, size in ((16, 28), (64, 28), (64, 14), (256, 14))
            for layout in (torch.contiguous_format, torch.channels_last)
        ]
        self.best = 0.0

    def __call__(self) -> float:
        rates = [candidate() for candidate in self._candidates]
        now = max(rates)
        self._candidates = [self._candidates[rates.index(now)]]
        self.best = max(self.best, now)
        return now


def _rate(images: int, size: int, layout: torch.memory_format, repeats: int = 4) -> float:
    x = torch.randn(images, 64, size, size).contiguous(memory_format=layout)
    kernel = torch.randn(64, 64, 3, 3).contiguous(memory_format=layout)
    seconds = []
    with torch.no_grad():
        for _ in range(repeats):
            started = time.perf_counter()
            F.conv2d(x, kernel, padding=1)
            seconds.append(time.perf_counter() - started)
    return images * size * size * 64 * 64 * 9 / min(seconds)
