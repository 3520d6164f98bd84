"""The shared network, against torch's own modules and optimisers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metaloom.errors import MetaloomError
from metaloom.methods import Episodes, build_method
from metaloom.networks import Conv4

CLASSES, WIDTH = 5, 8


def method_of(settings, **changes):
    network = Conv4(shape=(1, 28, 28), width=WIDTH, norm="batch")
    method = build_method("shared", network, settings.shared.model_copy(update=changes))
    params = method.init(torch.Generator().manual_seed(0))
    weights = params.weights | method.training_weights(torch.Generator().manual_seed(1), CLASSES)
    return method, type(params)(
        {k: v.double().requires_grad_() for k, v in weights.items()},
        {k: v.double() for k, v in params.statistics.items()},
    )


def an_episode() -> Episodes:
    generator = torch.Generator().manual_seed(2)
    support, query = (torch.randn(1, n, 1, 28, 28, generator=generator).double() for n in (3, 6))
    ways, classes = torch.arange(3), torch.tensor([[4, 0, 2]])
    return Episodes(support, ways, query, ways.repeat_interleave(2), 3, classes, torch.tensor([0, 1, 0, 1, 1]))


IMAGE_CLASSES = torch.tensor([4, 0, 2, 4, 4, 0, 0, 2, 2])


def plain_classifier(weights: dict[str, torch.Tensor]) -> nn.Sequential:
    """conv4 and a linear layer from torch's own modules, batch norm in training mode."""
    layers: list[nn.Module] = []
    for block in range(4):
        conv, norm = nn.Conv2d(1 if block == 0 else WIDTH, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH)
        conv.weight.data = weights[f"{block}.conv"].detach().clone()
        layers += [conv, norm, nn.ReLU(), nn.MaxPool2d(2)]
    linear = nn.Linear(WIDTH, CLASSES)
    linear.weight.data = weights["training.head.weight"].detach().clone()
    linear.bias.data = weights["training.head.bias"].detach().clone()
    return nn.Sequential(*layers, nn.Flatten(), linear).double()


def test_a_step_is_that_of_a_plain_classifier_over_all_training_classes(tiny_settings):
    method, params = method_of(tiny_settings, heads="all", learning_rate=1e-3)
    episode = an_episode()
    plain = plain_classifier(params.weights)
    theirs = torch.optim.Adam(plain.parameters(), lr=1e-3)
    F.cross_entropy(plain(torch.cat([episode.support_x[0], episode.query_x[0]])), IMAGE_CLASSES).backward()
    theirs.step()
    ours = method.optimiser(list(params.weights.values()))
    assert ours.param_groups[0]["lr"] == 1e-3
    method.loss(params, episode)[0].backward()
    ours.step()
    got = {name: weight.detach() for name, weight in params.weights.items()}
    torch.testing.assert_close(got["training.head.weight"], plain[-1].weight.detach())
    torch.testing.assert_close(got["training.head.bias"], plain[-1].bias.detach())
    for block in range(4):
        torch.testing.assert_close(got[f"{block}.conv"], plain[4 * block].weight.detach())
        torch.testing.assert_close(got[f"{block}.scale"], plain[4 * block + 1].weight.detach())
        torch.testing.assert_close(got[f"{block}.shift"], plain[4 * block + 1].bias.detach())


def test_the_head_of_a_domain_knows_the_classes_of_that_domain_alone(tiny_settings):
    method, params = method_of(tiny_settings, heads="domain")
    episode = an_episode()
    with torch.no_grad():
        z = plain_classifier(params.weights)[:-1](torch.cat([episode.support_x[0], episode.query_x[0]]))
        losses = []
        for of_domain in (torch.tensor([0, 2]), torch.tensor([1, 3, 4])):
            layer = nn.Linear(WIDTH, len(of_domain)).double()
            layer.weight.data = params.weights["training.head.weight"][of_domain]
            layer.bias.data = params.weights["training.head.bias"][of_domain]
            mine = torch.isin(IMAGE_CLASSES, of_domain)
            places = torch.searchsorted(of_domain, IMAGE_CLASSES[mine])
            losses.append(F.cross_entropy(layer(z[mine]), places, reduction="none"))
        got, _ = method.loss(params, episode)
    torch.testing.assert_close(got, torch.cat(losses).mean())
    got, _ = method.loss(params, episode)
    got.backward()
    assert all(weight.grad.isfinite().all() for weight in params.weights.values())


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, "auto"])
def test_it_adapts_a_new_head_as_sgd_on_embeddings_of_unit_length(beta, tiny_settings):
    method, params = method_of(tiny_settings, inner_steps=4, inner_rate=0.5, beta=beta)
    support, y = torch.randn(6, WIDTH).double() * 20, torch.tensor([2, 0, 1, 1, 0, 2])
    scaled = support / support.norm(dim=1).square().mean().sqrt()
    layer = nn.Linear(WIDTH, 3).double()
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.5 * 3 / 5)  # three ways: as far as five
    for _ in range(4):
        optimiser.zero_grad()
        F.cross_entropy(layer(scaled), y).backward()
        optimiser.step()
    expected = (1.0 if beta == "auto" else beta) * layer(scaled).detach()
    torch.testing.assert_close(method.head(params, support, y, 3).logits(support).detach(), expected)


def test_a_blank_support_set_gives_a_head_without_nan(tiny_settings):
    method, params = method_of(tiny_settings)
    head = method.head(params, torch.zeros(3, WIDTH), torch.arange(3), 3)
    assert head.weight.isfinite().all()


def test_what_it_cannot_train_on(tiny_settings):
    method, params = method_of(tiny_settings, heads="domain")
    with pytest.raises(MetaloomError, match="shared.heads is domain, .* no domains"):
        method.loss(params, replace(an_episode(), domains=None))
    with pytest.raises(ValueError, match="know their classes"):
        method.loss(params, replace(an_episode(), classes=None))
    with pytest.raises(ValueError, match="training_weights"):
        method.loss(params.kept(), an_episode())


def test_pretrain_is_the_same_method_and_errors_name_its_section(tiny_settings):
    method, _ = method_of(tiny_settings)
    own = build_method("pretrain", method.network, tiny_settings.pretrain.model_copy(update={"heads": "domain"}))
    with pytest.raises(MetaloomError, match="pretrain.heads is domain, .* no domains"):
        own._domains(replace(an_episode(), domains=None))
