from __future__ import annotations

import pytest
import torch

import metaloom.networks.conv4 as conv4
from metaloom.networks import NETWORKS
from metaloom.networks.layers import dropped

SHARE = 0.25


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_what_is_left_keeps_the_mean():
    x = torch.full((400, 500), 3.0)
    y = dropped(x, SHARE, generator())
    assert float((y == 0).float().mean()) == pytest.approx(SHARE, abs=5e-3)
    assert y[y != 0].unique().tolist() == [4.0]  # 3 / (1 - 0.25)
    assert float(y.mean()) == pytest.approx(3, rel=1e-2)


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_drops_only_with_a_generator_and_by_it(name, stacked):
    options = {"shape": (1, 16, 16), "width": 8, "norm": "group"}
    net, plain = NETWORKS[name](**options, dropout=SHARE), NETWORKS[name](**options)
    weights = net.init(generator())
    x = torch.randn(*(2, 3) if stacked else (3,), 1, 16, 16)
    without, _ = plain(weights, x)
    assert torch.equal(net(weights, x)[0], without)
    assert torch.equal(plain(weights, x, generator=generator())[0], without)
    one, again, other = (net(weights, x, generator=generator(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, without)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("twice", [False, True])
def test_conv4_on_a_cpu_drops_what_the_general_form_drops(norm, twice, monkeypatch):
    """There a dropped value goes far below zero before its ReLU: the same values and derivatives."""
    net = NETWORKS["conv4"](shape=(1, 28, 28), width=8, norm=norm, dropout=SHARE)
    weights = {k: (v.double() - 0.05).requires_grad_() for k, v in net.init(generator()).items()}
    x = torch.randn(2, 3, 1, 28, 28, dtype=torch.float64, generator=generator())

    def derivatives() -> list[torch.Tensor]:
        embedding, _ = net(weights, x, twice=twice, generator=generator(3))
        gradients = torch.autograd.grad(embedding.sin().sum(), list(weights.values()), create_graph=twice)
        if not twice:
            return [embedding, *gradients]
        slope = sum(each.sin().sum() for each in gradients)
        return [embedding, *gradients, *torch.autograd.grad(slope, list(weights.values()))]

    fast = derivatives()
    monkeypatch.setattr(conv4, "on_cpu", lambda x: False)
    assert any((each == 0).any() for each in fast)
    for got, expected in zip(fast, derivatives(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-9)
