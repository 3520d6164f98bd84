from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from metaloom.kinds.pictures import resize as module
from metaloom.kinds.pictures.resize import resize, resize_matrix

SIZES = [(105, 28), (28, 28), (10, 28), (29, 28), (56, 28), (500, 32), (1, 28), (31, 200)]


def exact(n_in: int, n_out: int) -> list[list[Fraction]]:
    """The filter by its definition, in fractions."""
    s = Fraction(n_in, n_out)
    half, rows = Fraction(1, 2), []
    for o in range(n_out):
        row = [max(Fraction(0), 1 - abs((i + half) - (o + half) * s) / max(s, 1)) for i in range(n_in)]
        total = sum(row)
        rows.append([weight / total for weight in row])
    return rows


@pytest.mark.parametrize("n_in,n_out", SIZES)
def test_weights_are_the_triangle_filter(n_in, n_out):
    definition = np.array([[float(w) for w in row] for row in exact(n_in, n_out)])
    assert np.abs(resize_matrix(n_in, n_out) - definition).max() <= 2**-21


@pytest.mark.parametrize("n_in,n_out", SIZES)
def test_weights_are_whole_multiples(n_in, n_out):
    scaled = resize_matrix(n_in, n_out) * 2**20
    assert np.array_equal(scaled, np.rint(scaled))


def test_pixels_are_exact():
    picture = np.random.default_rng(0).integers(0, 256, (1, 11, 13, 1), np.uint8)
    down = [[Fraction(float(w)) for w in row] for row in resize_matrix(11, 5)]
    across = [[Fraction(float(w)) for w in row] for row in resize_matrix(13, 5)]
    got = resize(picture, 5)[0, :, :, 0]
    for y in range(5):
        for x in range(5):
            value = sum(down[y][i] * across[x][j] * int(picture[0, i, j, 0]) for i in range(11) for j in range(13))
            assert got[y, x] == min(255, round(value))


@pytest.mark.parametrize("height,width,size", [(105, 105, 28), (60, 90, 28), (17, 40, 64), (400, 300, 84)])
@pytest.mark.parametrize("channels", [1, 3])
def test_agrees_with_pillow(height, width, size, channels):
    picture = np.random.default_rng(1).integers(0, 256, (2, height, width, channels), np.uint8)
    got = resize(picture, size).astype(int)
    for mine, source in zip(got, picture, strict=True):
        image = Image.fromarray(source if channels == 3 else source[:, :, 0])
        theirs = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(mine - theirs.reshape(mine.shape)).max() <= 1


def test_same_size_changes_nothing_and_flat_stays_flat():
    picture = np.random.default_rng(2).integers(0, 256, (3, 28, 28, 3), np.uint8)
    assert np.array_equal(resize(picture, 28), picture)
    assert (resize(np.full((1, 777, 31, 1), 255, np.uint8), 28) == 255).all()


@pytest.mark.parametrize(("height", "width"), [(40, 100), (100, 40), (7, 7), (1, 300), (300, 1), (99, 100), (3, 28)])
@pytest.mark.parametrize("channels", [1, 3])
def test_padding_keeps_the_whole_picture_on_white(height, width, channels):
    picture = np.random.default_rng(4).integers(0, 200, (2, height, width, channels), np.uint8)
    got, longest = resize(picture, 28, "pad"), max(height, width)
    inner = [max(1, int(Fraction(28 * side, longest) + Fraction(1, 2))) for side in (height, width)]
    top, left = ((28 - side) // 2 for side in inner)
    expected = np.full((2, 28, 28, channels), 255)
    down, across = resize_matrix(height, inner[0]), resize_matrix(width, inner[1])
    small = np.rint(np.einsum("oh,nhwc,pw->nopc", down, picture.astype(float), across))
    expected[:, top : top + inner[0], left : left + inner[1]] = small
    np.testing.assert_array_equal(got, expected)
    if height == width:
        np.testing.assert_array_equal(got, resize(picture, 28))


@pytest.mark.parametrize(("height", "width"), [(40, 100), (101, 40), (9, 9), (1, 300)])
def test_cropping_takes_the_square_in_the_middle(height, width):
    picture = np.random.default_rng(5).integers(0, 256, (2, height, width, 3), np.uint8)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    np.testing.assert_array_equal(
        resize(picture, 28, "crop"), resize(picture[:, top : top + side, left : left + side], 28)
    )


def test_strips_change_nothing(monkeypatch):
    picture = np.random.default_rng(3).integers(0, 256, (1, 40, 70, 3), np.uint8)
    whole = resize(picture, 28)
    monkeypatch.setattr(module, "_STRIP_BYTES", 8 * 40 * 3 * 7)
    assert np.array_equal(resize(picture, 28), whole)
