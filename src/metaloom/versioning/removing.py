"""Take something out of data/: the version before stays in DVC's cache, and a kill leaves all of it in or out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path, PurePath

from metaloom.data.archives import archive_stem
from metaloom.data.given import FILE, read_given, write_given
from metaloom.data.sources import Listing
from metaloom.errors import MetaloomError
from metaloom.system.lock import STATE
from metaloom.system.plural import some
from metaloom.versioning.data import DataVersion, data_lock, version_data
from metaloom.versioning.objects import DATA
from metaloom.versioning.renaming import refuse_elsewhere

SHOWN = 5  # names in a message
STAGING = "removing"  # in `STATE`: what is on its way out


def find_in_data(root: Path, name: str) -> Path:
    """What a name in data/ stands for.

    Args:
        root: the project's root.
        name: a path inside data/, with or without `data/` before it; of an archive or a table also without its ending.

    Raises:
        MetaloomError: there is no such thing, or it lies inside an archive or a table.
    """
    data = root / DATA
    if not data.is_dir():
        raise MetaloomError(f"{DATA}/ is absent: `metaloom run` or `dvc pull` fetch it first")
    if "\0" in name:
        raise MetaloomError(f"{name!r} has a NUL character, which no name has")
    parts = PurePath(name).parts
    parts = parts[1:] if parts[:1] == (DATA,) and not (data / DATA).exists() else parts
    if not parts or ".." in parts or PurePath(name).is_absolute() or parts == (FILE,):
        raise MetaloomError(f"{name!r}: give what lies in {DATA}/, such as domain, domain/class or domain/class/1.png")
    if (data.joinpath(*parts)).exists() or data.joinpath(*parts).is_symlink():
        return data.joinpath(*parts)
    entries = sorted(each for each in data.iterdir() if not each.name.startswith(".") and each.name != FILE)
    of_stem = [each for each in entries if each.is_file() and parts[0] in (archive_stem(each.name), each.stem)]
    if len(of_stem) == 1 and len(parts) == 1:
        return of_stem[0]
    if of_stem:
        raise MetaloomError(
            f"{name} lies inside {of_stem[0].relative_to(root)}: change that file itself, and add it again with "
            "`metaloom data add --replace`"
        )
    raise MetaloomError(
        f"there is no {DATA}/{PurePath(*parts)}: {DATA}/ has {some([each.name for each in entries], SHOWN)} "
        "(`metaloom data list` shows all)"
    )


def remove_from_data(root: Path, name: str, check: Callable[[], Listing]) -> tuple[Path, DataVersion]:
    """Take a file or a folder out of data/, and make the rest the new version.

    Args:
        root: the project's root.
        name: as `find_in_data` takes it.
        check: lists data/; where it raises MetaloomError the rest is no data set, and all stays as it was.

    Returns:
        What went, and the new version.

    Raises:
        MetaloomError: there is no such thing, its folder would be left empty, or `check` raises.
    """
    with data_lock(root):
        try:
            target = find_in_data(root, name)
        except MetaloomError:
            if (root / DATA).is_dir():
                refuse_elsewhere(root, check(), name)
            raise
        _refuse_last(root, target)
        version_data(root)  # what goes stays in the cache
        staging = root / STATE / STAGING
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        target.rename(staging / target.name)
        try:
            check()
        except MetaloomError as error:
            (staging / target.name).rename(target)
            raise MetaloomError(f"without {target.relative_to(root)} the rest could not be used: {error}") from None
        data = root / DATA
        if target.parent == data and target.name in (given := read_given(data)):
            write_given(data, {entry: layout for entry, layout in given.items() if entry != target.name})
        version = version_data(root)
        shutil.rmtree(staging)
        return target.relative_to(root), version


def _refuse_last(root: Path, target: Path) -> None:
    """Raises MetaloomError where nothing else that counts is in its folder."""
    beside = (each for each in target.parent.iterdir() if each != target)
    if any(not each.name.startswith(".") and each.name != FILE for each in beside):
        return
    parent = target.parent.relative_to(root / DATA)
    if not parent.parts:
        raise MetaloomError(
            f"{target.relative_to(root)} is all that {DATA}/ has: put other data in its place with "
            "`metaloom data add PATH --only`"
        )
    raise MetaloomError(
        f"{target.relative_to(root)} is all that {DATA}/{parent} has: remove that as a whole, `metaloom data remove "
        f"{parent}`"
    )
