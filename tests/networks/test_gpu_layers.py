"""The layers that GPUs take, against torch's own: values, gradients and second derivatives, in float64 on the CPU.

That a whole conv4 of them is what the CPU's kernels compute is in `test_cpu_kernels`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from metaloom.networks import gpu, layers
from metaloom.networks.bilinear import Convolution
from metaloom.networks.resnet12 import ResNet12
from metaloom.system.device import tf32

TASKS, EXAMPLES = 2, 3


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def derivatives(layer: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> list[torch.Tensor]:
    """The result, its gradients, and the gradients of a function of those."""
    leaves = [each.clone().requires_grad_() for each in inputs]
    y = layer(*leaves)
    gradients = torch.autograd.grad((y.sin() * torch.arange(y.numel()).view_as(y)).sum(), leaves, create_graph=True)
    slope = sum((each.sin() * torch.arange(each.numel()).view_as(each)).sum() for each in gradients)
    return [y, *gradients, *torch.autograd.grad(slope, leaves)]


def assert_same(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    for number, (got, expected) in enumerate(zip(one, other, strict=True)):
        scale = float(expected.detach().abs().max())
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10 * scale, msg=lambda m, n=number: f"{n}: {m}")


@pytest.mark.parametrize("lowered", [False, True])  # products of matrices, or a convolution with groups
@pytest.mark.parametrize(("channels", "out", "side", "size"), [(1, 5, 3, 7), (6, 5, 3, 6), (6, 2, 1, 4), (5, 6, 5, 6)])
def test_a_kernel_for_each_task_is_a_convolution_with_groups(channels, out, side, size, lowered):
    x, kernels = numbers(EXAMPLES, TASKS * channels, size, size), numbers(TASKS, out, channels, side, side)

    def torch_s(x, kernels):
        return F.conv2d(x, kernels.flatten(0, 1), padding=side // 2, groups=TASKS)

    def grouped(x, kernels):
        return Convolution.apply(x, kernels, gpu.GROUPED)

    with tf32(lowered):
        assert_same(derivatives(grouped, x, kernels), derivatives(torch_s, x, kernels))


@pytest.mark.parametrize("size", [(4, 4), (7, 5), (6, 3)])
def test_max_pooling_with_ties(size):
    """Where a window has several maxima the first of them has the gradient."""
    x = numbers(2, 3, *size).round()
    assert len(x.unique()) < 10
    assert_same(derivatives(gpu.MaxPool.apply, x), derivatives(lambda x: F.max_pool2d(x, 2), x))


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm(groups):
    x, scale, shift = 3 * numbers(EXAMPLES, 6, 4, 5) + 1, numbers(6), numbers(6) - 1
    assert_same(
        derivatives(lambda *each: gpu.GroupNorm.apply(*each, groups, layers.EPSILON), x, scale, shift),
        derivatives(lambda x, *affine: F.group_norm(x, groups, *affine, layers.EPSILON), x, scale, shift),
    )


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("twice", [False, True])
def test_tasks_lie_side_by_side_from_layer_to_layer(norm, twice, monkeypatch):
    """Each task of a stack is what it is alone, and what a layer hands on is not copied by the next."""
    monkeypatch.setattr(layers, "on_cpu", lambda x: False)
    net = ResNet12(shape=(3, 16, 16), width=4, norm=norm)
    one = net.init(torch.Generator().manual_seed(0))
    weights = {name: torch.stack([w, w + 0.1 * numbers(*w.shape).float()]) for name, w in one.items()}
    x = numbers(TASKS, EXAMPLES, 3, 16, 16).float()
    together, used = net(weights, x, twice=twice)
    for task in range(TASKS):
        own = {name: weight[task] for name, weight in weights.items()}
        alone, moments = net(own, x[task], twice=twice)
        torch.testing.assert_close(together[task], alone, rtol=1e-4, atol=1e-4)
        for name, value in moments.items():
            torch.testing.assert_close(used[name][task], value, rtol=1e-4, atol=1e-5)
    y = layers.convolution(x, weights["0.0.conv"], twice)
    y = layers.normalise(norm, y, weights, "0.0.", None, {}, twice=twice)
    assert gpu.joined(y).data_ptr() == y.data_ptr()
    assert gpu.joined(layers.max_pooled(y)).is_contiguous()


def test_a_step_down_the_gradients_of_all_weights():
    weights, gradients = [numbers(2, 3), numbers(4)], [numbers(3, 2).T, numbers(1).expand(4)]

    def ours(*both):
        return torch.cat([each.flatten() for each in gpu.Descended.apply(0.1, *both)])

    def plain(*both):
        return torch.cat([(w - 0.1 * g).flatten() for w, g in zip(both[:2], both[2:], strict=True)])

    both = *weights, *gradients
    one, other = ([y, *torch.autograd.grad(y.sin().sum(), leaves)] for leaves, y in with_leaves((ours, plain), both))
    assert all(map(torch.equal, one, other))


def with_leaves(functions, given):
    for function in functions:
        leaves = [each.clone().requires_grad_() for each in given]
        yield leaves, function(*leaves)
