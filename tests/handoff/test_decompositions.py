"""Gradients in the operators that ONNX has, against torch's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metaloom.handoff.graphs.decompositions import traced

Function = Callable[[Tensor, Tensor], Tensor]
CASES: dict[str, tuple[Function, tuple[int, ...], tuple[int, ...]]] = {
    "pooling, even": (lambda x, w: F.max_pool2d(x, 2) * w, (3, 2, 6, 4), (3, 2)),
    "pooling, odd": (lambda x, w: F.max_pool2d(x, 2) * w, (3, 2, 7, 5), (3, 2)),
    "relu": (lambda x, w: F.relu(x) * w, (3, 2, 6, 4), (6, 4)),
    "convolution of one channel": (lambda x, w: F.conv2d(x, w, padding=1), (3, 1, 6, 4), (5, 1, 3, 3)),
    "convolution of many channels": (lambda x, w: F.conv2d(x, w, padding=1), (3, 9, 6, 4), (5, 9, 3, 3)),
    "convolution of one pixel": (lambda x, w: F.conv2d(x, w), (3, 9, 6, 4), (5, 9, 1, 1)),
    "group norm": (lambda x, w: F.group_norm(x, 2) * w, (3, 4, 6, 4), (6, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_as_torch_has_them(name: str):
    """The inputs are small whole numbers, so that most windows have several maxima and many values are zero."""
    function, *shapes = CASES[name]

    def gradients(*inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            leaves = [each.detach().requires_grad_() for each in inputs]
            return torch.autograd.grad((function(*leaves) ** 2).sum(), leaves)

    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randint(-1, 2, shape, generator=generator).double() for shape in shapes)
    for found, expected in zip(traced(gradients, x, w)(x, w), gradients(x, w), strict=True):
        torch.testing.assert_close(found, expected)
