"""Numbers with their nouns."""

from __future__ import annotations


def several(number: int, one: str, many: str = "") -> str:
    """`1 domain`, `1,200 domains`.

    Args:
        number: how many.
        one: what one of them is called.
        many: what several are called; with an s by default.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
