"""What a killed run or a full disk leaves of DVC's own files, put right before they are used."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from metaloom.system.files import atomic_file, load_yaml
from metaloom.system.git import committed
from metaloom.system.lock import STATE
from metaloom.system.provenance import DATA, LOCK, POINTER
from metaloom.system.terminal import say

INEXACT = 2  # seconds to which the start of a process is known
AT_WORK = 2  # seconds within which another process may write an entry into a new folder of the run cache
CONFLICT = b"<<<<<<<"
READERS = ".dvc/tmp/rwlock"  # which process reads or writes which file


def put_right(root: Path) -> None:
    """Each thing that is put right is said in a line."""
    for line in (*_free_readers(root / READERS), *_whole_again(root, LOCK), *_whole_again(root, POINTER)):
        say(line)


def remove_empty_runs(repo: Any) -> None:
    """Remove folders of DVC's run cache that have no entry, on which it fails: it was killed before it wrote one.

    One that is so new that another process may be about to write into it stays, and is taken for none.
    """
    load = repo.stage_cache._load_cache
    repo.stage_cache._load_cache = lambda key, entry: None if entry is None else load(key, entry)
    for folder in Path(repo.stage_cache.cache_dir).glob("??/*"):
        with suppress(OSError):  # it has one
            if folder.stat().st_mtime < time.time() - AT_WORK:
                folder.rmdir()


def conflicts(root: Path) -> bool:
    """Whether git has left conflicts in dvc.lock, which are the user's."""
    return CONFLICT in (_content(root / LOCK) or b"")


def _free_readers(path: Path) -> Iterator[str]:
    """Drop what nobody holds: a file that is no JSON, and entries of processes that started after it was written."""
    if (content := _content(path)) is None or not _stale(path, content):
        return
    import zc.lockfile

    try:
        guard = zc.lockfile.LockFile(f"{path}.lock")
    except zc.lockfile.LockError:  # somebody is writing it at this moment
        return
    try:
        if (content := _content(path)) is None or not _stale(path, content):  # it was looked at while it was written
            return
        kept = _held(path, content)
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(kept or {}), encoding="utf-8")
    finally:
        guard.close()
    what = "was broken, and nobody holds it" if kept is None else "named processes that have ended"
    yield f"{READERS} {what}: cleared"


def _stale(path: Path, content: bytes) -> bool:
    return (held := _held(path, content)) is None or held != json.loads(content)


def _held(path: Path, content: bytes) -> dict[str, Any] | None:
    """The entries whose processes live; None where the file is broken."""
    try:
        entries, written = json.loads(content), path.stat().st_mtime
        write = {name: each for name, each in entries.get("write", {}).items() if lives(each["pid"], written)}
        read = {
            name: [each for each in holders if lives(each["pid"], written)]
            for name, holders in entries.get("read", {}).items()
        }
        held = {"write": write, "read": {name: each for name, each in read.items() if each}}
        return {kind: held[kind] for kind in entries}
    except (ValueError, AttributeError, TypeError, KeyError):
        return None


def lives(pid: int, written: float) -> bool:
    """Whether the process that wrote its PID lives: one that started later has the number of one that has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        return process.create_time() <= written + INEXACT and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _whole_again(root: Path, name: str) -> Iterator[str]:
    """A file of DVC's as it last was whole, or as git has it, where a process was killed while it wrote it.

    Where neither is, it goes: dvc.lock is made of DVC's run cache again, and data.dvc of data/.
    """
    path, kept, broken = root / name, root / STATE / f"{name}.whole", root / STATE / f"{name}.broken"
    now, before = _content(path), _content(kept)
    if now == before or now is None or CONFLICT in now:
        return
    if _valid(name, now):
        with atomic_file(kept) as temporary:
            temporary.write_bytes(now)
        return
    before = before or f"{committed(root, name) or ''}\n".encode()
    whole = _valid(name, before)
    if not whole and name == POINTER and not path.with_suffix("").is_dir():  # nothing to make it of
        return
    with atomic_file(broken) as temporary:
        temporary.write_bytes(now)
    if whole:
        with atomic_file(path) as temporary:
            temporary.write_bytes(before)
    else:
        path.unlink()
    how = "put back as it last was whole" if whole else "removed, as it is made again"
    yield f"{name} was cut off: {how} (what was there is in {broken.relative_to(root)})"


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _valid(name: str, content: bytes) -> bool:
    import yaml
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA, COMPILED_SINGLE_STAGE_SCHEMA
    from voluptuous import Invalid

    try:
        value = load_yaml(content)
        if name == LOCK:
            return bool(COMPILED_LOCKFILE_SCHEMA(value)) and _sizes_complete(value)
        return all(map(_path_complete, COMPILED_SINGLE_STAGE_SCHEMA(value)["outs"] or [{}]))
    except (yaml.YAMLError, UnicodeDecodeError, Invalid, KeyError):
        return False


def _path_complete(out: dict[str, Any]) -> bool:
    """Whether an entry of data.dvc has its last line: without it, or with a part of it, data.dvc is legal for DVC."""
    path = str(out.get("path") or "")
    return path == DATA or not DATA.startswith(path)


def _sizes_complete(lock: dict[str, Any]) -> bool:
    """Whether each entry has its last lines: cut off before them, dvc.lock is legal for DVC.

    It writes them with `hash`, which is new in DVC 3: what older versions wrote may lack them.
    """
    stages = lock.get("stages", {}).values()
    entries = [each for stage in stages for each in (*stage.get("deps", ()), *stage.get("outs", ())) if "hash" in each]
    folders = [each for each in entries if str(each.get("md5")).endswith(".dir")]
    return all("size" in each for each in entries) and all("nfiles" in each for each in folders)


@contextmanager
def written_whole() -> Iterator[None]:
    """DVC writes its YAML files (dvc.lock, data.dvc) under another name, and renames them."""
    from dvc.utils.serialize import _common, _yaml

    plain = _common._dump_data

    def dump(path: Any, data: Any, dumper: Any, fs: Any = None, **options: Any) -> None:
        with atomic_file(os.fspath(path)) as temporary:
            plain(str(temporary), data, dumper, fs=fs, **options)

    _common._dump_data = _yaml._dump_data = dump
    try:
        yield
    finally:
        _common._dump_data = _yaml._dump_data = plain
