"""Many drawings of one letter: seeded distortions in whole numbers only, so every processor draws the same.

Random numbers come from SHAKE-128, which no library version will ever change, and lengths are counted in 1/64
of a pixel.
"""

from __future__ import annotations

import functools
import hashlib
import math

import numpy as np
from jaxtyping import Float64, Int64, UInt8

SIDE = 28  # pixels of a drawing
_FINE = 3  # samples per pixel and direction
_ONE = 4096  # 2^12, the fixed point of the affine map
_UNIT = 64  # lengths per pixel
_GRID = 4  # cells of the elastic grid per direction

_SIZE = (15 * _UNIT, 22 * _UNIT)  # of the letter's longer side
_SQUEEZE = (_ONE * 84 // 100, _ONE * 119 // 100)  # width against height
_ROTATION = 12  # degrees
_SHEAR = _ONE * 18 // 100
_SHIFT = 2 * _UNIT
_ELASTIC = 150  # 1/64 pixel
_STROKES = (-2, -1, 0, 0, 1, 2, 3)  # pixels of the raster (about a fifth of a drawing's) at each edge
_INK = (190, 255)
_NOISE = 18  # grey levels of 255
_NUMBERS = 128 + SIDE * SIDE  # random numbers per drawing; more than it takes


class Chance:
    """Whole random numbers from a name: the same name, the same numbers."""

    def __init__(self, name: str, n: int) -> None:
        content = hashlib.shake_128(name.encode()).digest(4 * n)
        self._numbers = np.frombuffer(content, "<u4").astype(np.int64)
        self._next = 0

    def draw(self, low: int, high: int, n: int) -> Int64[np.ndarray, " {n}"]:
        """n numbers from low to high, both included (the bias of the remainder is below 1e-5)."""
        raw = self._numbers[self._next : self._next + n]
        self._next += n
        return low + raw % (high - low + 1)

    def one(self, low: int, high: int) -> int:
        """A whole number from `low` up to and including `high`."""
        raw = int(self._numbers[self._next])
        self._next += 1
        return low + raw % (high - low + 1)


def draw(ink: UInt8[np.ndarray, "height width"], name: str) -> UInt8[np.ndarray, "28 28"]:
    """One distorted drawing of a letter, dark on light.

    Args:
        ink: the letter as 0 and 1, cut to its ink.
        name: the seed.

    Returns:
        Grey levels from 0 (black) to 15 (white).
    """
    chance = Chance(name, _NUMBERS)
    thick = _stroked(ink, _STROKES[chance.one(0, len(_STROKES) - 1)])
    rows, columns = _source(max(ink.shape), chance)
    fine = _bilinear(thick, rows, columns)
    pixels = fine.reshape(SIDE, _FINE, SIDE, _FINE).sum(axis=(1, 3)) // _FINE**2
    grey = 255 - pixels * chance.one(*_INK) // 255
    noise = chance.draw(-_NOISE, _NOISE, SIDE * SIDE).reshape(SIDE, SIDE)
    return (np.clip(grey + noise, 0, 255) // 16).astype(np.uint8)


def _stroked(ink: np.ndarray, pixels: int) -> np.ndarray:
    """Ink with its edge moved outwards or, where enough is left of it, inwards; with a margin of paper."""
    padded = np.zeros((ink.shape[0] + 8, ink.shape[1] + 8), np.uint8)
    padded[4:-4, 4:-4] = ink
    moved = padded
    for step in range(abs(pixels)):
        moved = _spread(moved, step) if pixels > 0 else 1 - _spread(1 - moved, step)
    return moved if 3 * int(moved.sum()) >= 2 * int(ink.sum()) else padded


def _spread(ink: np.ndarray, step: int) -> np.ndarray:
    """By one pixel to four sides, or on every second step to eight: an octagon in the end."""
    wide = ink.copy()
    wide[1:] |= ink[:-1]
    wide[:-1] |= ink[1:]
    tall = wide if step % 2 else ink
    wide = wide.copy()
    wide[:, 1:] |= tall[:, :-1]
    wide[:, :-1] |= tall[:, 1:]
    return wide


def _source(side: int, chance: Chance) -> tuple[np.ndarray, np.ndarray]:
    """Where each fine sample lies in the letter's raster: rows and columns from its middle, in 1/64 pixel."""
    (yy, yx), (xy, xx) = _affine(side, chance)
    shift = chance.draw(-_SHIFT, _SHIFT, 2)
    bend_y, bend_x = (_smooth(chance.draw(-_ELASTIC, _ELASTIC, (_GRID + 3) ** 2)) for _ in range(2))
    place = (2 * np.arange(SIDE * _FINE) + 1 - SIDE * _FINE) * _UNIT // (2 * _FINE)
    y = place[:, None] - shift[0] + bend_y
    x = place[None, :] - shift[1] + bend_x
    return (yy * y + yx * x) >> 12, (xy * y + xx * x) >> 12


def _affine(side: int, chance: Chance) -> tuple[tuple[int, int], tuple[int, int]]:
    """From the drawing to a raster with this longer side: scale, squeeze, shear and rotation, times 4096."""
    scale = side * _UNIT * _ONE // chance.one(*_SIZE)
    across = scale * _ONE // chance.one(*_SQUEEZE)
    cosine, sine = _turn(chance.one(-_ROTATION, _ROTATION))
    shear = chance.one(-_SHEAR, _SHEAR)
    down = (cosine * scale >> 12, -sine * scale >> 12)
    return down, (
        (sine * _ONE + shear * cosine) * across >> 24,
        (cosine * _ONE - shear * sine) * across >> 24,
    )


@functools.cache
def _turn(degrees: int) -> tuple[int, int]:
    """Cosine and sine as multiples of 1/4096; none is near a half, so every libm rounds alike."""
    return round(_ONE * math.cos(math.radians(degrees))), round(_ONE * math.sin(math.radians(degrees)))


@functools.cache
def _spline() -> Float64[np.ndarray, "sample knot"]:
    """Uniform cubic B-spline weights of the grid's knots at every sample; whole, rows sum to 6 * 64^3."""
    samples = SIDE * _FINE
    weights = np.zeros((samples, _GRID + 3))
    for sample in range(samples):
        cell, rest = divmod((2 * sample + 1) * _GRID, 2 * samples)
        t = rest * _UNIT // (2 * samples)
        u = _UNIT - t
        middle = 3 * t**3 - 6 * t**2 * _UNIT + 4 * _UNIT**3
        last = 3 * u**3 - 6 * u**2 * _UNIT + 4 * _UNIT**3
        weights[sample, cell : cell + 4] = u**3, middle, last, t**3
    return weights


def _smooth(knots: np.ndarray) -> Int64[np.ndarray, "sample sample"]:
    """Displacements between those of the knots; float for its speed, but whole and below 2^53: exact."""
    spline = _spline()
    bent = spline @ knots.reshape(_GRID + 3, _GRID + 3).astype(np.float64) @ spline.T
    return bent.astype(np.int64) // (6 * _UNIT**3) ** 2


def _bilinear(ink: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Ink from 0 to 255 at places counted from the middle in 1/64 pixel; paper outside (ink has a margin)."""
    height, width = ink.shape
    y = np.clip(rows + (height - 1) * _UNIT // 2, 0, (height - 1) * _UNIT - 1)
    x = np.clip(columns + (width - 1) * _UNIT // 2, 0, (width - 1) * _UNIT - 1)
    top, down = y >> 6, y & 63
    left, right = x >> 6, x & 63
    flat = (ink * np.uint8(255)).ravel().astype(np.int32)
    at = top * width + left
    across = _UNIT - right
    upper = flat[at] * across + flat[at + 1] * right
    lower = flat[at + width] * across + flat[at + width + 1] * right
    return (upper * (_UNIT - down) + lower * down) >> 12
