"""What a Markdown page shows: its code blocks, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple


class Shown(NamedTuple):
    """One command as its words, and whether it stands in a block, where it has to be complete."""

    words: list[str]
    complete: bool


def blocks(text: str, language: str) -> list[str]:
    """The fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> Iterator[Shown]:
    """Every command of the shell blocks, and every inline one that begins with a program's name."""
    for block in blocks(text, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            yield from (Shown(words, True) for words in _split(line))
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", prose.replace("\n", " ")):
        if re.match(r"(metaloom|dvc|make|python|pip) ", span):
            yield from (Shown(words, False) for words in _split(span))


def _split(line: str) -> Iterator[list[str]]:
    words = shlex.split(line, comments=True)
    while words:
        end = words.index("&&") if "&&" in words else len(words)
        yield words[:end]
        words = words[end + 1 :]
