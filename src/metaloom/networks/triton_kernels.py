# pyright: reportMissingImports=false
"""The kernels of `metaloom.networks.fused`, in Triton, which is imported when a GPU first meets a block.

One program has one group of channels of one example and holds all of its pixels: pixel a (or b, c, d: row by row) of
every 2×2 window is a tile (channel, window). The pixels are read, or with `S.picture` they are computed again each
time, as those of a 3×3 convolution of a picture with one channel, which takes less time than reading. `place` says
which pixel of a window was its (first) greatest, and 4 where ReLU cuts it off. `S` is a `fused.Sizes`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl


def jit(function: Callable[..., Any]) -> Any:
    """Machine code, without what a type-checking import hook has wrapped around the function."""
    return triton.jit(inspect.unwrap(function), do_not_specialize=["groups", "of_task"])


@jit
def tile_of(groups, S: tl.constexpr):
    """A program's channels, which of them are real, the first row and column of its windows, and which are real."""
    CHANNELS: tl.constexpr = S.channel_tile
    WINDOWS: tl.constexpr = S.window_tile
    COLUMNS: tl.constexpr = (S.width + 1) // 2
    REAL: tl.constexpr = (S.height + 1) // 2 * COLUMNS
    inside, window = tl.arange(0, CHANNELS)[:, None], tl.arange(0, WINDOWS)[None, :]
    group = (tl.program_id(0) % groups).to(tl.int32)
    channel = group * S.channels + inside
    return channel, inside < S.channels, window // COLUMNS * 2, window % COLUMNS * 2, window < REAL


@jit
def strides(pixels: tl.constexpr, groups, S: tl.constexpr):
    """From a channel to the next, and from a pixel to the next."""
    if S.last:
        apart, step = 1, groups * S.channels
    else:
        apart, step = pixels, 1
    return apart, step


@jit
def pixel_of(x, kernels, channel, real, row, column, some, groups, of_task, S: tl.constexpr):
    """One pixel of every window, read or computed, zero where there is none; and where there is one."""
    TYPE: tl.constexpr = tl.float64 if S.double else tl.float32
    there = some & real & (row < S.height) & (column < S.width)
    if not S.picture:
        example = (tl.program_id(0) // groups).to(tl.int64)
        own = x + example * (groups * S.channels * S.height * S.width)
        apart, step = strides(S.height * S.width, groups, S)
        value = tl.load(own + channel * apart + (row * S.width + column) * step, mask=there, other=0).to(TYPE)
    else:
        value = tl.zeros_like(row + channel).to(TYPE)
        for tap in tl.static_range(9):
            weight = tl.load(kernels + channel * 9 + tap, mask=real, other=0)
            value += weight * seen_by(x, row, column, tap, of_task, S)
        value = tl.where(there, value, 0)
    return value, there


@jit
def seen_by(x, row, column, tap: tl.constexpr, of_task, S: tl.constexpr):
    """What one weight of a 3×3 kernel sees at one pixel of every window; all channels of a group see the same."""
    picture = (tl.program_id(0) // of_task).to(tl.int64)
    y, z = row + (tap // 3 - 1), column + (tap % 3 - 1)
    inside = (y >= 0) & (y < S.height) & (z >= 0) & (z < S.width)
    return tl.load(x + picture * (S.height * S.width) + y * S.width + z, mask=inside, other=0)


@jit
def pixels_of(x, kernels, channel, real, row, column, some, groups, of_task, S: tl.constexpr):
    """All four, and where they are."""
    a, in_a = pixel_of(x, kernels, channel, real, row, column, some, groups, of_task, S)
    b, in_b = pixel_of(x, kernels, channel, real, row, column + 1, some, groups, of_task, S)
    c, in_c = pixel_of(x, kernels, channel, real, row + 1, column, some, groups, of_task, S)
    d, in_d = pixel_of(x, kernels, channel, real, row + 1, column + 1, some, groups, of_task, S)
    return a, b, c, d, in_a, in_b, in_c, in_d


@jit
def pooled_at(channel, real, row, column, some, groups, S: tl.constexpr):
    """Where a window's maximum lies, and which windows have one: an odd last row or column is left out."""
    HEIGHT: tl.constexpr = S.height // 2
    WIDTH: tl.constexpr = S.width // 2
    example = (tl.program_id(0) // groups).to(tl.int64) * (groups * S.channels * HEIGHT * WIDTH)
    apart, step = strides(HEIGHT * WIDTH, groups, S)
    at = channel * apart + (row // 2 * WIDTH + column // 2) * step
    return example, at, some & real & (row // 2 < HEIGHT) & (column // 2 < WIDTH)


@jit
def picked(a, b, c, d, place):
    """The one of four values whose place is given: that of the greatest pixel; zero where ReLU cuts it off."""
    upper = tl.where(place == 0, a, tl.where(place == 1, b, 0))
    return tl.where(place == 2, c, tl.where(place == 3, d, upper))


@jit
def forward(x, kernels, scale, shift, out, place, moments, epsilon, groups, of_task, S: tl.constexpr):
    """Convolution, group norm, 2×2 max-pooling and ReLU."""
    program = tl.program_id(0)
    channel, real, row, column, some = tile_of(groups, S)
    a, b, c, d, in_a, in_b, in_c, in_d = pixels_of(x, kernels, channel, real, row, column, some, groups, of_task, S)
    SIZE: tl.constexpr = S.channels * S.height * S.width
    mean = tl.sum(a + b + c + d) / SIZE
    a, b = tl.where(in_a, a - mean, 0), tl.where(in_b, b - mean, 0)
    c, d = tl.where(in_c, c - mean, 0), tl.where(in_d, d - mean, 0)
    inverse = 1 / tl.sqrt(tl.sum(a * a + b * b + c * c + d * d) / SIZE + epsilon)
    gain = tl.load(scale + channel, mask=real, other=0) * inverse
    bias = tl.load(shift + channel, mask=real, other=0)
    best, which = a * gain + bias, tl.zeros_like(row + channel)
    b, c, d = b * gain + bias, c * gain + bias, d * gain + bias
    best, which = tl.where(b > best, b, best), tl.where(b > best, 1, which)
    best, which = tl.where(c > best, c, best), tl.where(c > best, 2, which)
    best, which = tl.where(d > best, d, best), tl.where(d > best, 3, which)
    example, at, there = pooled_at(channel, real, row, column, some, groups, S)
    tl.store(out + example + at, tl.where(best <= 0, 0, best), mask=there)  # what is no number stays so
    tl.store(place + example + at, tl.where(best <= 0, 4, which).to(tl.int8), mask=there)
    tl.store(moments + 2 * program, mean)
    tl.store(moments + 2 * program + 1, inverse)


@jit
def backward(d_out, x, kernels, scale, place, moments, d_maps, sums, groups, of_task, S: tl.constexpr):
    """The gradients of what `forward` takes: of the maps, and each example's part of those of scale, shift, kernels."""
    moments += 2 * tl.program_id(0)
    mean, i = tl.load(moments), tl.load(moments + 1)
    channel, real, row, column, some = tile_of(groups, S)
    a, b, c, d, in_a, in_b, in_c, in_d = pixels_of(x, kernels, channel, real, row, column, some, groups, of_task, S)
    a, b, c, d = a - mean, b - mean, c - mean, d - mean
    example, at, there = pooled_at(channel, real, row, column, some, groups, S)
    which = tl.load(place + example + at, mask=there, other=4).to(tl.int32)
    arrived = tl.where(which < 4, tl.load(d_out + example + at, mask=there, other=0), 0)
    s = tl.load(scale + channel, mask=real, other=0)
    sums_d = tl.sum(arrived, 1, keep_dims=True)
    sums_dz = i * tl.sum(arrived * picked(a, b, c, d, which), 1, keep_dims=True)
    SIZE: tl.constexpr = S.channels * S.height * S.width
    of_1, of_z = i * tl.sum(s * sums_d) / SIZE, i * i * tl.sum(s * sums_dz) / SIZE
    arrived = i * s * arrived
    a = tl.where(in_a, tl.where(which == 0, arrived, 0) - of_1 - a * of_z, 0)
    b = tl.where(in_b, tl.where(which == 1, arrived, 0) - of_1 - b * of_z, 0)
    c = tl.where(in_c, tl.where(which == 2, arrived, 0) - of_1 - c * of_z, 0)
    d = tl.where(in_d, tl.where(which == 3, arrived, 0) - of_1 - d * of_z, 0)
    all_channels = groups * S.channels
    sums += (tl.program_id(0) // groups).to(tl.int64) * ((2 + 9 * S.picture) * all_channels)
    tl.store(sums + channel, sums_dz, mask=real)
    tl.store(sums + all_channels + channel, sums_d, mask=real)
    hand_on(
        d_maps, sums + 2 * all_channels, x, channel, real, row, column, a, b, c, d, in_a, in_b, in_c, in_d,
        groups, of_task, S,
    )  # fmt: skip


@jit
def twice(
    to_maps, to_kernels, to_scale, to_shift, d_out, x, kernels, scale, place, moments, to_d_out, d_maps, sums,
    groups, of_task, S: tl.constexpr,
):  # fmt: skip
    """The gradients of what `backward` takes: in the letters of `gpu._GroupNormGradients.backward`, z in small letters
    and u in capitals."""
    moments += 2 * tl.program_id(0)
    mean, i = tl.load(moments), tl.load(moments + 1)
    channel, real, row, column, some = tile_of(groups, S)
    a, b, c, d, in_a, in_b, in_c, in_d = pixels_of(x, kernels, channel, real, row, column, some, groups, of_task, S)
    a, b, c, d = a - mean, b - mean, c - mean, d - mean
    A, B, C, D, _a, _b, _c, _d = pixels_of(to_maps, to_kernels, channel, real, row, column, some, groups, of_task, S)
    example, at, there = pooled_at(channel, real, row, column, some, groups, S)
    which = tl.load(place + example + at, mask=there, other=4).to(tl.int32)
    arrived = tl.where(which < 4, tl.load(d_out + example + at, mask=there, other=0), 0)
    s = tl.load(scale + channel, mask=real, other=0)
    p, q = tl.load(to_scale + channel, mask=real, other=0), tl.load(to_shift + channel, mask=real, other=0)
    u, z = picked(A, B, C, D, which), picked(a, b, c, d, which)
    sums_d, sums_dz = tl.sum(arrived, 1, keep_dims=True), i * tl.sum(arrived * z, 1, keep_dims=True)
    sums_ud = tl.sum(u * arrived, 1, keep_dims=True)
    SIZE: tl.constexpr = S.channels * S.height * S.width
    m_u, m_uz = tl.sum(A + B + C + D) / SIZE, i * tl.sum(A * a + B * b + C * c + D * d) / SIZE
    m_d, m_dz, m_ud = tl.sum(s * sums_d) / SIZE, tl.sum(s * sums_dz) / SIZE, tl.sum(s * sums_ud) / SIZE
    m_pd, m_pdz = tl.sum(p * sums_d) / SIZE, tl.sum(p * sums_dz) / SIZE
    both = i * (p - s * i * m_uz)
    to_d = tl.where(which < 4, q - s * i * m_u + u * s * i + z * both, 0)
    tl.store(to_d_out + example + at, to_d, mask=there)
    of_u, of_z = i * i * m_dz, i * i * (m_pdz + i * (m_ud - m_u * m_d - 3 * m_uz * m_dz))
    of_1 = i * i * (m_dz * m_u + m_uz * m_d) - i * m_pd
    arrived = arrived * both
    a = tl.where(in_a, tl.where(which == 0, arrived, 0) + of_1 - A * of_u - a * of_z, 0)
    b = tl.where(in_b, tl.where(which == 1, arrived, 0) + of_1 - B * of_u - b * of_z, 0)
    c = tl.where(in_c, tl.where(which == 2, arrived, 0) + of_1 - C * of_u - c * of_z, 0)
    d = tl.where(in_d, tl.where(which == 3, arrived, 0) + of_1 - D * of_u - d * of_z, 0)
    all_channels = groups * S.channels
    sums += (tl.program_id(0) // groups).to(tl.int64) * ((1 + 9 * S.picture) * all_channels)
    tl.store(sums + channel, i * (sums_ud - m_u * sums_d - m_uz * sums_dz), mask=real)
    hand_on(
        d_maps, sums + all_channels, x, channel, real, row, column, a, b, c, d, in_a, in_b, in_c, in_d,
        groups, of_task, S,
    )  # fmt: skip


@jit
def hand_on(
    d_maps, d_kernels, x, channel, real, row, column, a, b, c, d, in_a, in_b, in_c, in_d,
    groups, of_task, S: tl.constexpr,
):  # fmt: skip
    """The gradient of the pixels as it is, or that of the kernels from it."""
    if not S.picture:
        example = (tl.program_id(0) // groups).to(tl.int64)
        own = d_maps + example * (groups * S.channels * S.height * S.width)
        apart, step = strides(S.height * S.width, groups, S)
        own += channel * apart + (row * S.width + column) * step
        tl.store(own, a, mask=in_a)
        tl.store(own + step, b, mask=in_b)
        tl.store(own + S.width * step, c, mask=in_c)
        tl.store(own + (S.width + 1) * step, d, mask=in_d)
    else:
        for tap in tl.static_range(9):
            product = a * seen_by(x, row, column, tap, of_task, S)
            product += b * seen_by(x, row, column + 1, tap, of_task, S)
            product += c * seen_by(x, row + 1, column, tap, of_task, S)
            product += d * seen_by(x, row + 1, column + 1, tap, of_task, S)
            total = tl.sum(product, 1, keep_dims=True)
            tl.store(d_kernels + channel * 9 + tap, total, mask=real)
