"""A user's own tasks: each a folder with one folder of pictures a class."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.files import read_picture
from metaloom.kinds.pictures.resize import resize

LAYOUT = "give a folder like DIR/cat/1.png, DIR/dog/1.png: one folder a class"


@dataclass(frozen=True)
class Support:
    """Labelled examples of one task.

    Args:
        images: at the network's size.
        ways: each image's place in `labels`.
        labels: class names, sorted.
        repeated: files left out because the same picture stands in their class already.
    """

    images: UInt8[np.ndarray, "support height width channel"]
    ways: Int[np.ndarray, " support"]
    labels: list[str]
    repeated: list[str]


def read_support(folder: str | Path, channels: int, size: int) -> Support:
    """Read `class/*.png` (jpg, jpeg, bmp, webp too). Hidden files do not count.

    Raises:
        MetaloomError: the folder is absent, has fewer than two classes, an empty class, a file that is no
            image, or a picture that stands in two classes.
    """
    folder = Path(folder)
    first_use: dict[bytes, Path] = {}
    images, ways, repeated = [], [], []
    classes = _class_folders(folder)
    for way, files in enumerate(map(_files, classes)):
        for path in files:
            picture = read_picture(path, channels)
            seen = first_use.setdefault(_fingerprint(picture), path)
            if seen == path:
                images.append(resize(picture[None], size)[0])
                ways.append(way)
            elif seen.parent == path.parent:
                repeated.append(str(path))
            else:
                raise MetaloomError(f"{seen} and {path} are one picture in two classes: remove the wrong one")
    return Support(np.stack(images), np.array(ways), [each.name for each in classes], repeated)


def task_folders(tasks: Path) -> list[Path]:
    """A folder for each task, each with a folder of pictures for each class.

    Raises:
        MetaloomError: there is none.
    """
    folders = _folders(tasks) if tasks.is_dir() else []
    if not folders:
        raise MetaloomError(f"{tasks} has no folder: give one with a folder for each task, DIR/task/class/1.png")
    return folders


def _class_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "not found"
        raise MetaloomError(f"{folder} {what}: {LAYOUT}")
    classes = _folders(folder)
    if len(classes) < 2:
        has = f"has the one class {classes[0].name}" if classes else "has no class folders"
        raise MetaloomError(f"{folder} {has}, a task needs two or more: {LAYOUT}")
    return classes


def _files(folder: Path) -> list[Path]:
    files = sorted(_visible(folder))
    if not files:
        raise MetaloomError(f"{folder} is empty: put a picture of the class there, or remove the folder")
    return files


def _folders(folder: Path) -> list[Path]:
    return sorted(each for each in _visible(folder) if each.is_dir())


def _visible(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if not each.name.startswith(".")]


def _fingerprint(picture: UInt8[np.ndarray, "height width channel"]) -> bytes:
    """Of the pixels, so that the same picture in another file format is found too."""
    return hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).digest()
