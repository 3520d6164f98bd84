"""The embedded default data set: letters of the world's scripts, drawn from matplotlib's font faces.

One zip per script, `greek.zip` with `U+03B1_small_alpha/00.png` and so on; the same bytes on every build.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.glyphs.drawings import draw
from metaloom.kinds.pictures.glyphs.letters import Letter, raster, select_letters
from metaloom.kinds.pictures.png import encode_grey16
from metaloom.system.files import atomic_dir
from metaloom.system.parallel import parallel_map
from metaloom.system.terminal import say, track

DRAWINGS = 20  # per letter
SEED = "metaloom glyphs 1"
_BATCH = 8
_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Glyphs:
    """What was built."""

    classes: int
    domains: int
    images: int
    homoglyphs: int  # letters dropped because they look like one of another script
    lookalikes: int  # letters dropped because they look like one of their own script


def build_glyphs(folder: str | Path) -> Glyphs:
    """Build the data set as `folder`, whole or not at all; byte-identical every time.

    Raises:
        MetaloomError: `folder` exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MetaloomError(f"{folder} is not empty: move what is in it away to build the embedded glyphs there")
    selection = select_letters()
    letters = sorted(selection.letters, key=lambda letter: (letter.script, letter.code))
    with atomic_dir(folder) as temporary:
        drawings = track(_draw_all(letters), "drawing letters", len(letters))
        drawn = zip(letters, drawings, strict=True)
        for script, members in groupby(drawn, key=lambda pair: pair[0].script):
            _write(temporary / f"{script}.zip", members)
    scripts = {letter.script for letter in letters}
    built = Glyphs(
        classes=len(letters),
        domains=len(scripts),
        images=len(letters) * DRAWINGS,
        homoglyphs=len(selection.homoglyphs),
        lookalikes=len(selection.lookalikes),
    )
    say(
        f"glyphs: {built.classes} letters of {built.domains} scripts, {built.images} drawings "
        f"(dropped {built.homoglyphs} that look like a letter of another script, "
        f"{built.lookalikes} that look like one of their own)"
    )
    return built


def _draw_all(letters: list[Letter]) -> Iterable[list[bytes]]:
    batches = [letters[start : start + _BATCH] for start in range(0, len(letters), _BATCH)]
    for batch in parallel_map(_draw_batch, batches):
        yield from batch


def _draw_batch(letters: list[Letter]) -> list[list[bytes]]:
    return [[encode_grey16(each) for each in draw_letter(letter)] for letter in letters]


def draw_letter(letter: Letter, n: int = DRAWINGS) -> list[np.ndarray]:
    """Distorted drawings of a letter, each from the next of its faces."""
    inks = [ink for face in letter.faces if (ink := raster(face, letter.code)).size]
    first = letter.code % len(inks)
    return [draw(inks[(first + each) % len(inks)], f"{SEED}/{letter.code:X}/{each}") for each in range(n)]


def _write(path: Path, members: Iterable[tuple[Letter, list[bytes]]]) -> None:
    content = io.BytesIO()  # a few megabytes, and one write instead of a hundred thousand
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for letter, pictures in members:
            for number, picture in enumerate(pictures):
                info = zipfile.ZipInfo(f"{letter.folder}/{number:02d}.png", _TIME)
                info.create_system = 3  # else it depends on the system
                info.external_attr = 0o644 << 16
                archive.writestr(info, picture)
    path.write_bytes(content.getvalue())
