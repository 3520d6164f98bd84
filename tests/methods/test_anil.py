from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from starts import HEADS, first_layer
from test_maml import a_double_task
from tiny_methods import a_task, method_of
from torch import nn
from torch.func import functional_call, grad


@pytest.mark.parametrize("head", HEADS)
def test_the_head_is_sgd_s_on_a_copy(head, tiny_settings):
    method, params = method_of("anil", tiny_settings, inner_steps=4, inner_rate=0.3, head=head)
    support_x, support_y, query_x, _ = a_task()
    with torch.no_grad():
        z, query = method.embed(params, support_x), method.embed(params, query_x)
        model = method.adapt(params, support_x, support_y, 3)
    layer = first_layer(head, z, support_y)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.3 * 3 / 5)  # three ways: as far as five
    for _ in range(4):
        optimiser.zero_grad()
        F.cross_entropy(layer(z), support_y).backward()
        optimiser.step()
    torch.testing.assert_close(model.head.weight, layer.weight.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.logits(query_x), layer(query).detach(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("first_order", [False, True])
def test_the_gradient_is_torch_func_s(first_order, head, tiny_settings):
    """Through the inner steps, the support embeddings a constant in them where it is first order."""
    options = {"inner_steps": 3, "inner_rate": 0.3, "first_order": first_order, "head": head}
    method, params = method_of("anil", tiny_settings, "group", **options)
    params = type(params)({k: v.double().requires_grad_() for k, v in params.weights.items()}, {})
    episodes = a_double_task(tasks=1)
    layer = nn.Linear(8, 3).double()
    z, query = (method.network(params.weights, x[0])[0] for x in (episodes.support_x, episodes.query_x))
    means = z.unflatten(0, (3, -1)).mean(dim=1) * (head == "prototypes")
    start = {"weight": 2 * means, "bias": -means.square().sum(dim=1)}
    z = z.detach() if first_order else z
    for _ in range(3):
        slope = grad(lambda w: F.cross_entropy(functional_call(layer, w, (z,)), episodes.support_y))(start)
        start = {k: v - 0.3 * 3 / 5 * slope[k] for k, v in start.items()}
    expected = F.cross_entropy(functional_call(layer, start, (query,)), episodes.query_y)
    loss, _ = method.loss(params, episodes)
    leaves = list(params.weights.values())
    torch.testing.assert_close(loss, expected)
    for got, wanted in zip(*(torch.autograd.grad(each, leaves) for each in (loss, expected)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-8)
