"""Where a training step of ProtoNet goes on a CPU: conv4-64's machine code, pass by pass, on one thread.

python benchmarks/kernels.py [--images 360]

Each pass is timed by itself on as many images as the network takes at a time, so that its input is in the cache as
far as it is in a step; the median of 15 turns, in microseconds an image. What is left of the step is torch's passes,
its autograd, the head and whatever the passes lose by taking turns in the cache.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from arithmetic import BLOCKS, ConvPeak, conv4_macs, training_macs
from contenders import OURS, SIZE, WIDTH, Work, contender
from measure import machine
from torch import Tensor

from metaloom.networks.cpu import convolution, convolve_and_pool, first, kernels, winograd
from metaloom.networks.cpu.blas import add_products, multiply
from metaloom.networks.cpu.convolution import gradient_space, prepared
from metaloom.networks.cpu.parts import parts_of
from metaloom.networks.cpu.passes import convolve, kernel_gradient
from metaloom.networks.engine import described
from metaloom.system.device import keep_freed_memory

TURNS = 15
TILE = 36  # products of matrices that a convolution by tiles is
A_CLASS = 6  # images of a step


def microseconds(work: Callable[[], object], images: int) -> float:
    """An image, the median turn."""
    work()
    turns = []
    for _ in range(TURNS):
        started = time.perf_counter()
        work()
        turns.append(time.perf_counter() - started)
    return statistics.median(turns) / images * 1e6


def passes(block: int, images: int) -> dict[str, float]:
    """Forward and backward of one block, in microseconds an image."""
    channels, side = (1 if block == 0 else WIDTH), SIZE // 2**block
    kernel = torch.randn(1, WIDTH, channels, 3, 3)
    parts = parts_of(torch.empty(images, channels, side, side), kernel)
    n = len(range(images)[parts[0].examples])
    rng = np.random.default_rng(0)

    def new(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    def flat(map_: np.ndarray) -> np.ndarray:
        return map_.reshape(n, side * side, -1)

    x, y, d_y = new(n, side, side, channels), new(n, side, side, WIDTH), new(n, side, side, WIDTH)
    activated, d_activated, d_x = (np.empty_like(x) for _ in range(3))
    maps, place = new(n, side // 2, side // 2, WIDTH), np.zeros((n, side // 2, side // 2, WIDTH), np.uint8)
    (total, squares), (gain, bias, d_gain, d_bias) = new(2, n, WIDTH), new(4, n, channels)
    (forth,), form = prepared(kernel, parts)
    d_kernel = gradient_space(kernel, parts)[0]

    def sums_and_pool() -> None:
        kernels.pixel_sums(flat(y), total, squares)
        kernels.pool(y, maps, place)

    if block == 0:
        work = {
            "convolve, sums and pool": lambda: first.convolve_and_pool(x, forth, True, maps, place, total, squares),
            "kernel's gradient": lambda: first.kernel_gradient(x, forth, place, maps, total, squares, d_kernel),
        }
        return {name: microseconds(each, n) for name, each in work.items()}
    (back,), leading_back = prepared(kernel, parts, turned=True)
    activate = partial(kernels.activate, flat(x), gain, bias, flat(activated))
    work = {
        "activate": activate,
        "convolve": lambda: convolve(x, forth, form, y),
        "sums and pool": sums_and_pool,
        "activate again": activate,
        "unpool": lambda: kernels.unpool(y, total, squares, maps, place, d_y),
        "kernel's gradient": lambda: kernel_gradient(d_y, x, form, d_kernel),
        "input's gradient": lambda: convolve(d_y, back, leading_back, d_activated),
        "activation's gradient": lambda: kernels.activate_gradient(
            flat(d_activated), flat(activated), flat(x), gain, flat(d_x), d_gain, d_bias
        ),
    }
    return {name: microseconds(each, n) for name, each in work.items()}


def products(block: int, images: int) -> float:
    """The products of matrices of a block's three convolutions by tiles, without the transforms around them."""
    side = SIZE // 2**block
    tiles = ((side + 3) // 4) ** 2
    n = max(1, min(images, winograd.CACHE // (4 * TILE * tiles * WIDTH)))
    a, b, c = (np.ones((TILE, rows, WIDTH), np.float32) for rows in (n * tiles | 1, WIDTH, n * tiles | 1))
    d = np.zeros((TILE, WIDTH, WIDTH), np.float32)
    return 2 * microseconds(lambda: multiply(a, b, c, n * tiles), n) + microseconds(
        lambda: add_products(a, c, d, n * tiles), n
    )


def transforms(block: int, images: int) -> dict[str, float]:
    """What a convolution by tiles does around its products: to tiles, from tiles, and a gradient's to tiles."""
    side = SIZE // 2**block
    tiles = ((side + 3) // 4) ** 2
    n = max(1, min(images, winograd.CACHE // (4 * TILE * tiles * WIDTH)))
    x, of_x = np.ones((n, side, side, WIDTH), np.float32), np.ones((TILE, n * tiles | 1, WIDTH), np.float32)
    work = {
        "x to tiles": lambda: winograd._to_tiles(x, of_x),
        "products to y": lambda: winograd._from_tiles(of_x, x),
        "gradient of y to tiles": lambda: winograd._gradient_tiles(x, of_x),
    }
    return {name: microseconds(each, n) for name, each in work.items()}


def step(images: int) -> float:
    """A whole step of ProtoNet, in microseconds an image: of whole classes, two at least."""
    ways = max(2, images // A_CLASS)
    ours = contender(OURS, Work("protonet", "group", 1, ways=ways, queries=A_CLASS - 1))
    return microseconds(ours.step, ways * A_CLASS)


def by_torch(x: Tensor, gain: Tensor, bias: Tensor, kernel: Tensor) -> list[Tensor]:
    """A block by torch's own operators, as our plain layers have it."""
    activated = x if x.shape[1] == 1 else F.relu(x * gain[..., None, None] + bias[..., None, None])
    y = F.conv2d(activated, kernel, padding=1)
    return [F.max_pool2d(y, 2), y.sum(dim=(2, 3)), y.square().sum(dim=(2, 3))]


def by_parts(x: Tensor, gain: Tensor, bias: Tensor, kernel: Tensor, twice: bool = False) -> list[Tensor]:
    """The same by ours."""
    affine = (None, None) if x.shape[1] == 1 else (gain, bias)
    return list(convolve_and_pool(x, *affine, kernel[None], True, twice))


def block_seconds(block: Callable[..., list[Tensor]], index: int, images: int, second_order: bool) -> float:
    """Forth and back of one of conv4's blocks, in microseconds an image; with the gradients' own gradients too."""
    channels, side = (1 if index == 0 else WIDTH), SIZE // 2**index
    leaves = [torch.randn(shape) for shape in ((images, channels, side, side), *[(images, channels)] * 2)]
    leaves = [each.requires_grad_(index > 0) for each in leaves] + [torch.randn(WIDTH, channels, 3, 3).requires_grad_()]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]

    def work() -> None:
        loss = sum(each.square().sum() for each in block(*leaves))
        slopes = torch.autograd.grad(loss, wanted, create_graph=second_order)
        if second_order:
            torch.autograd.grad(sum(each.square().sum() for each in slopes), wanted)

    return microseconds(work, images)


def gains(images: int) -> pd.DataFrame:
    """What each part of the engine gains over what would do its work without it."""
    no_first = patch.object(first, "CHANNELS", 0)
    no_tiles = patch.object(convolution, "CHANNELS", WIDTH + 1)
    rows = {
        "block 1 row by row, against the other blocks' form": (0, False, by_parts, no_first),
        "block 2 by tiles, against plain loops": (1, False, by_parts, no_tiles),
        "block 2, against torch": (1, False, by_torch, nullcontext()),
        "block 2, second order, against torch": (1, True, by_torch, nullcontext()),
    }
    table = {}
    for title, (index, second_order, other, without) in rows.items():
        ours = block_seconds(partial(by_parts, twice=second_order), index, images, second_order)
        with without:
            theirs = block_seconds(other, index, images, second_order)
        table[title] = {"with it": ours, "without": theirs, "gain": theirs / ours}
    return pd.DataFrame(table).T


def main(images: int) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    print(f"{machine()}; {described()}")
    peak = ConvPeak()()
    plain = training_macs(*conv4_macs(1, WIDTH, SIZE)) / peak * 1e6
    whole = step(images)
    blocks = [passes(block, images) for block in range(BLOCKS)]
    table = pd.DataFrame(blocks, index=[f"block {block + 1}" for block in range(BLOCKS)]).T
    table.loc["all passes"] = table.sum()
    table.loc["products of matrices in them"] = [math.nan, *(products(block, images) for block in range(1, BLOCKS))]
    print(table.to_string(float_format="{:.0f}".format, na_rep=""))
    in_passes, in_products = table.loc["all passes"].sum(), table.loc["products of matrices in them"].sum()
    print("Transforms of one convolution by tiles, µs an image:")
    around = [transforms(block, images) for block in range(1, BLOCKS)]
    print(pd.DataFrame(around, index=table.columns[1:]).T.to_string(float_format="{:.1f}".format))
    print(f"The whole step, µs an image: {whole:.0f}, its passes {in_passes:.0f}, products {in_products:.0f}.")
    print("What each part gains, µs an image, forth and back:")
    print(gains(max(1, images // A_CLASS)).to_string(float_format="{:.2f}".format))
    print(f"The plain algorithm at the conv peak ({2 * peak / 1e9:.0f} GFLOP/s) {plain:.0f}: {plain / whole:.0%}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images", type=int, default=360, help="of a step, six a class; a step has two classes at least"
    )
    main(parser.parse_args().images)
