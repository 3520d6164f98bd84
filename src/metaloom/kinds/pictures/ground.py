"""What a picture is drawn on: its ground, by its edge. A negative has the opposite of the usual one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from metaloom.kinds.pictures.resize import PAPER

ALIKE = 48  # levels within which an edge is one ground …
SHARE = 0.75  # … where so much of it is: photographs mostly have none


def grounds(images: UInt8[np.ndarray, "item height width channel"]) -> Float[np.ndarray, "item channel"]:
    """The level of each picture's ground, 0 to 255; NaN where its edge is of many levels."""
    sides = images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]
    edge = np.concatenate(sides, axis=1).astype(float)
    level = np.median(edge, axis=1)
    alike = (np.abs(edge - level[:, None]).max(axis=2) <= ALIKE).mean(axis=1)
    return np.where(alike[:, None] >= SHARE, level, np.nan)


def negatives(
    images: UInt8[np.ndarray, "item height width channel"], paper: Sequence[float]
) -> Bool[np.ndarray, " item"]:
    """Whether each picture has a ground, which is nearer to the opposite of `paper` than to that."""
    level, usual = grounds(images), np.array(paper)
    away, opposite = (np.abs(level - each).mean(axis=1) for each in (usual, PAPER - usual))
    return away - opposite > ALIKE  # NaN is not
