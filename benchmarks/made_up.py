"""Made-up pictures in colour for benchmarks: a class is an outline with a mark on it, each of one colour.

They are drawn at 128 pixels. What tells classes apart is shape, colour and mark; what does not is place, size, turn,
light and the ground behind.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE = 128  # pixels
MARKS = ("none", "dot", "ring", "bar", "cross", "two dots")


@dataclass(frozen=True)
class Look:
    """Of a class.

    Args:
        points: of the outline.
        inner: radius of the points between them, over the outer one: a polygon where it is 1.
        mark: on it.
        colours: of outline and mark.
    """

    points: int
    inner: float
    mark: str
    colours: tuple[tuple[int, ...], tuple[int, ...]]


def write(root: Path, domains: dict[str, int], examples: int, seed: int = 0) -> None:
    """domain/class/number.png for so many classes of each domain, which keeps to a part of the colour circle."""
    for place, (domain, classes) in enumerate(domains.items()):
        rng = np.random.default_rng([seed, place])
        for number, look in enumerate(_looks(rng, classes, hue=place / len(domains))):
            folder = root / domain / f"thing{number:02d}"
            folder.mkdir(parents=True)
            for example in range(examples):
                drawn(look, rng).save(folder / f"{example:02d}.png")


def _looks(rng: np.random.Generator, classes: int, hue: float) -> Iterator[Look]:
    """No two with the same outline and mark."""
    outlines = [(points, inner) for points in range(3, 9) for inner in (1.0, 0.45)]
    kinds = [(points, inner, mark) for points, inner in outlines for mark in MARKS]
    for place in rng.choice(len(kinds), classes, replace=False):
        hues = (hue + rng.uniform(-0.2, 0.2, 2)) % 1
        body, mark = (colorsys.hsv_to_rgb(h, s, v) for h, s, v in zip(hues, (0.8, 0.5), (0.6, 0.95), strict=True))
        colours = tuple(int(255 * part) for part in body), tuple(int(255 * part) for part in mark)
        points, inner, name = kinds[place]
        yield Look(points, inner, name, colours)


def drawn(look: Look, rng: np.random.Generator) -> Image.Image:
    """One example, on a ground of large bright spots."""
    ground = rng.integers(120, 255, (SIDE // 16, SIDE // 16, 3), dtype=np.uint8)
    picture = Image.fromarray(ground).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    radius, turn = SIDE * rng.uniform(0.26, 0.38), rng.uniform(0, 2 * np.pi)
    centre = SIDE / 2 + rng.normal(0, SIDE / 14, 2)
    light = rng.uniform(0.75, 1.2)
    body, mark = (tuple(min(255, int(light * part)) for part in colour) for colour in look.colours)
    angles = turn + np.arange(2 * look.points) * np.pi / look.points
    between = np.cos(np.pi / look.points) if look.inner == 1 else look.inner
    reach = radius * np.where(np.arange(2 * look.points) % 2, between, 1.0)
    outline = centre + reach[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    draw.polygon([tuple(point) for point in outline], fill=body)
    _mark(draw, look.mark, centre, radius, turn, mark)
    return picture


def _mark(draw: ImageDraw.ImageDraw, mark: str, centre: np.ndarray, radius: float, turn: float, fill: tuple) -> None:
    along = np.array([np.cos(turn), np.sin(turn)]) * radius * 0.28
    across = along[::-1] * (-1, 1)
    thick = int(radius / 7)

    def line(direction: np.ndarray) -> None:
        draw.line([tuple(centre - direction), tuple(centre + direction)], fill=fill, width=thick)

    def dot(at: np.ndarray, size: float, width: int = 0) -> None:
        box = [*(at - size), *(at + size)]
        draw.ellipse(box, outline=fill, width=width) if width else draw.ellipse(box, fill=fill)

    if mark == "dot":
        dot(centre, radius * 0.22)
    elif mark == "ring":
        dot(centre, radius * 0.3, thick)
    elif mark == "two dots":
        dot(centre - along, radius * 0.13)
        dot(centre + along, radius * 0.13)
    elif mark != "none":
        line(along)
        if mark == "cross":
            line(across)
