"""Two forms of the same mathematics: equal embeddings, statistics, gradients and second derivatives, in float64.

The CPU's kernels against torch's layers, and tasks one after the other against groups of one convolution.
"""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import torch

import metaloom.networks.conv4 as conv4
import metaloom.networks.layers as layers
from metaloom.networks import Conv4
from metaloom.networks.bilinear import Convolution
from metaloom.networks.cpu import TILED, Activation, blas, convolution, kernels, parts, passes, winograd
from metaloom.networks.cpu.second_order import PoolAndSum

WIDTH = 16
G = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]).double() / 24
CASES = [
    (norm, stacked_x, stacked_w, given)
    for norm, stacked_x, stacked_w, given in itertools.product(("batch", "group", "none"), *[(False, True)] * 3)
    if (stacked_x or not stacked_w) and (norm == "batch" or not given)
]


def images(*lead: int, channels: int = 1, size: int = 28) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(*lead, channels, size, size, dtype=torch.float64, generator=generator)


def weights_of(net: Conv4, stacked: bool = False) -> dict[str, torch.Tensor]:
    """Away from ones and zeros; three scales negative."""
    torch.manual_seed(0)
    weights = {k: v.double() + 0.3 * torch.randn_like(v, dtype=torch.float64) for k, v in net.init(_seeded()).items()}
    for key, value in weights.items():
        if key.endswith("scale"):
            value[:3] *= -1
    if stacked:
        weights = {k: torch.stack([v, v + 0.1 * torch.randn_like(v)]) for k, v in weights.items()}
    return weights


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def derivatives(net: Conv4, weights: dict, x: torch.Tensor, statistics: dict | None, twice: bool) -> dict:
    """All that one form computes; the statistics, where they carry gradients, are part of the loss."""
    leaves = {k: v.clone().requires_grad_() for k, v in weights.items()}
    embedding, used = net(leaves, x, statistics, twice=twice)
    loss = (embedding.sin() * torch.linspace(0, 1, embedding.numel()).view_as(embedding)).sum()
    if twice:
        loss = loss + sum(value.cos().sum() for value in used.values())
    gradients = torch.autograd.grad(loss, list(leaves.values()), create_graph=twice)
    result = {"embedding": embedding} | {f"used {k}": v for k, v in used.items()}
    result |= {f"gradient of {k}": v for k, v in zip(leaves, gradients, strict=True)}
    if twice:
        slope = sum((each.sin() * torch.linspace(-1, 1, each.numel()).view_as(each)).sum() for each in gradients)
        second = torch.autograd.grad(slope, list(leaves.values()))
        result |= {f"second derivative of {k}": v for k, v in zip(leaves, second, strict=True)}
    return {k: v.detach() for k, v in result.items()}


def assert_same(got: dict, expected: dict) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        scale = float(value.abs().max())
        torch.testing.assert_close(got[name], value, rtol=1e-7, atol=1e-9 * max(scale, 1), msg=lambda m, n=name: n + m)


def general(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, torch's layers throughout."""
    monkeypatch.setattr(conv4, "on_cpu", lambda x: False)
    monkeypatch.setattr(layers, "on_cpu", lambda x: False)


def statistics_of(net: Conv4, weights: dict, x: torch.Tensor) -> dict:
    return {k: v.detach() for k, v in net(weights, x, twice=True)[1].items()}


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize(("norm", "stacked_x", "stacked_w", "given"), CASES)
def test_kernels_and_layers_are_the_same(norm, stacked_x, stacked_w, given, twice, monkeypatch):
    net = Conv4(shape=(1, 28, 28), width=WIDTH, norm=norm)
    weights, x = weights_of(net, stacked_w), images(2, 5) if stacked_x else images(5)
    statistics = statistics_of(net, weights, x + 0.1) if given else None
    fast = derivatives(net, weights, x, statistics, twice)
    with monkeypatch.context() as patch:  # tasks one after the other
        patch.setattr(conv4, "on_cpu", lambda x: False)
        assert_same(fast, derivatives(net, weights, x, statistics, twice))
    general(monkeypatch)  # tasks as groups of one convolution
    assert_same(fast, derivatives(net, weights, x, statistics, twice))


@pytest.mark.parametrize(("size", "channels"), [(17, 3), (31, 1), (84, 1)])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_odd_sizes(norm, size, channels, monkeypatch):
    net = Conv4(shape=(channels, size, size), width=4, norm=norm)
    weights, x = weights_of(net), images(3, channels=channels, size=size)
    fast = derivatives(net, weights, x, None, True)
    once = derivatives(net, weights, x, None, False)
    general(monkeypatch)
    assert_same(fast, derivatives(net, weights, x, None, True))
    assert_same(once, derivatives(net, weights, x, None, False))


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (17, 3), (16, 5)])
def test_the_images_may_want_a_gradient_too(size, channels, monkeypatch):
    """Or have many channels; otherwise the map of the first block before pooling is not kept."""
    net = Conv4(shape=(channels, size, size), width=WIDTH, norm="group")
    weights, x = weights_of(net), images(3, channels=channels, size=size)

    def gradients(wanted: bool) -> dict[str, torch.Tensor]:
        leaves = {"x": x.clone().requires_grad_(wanted)} | {k: v.clone().requires_grad_() for k, v in weights.items()}
        z, _ = net({k: v for k, v in leaves.items() if k != "x"}, leaves["x"])
        z.sin().sum().backward()
        return {k: leaf.grad for k, leaf in leaves.items() if leaf.grad is not None}

    fast, without = gradients(True), gradients(False)
    assert_same(without, {k: v for k, v in fast.items() if k != "x"})
    general(monkeypatch)
    assert_same(fast, gradients(True))


@pytest.mark.parametrize("twice", [False, True])
def test_ties_in_max_pooling(twice, monkeypatch):
    """A constant image: away from its edges all pixels of a window are equal, and the first has the gradient."""
    net = Conv4(shape=(1, 28, 28), width=WIDTH, norm="none")
    weights, x = weights_of(net), torch.ones_like(images(2))
    fast = derivatives(net, weights, x, None, twice)
    general(monkeypatch)
    assert_same(fast, derivatives(net, weights, x, None, twice))


@pytest.mark.parametrize("twice", [False, True])
def test_parts_change_nothing_and_threads_not_a_bit(twice, monkeypatch):
    net = Conv4(shape=(1, 28, 28), width=WIDTH, norm="batch")
    weights, x = weights_of(net, stacked=True), images(2, 5)
    whole = derivatives(net, weights, x, None, twice)
    monkeypatch.setattr(parts, "CACHE", 2 * 8 * WIDTH * 28**2)  # two examples a part
    assert len(parts.parts_of(x.flatten(0, 1), weights["0.conv"])) == 6
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(derivatives(net, weights, x, None, twice))
    torch.set_num_threads(threads)
    assert_same(results[0], whole)
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_second_derivatives_by_finite_differences_in_any_layout(layout):
    def leaf(*shape: int) -> torch.Tensor:
        value = torch.randn(shape, dtype=torch.float64, generator=generator)
        return (value.contiguous(memory_format=layout) if len(shape) == 4 else value).requires_grad_()

    generator = torch.Generator().manual_seed(3)
    for function, inputs in (
        (lambda *given: Convolution.apply(*given, TILED), (leaf(4, 2, 5, 4), leaf(2, 3, 2, 3, 3))),
        (lambda *given: Convolution.apply(*given, TILED), (leaf(4, 2, 5, 4), leaf(2, 3, 2, 1, 1))),
        (Activation.apply, (leaf(2, 3, 3, 2), leaf(2, 3), leaf(2, 3))),
        (PoolAndSum.apply, (leaf(2, 3, 5, 4),)),
    ):
        assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_machine_code_multiplies_matrices():
    a, b, c = torch.randn(3, 5, 4).double().numpy(), torch.randn(3, 4, 2).double().numpy(), np.zeros((3, 5, 2))
    blas.multiply(a, b, c, 4)
    np.testing.assert_allclose(c[:, :4], a[:, :4] @ b, atol=1e-12)
    assert not c[:, 4].any()
    sums = np.ones((3, 4, 2))
    blas.add_products(a, c, sums, 5)
    np.testing.assert_allclose(sums, 1 + a.transpose(0, 2, 1) @ c, atol=1e-12)


def test_channels_that_fill_no_vectors_are_transformed_like_all_others():
    """A map of 19 channels is the first 19 of one of 32, to the last bit; and tiles reach beyond its edges."""
    generator, lead, channels = np.random.default_rng(0), (2, 7, 5), 19
    rows = 8 | 1
    x = generator.standard_normal((*lead, 32), np.float32)
    for transform in (winograd._to_tiles, winograd._gradient_tiles):
        whole, part = np.zeros((36, rows, 32), np.float32), np.zeros((36, rows, channels), np.float32)
        transform(x, whole)
        transform(np.ascontiguousarray(x[..., :channels]), part)
        np.testing.assert_array_equal(part, whole[..., :channels])
    whole, part = np.empty_like(x), np.empty((*lead, channels), np.float32)
    products = generator.standard_normal((36, rows, 32), np.float32)
    winograd._from_tiles(products, whole)
    winograd._from_tiles(np.ascontiguousarray(products[..., :channels]), part)
    np.testing.assert_array_equal(part, whole[..., :channels])


@pytest.mark.parametrize("turned", [False, True])
def test_tiles_are_those_of_the_formula_whoever_makes_them(turned: bool):
    """GkGᵀ, all of a task's parts sharing them or each pass on its own; and back, GᵀtG."""
    generator = torch.Generator().manual_seed(0)
    kernels = torch.randn(2, 24, 19, 3, 3, dtype=torch.float64, generator=generator)
    each, both = parts._shared_out(2, 3, 3), parts._shared_out(2, 4, 2)  # one part for each task, and two
    tiles = convolution.prepared(kernels, both, turned)
    meant = kernels.flip(3, 4).transpose(1, 2) if turned else kernels
    expected = (G @ meant @ G.T).permute(0, 3, 4, 2, 1).flatten(1, 2)
    np.testing.assert_allclose(np.stack(tiles.values), expected, atol=1e-14)
    own = convolution.prepared(kernels, each, turned)
    assert (tiles.form, own.form) == (passes.TILES, passes.LEADS_BACK if turned else passes.OWN)
    x = torch.randn(5, 7, 6, meant.shape[2], dtype=torch.float64, generator=generator).numpy()
    shared, alone = (np.empty((5, 7, 6, meant.shape[1])) for _ in range(2))
    passes.convolve(x, tiles.values[1], tiles.form, shared)
    passes.convolve(x, own.values[1], own.form, alone)
    np.testing.assert_array_equal(alone, shared)


def test_a_kernel_s_gradient_is_that_of_its_tiles():
    generator = torch.Generator().manual_seed(0)
    kernels, both = torch.zeros(2, 24, 19, 3, 3, dtype=torch.float64), parts._shared_out(2, 4, 2)
    tiles = convolution.gradient_space(kernels, both)
    tiles[:] = torch.randn(tiles.shape, dtype=torch.float64, generator=generator)
    of_tasks = torch.from_numpy(tiles).unflatten(0, (2, 2)).sum(dim=1).unflatten(1, (6, 6))
    expected = torch.einsum("ai,tabco,bj->tocij", G, of_tasks, G)
    torch.testing.assert_close(convolution.gathered(tiles, both, kernels), expected, atol=1e-13, rtol=0)


def test_parts_are_worked_on_by_all_threads_and_come_in_order(monkeypatch):
    monkeypatch.setattr(parts._own, "threads", 3, raising=False)
    meeting = threading.Barrier(3, timeout=60)

    def work(part: parts.Part) -> int:
        if part.index < 3:
            meeting.wait()  # no thread can take two of these
        return part.index

    assert parts.over(parts._shared_out(7, 1, 1), work) == list(range(7))


def test_an_error_in_a_part_comes_through_and_the_next_parts_are_worked_on(monkeypatch):
    monkeypatch.setattr(parts._own, "threads", 2, raising=False)

    def fails(part: parts.Part) -> None:
        if part.index == 2:
            raise ValueError("part 2")

    with pytest.raises(ValueError, match="part 2"):
        parts.over(parts._shared_out(4, 1, 1), fails)
    assert parts.over(parts._shared_out(4, 1, 1), lambda part: part.task) == [0, 1, 2, 3]


def test_what_the_kernels_are_not_for(monkeypatch):
    """bfloat16, autocast, and a graph being traced take the general form."""

    def fail(*args: object) -> None:
        raise AssertionError("a kernel was called")

    net = Conv4(shape=(1, 16, 16), width=4, norm="none")
    weights, x = net.init(_seeded()), images(2, size=16).float()
    for name in ("activate", "pool", "pixel_sums"):
        monkeypatch.setattr(kernels, name, fail)
    with pytest.raises(AssertionError, match="a kernel was called"):
        net(weights, x)
    net({k: v.bfloat16() for k, v in weights.items()}, x.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        net(weights, x)
    with layers.in_bfloat16():
        assert net(weights, x)[0].dtype == torch.float32
    traced = torch.fx.experimental.proxy_tensor.make_fx(lambda x: net(weights, x)[0])(x)
    assert "aten.convolution" in traced.code
