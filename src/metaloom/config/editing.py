"""Writing single values into params.yaml, whose comments stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from metaloom.errors import MetaloomError
from metaloom.system.files import write_text


def write_params(path: str | Path, values: Mapping[str, Any]) -> None:
    """Replace plain values where they stand.

    Args:
        path: the YAML file.
        values: by dotted keys.

    Raises:
        MetaloomError: the file has no such key, or no plain value there.
    """
    text = Path(path).read_text(encoding="utf-8")
    for dotted, value in values.items():
        text = _replaced(text, dotted, value, str(path))
    write_text(path, text)


def _replaced(text: str, dotted: str, value: Any, where: str) -> str:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for key in dotted.split("."):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((own for name, own in pairs if name.value == key), None)
    new = yaml.safe_dump(value, allow_unicode=True, width=10_000).removesuffix("\n").removesuffix("\n...")
    if not isinstance(node, yaml.ScalarNode):
        raise MetaloomError(f"{where} has no value for {dotted} to replace: write `{dotted}: {new}` into it")
    start, end = node.start_mark.index, node.end_mark.index
    old = text[start:end]
    rest = text[end:]
    if rest.lstrip(" ").startswith("#"):  # the comment stays in its column
        blanks = len(rest) - len(rest.lstrip(" "))
        rest = " " * max(1, blanks + len(old) - len(new)) + rest.lstrip(" ")
    return text[:start] + new + rest
