"""Versions of data/: data.dvc names one; nothing that is not saved in DVC's cache is ever overwritten."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaloom.errors import MetaloomError
from metaloom.io import atomic_dir, atomic_file
from metaloom.locking import STATE, BusyError, project_lock
from metaloom.versioning.project import open_project

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo

DATA, POINTER = "data", "data.dvc"
SEEN = f"{STATE}/data-version"  # the version that data/ held when we last looked


@dataclass(frozen=True)
class DataVersion:
    """A version of data/: its hash as in data.dvc, whether this call changed anything, and one line about it."""

    md5: str
    changed: bool
    message: str


def version_data(root: str | Path, wait: int | float = 0) -> DataVersion:
    """Make what data/ holds now its version: `dvc add data`, in process.

    The message says what changed against the version before, and how to go back to that.
    """
    root = Path(root).resolve()
    if not _files(root / DATA):
        raise MetaloomError(f"{root / DATA} holds no files: put data there, or `metaloom data add PATH`")
    with project_lock(root, wait), open_project(root, lock=True) as repo:
        return _add(repo, root)


def version_dataset(
    root: str | Path,
    locked: bool = False,
    wait: int | float = 0,
    build: Callable[[Path], Any] | None = None,
) -> DataVersion:
    """See to it that data/ is there and that data.dvc names it.

    data/ absent: it comes from DVC's cache or remote, else it is the embedded default, built anew.
    data.dvc moved (a git pull or checkout): data/ follows it. data/ changed by hand: it becomes the new version.

    Args:
        root: the project's root.
        locked: refuse instead of making a new version.
        wait: seconds to wait for another holder of the project's lock.
        build: makes the embedded default in the empty folder that it is given.

    Raises:
        MetaloomError: the version in data.dvc is nowhere to be had, or data/ differs and `locked` is set,
            or both data/ and data.dvc changed.
    """
    root = Path(root).resolve()
    with project_lock(root, wait), open_project(root, lock=True) as repo:
        output = _output(repo)
        if not _files(root / DATA):
            return _absent(repo, root, output, build or _glyphs)
        if output is None:
            _refuse_if(locked, f"data/ has no version yet ({POINTER} is absent)", f"dvc add {DATA}")
            return _add(repo, root)
        held = _hash(repo, root / DATA)
        if held == output.hash_info.value:
            _saw(root, held)
            return DataVersion(held, False, f"data/ is version {_short(held)}, unchanged")
        return _differing(repo, root, output, held, locked)


def data_version(root: str | Path) -> str | None:
    """The hash of what data/ holds now, versioned or not; None where it holds nothing."""
    root = Path(root).resolve()
    if not _files(root / DATA):
        return None
    with open_project(root) as repo:
        return _hash(repo, root / DATA)


def named_version(root: str | Path) -> str | None:
    """The hash in data.dvc; None where there is no data.dvc."""
    with open_project(root) as repo:
        output = _output(repo)
        return output.hash_info.value if output is not None else None


def _differing(repo: Repo, root: Path, output: Output, held: str, locked: bool) -> DataVersion:
    """data/ is not what data.dvc says: either data.dvc moved, or data/ did."""
    named, seen = output.hash_info.value, _seen(root)
    saved = _tree(repo, held) is not None
    if seen == held and saved:
        _fetch(repo, output)
        _check_out(repo, root, output)
        return DataVersion(named, True, f"data/ now holds version {_short(named)}, as {POINTER} says")
    if seen == named or (seen is None and not saved):
        changes = _changes(repo, root, named)
        _refuse_if(locked, f"data/ differs from {POINTER} ({changes})", f"dvc checkout {POINTER}")
        return _add(repo, root)
    raise MetaloomError(
        f"data/ holds version {_short(held)} and {POINTER} names {_short(named)}, and which of them is meant "
        f"cannot be told: `dvc add {DATA}` keeps data/ as it is, `dvc checkout {POINTER}` takes the other"
    )


def _absent(repo: Repo, root: Path, output: Output | None, build: Callable[[Path], Any]) -> DataVersion:
    if output is not None and _fetch(repo, output, missing_ok=True):
        _check_out(repo, root, output)
        named = output.hash_info.value
        return DataVersion(named, True, f"data/ was restored: version {_short(named)}")
    with atomic_dir(root / DATA) as folder:
        build(folder)
        built = _hash(repo, folder)
        if output is not None and built != output.hash_info.value:
            named = _short(output.hash_info.value)
            raise MetaloomError(
                f"data version {named} ({POINTER}) is in neither DVC's cache nor a remote, and it is not the "
                f"embedded data set (version {_short(built)}): `dvc pull` it from a remote that has it, or "
                "take other data with `metaloom data add PATH`"
            )
    repo.add(str(root / DATA))
    _saw(root, built)
    return DataVersion(built, True, f"data/ is the embedded data set, built now: version {_short(built)}")


def _add(repo: Repo, root: Path) -> DataVersion:
    before = _output(repo)
    named = before.hash_info.value if before is not None else None
    changes = _changes(repo, root, named) if named else _count(len(_files(root / DATA)))
    pointer = (root / POINTER).read_bytes() if named else b""
    repo.add(str(root / DATA))
    held = _hash(repo, root / DATA)
    _saw(root, held)
    if named is None:
        return DataVersion(held, True, f"data/ is version {_short(held)}, the first: {changes}")
    if named == held:
        return DataVersion(held, False, f"data/ is version {_short(held)}, unchanged")
    back = _way_back(repo, root, named, pointer)
    return DataVersion(held, True, f"data/ is now version {_short(held)}: {changes}; {back}")


def _way_back(repo: Repo, root: Path, named: str, pointer: bytes) -> str:
    if _tree(repo, named) is None:
        return f"the version before, {_short(named)}, is not in DVC's cache: only a remote may have it"
    if _committed(root) == pointer:
        return f"to go back: git checkout {POINTER} && dvc checkout {POINTER}"
    kept = root / STATE / f"data-{_short(named)}"
    with atomic_file(kept) as temporary:
        temporary.write_bytes(pointer)
    return f"to go back: cp {kept.relative_to(root)} {POINTER} && dvc checkout {POINTER}"


def _committed(root: Path) -> bytes:
    """data.dvc as the last commit has it; empty where it has none, or where there is no git."""
    if shutil.which("git") is None:
        return b""
    show = ["git", "-C", str(root), "show", f"HEAD:./{POINTER}"]
    return subprocess.run(show, capture_output=True, check=False).stdout


def _changes(repo: Repo, root: Path, named: str) -> str:
    """`1 file added, 2 removed` between the version `named` and what data/ holds."""
    before, after = _tree(repo, named), _build(repo, root / DATA)
    if before is None:
        return f"{_count(len(after))}, against version {_short(named)}, whose files are not known here"
    old, new = ({key: oid.value for key, _, oid in tree} for tree in (before, after))
    counts = {
        "added": len(new.keys() - old.keys()),
        "modified": sum(new[key] != old[key] for key in new.keys() & old.keys()),
        "removed": len(old.keys() - new.keys()),
    }
    return ", ".join(f"{_count(count)} {verb}" for verb, count in counts.items() if count)


def _fetch(repo: Repo, output: Output, missing_ok: bool = False) -> bool:
    """Have the version that data.dvc names in the cache, from a remote if need be; whether it is there."""
    from dvc.exceptions import DownloadError, FileTransferError

    named = _short(output.hash_info.value)
    if not output.changed_cache():
        return True
    if repo.config["core"].get("remote"):
        try:
            repo.fetch([output.stage.path])
        except (DownloadError, FileTransferError):
            pass  # the remote does not have it; asked again below
        except OSError as error:
            raise BusyError(f"data version {named} could not be fetched from the remote: {error}") from None
    if not output.changed_cache():
        return True
    if missing_ok:
        return False
    raise MetaloomError(
        f"data version {named} ({POINTER}) is in neither DVC's cache nor a remote: `dvc pull` it from a remote "
        f"that has it, or keep data/ as it is with `dvc add {DATA}`"
    )


def _check_out(repo: Repo, root: Path, output: Output) -> None:
    """Put the named version in the place of data/, whole or not at all."""
    from dvc.fs import localfs
    from dvc_data.hashfile.checkout import checkout

    with atomic_dir(root / DATA) as folder:
        checkout(str(folder), localfs, output.get_obj(), output.cache, force=True, quiet=True)
    _saw(root, output.hash_info.value)


def _output(repo: Repo) -> Output | None:
    """data/ as data.dvc has it."""
    if not repo.fs.exists(repo.fs.join(repo.root_dir, POINTER)):
        return None
    output = repo.stage.load_one(repo.fs.join(repo.root_dir, POINTER)).outs[0]
    if not output.hash_info:
        raise MetaloomError(f"{POINTER} names no version: mend it (git checkout {POINTER}) or remove it")
    return output


def _build(repo: Repo, folder: Path) -> Any:
    """The tree object (file → hash) of a folder; hashes of unchanged files come from DVC's own state."""
    from dvc.fs import localfs
    from dvc_data.hashfile.build import build

    return build(repo.cache.local, str(folder), localfs, "md5", ignore=repo.dvcignore, dry_run=True)[2]


def _hash(repo: Repo, folder: Path) -> str:
    return _build(repo, folder).hash_info.value


def _tree(repo: Repo, md5: str) -> Any | None:
    """The tree object of a version, if it and all its files are in the cache."""
    from dvc_data.hashfile import check
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.errors import ObjectFormatError

    try:
        tree = Tree.load(repo.cache.local, HashInfo("md5", md5))
        check(repo.cache.local, tree)
    except (FileNotFoundError, ObjectFormatError):
        return None
    return tree


def _refuse_if(locked: bool, what: str, back: str) -> None:
    if locked:
        raise MetaloomError(
            f"{what}: run without --locked to make it a new version, or go back with `{back}`"
        )


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []


def _seen(root: Path) -> str | None:
    path = root / SEEN
    return path.read_text().strip() if path.is_file() else None


def _saw(root: Path, md5: str) -> None:
    with atomic_file(root / SEEN) as temporary:
        temporary.write_text(md5 + "\n")


def _count(files: int) -> str:
    return f"{files} file{'s' * (files != 1)}"


def _short(md5: str) -> str:
    return md5[:8]


def _glyphs(folder: Path) -> None:
    from metaloom.data.glyphs import build_glyphs

    build_glyphs(folder)
