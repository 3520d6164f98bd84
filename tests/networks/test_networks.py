from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from metaloom.networks import Conv4


def network(**changes) -> Conv4:
    return Conv4(**({"shape": (1, 28, 28), "width": 8, "norm": "batch"} | changes))


def torch_conv4(weights: dict, channels: int) -> torch.nn.Sequential:
    """The same network from torch's own modules, in training mode."""
    blocks = []
    for block in range(4):
        conv = torch.nn.Conv2d(channels if block == 0 else 8, 8, 3, padding=1, bias=False)
        norm = torch.nn.BatchNorm2d(8, momentum=1.0)
        conv.weight.data, norm.weight.data = weights[f"{block}.conv"], weights[f"{block}.scale"]
        norm.bias.data = weights[f"{block}.shift"]
        blocks += [conv, norm, torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    return torch.nn.Sequential(*blocks, torch.nn.Flatten())


@pytest.mark.parametrize("channels", [1, 3])
def test_conv4_is_the_network_of_the_papers(channels):
    ours = network(shape=(channels, 28, 28))
    weights = ours.init(torch.Generator().manual_seed(0))
    weights = {k: v + 0.1 * torch.randn_like(v) for k, v in weights.items()}
    x = torch.randn(6, channels, 28, 28)
    theirs = torch_conv4(weights, channels)
    expected = theirs(x)
    for twice in (False, True):
        embedding, statistics = ours(weights, x, twice=twice)
        torch.testing.assert_close(embedding, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(statistics["2.mean"], theirs[9].running_mean, rtol=1e-4, atol=1e-5)
        unbiased = statistics["1.variance"] * (6 * 14 * 14 / (6 * 14 * 14 - 1))
        torch.testing.assert_close(unbiased, theirs[5].running_var, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("size", [28, 32, 84])
def test_shapes_and_independence_of_the_batch(norm, size):
    net = network(norm=norm, shape=(1, size, size))
    weights = net.init(torch.Generator().manual_seed(0))
    x = torch.randn(5, 1, size, size)
    _, statistics = net(weights, x)
    assert bool(statistics) == (norm == "batch")
    together, _ = net(weights, x, statistics)
    assert together.shape == (5, net.embed)
    alone = torch.cat([net(weights, each[None], statistics)[0] for each in x])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_given_statistics_carry_gradients():
    net = network()
    weights = {k: v.requires_grad_() for k, v in net.init(torch.Generator().manual_seed(0)).items()}
    _, statistics = net(weights, torch.randn(4, 1, 28, 28), twice=True)
    query, _ = net(weights, torch.randn(3, 1, 28, 28), statistics)
    (gradient,) = torch.autograd.grad(query.square().sum(), statistics["1.mean"])
    assert gradient.abs().sum() > 0


def test_group_norm_is_torch_s():
    net = network(norm="group")
    weights = net.init(torch.Generator().manual_seed(0))
    x = torch.randn(2, 1, 28, 28)
    expected = x
    for block in range(4):
        expected = torch.nn.GroupNorm(2, 8)(F.conv2d(expected, weights[f"{block}.conv"], padding=1))
        expected = F.max_pool2d(F.relu(expected), 2)
    torch.testing.assert_close(net(weights, x)[0], expected.flatten(1), rtol=1e-3, atol=1e-4)
