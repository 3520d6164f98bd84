"""MAML's gradient against an independent derivation, and the options of MAML++."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from starts import HEADS
from tiny_methods import method_of
from torch import nn
from torch.func import functional_call, grad

from metaloom.methods import Episodes
from metaloom.methods.maml import importance_of_steps
from metaloom.methods.recompute import recomputed


class Modules(nn.Module):
    """conv4 with group norm and a head, of torch's modules in the papers' order."""

    def __init__(self, ways: int, width: int = 8) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(1 if b == 0 else width, width, 3, padding=1, bias=False) for b in range(4))
        self.norms = nn.ModuleList(nn.GroupNorm(2, width) for _ in range(4))
        self.head = nn.Linear(width, ways)

    def forward(self, x, embed: bool = False):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool2d(F.relu(norm(conv(x))), 2)
        return x.flatten(1) if embed else self.head(x.flatten(1))

    def named_weights(self):
        """Under our names."""
        theirs = {"conv": self.convs, "scale": self.norms, "shift": self.norms}
        for block in range(4):
            for name, modules in theirs.items():
                module = modules[block]
                yield f"{block}.{name}", (module.bias if name == "shift" else module.weight).detach()


def modules_of(weights: dict, ways: int) -> Modules:
    net = Modules(ways).double()
    with torch.no_grad():
        for name, parameter in net.named_weights():
            parameter.copy_(weights[name])
        net.head.weight.zero_()
        net.head.bias.zero_()
    return net


def a_double_task(shots: int = 2, queries: int = 2, tasks: int = 2) -> Episodes:
    generator = torch.Generator().manual_seed(1)
    support, query = (
        torch.randn(tasks, 3 * n, 1, 28, 28, generator=generator, dtype=torch.double) for n in (shots, queries)
    )
    labels = torch.arange(3)
    return Episodes(support, labels.repeat_interleave(shots), query, labels.repeat_interleave(queries), 3)


def maml(settings, norm: str = "group", dropout: float = 0.0, **changes):
    method, params = method_of("maml", settings, norm, **({"inner_rate": 0.2, "head": "zero"} | changes))
    method = type(method)(replace(method.network, dropout=dropout), method.settings)
    return method, type(params)({k: v.double().requires_grad_() for k, v in params.weights.items()}, {})


def gradients_of(method, params, episodes, progress: float = 1.0, generator=None):
    loss, _ = method.loss(params, episodes, generator, progress)
    gradients = torch.autograd.grad(loss, list(params.weights.values()))
    return loss.detach(), dict(zip(params.weights, gradients, strict=True))


def theirs(net: Modules, episodes: Episodes, steps: int, head: str = "zero", importance=None):
    """The loss of our weights by torch.func alone, as a function of {our name: weight}."""
    ours = dict(net.named_weights())
    places = {parameter.data_ptr(): name for name, parameter in net.named_parameters()}
    name_of = {ours_name: places[tensor.data_ptr()] for ours_name, tensor in ours.items()}
    importance = importance or [0.0] * (steps - 1) + [1.0]

    def loss(weights: dict, rates: dict) -> torch.Tensor:
        total = 0.0
        for task in range(len(episodes)):
            start = {name_of[name]: weights[name] for name in name_of}
            now = dict(net.named_parameters()) | start
            if head == "prototypes":
                z = functional_call(net, now, (episodes.support_x[task], True))
                centres = torch.stack([z[episodes.support_y == way].mean(dim=0) for way in range(episodes.n_way)])
                now |= {"head.weight": 2 * centres, "head.bias": -centres.square().sum(dim=1)}
            for step in range(steps):
                slope = grad(
                    lambda w, task=task: F.cross_entropy(
                        functional_call(net, w, (episodes.support_x[task],)), episodes.support_y
                    )
                )(now)
                moved = {k: v - rates.get((step, k), 0.2) * slope[k] for k, v in now.items()}
                now |= {k: v for k, v in moved.items() if step or k.startswith("head")}  # the first moves the head
                answer = functional_call(net, now, (episodes.query_x[task],))
                total = total + importance[step] * F.cross_entropy(answer, episodes.query_y)
        return total / len(episodes)

    return loss, name_of


@pytest.mark.parametrize("head", HEADS)
def test_the_second_order_gradient_is_torch_func_s(head, tiny_settings):
    method, params = maml(tiny_settings, inner_steps=2, head=head)
    episodes = a_double_task()
    value, gradients = gradients_of(method, params, episodes)
    net = modules_of(params.weights, 3)
    loss, _ = theirs(net, episodes, 2, head)
    weights = {k: v.detach() for k, v in params.weights.items()}
    torch.testing.assert_close(value, loss(weights, {}).detach(), rtol=1e-9, atol=1e-9)
    for name, expected in grad(loss)(weights, {}).items():
        torch.testing.assert_close(gradients[name], expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("progress", "head"), [(0.04, "zero"), (0.04, "prototypes"), (1.0, "zero")])
def test_learned_rates_and_multi_step_are_torch_func_s(progress, head, tiny_settings):
    method, params = maml(tiny_settings, inner_steps=3, learned_rates=True, multi_step=True, head=head)
    episodes = a_double_task()
    value, gradients = gradients_of(method, params, episodes, progress)
    net = modules_of(params.weights, 3)
    loss, name_of = theirs(net, episodes, 3, head, importance_of_steps(3, progress))
    weights = {k: v.detach() for k, v in params.weights.items() if not k.startswith("rate.")}
    rates, ours = {}, {}
    for step in range(3):
        for name in (*weights, "head.weight", "head.bias"):
            if f"rate.{step}.{name}" in params.weights:
                key = (step, name_of.get(name, name))
                rates[key], ours[key] = params.weights[f"rate.{step}.{name}"].detach(), f"rate.{step}.{name}"
    torch.testing.assert_close(value, loss(weights, rates).detach(), rtol=1e-9, atol=1e-9)
    of_weights, of_rates = grad(loss, argnums=(0, 1))(weights, rates)
    for name, expected in of_weights.items():
        torch.testing.assert_close(gradients[name], expected, rtol=1e-8, atol=1e-8)
    for key, expected in of_rates.items():
        torch.testing.assert_close(gradients[ours[key]], expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("norm", "dropout", "options"),
    [
        ("batch", 0.0, {}),
        ("group", 0.0, {}),
        ("batch", 0.3, {"learned_rates": True, "multi_step": True}),
        ("group", 0.3, {"multi_step": True}),
        ("none", 0.0, {"learned_rates": True}),
    ],
)
def test_recomputed_steps_give_the_same_gradients(norm, dropout, options, tiny_settings):
    both = []
    for recompute in (False, True):
        method, params = maml(tiny_settings, norm, dropout, inner_steps=3, recompute=recompute, **options)
        generator = torch.Generator().manual_seed(5) if dropout else None
        both.append(gradients_of(method, params, a_double_task(), 0.03, generator))
    torch.testing.assert_close(*both, rtol=1e-9, atol=1e-9)
    idle = [name for name, gradient in both[0][1].items() if not gradient.any()]
    assert set(idle) <= {"rate.0.head.bias"}  # with as many examples of each class the first step leaves the bias


def test_recomputing_needs_no_graph_outside_training(tiny_settings):
    answers = []
    for recompute in (False, True):
        method, params = maml(tiny_settings, "batch", inner_steps=3, recompute=recompute)
        episodes = a_double_task()
        with torch.no_grad():
            model = method.adapt(params, episodes.support_x, episodes.support_y, 3)
            answers.append(model.logits(episodes.query_x))
    assert torch.equal(*answers)


def test_what_is_recomputed_keeps_only_its_inputs():
    kept: list[torch.Tensor] = []
    x = torch.randn(5, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = recomputed(lambda group: {"y": group["x"].sin().exp().tanh()}, {"x": x})["y"]
    assert [tensor.data_ptr() for tensor in kept] == [x.data_ptr()]
    (got,) = torch.autograd.grad(y.sum(), x)
    (expected,) = torch.autograd.grad(x.sin().exp().tanh().sum(), x)
    torch.testing.assert_close(got, expected)


def test_learned_rates_start_at_the_inner_rate(tiny_settings):
    settings = tiny_settings.maml.model_copy(update={"learned_rates": True, "inner_steps": 2})
    plain, _ = method_of("maml", tiny_settings, "group")
    params = type(plain)(plain.network, settings).init(torch.Generator().manual_seed(0))
    rates = {k: v for k, v in params.weights.items() if k.startswith("rate.")}
    weights = len(params.weights) - len(rates)
    assert len(rates) == 2 + weights + 2  # the first step moves the head alone
    assert all(float(rate) == pytest.approx(settings.inner_rate) for rate in rates.values())


def test_more_steps_than_rates_take_the_last_ones(tiny_settings):
    """Adapting with more steps: as with a learner whose further rates are copies of the last."""
    method, params = maml(tiny_settings, inner_steps=2, learned_rates=True)
    longer, _ = maml(tiny_settings, inner_steps=4, learned_rates=True)
    copies = {
        k.replace("rate.1.", f"rate.{n}."): v for n in (2, 3) for k, v in params.weights.items() if "rate.1." in k
    }
    episodes = a_double_task()
    with torch.no_grad():
        short, full = (
            longer.adapt(replace(params, weights=weights), episodes.support_x, episodes.support_y, 3).head
            for weights in (params.weights, params.weights | copies)
        )
    assert len(copies) == 28
    assert torch.equal(short.weight, full.weight)


def test_the_importance_of_steps():
    assert importance_of_steps(4, 0.0) == [0.25] * 4
    assert importance_of_steps(4, 0.05) == pytest.approx([0.125] * 3 + [0.625])
    assert importance_of_steps(4, 0.1) == importance_of_steps(4, 1.0) == [0, 0, 0, 1]
    assert importance_of_steps(1, 0.0) == [1]
