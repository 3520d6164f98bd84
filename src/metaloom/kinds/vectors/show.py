"""Rows of numbers as small line charts in a page (data: URIs)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from metaloom.kinds.base import Shown
from metaloom.kinds.svg import svg_uri

WIDTH, HEIGHT = 64, 32
MOST = 64  # numbers that a chart has room for: longer rows are thinned


class Profiles(Shown):
    """Packed rows (item, feature), each drawn between the data's own 1st and 99th percentile of every feature."""

    def __init__(self, packed: Float32[np.ndarray, "item feature"]) -> None:
        places = np.linspace(0, packed.shape[1] - 1, min(MOST, packed.shape[1])).astype(int)
        self._rows = packed[:, places]
        spread = self._rows[np.linspace(0, len(packed) - 1, min(2000, len(packed))).astype(int)]
        self._low, high = np.percentile(spread, (1, 99), axis=0)
        self._range = np.where(high > self._low, high - self._low, 1.0)

    def uri(self, row: int) -> str:
        heights = np.clip((self._rows[row] - self._low) / self._range, 0, 1)
        across = np.linspace(2, WIDTH - 2, len(heights))
        points = " ".join(f"{x:.1f},{HEIGHT - 3 - y * (HEIGHT - 6):.1f}" for x, y in zip(across, heights, strict=True))
        line = f'<polyline points="{points}" fill="none" stroke="#557" stroke-width="1.5"/>'
        if len(heights) == 1:
            line = f'<circle cx="{WIDTH // 2}" cy="{points.split(",")[1]}" r="3" fill="#557"/>'
        return svg_uri(WIDTH, HEIGHT, line)

    @property
    def stored(self) -> int:
        return WIDTH

    def side(self, largest: int) -> int:
        return largest

    def __len__(self) -> int:
        return len(self._rows)
