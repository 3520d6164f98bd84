"""Letters of many scripts: which there are in the font faces that matplotlib ships, and which look alike."""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from fontTools import unicodedata as scripts
from jaxtyping import Bool, Float32, UInt8
from matplotlib import ft2font

from metaloom.kinds.pictures.resize import resize
from metaloom.system.parallel import parallel_map
from metaloom.system.terminal import track

REFERENCE = "DejaVuSans.ttf"  # has all letters but a few, which are left out: so any two letters share a face
MIN_FACES = 4
EM = 128  # pixels
_MIN_SIDE = EM * 3 // 10  # a smaller one is a dot or a tick, and blown up nothing but a blot

# Not text faces: placeholders, displayed formulae, brackets in five sizes
_NOT_TEXT = ("LastResort", "Display", "NonUni", "Siz", "cmex", "cmsy")

# Two letters are one picture when, in any face that has both, less than 1/22 of the ink of either lies
# further than one pixel from the other's, both stretched to 40x40 pixels, and their proportions differ by a
# fifth at most (the drawings vary as much). Chosen by looking at the pairs between scripts, sorted by that
# share: up to 4% nearly all could pass for one another (Georgian and Latin d, Lisu and Old Italic P), from 4%
# to 5% about half (Lisu and Greek Y do, S and 5 do not), further up most differ in a stroke that one sees.
SIDE = 40
_STRAY = 22
_PROPORTION = 5


@dataclass(frozen=True)
class Letter:
    """A letter with the faces that have it."""

    code: int
    script: str  # as a file name: "old_italic"
    faces: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Its class folder, for example `U+03B1_small_alpha`."""
        words = unicodedata.name(chr(self.code)).lower().replace("-", "_").split()
        known = {*self.script.split("_"), "letter", "syllabics"}
        return f"U+{self.code:04X}_" + "_".join(word for word in words if word not in known)[:24].strip("_")


@dataclass(frozen=True)
class Selection:
    """Letters of which no two look alike, and those that were dropped for it."""

    letters: list[Letter]
    homoglyphs: list[Letter]  # look like a letter of another script
    lookalikes: list[Letter]  # look like a letter of their own script


def face_paths() -> dict[str, Path]:
    """matplotlib's font files by the name of the face."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    faces = sorted(folder.glob("*.ttf"))
    return {face.name: face for face in faces if not any(word in face.name for word in _NOT_TEXT)}


@functools.cache
def _open(face: str) -> ft2font.FT2Font:
    font = ft2font.FT2Font(str(face_paths()[face]))
    font.set_size(EM, 72)
    return font


def all_letters() -> list[Letter]:
    """Letters that stand in four faces or more, one mark at most on each, sorted by code point."""
    faces: dict[int, list[str]] = {}
    for face in face_paths():
        for code in _open(face).get_charmap():
            # the Computer Modern faces have symbols at the code points of other letters
            if _is_letter(chr(code)) and (not face.startswith("cm") or code < 128):
                faces.setdefault(code, []).append(face)
    found = [
        Letter(code, script, tuple(faces[code]))
        for code in sorted(faces)
        if (script := _script(code)) and len(faces[code]) >= MIN_FACES and REFERENCE in faces[code]
    ]
    return [letter for letter in found if max(raster(REFERENCE, letter.code).shape) >= _MIN_SIDE]


def _is_letter(character: str) -> bool:
    if unicodedata.category(character) not in ("Lu", "Ll", "Lt", "Lo"):
        return False
    parts = unicodedata.normalize("NFKD", character)
    return parts == character or (len(parts) == 2 and unicodedata.category(parts[1]) == "Mn")


def _script(code: int) -> str:
    """The script's name as a file name, empty for what belongs to all or none."""
    script = scripts.script(chr(code))
    return "" if script in ("Zyyy", "Zinh", "Zzzz") else scripts.script_name(script).lower().replace(" ", "_")


def raster(face: str, code: int) -> UInt8[np.ndarray, "height width"]:
    """Ink (1) and paper (0) of a letter at 128 pixels the em, cut to its ink.

    FreeType without hinting calculates in whole numbers, and the threshold absorbs what a version may change.
    """
    font = _open(face)
    font.clear()
    font.set_text(chr(code), 0, flags=ft2font.LoadFlags.NO_HINTING)
    font.draw_glyphs_to_bitmap(antialiased=True)
    ink = (np.asarray(font.get_image()) >= 128).astype(np.uint8)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not len(rows):
        return np.zeros((0, 0), np.uint8)
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def select_letters() -> Selection:
    """Letters of which no two look alike, chosen greedily.

    Of letters that look alike the one in the smaller script stays: the other way round Lisu, which is made
    of turned Latin capitals, would keep five letters. Within a script a plain letter goes before one with a
    mark, then the code point decides.
    """
    letters = all_letters()
    size = Counter(letter.script for letter in letters)
    letters.sort(key=lambda letter: (size[letter.script], letter.script, _is_marked(letter.code), letter.code))
    alike = _alike(letters)
    kept: list[int] = []
    selection = Selection([], [], [])
    for index, letter in enumerate(letters):
        near = {letters[other].script for other in kept if alike[index, other]}
        if not near:
            kept.append(index)
            selection.letters.append(letter)
        else:
            (selection.lookalikes if near == {letter.script} else selection.homoglyphs).append(letter)
    return selection


def _is_marked(code: int) -> bool:
    return unicodedata.normalize("NFKD", chr(code)) != chr(code)


def _alike(letters: list[Letter]) -> Bool[np.ndarray, "letter letter"]:
    alike = np.zeros((len(letters), len(letters)), dtype=bool)
    faces = sorted({face for letter in letters for face in letter.faces})
    work = [(face, [(i, each.code) for i, each in enumerate(letters) if face in each.faces]) for face in faces]
    for first, second in track(parallel_map(_alike_in_face, work), "comparing letters", len(work)):
        alike[first, second] = True
    return alike


def _alike_in_face(work: tuple[str, list[tuple[int, int]]]) -> tuple[np.ndarray, np.ndarray]:
    face, letters = work
    rasters = [(index, raster(face, code)) for index, code in letters]
    indices = np.array([index for index, ink in rasters if ink.size])
    first, second = np.nonzero(alike_pairs([ink for _, ink in rasters if ink.size]))
    return indices[first], indices[second]


def alike_pairs(rasters: list[np.ndarray]) -> Bool[np.ndarray, "letter letter"]:
    """Which letters of one face, given as 0 and 1 cut to their ink, look alike."""
    stretched = [resize(ink[None, :, :, None] * np.uint8(255), SIDE)[0, :, :, 0] // 17 for ink in rasters]
    sides = np.array([[SIDE * side // max(ink.shape) for side in ink.shape] for ink in rasters], np.int8)
    apart = np.abs(sides[:, None] - sides[None]).max(axis=2) > SIDE // _PROPORTION
    return _covered(np.stack(stretched).astype(np.float32)) & ~apart


def _covered(ink: Float32[np.ndarray, "letter row column"]) -> Bool[np.ndarray, "letter letter"]:
    """Pairs with (almost) no ink of the one further than a pixel from the other's; ink runs from 0 to 15.

    All sums are whole numbers below 2^24, which float32 holds exactly: the answer is the same everywhere.
    """
    padded = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    height, width = ink.shape[1:]
    windows = [padded[:, top : top + height, left : left + width] for top in range(3) for left in range(3)]
    far = 15 - np.maximum.reduce(windows)
    stray = ink.reshape(len(ink), -1) @ far.reshape(len(ink), -1).T  # of a letter's ink, far from the other's
    close = stray * _STRAY < 15 * ink.sum(axis=(1, 2))[:, None]
    return close & close.T
