"""Take a folder or an archive into data/, whole or not at all."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metaloom.config import PrepareSettings
from metaloom.data.already import Already, find_already, list_beside, refuse_already
from metaloom.data.archives import SUFFIXES, archive_stem
from metaloom.data.given import check_layout, read_given, write_given
from metaloom.data.layouts import Branch
from metaloom.data.quality import check_quality, judge
from metaloom.data.reserved import check_name
from metaloom.data.scan import scan
from metaloom.data.sources import Listing, list_sources
from metaloom.errors import MetaloomError
from metaloom.kinds import KINDS, Kind, Tables
from metaloom.system.files import atomic_dir, write_text

NOTE = "name"  # in the staging folder: what is on its way out of data/


@dataclass(frozen=True)
class Addition:
    """What `path` will be in data/: checked, not yet copied."""

    path: Path
    name: str  # of the folder or archive in data/
    domains: list[str]
    report: dict[str, Any]  # as quality.json
    layout: str | None = None  # that was given
    branches: list[Branch] = field(default_factory=list)  # how its files lie
    already: Already | None = None  # what of it is in data/ under another name


def inspect_addition(
    path: Path,
    data: Path,
    name: str | None,
    kind: Kind,
    settings: PrepareSettings,
    overwrite: bool,
    layout: str | None = None,
    only: bool = False,
) -> Addition:
    """Decode all of a folder or an archive as `prepare` would do it in data/.

    Args:
        name: what to call it in data/; None: as it is called now.
        kind: of its examples.
        overwrite: data/ may hold something of that name.
        layout: how its files lie, one of `metaloom.data.given.LAYOUTS`; None: it is found out.
        only: nothing else stays in data/.

    Raises:
        MetaloomError: it is absent, no such thing, unsafe, lies in data/, its name is taken, too much of it is bad, or
            so much of it is in data/ already that too much of data/ would be bad.
    """
    _check_path(path, kind, layout)
    source, target = path.resolve(), data.resolve()
    if source == target or target in source.parents or source in target.parents:
        raise MetaloomError(f"{path} and {data} lie in one another: copy it elsewhere first")
    name = _checked_name(path, name, kind)
    if (data / name).exists() and not overwrite:
        raise MetaloomError(f"{data / name} exists: add --replace to replace it, or choose another --name")
    listing = _listed(path, name, kind, layout)
    scanned = scan(listing)
    quality = judge(scanned, settings.min_examples)
    given = [] if layout is None else ["--layout", layout]
    check_quality(
        quality.report, settings, kind, str(path), shlex.join(["metaloom", "data", "check", str(path), *given])
    )
    already = None
    if not only and data.is_dir():
        there = list_beside(data, kind, name)
        if there is not None and isinstance(kind, Tables):
            _listed(path, name, there.kind, layout)  # what the tables there say of all tables holds for it too
        already = there and find_already(scanned, there, settings)
    if already is not None:
        refuse_already(already, path, kind, settings)
    domains = sorted({listing.items[index].domain for index in quality.used})
    return Addition(path, name, domains, quality.report, layout, listing.branches, already)


def list_elsewhere(path: Path, kind: Kind, layout: str | None) -> Listing:
    """The examples of a folder or an archive that is not in data/, as they would lie there.

    Raises:
        MetaloomError: it is absent or no such thing, or `list_sources` refuses it.
    """
    _check_path(path, kind, layout)
    return _listed(path, _checked_name(path, None, kind), kind, layout)


def _listed(path: Path, name: str, kind: Kind, layout: str | None) -> Listing:
    return list_sources(path, kind, prefix=name, given={name: layout} if layout else {})


def _check_path(path: Path, kind: Kind, layout: str | None) -> None:
    tables = kind.suffixes if isinstance(kind, Tables) else ()
    if layout is not None:
        check_layout(layout, "--layout")
        if tables:
            raise MetaloomError(f"--layout {layout}: {kind.many} lie in tables, which have no layout of folders")
    files = ", ".join(SUFFIXES + tables)
    if not path.exists():
        raise MetaloomError(f"{path} not found: give a folder or one of these files: {files}")
    if not path.is_dir() and not (path.is_file() and (archive_stem(path.name) or _ends(path, tables))):
        raise MetaloomError(f"{path} is no folder and none of these files: {files}{_of_another_kind(path)}")


def _of_another_kind(path: Path) -> str:
    """What to set where another kind of example takes such a file."""
    kinds = [name for name, kind in KINDS.items() if issubclass(kind, Tables) and _ends(path, kind.suffixes)]
    return f"; for a table set {' or '.join(f'`kind: {each}`' for each in kinds)} in params.yaml" if kinds else ""


def _checked_name(path: Path, name: str | None, kind: Kind) -> str:
    suffixes = (*SUFFIXES, *kind.suffixes)
    name = path.resolve().name if name is None else name
    check_name(name, "--name ")
    if path.is_dir():
        if archive_stem(name) is not None:
            raise MetaloomError(f"{path} is a folder, and {name} ends like an archive's name: rename it")
        return name
    suffix = next(suffix for suffix in sorted(suffixes, key=len, reverse=True) if _ends(path, suffix))
    return name if name.lower().endswith(suffix) else name + suffix


def _ends(path: Path, suffix: str | tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffix)


def install_addition(addition: Addition, data: Path, staging: Path, only: bool) -> None:
    """Copy into data/ as it is.

    Args:
        staging: a folder on the same disk, outside data/, that may be removed at any time.
        only: everything else goes out of data/.
    """
    if only:
        with atomic_dir(data) as folder:
            _copy(addition.path, folder / addition.name)
            write_given(folder, {addition.name: addition.layout})
        return
    target, old = data / addition.name, staging / "old"
    with atomic_dir(staging) as folder:
        _copy(addition.path, folder / "new")
    data.mkdir(parents=True, exist_ok=True)
    # before the data that it is of: they alone would be read in another way
    write_given(data, read_given(data) | {addition.name: addition.layout})
    if target.exists():
        write_text(staging / NOTE, addition.name)
        target.rename(old)
    (staging / "new").rename(target)
    shutil.rmtree(staging)


def finish_addition(data: Path, staging: Path) -> None:
    """Put into data/ what `install_addition` was about to, where it was killed when the old one was just out of it.

    The caller holds the project's lock.
    """
    note, new = staging / NOTE, staging / "new"
    if not (note.is_file() and new.exists()):
        return
    target = data / note.read_text(encoding="utf-8")
    if not target.exists():
        new.rename(target)


def _copy(source: Path, target: Path) -> None:
    try:
        if source.is_dir():
            shutil.copytree(source, target, ignore_dangling_symlinks=True)  # what they lack is listed as unreadable
        else:
            shutil.copyfile(source, target)
    except (OSError, shutil.Error) as error:
        raise MetaloomError(f"{source} could not be copied: {error}") from None
