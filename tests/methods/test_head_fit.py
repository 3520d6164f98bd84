"""The head's fit, against torch's own SGD and autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metaloom.methods import Head
from metaloom.methods.head_fit import fit_head

WAYS, EMBED = 3, 5


def embeddings(*lead: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(*lead, 6, EMBED, generator=generator, dtype=torch.float64)
    return z, torch.tensor([2, 0, 1, 1, 0, 2])


def a_start(*lead: int) -> Head:
    generator = torch.Generator().manual_seed(1)
    return Head(*(torch.randn(*lead, *shape, generator=generator).double() for shape in ((WAYS, EMBED), (WAYS,))))


def by_sgd(start: Head, z: torch.Tensor, y: torch.Tensor, steps: int, rate: float) -> nn.Linear:
    layer = nn.Linear(EMBED, WAYS, dtype=torch.float64)
    layer.weight.data, layer.bias.data = start.weight.clone(), start.bias.clone()
    optimiser = torch.optim.SGD(layer.parameters(), lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(layer(z), y).backward()
        optimiser.step()
    return layer


@pytest.mark.parametrize("starts", [(), (2,)])
def test_stacked_tasks_are_fitted_as_sgd_fits_each(starts):
    z, y = embeddings(2)
    start = a_start(*starts)
    with torch.no_grad():
        fitted = fit_head(start, z, y, steps=7, rate=0.3).head
    for task in range(2):
        own = Head(start.weight[task], start.bias[task]) if starts else start
        expected = by_sgd(own, z[task], y, 7, 0.3)
        torch.testing.assert_close(fitted.weight[task], expected.weight.detach())
        torch.testing.assert_close(fitted.bias[task], expected.bias.detach())


def test_one_task_without_a_task_axis():
    z, y = embeddings()
    fitted = fit_head(a_start(), z, y, steps=2, rate=0.1).head
    torch.testing.assert_close(fitted.weight, by_sgd(a_start(), z, y, 2, 0.1).weight.detach())


def test_the_fit_is_differentiable_in_embeddings_start_and_rate():
    z, y = embeddings()
    rate = torch.tensor(0.3, dtype=torch.float64)
    inputs = tuple(t.clone().requires_grad_() for t in (z, *a_start(), rate))
    assert torch.autograd.gradcheck(lambda z, w, b, r: tuple(fit_head(Head(w, b), z, y, 3, r).head), inputs)


def test_below_the_rate_that_the_docstring_calls_stable_every_step_lowers_the_loss():
    z, y = embeddings()
    rate = 0.99 * 4 / (float(z.square().sum(dim=1).mean()) + 1)
    losses = [float(F.cross_entropy(fit_head(a_start(), z, y, steps, rate).head.logits(z), y)) for steps in range(20)]
    assert losses == sorted(losses, reverse=True)
