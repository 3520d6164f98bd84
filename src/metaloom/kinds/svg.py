"""A drawing as a data: URI."""

from __future__ import annotations

from urllib.parse import quote


def svg_uri(width: int, height: int, inside: str) -> str:
    """An SVG of such a size with these elements."""
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{inside}</svg>'
    return f"data:image/svg+xml,{quote(svg)}"
