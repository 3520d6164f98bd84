"""Take something out of data/: the version before stays in DVC's cache, and a kill leaves all of it in or out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from metaloom.data.archives import archive_stem
from metaloom.data.given import FILE, read_given, write_given
from metaloom.data.sources import Listing
from metaloom.data.walk import Item
from metaloom.errors import MetaloomError
from metaloom.system.lock import STATE
from metaloom.system.plural import some
from metaloom.versioning.data import DataVersion, data_lock, version_data
from metaloom.versioning.objects import DATA
from metaloom.versioning.renaming import entries_of

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


@dataclass(frozen=True)
class Removed:
    """What went out of data/.

    Args:
        paths: from the project's root; several where splits hold parts of it.
        classes: whose last example went, where a single file was meant.
        version: of data/, the new one.
    """

    paths: list[Path]
    classes: list[str]
    version: DataVersion


def remove_from_data(root: Path, name: str, check: Callable[[], Listing]) -> Removed:
    """Take a file or a folder out of data/, and make the rest the new version.

    Killed midway, it is out or in; of several folders, the same again takes out the rest.

    Args:
        root: the project's root.
        name: as `find_in_data` takes it; or of a domain or a class, as `metaloom data list` has it.
        check: lists data/; where it raises MetaloomError the rest is no data set, and all stays as it was.

    Raises:
        MetaloomError: there is no such thing, its folder would be left empty, or `check` raises.
    """
    with data_lock(root):
        targets, before = _found(root, name, check), list[Item]()
        for target in targets:
            _refuse_last(root, target, targets)
        with suppress(MetaloomError):  # the rest may be of use all the same
            before = check().items
        version_data(root)  # what goes stays in the cache
        data, staging = root / DATA, root / STATE / STAGING
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        for number, target in enumerate(targets):
            target.rename(staging / str(number))
        try:
            left = {item.class_name for item in check().items}
        except MetaloomError as error:
            for number, target in enumerate(targets):
                (staging / str(number)).rename(target)
            gone = " and ".join(str(target.relative_to(root)) for target in targets)
            raise MetaloomError(f"without {gone} the rest could not be used: {error}") from None
        of_top = {target.name for target in targets if target.parent == data}
        if of_top & (given := read_given(data)).keys():
            write_given(data, {entry: layout for entry, layout in given.items() if entry not in of_top})
        version = version_data(root)
        shutil.rmtree(staging)
        own = [item for item in before if item.file.absolute() in targets and item.member is None and not item.row]
        lost = [item.class_name for item in own if item.class_name not in left]
        return Removed([target.relative_to(root) for target in targets], lost, version)


def _found(root: Path, name: str, check: Callable[[], Listing]) -> list[Path]:
    """The file or folder of a name, or the folders in splits that are one domain or class."""
    try:
        return [find_in_data(root, name)]
    except MetaloomError:
        if not (root / DATA).is_dir() or not (found := entries_of(root, check(), name)):
            raise
        return found


def _refuse_last(root: Path, target: Path, targets: Sequence[Path]) -> None:
    """Raises MetaloomError where nothing else that counts is in its folder."""
    beside = (each for each in target.parent.iterdir() if each not in targets)
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
