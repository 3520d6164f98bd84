"""Reptile against torch's modules: a deep copy, torch's SGD, the interpolation by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from balanced import balanced_nll
from starts import first_layer
from test_maml import modules_of
from tiny_methods import method_of

from metaloom.methods import Episodes
from metaloom.methods.reptile import minibatches


def two_tasks(dtype=torch.double) -> Episodes:
    generator = torch.Generator().manual_seed(3)
    support, query = (torch.randn(2, n, 1, 28, 28, generator=generator, dtype=dtype) for n in (3, 6))
    return Episodes(support, torch.arange(3), query, torch.arange(3).repeat_interleave(2), 3)


def doubled(params):
    return type(params)({k: v.double().requires_grad_() for k, v in params.weights.items()}, {})


@pytest.mark.parametrize(("batch", "head"), [(4, "zero"), (100, "zero"), (4, "prototypes")])
def test_an_outer_step_is_the_interpolation(batch, head, tiny_settings):
    options = {"inner_steps": 4, "inner_rate": 0.1, "batch": batch, "head": head}
    method, params = method_of("reptile", tiny_settings, "group", **options)
    params, episodes = doubled(params), two_tasks()
    labels = torch.cat([episodes.support_y, episodes.query_y])
    first = modules_of(params.weights, 3)
    ends, losses = [], []
    for task in range(2):
        images = torch.cat([episodes.support_x[task], episodes.query_x[task]])
        net = copy.deepcopy(first)
        start = first_layer(head, net(images, embed=True), labels)
        net.head.load_state_dict(start.state_dict())
        body = [weight for name, weight in net.named_parameters() if not name.startswith("head")]
        groups = [{"params": body, "lr": 0.0}, {"params": net.head.parameters()}]  # the first step moves the head
        optimiser = torch.optim.SGD(groups, lr=0.1 * 3 / 5)  # three ways: as far as five
        # the classes in turn: support examples 0-2, then the first query of each class, then the second
        order = [0, 1, 2, 3, 5, 7, 4, 6, 8]
        for step in range(4):
            size = min(batch, 9)
            chosen = [order[(step * size + i) % 9] for i in range(size)]
            if step == 0 and head == "prototypes":  # of all examples, and so is the step
                chosen = list(range(9))
            optimiser.zero_grad()
            loss = balanced_nll(net(images[chosen]), labels[chosen])
            loss.backward()
            optimiser.step()
            optimiser.param_groups[0]["lr"] = 0.1
            losses.append(float(loss.detach()))
        ends.append(net)
    value, _ = method.loss(params, episodes)
    assert float(value.detach()) == pytest.approx(sum(losses) / len(losses), abs=1e-9)
    optimiser = replace_rate(method, 0.3).optimiser(list(params.weights.values()))
    before = {k: v.detach().clone() for k, v in params.weights.items()}
    value.backward()
    optimiser.step()
    for name, weight in params.weights.items():
        end = torch.stack([dict(net.named_weights())[name] for net in ends]).mean(dim=0)
        torch.testing.assert_close(weight.detach(), before[name] + 0.3 * (end - before[name]), rtol=1e-9, atol=1e-10)


def replace_rate(method, rate: float):
    return type(method)(method.network, method.settings.model_copy(update={"learning_rate": rate}))


def test_tasks_do_not_touch_each_other(tiny_settings):
    method, params = method_of("reptile", tiny_settings, "batch", inner_steps=3)
    params, episodes = doubled(params), two_tasks()
    together = torch.autograd.grad(method.loss(params, episodes)[0], list(params.weights.values()))
    alone = [
        torch.autograd.grad(method.loss(params, one)[0], list(params.weights.values())) for one in episodes.split(1)
    ]
    for both, first, second in zip(together, *alone, strict=True):
        torch.testing.assert_close(both, (first + second) / 2)


def test_dropout_is_drawn_from_the_generator(tiny_settings):
    method, params = method_of("reptile", tiny_settings, "group", inner_steps=3)
    method = type(method)(replace(method.network, dropout=0.3), method.settings)
    losses = [
        float(method.loss(params, two_tasks(torch.float), torch.Generator().manual_seed(seed))[0].detach())
        for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_minibatches_go_through_the_classes_in_turn():
    labels = torch.tensor([0, 1, 2, 0, 0, 1, 1, 2, 2])
    assert minibatches(labels, 3, 3, 4).tolist() == [[0, 1, 2, 3], [5, 7, 4, 6], [8, 0, 1, 2]]
    assert minibatches(labels, 3, 2, 50).sort(dim=1).values.tolist() == [list(range(9))] * 2
