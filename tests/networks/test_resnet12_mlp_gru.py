"""The networks beside conv4, against torch's own modules with the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from metaloom.networks import NETWORKS, Gru, Mlp, ResNet12


def seeded(network, moved: float = 0.1, dtype=torch.float64):
    weights = network.init(torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    return {k: v.to(dtype) + moved * torch.randn_like(v, dtype=dtype) for k, v in weights.items()}


def norm_module(norm: str, weights: dict, prefix: str, dimensions: int) -> nn.Module:
    shift = weights[f"{prefix}shift"]
    if norm == "none":
        return Shift(shift)
    channels = len(shift)
    groups = max(g for g in (1, 2, 4, 8) if channels % g == 0 and channels // 4 % g == 0)
    module = getattr(nn, f"BatchNorm{dimensions}d")(channels) if norm == "batch" else nn.GroupNorm(groups, channels)
    module = module.double()
    module.weight.data, module.bias.data = weights[f"{prefix}scale"], shift
    return module


class Shift(nn.Module):
    def __init__(self, shift):
        super().__init__()
        self.shift = shift

    def forward(self, x):
        return x + self.shift.view(1, -1, *[1] * (x.dim() - 2))


def conv_module(kernel) -> nn.Module:
    conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], padding="same", bias=False).double()
    conv.weight.data = kernel
    return conv


class Residual(nn.Module):
    """The block as MetaOptNet writes it: activation, then pooling."""

    def __init__(self, norm: str, weights: dict, block: int) -> None:
        super().__init__()

        def layer(name):
            prefix = f"{block}.{name}."
            return [conv_module(weights[f"{prefix}conv"]), norm_module(norm, weights, prefix, 2)]

        act = nn.LeakyReLU(0.1)
        self.body = nn.Sequential(*layer("0"), act, *layer("1"), act, *layer("2"))
        self.shortcut = nn.Sequential(*layer("shortcut"))
        self.after = nn.Sequential(act, nn.MaxPool2d(2))

    def forward(self, x):
        return self.after(self.body(x) + self.shortcut(x))


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (28, 3), (84, 3)])
def test_resnet12_is_that_of_metaoptnet(norm, size, channels):
    net = ResNet12((channels, size, size), 4, norm)
    assert ResNet12((3, 84, 84), 64, norm).widths == [64, 160, 320, 640]
    weights = seeded(net)
    blocks = (Residual(norm, weights, block) for block in range(4))
    oracle = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = torch.randn(3, channels, size, size, dtype=torch.float64)
    for twice in (False, True):
        torch.testing.assert_close(net(weights, x, twice=twice)[0], oracle(x), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_mlp_is_a_sequence_of_torch_s_layers(norm, channels):
    net = Mlp((channels, 28, 28), 16, norm)
    weights, layers, inputs = seeded(net), [], channels * 28**2
    for layer in range(3):
        linear = nn.Linear(inputs, 16, bias=False).double()
        linear.weight.data = weights[f"{layer}.linear"]
        layers += [linear, norm_module(norm, weights, f"{layer}.", 1), nn.ReLU()]
        inputs = 16
    x = torch.randn(6, channels, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(net(weights, x)[0], nn.Sequential(nn.Flatten(), *layers)(x), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (28, 3), (84, 1)])
def test_gru_is_torch_s(norm, size, channels):
    """torch's cell, its matrix of the inputs left to the norm's side: identity, no shift."""
    net = Gru((channels, size, size), 8, norm)
    weights = seeded(net)
    cell = nn.GRU(24, 8, batch_first=True).double()
    cell.weight_ih_l0.data, cell.bias_ih_l0.data = torch.eye(24).double(), torch.zeros(24).double()
    cell.weight_hh_l0.data, cell.bias_hh_l0.data = weights["state"], weights["state.shift"]
    x = torch.randn(5, channels, size, size, dtype=torch.float64)
    rows = torch.stack([x[:, :, row].flatten(1) for row in range(size)], dim=1)
    inputs = norm_module(norm, weights, "", 1)((rows @ weights["input"].T).transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(net(weights, x)[0], cell(inputs)[0].mean(dim=1), rtol=1e-6, atol=1e-8)


def test_gru_without_a_norm_is_torch_s_weight_for_weight():
    net = Gru((1, 28, 28), 8, "none")
    weights = seeded(net)
    cell = nn.GRU(28, 8, batch_first=True).double()
    names = ("input", "state", "shift", "state.shift")
    for theirs, ours in zip(cell.parameters(), names, strict=True):
        theirs.data = weights[ours]
    x = torch.randn(4, 9, 28, dtype=torch.float64)  # a sequence that is no picture
    torch.testing.assert_close(net.read(weights, x)[0], cell(x)[0].mean(dim=1), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_task_axis_is_each_task_alone(name, norm):
    """Embeddings, statistics, gradients and second derivatives; with shared weights and with each task's own."""
    net = NETWORKS[name](shape=(1, 16, 16), width=4, norm=norm)
    shared = seeded(net)
    own = {k: torch.stack([v, v + 0.1 * torch.randn_like(v)]) for k, v in shared.items()}
    x = torch.randn(2, 3, 1, 16, 16, dtype=torch.float64)
    for weights in (shared, own):
        leaves = {k: v.clone().requires_grad_() for k, v in weights.items()}
        together = derivatives(leaves, *net(leaves, x, twice=True))
        parts = []
        for task in range(2):
            mine = leaves if weights is shared else {k: v[task] for k, v in leaves.items()}
            parts.append(net(mine, x[task], twice=True))
        embeddings, statistics = zip(*parts, strict=True)
        stacked = {k: torch.stack([each[k] for each in statistics]) for k in statistics[0]}
        alone = derivatives(leaves, torch.stack(embeddings), stacked)
        for got, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-8)


def derivatives(leaves: dict, embedding, statistics: dict) -> list:
    loss = (embedding.sin() * torch.linspace(0, 1, embedding.numel()).view_as(embedding)).sum()
    loss = loss + sum(value.sin().sum() for value in statistics.values())
    gradients = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
    slope = sum((each.sin() ** 2).sum() for each in gradients)
    second = torch.autograd.grad(slope, list(leaves.values()))
    return [embedding, *statistics.values(), *gradients, *second]


@pytest.mark.parametrize("width", [5, 6, 9])
@pytest.mark.parametrize("name", NETWORKS)
def test_group_norm_takes_any_width(name, width):
    net = NETWORKS[name](shape=(1, 16, 16), width=width, norm="group")
    embedding, _ = net(net.init(torch.Generator().manual_seed(0)), torch.randn(2, 1, 16, 16))
    assert embedding.shape == (2, net.embed)
