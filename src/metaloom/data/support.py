"""A user's own tasks: each a folder with one folder of files per class, or a table whose rows name their class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

from metaloom.data.archives import checked_utf8
from metaloom.data.files import Example, fitting, read_examples
from metaloom.data.labels import NAMES
from metaloom.data.layouts import SPLIT_OF, are_splits
from metaloom.data.scan import digest_of
from metaloom.errors import MetaloomError
from metaloom.kinds import Kind, Tables
from metaloom.system.files import refuse_special
from metaloom.system.plural import some

SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Support:
    """Labelled examples of one task.

    Args:
        examples: as the kind packs them.
        ways: each example's place in `labels`.
        labels: class names, sorted.
        repeated: examples left out because the same one stands in their class already.
    """

    examples: Shaped[np.ndarray, "support ..."]
    ways: Int[np.ndarray, " support"]
    labels: list[str]
    repeated: list[str]


def read_support(path: str | Path, kind: Kind, shape: tuple[int, ...]) -> Support:
    """Read one task: `class/*.png`, or where a file holds many examples FILE.csv or a folder of such files.

    Hidden files do not count.

    Args:
        path: the task's folder or file.
        kind: of its examples.
        shape: of a packed example, as the model takes it.

    Raises:
        MetaloomError: the path is absent, has fewer than two classes, an empty class, files or rows that are no
            examples, are blank or of another shape, or an example that stands in two classes. All such files are named.
    """
    path = Path(path)
    checked_utf8(path.name, path.parent)
    repeated: list[str] = []
    problems: list[str] = []
    kept = list(_distinct(path, kind, shape, repeated, problems))
    if problems:
        raise MetaloomError("; ".join(problems))
    labels = sorted({checked_utf8(label, path) for label, _ in kept})
    if len(labels) < 2:
        raise MetaloomError(f"{path} has the one class {labels[0]}, a task needs two or more: {_layout(kind)}")
    kept.sort(key=lambda each: each[0])  # stable: the examples of a class stay in their order
    ways = np.array([labels.index(label) for label, _ in kept])
    return Support(np.stack([packed for _, packed in kept]), ways, labels, repeated)


def task_paths(tasks: Path, kind: Kind) -> list[Path]:
    """The tasks in a folder: a folder each, or a table each where a file holds many examples.

    Raises:
        MetaloomError: there is none, two have one name, or a name is no UTF-8.
    """
    found = sorted(_visible(tasks)) if tasks.is_dir() else []
    found = [each for each in found if each.is_dir() or (isinstance(kind, Tables) and kind.is_example(each.name))]
    if not found:
        if isinstance(kind, Tables):
            raise MetaloomError(f"{tasks} has no table: give a folder with a table for each task, DIR/task.csv")
        raise MetaloomError(
            f"{tasks} has no folder: give one with a folder for each task, DIR/task/class/1{kind.suffixes[0]}"
        )
    names: dict[str, Path] = {}
    for each in found:
        checked_utf8(each.name, tasks)
        if names.setdefault(task_name(each), each) != each:
            raise MetaloomError(f"{names[task_name(each)]} and {each} have one name: rename one of them")
    return found


def files_of(path: Path, kind: Kind) -> list[Path]:
    """The files of a task that can be read by `read_support`."""
    return [file for _, file in (_in_tables(path, kind) if isinstance(kind, Tables) else _in_folders(path, kind))]


def task_name(path: Path) -> str:
    """A task's name: that of its folder, or of its file without the ending."""
    return path.name if path.is_dir() else path.stem


def _distinct(
    path: Path, kind: Kind, shape: tuple[int, ...], repeated: list[str], problems: list[str]
) -> Iterator[tuple[str, Shaped[np.ndarray, ...]]]:
    """Class and packed example, each once; sources of repetitions are put into `repeated`, what is wrong with others
    into `problems`."""
    first: dict[bytes, tuple[str, str]] = {}  # class and source of each example that has been seen
    files = _in_tables(path, kind) if isinstance(kind, Tables) else _in_folders(path, kind)
    for label, example in _read(files, kind, problems):
        if flaw := kind.flaw(example.raw):
            problems.append(f"{example.source} {flaw}: remove it")
            continue
        known_label, known = first.setdefault(digest_of(example.raw), (label, example.source))
        if known_label != label:
            problems.append(f"{known} and {example.source} are one {kind.one} in two classes: remove the wrong one")
        elif known == example.source:
            yield label, fitting(example._replace(raw=kind.pack(example.raw)), shape, kind)
        else:
            repeated.append(example.source)


def _read(files: Iterator[tuple[str | None, Path]], kind: Kind, problems: list[str]) -> Iterator[tuple[str, Example]]:
    """Class and example: the class is that of the file, or where it has none of the row."""
    for label, file in files:
        try:
            for example in read_examples(file, kind):
                own = label or example.label
                if not own:
                    raise MetaloomError(f"{example.source} has no class: name it in a column `class`")
                yield own, example
        except MetaloomError as error:
            problems.append(str(error))


def _in_folders(path: Path, kind: Kind) -> Iterator[tuple[str, Path]]:
    """Class and path of each file in the class folders."""
    if not path.is_dir():
        what = "is a file" if path.exists() else "not found"
        raise MetaloomError(f"{path} {what}: {_layout(kind)}")
    classes = sorted(each for each in _visible(path) if each.is_dir())
    files = {folder: sorted(_visible(folder)) for folder in classes}
    if files and all(each and all(map(Path.is_dir, each)) for each in files.values()):
        raise MetaloomError(_too_high(path, [each.name for each in classes], kind))
    if len(classes) < 2:
        has = f"has the one class {classes[0].name}" if classes else "has no class folders"
        if any((path / name).is_file() for name in NAMES):
            has += " (`metaloom data add` alone reads a table of labels)"
        raise MetaloomError(f"{path} {has}, a task needs two or more: {_layout(kind)}")
    for folder, inside in files.items():
        if not inside:
            raise MetaloomError(f"{folder} is empty: put {kind.many} of the class there, or remove the folder")
        yield from ((folder.name, file) for file in inside)


def _too_high(path: Path, names: list[str], kind: Kind) -> str:
    """What to give instead of a folder of tasks or of splits."""
    shown = some(names, SHOWN)
    if are_splits(names):
        train = next((name for name in names if SPLIT_OF[name.lower()] == "train"), names[0])
        return f"{path} holds the splits {shown}, not classes: give the one to learn from, {path / train}"
    return (
        f"{path} holds {shown}, each with folders in place of {kind.many}: give one of them, {path / names[0]}, or "
        "make a bundle of each with `metaloom fleet`"
    )


def _in_tables(path: Path, kind: Kind) -> Iterator[tuple[None, Path]]:
    """A table, or all tables in a folder: their rows say their classes."""
    if not path.exists():
        raise MetaloomError(f"{path} not found: {_layout(kind)}")
    files = sorted(_visible(path)) if path.is_dir() else [path]
    if not files:
        raise MetaloomError(f"{path} is empty: {_layout(kind)}")
    yield from ((None, file) for file in files)


def _layout(kind: Kind) -> str:
    if isinstance(kind, Tables):
        return f"give a table ({kind.formats}) with a column `class`, or a folder of such tables"
    end = kind.suffixes[0]
    return f"give a folder like DIR/cat/1{end}, DIR/dog/1{end}: one folder per class"


def _visible(folder: Path) -> list[Path]:
    found = [each for each in folder.iterdir() if not each.name.startswith(".")]
    for each in found:
        refuse_special(each)
    return found
