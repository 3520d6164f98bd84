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
from functools import partial

import numpy as np
import pandas as pd
import torch
from arithmetic import BLOCKS, ConvPeak, conv4_macs, training_macs
from contenders import OURS, SIZE, WIDTH, Work, contender
from measure import machine

from metaloom.networks.cpu import first, kernels, winograd
from metaloom.networks.cpu.blas import add_products, multiply
from metaloom.networks.cpu.convolution import prepared
from metaloom.networks.cpu.parts import parts_of
from metaloom.system.device import keep_freed_memory

TURNS = 15
TILE = 36  # products of matrices that a convolution by tiles is


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
    n = len(range(images)[parts_of(torch.empty(images, channels, side, side), kernel)[0].examples])
    rng = np.random.default_rng(0)

    def new(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    def flat(map_: np.ndarray) -> np.ndarray:
        return map_.reshape(n, side * side, -1)

    x, y, d_y = new(n, side, side, channels), new(n, side, side, WIDTH), new(n, side, side, WIDTH)
    activated, d_activated, d_x = (np.empty_like(x) for _ in range(3))
    maps, place = new(n, side // 2, side // 2, WIDTH), np.zeros((n, side // 2, side // 2, WIDTH), np.uint8)
    (total, squares), (gain, bias, d_gain, d_bias) = new(2, n, WIDTH), new(4, n, channels)
    forth = prepared(kernel).values[0]
    d_kernel = np.zeros_like(forth)

    def sums_and_pool() -> None:
        kernels.pixel_sums(flat(y), total, squares)
        kernels.pool(y, maps, place)

    if block == 0:
        work = {
            "convolve, sums and pool": lambda: first.convolve_and_pool(x, forth, True, maps, place, total, squares),
            "kernel's gradient": lambda: first.kernel_gradient(x, forth, place, maps, total, squares, d_kernel),
        }
        return {name: microseconds(each, n) for name, each in work.items()}
    back = prepared(kernel, turned=True).values[0]
    activate = partial(kernels.activate, flat(x), gain, bias, flat(activated))
    work = {
        "activate": activate,
        "convolve": lambda: winograd.convolve_tiles(x, forth, y),
        "sums and pool": sums_and_pool,
        "activate again": activate,
        "unpool": lambda: kernels.unpool(y, total, squares, maps, place, d_y),
        "kernel's gradient": lambda: winograd.tiles_kernel_gradient(d_y, x, d_kernel),
        "input's gradient": lambda: winograd.convolve_tiles(d_y, back, d_activated),
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
    a, b, c = (np.ones((TILE, rows, WIDTH), np.float32) for rows in (n * tiles, WIDTH, n * tiles))
    d = np.zeros((TILE, WIDTH, WIDTH), np.float32)
    return 2 * microseconds(lambda: multiply(a, b, c, n * tiles), n) + microseconds(
        lambda: add_products(a, c, d, n * tiles), n
    )


def step(images: int) -> float:
    """A whole step of ProtoNet, in microseconds an image."""
    ours = contender(OURS, Work("protonet", "group", 1, ways=images // 6, queries=5))
    return microseconds(ours.step, images)


def main(images: int) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    print(machine())
    peak = ConvPeak()()
    plain = training_macs(*conv4_macs(1, WIDTH, SIZE)) / peak * 1e6
    whole = step(images)
    blocks = [passes(block, images) for block in range(BLOCKS)]
    table = pd.DataFrame(blocks, index=[f"block {block + 1}" for block in range(BLOCKS)]).T
    table.loc["all passes"] = table.sum()
    table.loc["products of matrices in them"] = [math.nan, *(products(block, images) for block in range(1, BLOCKS))]
    print(table.to_string(float_format="{:.0f}".format, na_rep=""))
    in_passes, in_products = table.loc["all passes"].sum(), table.loc["products of matrices in them"].sum()
    print(f"The whole step, µs an image: {whole:.0f}, its passes {in_passes:.0f}, products {in_products:.0f}.")
    print(f"The plain algorithm at the conv peak ({2 * peak / 1e9:.0f} GFLOP/s) {plain:.0f}: {plain / whole:.0%}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=360, help="of a step, six a class")
    main(parser.parse_args().images)
