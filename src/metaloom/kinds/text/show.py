"""Texts as small pictures of a quotation in a page (data: URIs)."""

from __future__ import annotations

from html import escape
from textwrap import wrap

import numpy as np
from jaxtyping import Int32

from metaloom.kinds.base import Shown
from metaloom.kinds.svg import svg_uri

SIDE, LINE, MARGIN = 96, 11, 4  # units of the picture
ACROSS, DOWN = 17, 8  # characters of a line, and lines


class Quotations(Shown):
    """Packed texts (item, character), each as its first lines."""

    def __init__(self, packed: Int32[np.ndarray, "item character"]) -> None:
        self._packed = packed

    def uri(self, row: int) -> str:
        lines = wrap(text_of(self._packed[row]), ACROSS, max_lines=DOWN, placeholder=" …")
        spans = "".join(
            f'<tspan x="{MARGIN}" y="{MARGIN + LINE * number}">{escape(line)}</tspan>'
            for number, line in enumerate(lines, start=1)
        )
        text = f'<text font-family="sans-serif" font-size="9.5" fill="#334">{spans}</text>'
        return svg_uri(SIDE, SIDE, text)

    @property
    def stored(self) -> int:
        return SIDE

    def side(self, largest: int) -> int:
        return largest

    def __len__(self) -> int:
        return len(self._packed)


def text_of(packed: Int32[np.ndarray, " character"]) -> str:
    """What `Text.pack` has packed."""
    return packed[packed > 0].astype("<u4").tobytes().decode("utf-32-le")
