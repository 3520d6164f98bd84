"""Every method with small weights that are away from where mistakes hide, and a task for it."""

from __future__ import annotations

import torch

from metaloom.methods import Episodes, build_method
from metaloom.networks import Conv4

CLASSES = 5  # of training


def method_of(name: str, settings, norm: str = "batch", **changes):
    network = Conv4(shape=(1, 28, 28), width=8, norm=norm)
    options = {"norm": norm} | ({"first_order": False, "inner_steps": 2} if name == "maml" else {}) | changes
    method = build_method(name, network, settings.method(name).model_copy(update=options))
    params = method.init(torch.Generator().manual_seed(0))
    further = method.training_weights(torch.Generator().manual_seed(1), CLASSES)
    params = type(params)(params.weights | further, params.statistics)
    torch.manual_seed(0)
    params = method_params_moved(params)
    return method, params


def method_params_moved(params):
    """Away from zeros and ones, where mistakes hide."""
    moved = {k: v + 0.1 * torch.randn_like(v) for k, v in params.weights.items()}
    return type(params)(moved, {k: v + 0.1 * torch.rand_like(v) for k, v in params.statistics.items()})


def a_task(shots: int = 2, queries: int = 3, ways: int = 3):
    generator = torch.Generator().manual_seed(1)
    support, query = (torch.randn(n * ways, 1, 28, 28, generator=generator) for n in (shots, queries))
    labels = torch.arange(ways)
    return support, labels.repeat_interleave(shots), query, labels.repeat_interleave(queries)


def an_episode(support_x, support_y, query_x, query_y) -> Episodes:
    classes, domains = (torch.tensor(each).to(support_x.device) for each in ([[1, 4, 0]], [0, 1, 0, 0, 1]))
    return Episodes(support_x[None], support_y, query_x[None], query_y, 3, classes, domains)
