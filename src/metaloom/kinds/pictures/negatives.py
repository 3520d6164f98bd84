"""Domains and classes that are light on dark where the others are dark on light, or the other way round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from metaloom.system.plural import some

DARK, LIGHT = 0.25, 0.75  # of a ground: between them it is neither
MOST = 0.75  # of a class's examples, so that it is one or the other
SHOWN = 3

WORDS = {"dark": "light on dark", "light": "dark on light"}


def odd_grounds(grounds: Iterable[tuple[str, str, float | None]]) -> list[str]:
    """A sentence where most classes are drawn on one ground and some on the opposite one, about those.

    Args:
        grounds: domain, class and ground (0 dark, 1 light, None neither) of every picture that is used.
    """
    shades: dict[tuple[str, str], list[str]] = defaultdict(list)
    for domain, name, ground in grounds:
        shades[domain, name].append(_shade(ground))
    found: dict[str, list[tuple[str, str]]] = {shade: [] for shade in WORDS}
    for each, own in shades.items():
        for shade, classes in found.items():
            if own.count(shade) >= MOST * len(own):
                classes.append(each)
    few, many = sorted(found, key=lambda shade: len(found[shade]))
    if not found[few] or 2 * len(found[many]) <= len(shades):
        return []
    names = _names(found[few], set(shades))
    return [
        f"{some(names, SHOWN)}: {WORDS[few]}, where {len(found[many])} of the other "
        f"{len(shades) - len(found[few])} classes are {WORDS[many]}; if that is by accident, invert these images"
    ]


def _shade(ground: float | None) -> str:
    if ground is None or DARK < ground < LIGHT:
        return "neither"
    return "dark" if ground <= DARK else "light"


def _names(classes: list[tuple[str, str]], everything: set[tuple[str, str]]) -> list[str]:
    """Names of classes, for a message; a domain's name stands for its classes where all of them are among these."""
    whole = {domain for domain, _ in classes} - {domain for domain, _ in everything - set(classes)}
    return sorted({domain if domain in whole else name for domain, name in classes})
