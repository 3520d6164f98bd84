"""Examples that are inside archives: of data/, and of its older versions that DVC's cache has."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaloom.data.archives import archive_stem, list_archive, read_archive
from metaloom.errors import MetaloomError
from metaloom.system.files import md5
from metaloom.system.provenance import DATA
from metaloom.versioning.objects import whole_tree


@dataclass(frozen=True)
class Packed:
    """A member of an archive that is an example that somebody looks for.

    Args:
        archive: from the project's root, as data/ or an older version of it has it.
        member: its path in there.
        oid: the hash that DVC gives the archive; empty where it is in data/ now.
    """

    archive: Path
    member: str
    oid: str = ""


def packed_in_data(root: Path, oids: set[str]) -> Iterator[Packed]:
    """The first such member of each archive in data/.

    Args:
        root: the project's root.
        oids: MD5 hashes of files.

    Raises:
        MetaloomError: an archive cannot be read.
    """
    for path in sorted((root / DATA).rglob("*")):
        if archive_stem(path.name) is not None and path.is_file():
            yield from (Packed(path.relative_to(root), member) for member in _first(path, oids))


def packed_before(repo: Any, root: Path, oids: set[str]) -> Iterator[Packed]:
    """The first such member of each archive in DVC's cache that older versions of data/ have, and data/ has not.

    Raises:
        MetaloomError: an archive cannot be read.
    """
    now = {md5(path) for path in (root / DATA).rglob("*") if archive_stem(path.name) is not None and path.is_file()}
    with tempfile.TemporaryDirectory() as folder:
        for oid, key in sorted(_archives(repo).items()):
            cached = Path(repo.cache.local.oid_to_path(oid))
            if oid in now or not cached.is_file():
                continue
            link = Path(folder, oid, key[-1])  # what kind of archive it is its name tells
            link.parent.mkdir()
            link.symlink_to(cached.absolute())
            try:
                yield from (Packed(Path(DATA, *key), member, oid) for member in _first(link, oids))
            except MetaloomError as error:
                raise MetaloomError(f"{Path(DATA, *key)} of an older version, {oid}: {error}") from None


def refuse_packed(root: Path, oids: set[str]) -> None:
    """Raises MetaloomError where an archive in data/ has one of these files, which stays in there when it is purged."""
    for found in packed_in_data(root, oids):
        raise MetaloomError(
            f"{found.archive} holds it too, as {found.member}: make that archive again without it, put it in place "
            f"with `metaloom data add --replace`, then purge again"
        )


def told_packed(older: Iterable[Packed]) -> Iterator[str]:
    """What else is to be purged, a line for each archive of older versions."""
    for each in older:
        yield (
            f"not purged: {each.archive} of an older version holds it too, as {each.member}: "
            f"`metaloom data purge {each.oid}` takes out that archive"
        )


def _archives(repo: Any) -> dict[str, tuple[str, ...]]:
    """Each archive of the folders in DVC's cache by its hash, and where it was."""
    found: dict[str, tuple[str, ...]] = {}
    for path in Path(repo.cache.local.path).glob("??/*.dir"):
        tree = whole_tree(repo, path.parent.name + path.name)
        found |= {oid.value: key for key, _, oid in tree or () if archive_stem(key[-1]) is not None}
    return found


def _first(archive: Path, oids: set[str]) -> Iterator[str]:
    """The first member that has one of these hashes, if there is one."""
    for member, content in read_archive(archive, set(list_archive(archive).files)):
        if isinstance(content, bytes) and hashlib.md5(content, usedforsecurity=False).hexdigest() in oids:
            yield member
            return
