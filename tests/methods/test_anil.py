from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from test_maml import a_double_task
from tiny_methods import a_task, method_of
from torch import nn
from torch.func import functional_call, grad


def test_the_head_is_sgd_s_on_a_copy(tiny_settings):
    method, params = method_of("anil", tiny_settings, inner_steps=4, inner_rate=0.3)
    support_x, support_y, query_x, _ = a_task()
    with torch.no_grad():
        z, query = method.embed(params, support_x), method.embed(params, query_x)
        model = method.adapt(params, support_x, support_y, 3)
    head = nn.Linear(8, 3)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    head = copy.deepcopy(head)
    optimiser = torch.optim.SGD(head.parameters(), lr=0.3 * 3 / 5)  # three ways: as far as five
    for _ in range(4):
        optimiser.zero_grad()
        F.cross_entropy(head(z), support_y).backward()
        optimiser.step()
    torch.testing.assert_close(model.head.weight, head.weight.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.logits(query_x), head(query).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first_order", [False, True])
def test_the_gradient_is_torch_func_s(first_order, tiny_settings):
    """Through the inner steps, the support embeddings a constant in them where it is first order."""
    method, params = method_of("anil", tiny_settings, "group", inner_steps=3, inner_rate=0.3, first_order=first_order)
    params = type(params)({k: v.double().requires_grad_() for k, v in params.weights.items()}, {})
    episodes = a_double_task(tasks=1)
    head = nn.Linear(8, 3).double()
    start = {k: torch.zeros_like(v) for k, v in head.named_parameters()}
    z, query = (method.network(params.weights, x[0])[0] for x in (episodes.support_x, episodes.query_x))
    z = z.detach() if first_order else z
    for _ in range(3):
        slope = grad(lambda w: F.cross_entropy(functional_call(head, w, (z,)), episodes.support_y))(start)
        start = {k: v - 0.3 * 3 / 5 * slope[k] for k, v in start.items()}
    expected = F.cross_entropy(functional_call(head, start, (query,)), episodes.query_y)
    loss, _ = method.loss(params, episodes)
    leaves = list(params.weights.values())
    torch.testing.assert_close(loss, expected)
    for got, wanted in zip(*(torch.autograd.grad(each, leaves) for each in (loss, expected)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-8)
