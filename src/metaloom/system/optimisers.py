"""torch's optimisers without what they import for torch.compile, which takes every process that trains over a second.

torch marks some of their methods as not to be compiled, and its compiler is imported to tell it so. Ours compile losses
alone (`metaloom.training.compiled`).
"""

from __future__ import annotations

from inspect import unwrap

import torch


class _Unmarked(torch.optim.Optimizer):
    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)


class Adam(_Unmarked, torch.optim.Adam):
    """torch's own."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


class SGD(_Unmarked, torch.optim.SGD):
    """torch's own."""

    step = torch.no_grad()(unwrap(torch.optim.SGD.step))
