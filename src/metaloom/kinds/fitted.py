"""Numbers that were fitted on training data, as they come back from JSON: whole, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaloom.system.rounding import is_finite


def numbers_in(saved: Mapping[str, Any], name: str, size: int | None = None) -> tuple[float, ...]:
    """A list of finite numbers.

    Args:
        saved: plain values.
        name: of the list.
        size: that it has to have; None: any.

    Raises:
        ValueError: it is absent or something else.
    """
    values = _listed(saved, name, size)
    if not all(is_finite(each) for each in values):
        raise ValueError(f"{name} holds what is no finite number")
    return tuple(values)


def scales_in(saved: Mapping[str, Any], name: str, size: int) -> tuple[float, ...]:
    """The same, of what is divided by: each above 0."""
    values = numbers_in(saved, name, size)
    if not all(each > 0 for each in values):
        raise ValueError(f"{name} holds a number that is not above 0")
    return values


def texts_in(saved: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of texts, none of them twice.

    Raises:
        ValueError: it is absent or something else.
    """
    values = _listed(saved, name, None)
    if not all(isinstance(each, str) for each in values):
        raise ValueError(f"{name} holds what is no text")
    if len(set(values)) < len(values):
        raise ValueError(f"{name} holds a text twice")
    return tuple(values)


def _listed(saved: Mapping[str, Any], name: str, size: int | None) -> list[Any]:
    values = saved.get(name)
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"{name} is no list of values")
    if size is not None and len(values) != size:
        raise ValueError(f"{name} holds {len(values)} values, where there should be {size}")
    return list(values)
