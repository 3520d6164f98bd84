"""Kinds of examples: how each is read, packed, normalised, augmented, shown, and taken into a graph."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from metaloom.config import AUTO, first_problem
from metaloom.errors import MetaloomError
from metaloom.kinds.base import Kind, Row, Shown, Table, Tables
from metaloom.kinds.pictures.kind import Pictures
from metaloom.kinds.text.kind import Text
from metaloom.kinds.vectors.kind import Vectors

if TYPE_CHECKING:
    from metaloom.config import Settings

__all__ = ["KINDS", "Kind", "Row", "Shown", "Table", "Tables", "kind_from", "kind_of"]

KINDS: dict[str, type[Kind]] = {
    "pictures": Pictures,
    "vectors": Vectors,
    "text": Text,
}


def kind_of(settings: Settings) -> Kind:
    """The kind that params name, with its section of settings; what is `auto` there is 0 until the data decide it."""
    own = getattr(settings, settings.kind).model_dump()
    return KINDS[settings.kind](**{name: 0 if value == AUTO else value for name, value in own.items()})


def kind_from(described: dict[str, Any], where: str | Path = "", remedy: str = "") -> Kind:
    """What `Kind.described` has said, beside which there may be more.

    Args:
        described: its plain values.
        where: they stand, for the message.
        remedy: what to do where a value is missing, for the message.

    Raises:
        MetaloomError: this metaloom has no such kind, or a value of it is missing.
    """
    name = described.get("kind", "pictures")
    if not isinstance(name, str) or name not in KINDS:
        raise MetaloomError(f"there is no kind of examples {name!r}: this metaloom knows {', '.join(KINDS)}")
    known = {each.name: each for each in fields(KINDS[name])}
    needed = {key for key, each in known.items() if each.default is MISSING and each.default_factory is MISSING}
    if missing := sorted(needed - described.keys()):
        where, remedy = f"{where}: " if where else "", f": {remedy}" if remedy else ""
        raise MetaloomError(f"{where}what it says of {name} lacks {', '.join(missing)}{remedy}")
    values = {key: value for key, value in described.items() if key in known}
    # JSON makes lists of tuples
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        return TypeAdapter(KINDS[name]).validate_python(plain)
    except ValidationError as error:
        where = f"{where}: " if where else ""
        raise MetaloomError(f"{where}what it says of {name}: {first_problem(error)}") from None
