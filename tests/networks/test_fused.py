"""A block's kernels for a GPU, in Triton's interpreter, against torch's own operators in float64.

Its interpreter has to be asked for before anything imports Triton: `TRITON_INTERPRET=1`, as in `make test-slow`.
"""

from __future__ import annotations

import os
from collections import Counter
from importlib.util import find_spec

import pytest
import torch
from test_gpu_layers import assert_same, derivatives, numbers

from metaloom.networks import conv4, fused, layers
from metaloom.networks.conv4 import Conv4
from metaloom.system.device import tf32

EXAMPLES = 2


def interpreted(test):
    """A minute for all of them."""
    here = "TRITON_INTERPRET" in os.environ and find_spec("triton")
    return pytest.mark.slow(pytest.mark.skipif(not here, reason="needs Triton and TRITON_INTERPRET=1")(test))


@interpreted
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("channels", "groups", "size"), [(6, 2, (4, 4)), (4, 1, (5, 7)), (8, 4, (3, 2))])
def test_norm_pooling_and_relu_of_maps(channels, groups, size, layout):
    """Groups that are no power of two, and an odd last row or column, which the norm sees and pooling does not."""
    maps = 3 * numbers(EXAMPLES, channels, *size) + 1
    affine = numbers(channels), numbers(channels) - 0.5

    def ours(maps, scale, shift):
        laid = maps.contiguous(memory_format=layout)
        return fused.normed_pool(laid, None, scale, shift, groups, layers.EPSILON)

    def torch_s(maps, scale, shift):
        return fused.by_torch(maps, None, scale, shift, groups, layers.EPSILON)

    assert_same(derivatives(ours, maps, *affine), derivatives(torch_s, maps, *affine))


@interpreted
@pytest.mark.parametrize("tasks", [pytest.param(1, marks=pytest.mark.sweep), 2])
def test_with_the_convolution_of_a_picture(tasks):
    x, kernels = numbers(EXAMPLES, tasks, 5, 4), numbers(tasks, 6, 1, 3, 3)
    affine = numbers(tasks * 6), numbers(tasks * 6) - 0.5

    def ours(kernels, scale, shift):
        return fused.normed_pool(x, kernels, scale, shift, 2 * tasks, layers.EPSILON)

    def torch_s(kernels, scale, shift):
        return fused.by_torch(x, kernels, scale, shift, 2 * tasks, layers.EPSILON)

    assert_same(derivatives(ours, kernels, *affine), derivatives(torch_s, kernels, *affine))


@interpreted
@pytest.mark.parametrize(
    ("stacked", "lowered"),
    [(True, True), *(pytest.param(*each, marks=pytest.mark.sweep) for each in ((False, True), (True, False)))],
)
def test_a_network_of_fused_blocks_is_the_same(stacked, lowered, monkeypatch):
    monkeypatch.setattr(conv4, "on_cpu", lambda x: False)
    monkeypatch.setattr(layers, "on_cpu", lambda x: False)
    monkeypatch.setattr(layers, "beyond_cpu", lambda x: True)
    launched, launch = [], fused.launch
    monkeypatch.setattr(
        fused, "launch", lambda name, *given, **rest: (launched.append(name), launch(name, *given, **rest))
    )
    network = Conv4(shape=(1, 17, 16), width=4, norm="group")
    weights = {name: weight.double() + 0.1 for name, weight in network.init(torch.Generator().manual_seed(0)).items()}
    if stacked:
        weights = {name: torch.stack([weight, 1.1 * weight]) for name, weight in weights.items()}
    x = numbers(2, EXAMPLES, *network.shape)

    def embedded(*leaves):
        return network(dict(zip(weights, leaves, strict=True)), x, twice=True)[0]

    found = {}
    for fits in (False, True):
        monkeypatch.setattr(fused, "fits", lambda x, channels, fits=fits: fits)
        with tf32(lowered):
            found[fits] = derivatives(embedded, *weights.values())
    assert_same(found[True], found[False])
    assert Counter(launched) == {"forward": 4, "backward": 8, "twice": 4}


@interpreted
def test_the_self_test_passes_and_finds_a_mistake(monkeypatch, capsys):
    device = torch.device("cpu")
    fused._compare(device)
    monkeypatch.setattr(fused, "TOLERANCE", 0.0)
    assert not fused._works.__wrapped__(device)
    assert (
        "fused kernels do not work on this GPU (ArithmeticError: their results are not torch's)"
        in capsys.readouterr().out
    )


def test_without_triton_nothing_is_fused(monkeypatch, capsys):
    monkeypatch.setattr(fused, "find_spec", lambda name: None)
    assert not fused._works.__wrapped__(torch.device("cpu"))
    assert not fused.fits(torch.zeros(2, 1, 28, 28), 8)
    assert not capsys.readouterr().out
