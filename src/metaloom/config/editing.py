"""Writing single values into params.yaml, whose comments stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from metaloom.errors import MetaloomError
from metaloom.system.files import write_text


def write_params(path: str | Path, values: Mapping[str, Any], new: bool = False) -> None:
    """Replace plain values where they stand; lines end as they did.

    Args:
        path: the YAML file.
        values: by dotted keys.
        new: whether a key that its section lacks is added to it, as files of earlier versions lack some.

    Raises:
        MetaloomError: the file has no such key, or no plain value there.
    """
    text = Path(path).read_bytes().decode("utf-8")
    for dotted, value in values.items():
        text = _replaced(text, dotted, value, str(path), new)
    write_text(path, text)


def _replaced(text: str, dotted: str, value: Any, where: str, add: bool) -> str:
    section = None
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for key in dotted.split("."):
        section, pairs = node, node.value if isinstance(node, yaml.MappingNode) else []
        node = next((own for name, own in pairs if name.value == key), None)
    new = yaml.safe_dump(value, allow_unicode=True, width=10_000).removesuffix("\n").removesuffix("\n...")
    if add and node is None and isinstance(section, yaml.MappingNode) and section.value:
        return _added(text, section, f"{dotted.rpartition('.')[2]}: {new}")
    if not isinstance(node, yaml.ScalarNode):
        raise MetaloomError(f"{where} has no value for {dotted} to replace: write `{dotted}: {new}` into it")
    start, end = node.start_mark.index, node.end_mark.index
    old = text[start:end]
    if not old:  # `key:` alone is null
        new = f" {new}"
    rest = text[end:]
    if rest.lstrip(" ").startswith("#"):  # the comment stays in its column
        blanks = len(rest) - len(rest.lstrip(" "))
        rest = " " * max(1, blanks + len(old) - len(new)) + rest.lstrip(" ")
    return text[:start] + new + rest


def _added(text: str, section: yaml.MappingNode, entry: str) -> str:
    """The text with another entry before the first one of a section."""
    first = section.value[0][0].start_mark
    end = "\r\n" if "\r\n" in text else "\n"
    between = ", " if section.flow_style else end + " " * first.column
    return text[: first.index] + entry + between + text[first.index :]
