"""Memory for time: what a graph would hold is computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from metaloom.networks import Tensors


def recomputed(function: Callable[..., Tensors], *groups: Tensors, generator: torch.Generator | None = None) -> Tensors:
    """`function(*groups)`, keeping nothing but the groups for the backward pass.

    Args:
        function: pure; it runs without autograd first, and with it in the backward pass, where its vector-Jacobian
            product is taken. Inside it may take gradients of its own, with a graph if autograd records.
        groups: named tensors. Gradients reach these and nothing else that the function uses.
        generator: one that the function draws from; it draws the same again.
    """
    layout, names = [list(group) for group in groups], []

    def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
        each = iter(tensors)
        result = function(*({name: next(each) for name in group} for group in layout))
        names[:] = result
        return tuple(result.values())

    outputs = _Recomputed.apply(flat, generator, *(tensor for group in groups for tensor in group.values()))
    return dict(zip(names, outputs, strict=True))


class _Recomputed(Function):
    @staticmethod
    def forward(ctx: Any, function: Any, generator: torch.Generator | None, *tensors: Tensor) -> Any:
        ctx.function, ctx.generator = function, generator
        ctx.drawn_from = None if generator is None else generator.get_state()
        ctx.save_for_backward(*tensors)
        return function(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_outputs: Tensor) -> Any:
        needed = ctx.needs_input_grad[2:]
        leaves = [tensor.detach().requires_grad_(need) for tensor, need in zip(ctx.saved_tensors, needed, strict=True)]
        with torch.enable_grad(), _rewound(ctx.generator, ctx.drawn_from):
            outputs = ctx.function(*leaves)
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        gradients = iter(torch.autograd.grad(outputs, wanted, d_outputs))
        return None, None, *(next(gradients) if need else None for need in needed)


@contextmanager
def _rewound(generator: torch.Generator | None, state: Tensor | None) -> Iterator[None]:
    if generator is None or state is None:
        yield
        return
    now = generator.get_state()
    generator.set_state(state)
    yield
    generator.set_state(now)
