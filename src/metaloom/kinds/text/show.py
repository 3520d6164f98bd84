"""Texts as small pictures of a quotation in a page (data: URIs)."""

from __future__ import annotations

from html import escape
from textwrap import wrap
from unicodedata import east_asian_width

import numpy as np
from jaxtyping import Int32

from metaloom.kinds.base import Shown
from metaloom.kinds.svg import svg_uri

SIDE, MARGIN = 96, 4  # units of the picture
SIZES = (
    20.0,
    17.0,
    14.0,
    11.5,
    9.5,
)  # of letters: the largest in which all of the text has room, so that it can be read
WIDTH, WIDE, HEIGHT = 0.56, 1.0, 1.15  # of a letter, of one of Chinese or Japanese, and of a line, in such sizes


class Quotations(Shown):
    """Packed texts (item, character), each as its first lines."""

    def __init__(self, packed: Int32[np.ndarray, "item character"]) -> None:
        self._packed = packed

    def uri(self, row: int) -> str:
        size, lines = _laid_out(text_of(self._packed[row]))
        spans = "".join(
            f'<tspan x="{MARGIN}" y="{MARGIN + HEIGHT * size * number - 0.25 * size:.1f}">{escape(line)}</tspan>'
            for number, line in enumerate(lines, start=1)
        )
        text = f'<text font-family="sans-serif" font-size="{size}" fill="#334">{spans}</text>'
        return svg_uri(SIDE, SIDE, text)

    @property
    def stored(self) -> int:
        return SIDE

    def side(self, largest: int) -> int:
        return largest

    def __len__(self) -> int:
        return len(self._packed)


def _laid_out(text: str) -> tuple[float, list[str]]:
    """Size of the letters, and lines; a text that is too long in the smallest is cut."""
    width = WIDE if any(east_asian_width(letter) in "WF" for letter in text) else WIDTH
    longest = max(map(len, text.split()), default=0)
    across = down = 0
    for size in SIZES:
        across, down = (int((SIDE - 2 * MARGIN) / (size * each)) for each in (width, HEIGHT))
        lines = wrap(text, across)
        if (width == WIDE or longest <= across) and len(lines) <= down:  # no word is cut where there are spaces
            return size, lines
    return SIZES[-1], wrap(text, across, max_lines=down, placeholder=" …")


def text_of(packed: Int32[np.ndarray, " character"]) -> str:
    """What `Text.pack` has packed."""
    return packed[packed > 0].astype("<u4").tobytes().decode("utf-32-le")
