"""Which settings may be changed from outside for one retraining: numbers, switches and words of a fixed list."""

from __future__ import annotations

import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from metaloom.config.base import Section
from metaloom.config.settings import Settings
from metaloom.errors import MetaloomError
from metaloom.system.meant import meant

OWN = ("device", "engine", "encoder", "judge", "limits", "retrain")  # the machine's, and what guards the stage


@cache
def changeable() -> tuple[str, ...]:
    """Their dotted keys. None is free text, so none can name a path, a module, a key or a command."""
    return tuple(key for key in _plain(Settings, "") if key.split(".")[0] not in OWN)


def _plain(section: type[Any], place: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _plain(kind, f"{place}{name}.")
        elif _is_plain(kind):
            yield f"{place}{name}"


def _is_plain(kind: Any) -> bool:
    if get_origin(kind) is Annotated:
        return _is_plain(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return all(map(_is_plain, get_args(kind)))
    return kind in (bool, int, float, type(None)) or get_origin(kind) is Literal


def _is_setting(key: str) -> bool:
    """Whether there is a setting, or a section, of that dotted key."""
    section: Any = Settings
    for name in key.split("."):
        if not (isinstance(section, type) and issubclass(section, Section)) or name not in section.model_fields:
            return False
        section = section.model_fields[name].annotation
    return True


def check_changeable(values: dict[str, Any]) -> None:
    """Refuse keys that may not be changed so.

    Args:
        values: by dotted keys; what is legal for each is the settings' own matter.

    Raises:
        MetaloomError: with the key, and the one that may have been meant.
    """
    known = changeable()
    for key, value in values.items():
        if key not in known and not _is_setting(str(key)):
            raise MetaloomError(f"there is no setting {str(key)[:80]}{meant(str(key)[:80], known)}")
        if key not in known:
            raise MetaloomError(
                f"{str(key)[:80]} cannot be changed for one retraining, which takes numbers, switches and words of a "
                "fixed list alone: commit it in params.yaml"
            )
        if not isinstance(value, bool | int | float | str | None):
            raise MetaloomError(f"{key}: {str(value)[:80]} is no plain value")
