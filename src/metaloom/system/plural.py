"""Numbers with their nouns, and long lists in short."""

from __future__ import annotations

from collections.abc import Sequence


def several(number: int, one: str, many: str = "") -> str:
    """`1 domain`, `1,200 domains`.

    Args:
        number: how many.
        one: what one of them is called.
        many: what several are called; with an s by default.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def some(names: Sequence[str], most: int) -> str:
    """`a, b and 3 more`: the first few, and how many there are beside them."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")
