"""Versions of data/: data.dvc names one; nothing that is not saved in DVC's cache is ever overwritten."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from metaloom.config import PARAMS, load_settings
from metaloom.data.reserved import refuse_reserved
from metaloom.errors import MetaloomError
from metaloom.system.files import atomic_dir, atomic_file, stats, write_text
from metaloom.system.git import committed
from metaloom.system.lock import STATE, project_lock
from metaloom.system.plural import several
from metaloom.system.provenance import DATA, POINTER
from metaloom.versioning import objects
from metaloom.versioning.code import CODE
from metaloom.versioning.objects import hash_of, saved_tree, short, tree_of
from metaloom.versioning.project import open_project
from metaloom.versioning.purged import PURGED, purged

ADDING = f"{STATE}/adding"  # what `metaloom data add` is about to put into data/
SEEN = f"{STATE}/data-version"  # the version that data/ held when we last looked


@dataclass(frozen=True)
class DataVersion:
    """A version of data/: its hash as in data.dvc, whether this call changed anything, one line about it."""

    md5: str
    changed: bool
    message: str


@contextmanager
def data_lock(root: Path, wait: int | float = 0) -> Iterator[None]:
    """The project's lock, and data/ without what a killed `data add --replace` has left: it is in, or gone."""
    with project_lock(root, wait):
        if (root / ADDING).is_dir():
            from metaloom.data.add import finish_addition  # with NumPy, which a run with nothing to do does without

            if (root / DATA).is_dir():
                finish_addition(root / DATA, root / ADDING)
            shutil.rmtree(root / ADDING, ignore_errors=True)
        yield


def version_data(root: str | Path, wait: int | float = 0) -> DataVersion:
    """Make what data/ holds now its version: `dvc add data`, in process.

    The message says what changed against the version before, and how to go back to that.

    Raises:
        BusyError: another run holds the project's lock for longer than `wait` seconds.
        MetaloomError: data/ holds no files, or one of DVC's own, or DVC refuses.
    """
    root = Path(root).resolve()
    with data_lock(root, wait):
        refuse_reserved(root / DATA, links=True)
        if not _holds_files(root / DATA):
            raise _no_data(root)
        with open_project(root, lock=True) as repo:
            return _add(repo, root)


def version_dataset(
    root: str | Path,
    locked: bool = False,
    wait: int | float = 0,
    build: Callable[[Path], Any] | None = None,
) -> DataVersion:
    """See to it that data/ is there and that data.dvc names it.

    data/ absent: it comes from DVC's cache or remote, else it is the embedded default, built again.
    data.dvc moved (a git pull or checkout): data/ follows it.
    data/ changed by hand: it becomes the new version.

    Args:
        root: the project's root.
        locked: refuse instead of making a new version.
        wait: seconds to wait for another holder of the project's lock.
        build: makes the embedded default in the empty folder that it is given.

    Raises:
        BusyError: another run or DVC command is at work, or the remote cannot be reached.
        MetaloomError: the version in data.dvc is nowhere to be had, or data/ differs and `locked` is set,
            or both data/ and data.dvc changed, or data/ holds one of DVC's own files.
    """
    root = Path(root).resolve()
    with data_lock(root, wait), open_project(root, lock=True) as repo:
        output = objects.pointer(repo)
        refuse_reserved(root / DATA, links=True)
        if not _holds_files(root / DATA):
            return _absent(repo, root, output, build or partial(_embedded, root))
        if output is None:
            _refuse_if(locked, f"data/ has no version yet ({POINTER} is absent)", "without --locked")
            return _add(repo, root)
        held = hash_of(repo, root / DATA)
        if held == output.hash_info.value:
            _saw(root, held)
            return DataVersion(held, False, f"data/ is version {short(held)}, unchanged")
        return _differing(repo, root, output, held, locked, build or partial(_embedded, root))


def held_version(root: str | Path) -> str | None:
    """The hash of what data/ holds now, whether data.dvc names it or not; None where it holds nothing.

    Raises:
        MetaloomError: it holds one of DVC's own files.
    """
    root = Path(root).resolve()
    refuse_reserved(root / DATA, links=True)
    if not _holds_files(root / DATA):
        return None
    with open_project(root) as repo:
        return hash_of(repo, root / DATA)


def refuse_behind(repo: Any, root: Path) -> None:
    """Raises MetaloomError where data/ does not hold what data.dvc names, unless data/ was changed by hand.

    What then changes data/ would leave data.dvc with a version that nobody has looked at.
    """
    output = objects.pointer(repo)
    if output is None:
        return
    if not _holds_files(root / DATA):
        raise MetaloomError(f"{DATA}/ is absent, and {POINTER} names a version: first `metaloom run` or `dvc pull`")
    held, named = hash_of(repo, root / DATA), output.hash_info.value
    if held != named and not _by_hand(named, _seen(root), saved_tree(repo, held) is not None):
        raise MetaloomError(
            f"{DATA}/ holds version {short(held)} and {POINTER} names {short(named)}: first `metaloom run` or "
            f"`dvc pull`, so that {DATA}/ follows"
        )


def _by_hand(named: str, seen: str | None, saved: bool) -> bool:
    """Whether data/, which differs from data.dvc, is what was changed."""
    return seen == named or (seen is None and not saved)


def _differing(
    repo: Any, root: Path, output: Any, held: str, locked: bool, build: Callable[[Path], Any]
) -> DataVersion:
    """data/ is not what data.dvc says: either data.dvc moved, or data/ did."""
    named, seen = output.hash_info.value, _seen(root)
    saved = saved_tree(repo, held) is not None
    if seen == held and saved:
        if not objects.fetch(repo, output):
            _refuse_purged(repo, root, output)
            try:
                return _built(repo, root, output, build)
            except MetaloomError:
                raise MetaloomError(
                    f"data version {short(named)} ({POINTER}) is in neither DVC's cache nor a remote: `dvc pull` it "
                    f"from a remote that has it, or keep data/ as it is with `dvc add {DATA}`"
                ) from None
        _check_out(root, output)
        return DataVersion(named, True, f"data/ now holds version {short(named)}, as {POINTER} says")
    if _by_hand(named, seen, saved):
        changes = objects.changes(saved_tree(repo, named), tree_of(repo, root / DATA))
        back = f"without --locked to make it a new version, or go back with `dvc checkout {POINTER}`"
        _refuse_if(locked, f"data/ differs from {POINTER} ({changes})", back)
        return _add(repo, root)
    verb = "checkout" if saved_tree(repo, named) is not None else "pull"
    raise MetaloomError(
        f"data/ holds version {short(held)} and {POINTER} names {short(named)}, and which of them is meant "
        f"cannot be told: `dvc add {DATA}` keeps data/ as it is, `dvc {verb} --force {POINTER}` takes the other"
    )


def refuse_no_data(root: Path) -> None:
    """Raises MetaloomError where there are no data, and a run has none to fetch or to make."""
    if (root / CODE).is_file() and not (root / POINTER).is_file() and not _holds_files(root / DATA):
        raise absent(root)


def absent(root: Path) -> MetaloomError:
    """What fills data/, which is not there."""
    if (root / POINTER).is_file():
        return MetaloomError(f"{DATA}/ is absent, and {POINTER} names a version: `metaloom run` or `dvc pull` fetch it")
    own = (root / CODE).is_file()  # of `metaloom init`
    run = "" if own else ", the first `metaloom run` too"
    return MetaloomError(f"there is no {DATA}/ yet: `metaloom data add PATH` fills it{run}")


def _no_data(root: Path) -> MetaloomError:
    return MetaloomError(f"{root / DATA} holds no files: put data there, or `metaloom data add PATH`")


def _absent(repo: Any, root: Path, output: Any | None, build: Callable[[Path], Any]) -> DataVersion:
    if output is not None and objects.fetch(repo, output):
        _check_out(root, output)
        named = output.hash_info.value
        return DataVersion(named, True, f"data/ was restored: version {short(named)}")
    if output is not None:
        _refuse_purged(repo, root, output)
    if output is None and (root / CODE).is_file():  # of `metaloom init`: its user has data
        raise _no_data(root)
    return _built(repo, root, output, build)


def _refuse_purged(repo: Any, root: Path, output: Any) -> None:
    """Raises MetaloomError where the version that data.dvc names has files that were purged."""
    if lacks := lacks_purged(repo, root, output.hash_info.value):
        raise MetaloomError(
            f"{lacks}: take {POINTER} of a commit after the purge (`git log --all {PURGED}`, "
            f"`git checkout COMMIT {POINTER}`)"
        )


def lacks_purged(repo: Any, root: Path, version: str) -> str:
    """That a version of data/ cannot be had, as some of it was purged; nothing where none was."""
    tree, gone = objects.whole_tree(repo, version), purged(root)
    lacking = sum(oid.value in gone for _, _, oid in tree or ())
    if not lacking:
        return ""
    return (
        f"data version {short(version)} ({POINTER}) has {several(lacking, 'example')} that "
        f"{'was' if lacking == 1 else 'were'} purged since ({PURGED}), and cannot be had whole any more"
    )


def _built(repo: Any, root: Path, output: Any | None, build: Callable[[Path], Any]) -> DataVersion:
    """The embedded data set in the place of data/, where data.dvc names it or nothing."""
    with atomic_dir(root / DATA) as folder:
        build(folder)
        built = hash_of(repo, folder)
        if output is not None and built != output.hash_info.value:
            named = short(output.hash_info.value)
            raise MetaloomError(
                f"data version {named} ({POINTER}) is in neither DVC's cache nor a remote, and it is not the "
                f"embedded data set (version {short(built)}): `dvc pull` it from a remote that has it, or "
                "take other data with `metaloom data add PATH`"
            )
    repo.add(str(root / DATA))
    _saw(root, built)
    return DataVersion(built, True, f"data/ is the embedded data set, built now: version {short(built)}")


def _add(repo: Any, root: Path) -> DataVersion:
    before = objects.pointer(repo)
    pointer = (root / POINTER).read_bytes() if before else b""
    tree = objects.add(repo, root / DATA)
    held = tree.hash_info.value
    _saw(root, held)
    if before is None:
        return DataVersion(held, True, f"data/ is version {short(held)}, the first: {several(len(tree), 'file')}")
    named = before.hash_info.value
    changes = objects.changes(saved_tree(repo, named), tree)
    if named == held:
        return DataVersion(held, False, f"data/ is version {short(held)}, unchanged")
    back = _way_back(repo, root, named, pointer)
    return DataVersion(held, True, f"data/ is now version {short(held)}: {changes}; {back}")


def _way_back(repo: Any, root: Path, named: str, pointer: bytes) -> str:
    is_committed = committed(root, POINTER) == pointer.decode("utf-8").strip()
    if saved_tree(repo, named) is None:
        if is_committed:  # a fresh clone, say: a remote has it, or it is the embedded data set
            back = f"git checkout {POINTER} && metaloom run"
            return (
                f"in place of the data set that is committed, which comes back (the embedded one is built) with {back}"
            )
        return f"the version before, {short(named)}, is not in DVC's cache: only a remote may have it"
    if is_committed:
        return f"to go back: git checkout {POINTER} && dvc checkout {POINTER}"
    kept = root / STATE / f"data-{short(named)}"
    with atomic_file(kept) as temporary:
        temporary.write_bytes(pointer)
    return f"to go back: cp {kept.relative_to(root)} {POINTER} && dvc checkout {POINTER}"


def _check_out(root: Path, output: Any) -> None:
    """Put the version that data.dvc names in the place of data/, whole or not at all."""
    with atomic_dir(root / DATA) as folder:
        objects.check_out(output, folder)
    _saw(root, output.hash_info.value)


def _refuse_if(locked: bool, what: str, remedy: str) -> None:
    if locked:
        raise MetaloomError(f"{what}: run {remedy}")


def _holds_files(folder: Path) -> bool:
    return any(True for _ in stats(folder))


def _seen(root: Path) -> str | None:
    path = root / SEEN
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else None


def _saw(root: Path, md5: str) -> None:
    write_text(root / SEEN, md5 + "\n")


def _embedded(root: Path, folder: Path) -> None:
    """The data set that comes with the kind of example in the project's params."""
    from metaloom.kinds import kind_of

    kind_of(load_settings(root / PARAMS)).embedded(folder)
