"""An entry of quality.json's problems, as a person reads it."""

from __future__ import annotations

from typing import Any


def in_words(problem: str | dict[str, Any]) -> str:
    """`a.png = b.png` of a duplicate, `greek/alpha: 1 usable` of a small class; a name alone as it is."""
    match problem:
        case {"source": source, "reason": reason}:
            return f"{source} {reason}"
        case {"source": source, "of": of}:
            return f"{source} = {of}"
        case {"sources": sources}:
            return " = ".join(sources)
        case {"class": name, "examples": examples}:
            return f"{name}: {examples} usable"
        case _:
            return str(problem)
