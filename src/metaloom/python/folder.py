"""A folder of classes as paths and labels, for `Learner.adapt` and scikit-learn."""

from __future__ import annotations

from pathlib import Path

from metaloom.errors import MetaloomError
from metaloom.system.files import refuse_special
from metaloom.system.plural import some

SHOWN = 3  # names in a message
JUNK = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx"}  # what systems leave in folders, lower case


def is_visible(path: Path) -> bool:
    """Whether a file or folder is a user's own: not hidden, nor what a system leaves beside pictures."""
    return not path.name.startswith(".") and path.name.lower() not in JUNK


def load_folder(folder: str | Path) -> tuple[list[Path], list[str]]:
    """The files of a folder with one folder per class, and the class of each: `class/*.png`.

    `Learner.adapt`, `AdaptedTask.predict` and `FewShotClassifier` take the paths as they are; no file is read yet.

    Args:
        folder: with a folder for each class. Hidden files, Thumbs.db and the like do not count.

    Returns:
        Paths and class names, in the order of the names.

    Raises:
        MetaloomError: it is absent, has no class folders, or a class folder has no files, or folders, or pipes.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MetaloomError(f"{folder} {'is a file' if folder.exists() else 'not found'}: give a folder of classes")
    classes = sorted(each for each in folder.iterdir() if each.is_dir() and is_visible(each))
    if not classes:
        raise MetaloomError(f"{folder} has no folders: put the files of each class into a folder named like the class")
    paths: list[Path] = []
    labels: list[str] = []
    for each in classes:
        found = sorted(filter(is_visible, each.iterdir()))
        below = [path.name for path in found if path.is_dir()]
        if below:
            raise MetaloomError(
                f"{each} has folders ({some(below, SHOWN)}) in place of files: give the folder that has one folder "
                f"per class, as {each} may be"
            )
        for path in found:
            refuse_special(path)
        if not found:
            raise MetaloomError(f"{each} has no files: put examples of the class there, or remove it")
        paths += found
        labels += [each.name] * len(found)
    return paths, labels
