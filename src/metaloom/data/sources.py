"""What lies in data/: loose folders domain/class/*.png, and archives wherever a folder may be."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from metaloom.data import archives
from metaloom.errors import MetaloomError
from metaloom.kinds.pictures.read import is_image_name

_SHOWN = 3


@dataclass(frozen=True, order=True)
class Item:
    """One image file; sorted by domain, class and source."""

    domain: str
    class_name: str  # f"{domain}/{the class's folder}"
    source: str  # path inside data/, with "!" between an archive and its member
    file: Path = field(compare=False)  # the loose file or the archive
    member: str | None = field(compare=False)


@dataclass(frozen=True)
class Listing:
    """All that lies below `root`."""

    root: Path
    items: list[Item]
    ignored: list[str]  # files that are no images
    empty: list[str]  # folders with neither folders nor images


def list_sources(root: Path, prefix: str = "") -> Listing:
    """Find every image below `root` by its name, without opening it.

    Args:
        root: the folder to walk, or a single archive or file.
        prefix: the place inside data/ that `root` has or is to have.

    Raises:
        MetaloomError: `root` is absent or holds no image, an image lies outside any domain/class folder, a
            folder is a link, or an archive is not to be trusted (see `archives.list_archive`).
    """
    if not root.exists():
        raise MetaloomError(f"{root} not found: put domain/class/ folders of images or archives of them there")
    walk = _Walk()
    if root.is_dir():
        walk.folder(root, PurePosixPath(prefix))
    else:
        walk.file(root, PurePosixPath(prefix or root.name))
    _refuse_homeless(walk.homeless)
    if not walk.items:
        found = f" (only {_some(walk.ignored)})" if walk.ignored else ""
        raise MetaloomError(
            f"{root} holds no images{found}: put domain/class/ folders of PNG, JPEG, BMP or WebP images or "
            "zip or tar archives of them there"
        )
    return Listing(root, sorted(walk.items), sorted(walk.ignored), sorted(walk.empty))


def read_sources(listing: Listing) -> Iterator[tuple[int, bytes | str]]:
    """(index into listing.items, the file's bytes or why it cannot be read); each archive is read once."""
    members: dict[Path, dict[str, int]] = defaultdict(dict)
    for index, item in enumerate(listing.items):
        if item.member is None:
            yield index, _read_file(item.file)
        else:
            members[item.file][item.member] = index
    for archive, wanted in members.items():
        for name, content in archives.read_archive(archive, set(wanted)):
            yield wanted[name], content


def _read_file(path: Path) -> bytes | str:
    try:
        if path.stat().st_size > archives.MAX_FILE_BYTES:
            return archives.too_large()
        return path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"


class _Walk:
    def __init__(self) -> None:
        self.items: list[Item] = []
        self.ignored: list[str] = []
        self.empty: list[str] = []
        self.homeless: list[str] = []

    def folder(self, path: Path, place: PurePosixPath) -> None:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        useful = False
        for entry in entries:
            name = archives.checked_utf8(entry.name, path)
            if name.startswith("."):
                self.ignored.append(str(place / name))
            elif entry.is_dir():
                if entry.is_symlink():
                    raise MetaloomError(f"{entry.path} is a link to a folder: put the folder itself there")
                self.folder(Path(entry.path), place / name)
                useful = True
            else:
                useful |= self.file(Path(entry.path), place / name)
        if not useful and place.parts:
            self.empty.append(str(place))

    def file(self, path: Path, place: PurePosixPath) -> bool:
        stem = archives.archive_stem(place.name)
        if stem is not None:
            self._archive(path, place, stem)
        elif is_image_name(place.name):
            self._image(place.parent.parts, str(place), path, None)
        else:
            self.ignored.append(str(place))
            return False
        return True

    def _archive(self, path: Path, place: PurePosixPath, stem: str) -> None:
        contents = archives.list_archive(path)
        outer = place.parent.parts
        parents: set[str] = set()
        for name in contents.files:
            member, source = PurePosixPath(name), f"{place}!{name}"
            if any(part.startswith(".") or part == "__MACOSX" for part in member.parts):
                self.ignored.append(source)
                continue
            if not is_image_name(name):
                self.ignored.append(source)
                continue
            parents.update(str(parent) for parent in member.parents)
            inner = member.parent.parts
            # an archive is a folder of its own name, unless its folders already name a domain and a class
            folders = (*outer, *inner) if len(inner) >= 2 else (*outer, stem, *inner)
            self._image(folders, source, path, name)
        leaves = set(contents.folders) - {str(PurePosixPath(folder).parent) for folder in contents.folders}
        self.empty += [f"{place}!{folder}" for folder in leaves - parents if not folder.startswith("__MACOSX")]

    def _image(self, folders: tuple[str, ...], source: str, file: Path, member: str | None) -> None:
        if len(folders) < 2:
            self.homeless.append(source)
            return
        self.items.append(Item("/".join(folders[:-1]), "/".join(folders), source, file, member))


def _refuse_homeless(homeless: list[str]) -> None:
    if homeless:
        raise MetaloomError(
            f"{_some(homeless)}: an image belongs in a class folder, and that in a domain folder or archive "
            "(domain/class/image.png): move it there"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
