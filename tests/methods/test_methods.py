"""Every method, for what the contract promises of it, and each against an oracle of its own."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_methods import a_task, an_episode, method_of
from torch import nn

from metaloom.methods import METHOD_CLASSES, EmbeddingMethod, Episodes
from metaloom.methods.protonet import prototypes_of


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("name", METHOD_CLASSES)
def test_a_prediction_does_not_depend_on_the_other_queries(name, norm, tiny_settings):
    method, params = method_of(name, tiny_settings, norm)
    support_x, support_y, query_x, _ = a_task()
    with torch.no_grad():
        model = method.adapt(params, support_x, support_y, 3)
        alone = torch.cat([model.logits(each[None]) for each in query_x])
        torch.testing.assert_close(model.logits(query_x), alone, rtol=1e-4, atol=1e-4)
    assert model.head.weight.shape == (3, method.network.embed)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("name", METHOD_CLASSES)
def test_an_embedding_does_not_depend_on_the_other_images(name, norm, tiny_settings):
    method, params = method_of(name, tiny_settings, norm)
    x = torch.cat([a_task()[0], 5 + a_task()[2]])  # with unlike neighbours
    with torch.no_grad():
        alone = torch.cat([method.embed(params, each[None]) for each in x])
        torch.testing.assert_close(method.embed(params, x), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", METHOD_CLASSES)
def test_adapting_is_pure_and_needs_no_order(name, tiny_settings):
    method, params = method_of(name, tiny_settings)
    before = copy.deepcopy(params)
    support_x, support_y, query_x, _ = a_task()
    order = torch.randperm(len(support_x))
    with torch.no_grad():
        one = method.adapt(params, support_x, support_y, 3).logits(query_x)
        other = method.adapt(params, support_x[order], support_y[order], 3).logits(query_x)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    for group in ("weights", "statistics"):
        for key, value in getattr(before, group).items():
            assert torch.equal(value, getattr(params, group)[key])


@pytest.mark.parametrize("name", METHOD_CLASSES)
def test_a_class_without_an_example_changes_nothing_and_gets_nothing(name, tiny_settings):
    method, params = method_of(name, tiny_settings)
    support_x, support_y, query_x, _ = a_task()
    places = torch.tensor([0, 2, 3])  # the second class and the last two are empty
    with torch.no_grad():
        without = method.adapt(params, support_x, support_y, 3).logits(query_x).softmax(dim=1)
        among = method.adapt(params, support_x, places[support_y], 6).logits(query_x).softmax(dim=1)
    torch.testing.assert_close(among[:, places], without, rtol=1e-4, atol=1e-5)
    assert (among[:, [1, 4, 5]] == 0).all()


@pytest.mark.parametrize("name", ["maml", "anil", "reptile"])  # the others: see test_closed_form.py
def test_a_class_counts_as_much_as_any_other_however_many_examples_it_has(name, tiny_settings):
    """So the same examples four times over change nothing, whichever class has them."""
    # prototypes of few examples have an excess, too
    method, params = method_of(name, tiny_settings, "group", inner_steps=3, head="zero")
    x, y, query_x, _ = a_task()
    more = torch.cat([torch.arange(len(y)), *[torch.nonzero(y == 1).flatten()] * 3])
    with torch.no_grad():
        even, uneven = (method.adapt(params, x[rows], y[rows], 3).logits(query_x) for rows in (slice(None), more))
    torch.testing.assert_close(uneven, even, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("name", [name for name in METHOD_CLASSES if name != "reptile"])  # see test_reptile.py
def test_the_loss_gradient_by_finite_differences(name, norm, tiny_settings):
    method, params = method_of(name, tiny_settings, norm)
    weights = {k: v.double().requires_grad_() for k, v in params.weights.items()}
    params = type(params)(weights, {k: v.double() for k, v in params.statistics.items()})
    support_x, support_y, query_x, query_y = (t.double() if t.is_floating_point() else t for t in a_task())
    episodes = an_episode(support_x, support_y, query_x, query_y)
    loss, _ = method.loss(params, episodes)
    gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    direction = {k: torch.randn_like(v) for k, v in weights.items()}

    def at(step: float) -> float:
        moved = {k: (v.detach() + step * direction[k]).requires_grad_() for k, v in weights.items()}
        return float(method.loss(type(params)(moved, params.statistics), episodes)[0].detach())

    slope = (at(1e-7) - at(-1e-7)) / 2e-7  # longer steps meet kinks of ReLU and max-pooling
    assert slope == pytest.approx(float(sum((gradients[k] * direction[k]).sum() for k in weights)), rel=1e-3)


@pytest.mark.parametrize("name", METHOD_CLASSES)
def test_no_tensor_is_made_off_the_device(name, tiny_settings):
    """One training step and one adaptation on the meta device: a tensor made elsewhere would raise."""
    method, params = method_of(name, tiny_settings)
    params = params.to("meta").detached()
    weights = [weight.requires_grad_() for weight in params.weights.values()]
    support_x, support_y, query_x, query_y = (each.to("meta") for each in a_task())
    episodes = an_episode(support_x, support_y, query_x, query_y)
    for chunk in method.chunks(episodes):
        loss, moved = method.loss(params, chunk)
        loss.backward()
    assert all(weight.grad.is_meta for weight in weights)
    assert all(value.is_meta for value in moved.statistics.values())


def test_prototypes_are_class_means():
    z = torch.randn(6, 4)
    labels = torch.tensor([2, 0, 1, 0, 2, 2])
    expected = np.stack([z[labels == way].numpy().mean(axis=0) for way in range(3)])
    np.testing.assert_allclose(prototypes_of(z, labels, 3).numpy(), expected, rtol=1e-5)


def test_protonet_is_softmax_over_negative_squared_distances(tiny_settings):
    method, params = method_of("protonet", tiny_settings)
    support_x, support_y, query_x, _ = a_task()
    with torch.no_grad():
        answer = method.adapt(params, support_x, support_y, 3).logits(query_x).softmax(dim=1)
        query, support = (method.embed(params, x) for x in (query_x, support_x))
        prototypes = torch.stack([support[support_y == way].mean(dim=0) for way in range(3)])
        expected = (-(torch.cdist(query, prototypes) ** 2)).softmax(dim=1)
    torch.testing.assert_close(answer, expected, rtol=1e-3, atol=1e-4)


def test_protonet_s_distances_do_not_grow_with_the_length_of_the_embedding(tiny_settings):
    """The same numbers sixteen times over say no more than once, and are answered alike."""
    method, params = method_of("protonet", tiny_settings)
    z, labels = torch.randn(6, 64), torch.arange(3).repeat(2)
    short, long = (method.head(params, support, labels, 3).logits(support) for support in (z, z.repeat(1, 16)))
    torch.testing.assert_close(long, short)


@pytest.mark.parametrize("name", ["maml", "reptile"])
def test_gradient_methods_track_the_shared_network_s_statistics(name, tiny_settings):
    """Those of the images that the first inner step sees: the support set, or reptile's first minibatch."""
    own = {"batch": 6} if name == "reptile" else {}
    method, params = method_of(name, tiny_settings, inner_steps=2, head="zero", **own)
    support_x, support_y, query_x, query_y = a_task()
    _, moved = method.loss(params, an_episode(support_x, support_y, query_x, query_y))
    norms = [nn.BatchNorm2d(8, momentum=1.0) for _ in range(4)]
    z = support_x  # three classes, two examples each: reptile's minibatch of six begins with the same
    with torch.no_grad():
        for block, norm in enumerate(norms):
            z = norm(F.conv2d(z, params.weights[f"{block}.conv"], padding=1))
            z = z * params.weights[f"{block}.scale"][:, None, None] + params.weights[f"{block}.shift"][:, None, None]
            z = F.max_pool2d(F.relu(z), 2)
            mean = 0.9 * params.statistics[f"{block}.mean"] + 0.1 * norm.running_mean
            torch.testing.assert_close(moved.statistics[f"{block}.mean"], mean, rtol=1e-3, atol=1e-5)


def test_embedding_methods_track_running_statistics(tiny_settings):
    method, params = method_of("protonet", tiny_settings)
    assert isinstance(method, EmbeddingMethod)
    support_x, support_y, query_x, query_y = a_task()
    _, moved = method.loss(params, Episodes(support_x[None], support_y, query_x[None], query_y, 3))
    _, batch = method.network(params.weights, torch.cat([support_x, query_x]))
    for key, value in moved.statistics.items():
        torch.testing.assert_close(value, 0.9 * params.statistics[key] + 0.1 * batch[key])


class Oracle(nn.Module):
    """MAML's network from torch's modules, adapted on a deep copy with torch's own SGD."""

    def __init__(self, weights: dict, ways: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(1 if b == 0 else 8, 8, 3, padding=1, bias=False) for b in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(8, momentum=1.0) for _ in range(4))
        self.head = nn.Linear(8, ways)
        for block in range(4):
            self.convs[block].weight.data = weights[f"{block}.conv"].clone()
            self.norms[block].weight.data = weights[f"{block}.scale"].clone()
            self.norms[block].bias.data = weights[f"{block}.shift"].clone()
        self.head.weight.data.zero_()
        self.head.bias.data.zero_()

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool2d(F.relu(norm(conv(x))), 2)
        return self.head(x.flatten(1))


def test_maml_adapts_as_sgd_on_a_copy(tiny_settings):
    method, params = method_of("maml", tiny_settings, inner_steps=3, inner_rate=0.1, head="zero")
    support_x, support_y, _, _ = a_task()
    copied = Oracle(params.weights, 3)
    optimiser = torch.optim.SGD(copied.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        F.cross_entropy(copied(support_x), support_y).backward()
        optimiser.step()
    with torch.no_grad():
        model = method.adapt(params, support_x, support_y, 3)
        torch.testing.assert_close(model.logits(support_x), copied(support_x), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model.head.weight, copied.head.weight.detach(), rtol=1e-3, atol=1e-5)


def test_first_order_drops_the_second_derivatives(tiny_settings):
    """First-order MAML's gradient is the query gradient at the adapted weights (section 5.2)."""
    method, params = method_of(
        "maml", tiny_settings, norm="none", first_order=True, inner_steps=3, inner_rate=0.1, head="zero"
    )
    support_x, support_y, query_x, query_y = a_task()
    params = params.detached()
    for weight in params.weights.values():
        weight.requires_grad_()
    loss, _ = method.loss(params, Episodes(support_x[None], support_y, query_x[None], query_y, 3))
    got = torch.autograd.grad(loss, params.weights["2.conv"])[0]
    with torch.no_grad():
        adapted = method.adapt(params, support_x, support_y, 3)
    leaves = {k: v.detach().requires_grad_() for k, v in adapted.weights.items()}
    embedding, _ = method.network(leaves, query_x)
    direct = F.cross_entropy(F.linear(embedding, *(t.detach() for t in adapted.head)), query_y)
    torch.testing.assert_close(got, torch.autograd.grad(direct, leaves["2.conv"])[0], rtol=1e-4, atol=1e-6)
