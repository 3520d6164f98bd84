"""What a stage read is what dvc.lock names.

DVC hashes a stage's inputs when its command has ended (dvc#11058): a file that came into data/, or a line of code or
params.yaml that changed, in the meantime would count as read. Here it hashes them before. And of data/ the version that
data.dvc names is read, to its last byte: where data/ is another one, before or after, a copy of that version is read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.system.files import READ, read_json, sha256
from metaloom.system.lock import STATE
from metaloom.system.provenance import DATA, LOCK
from metaloom.system.terminal import say
from metaloom.system.unchanged import FOLDER, NOTE, VERSION
from metaloom.versioning import objects
from metaloom.versioning.objects import saved_tree, short, tree_of
from metaloom.versioning.project import DAG

COPY = Path(STATE, "reading", DATA)  # with the name of data/, which a domain without one is called by


@dataclass(frozen=True)
class Version:
    """The version of data/ that data.dvc names, of which a stage reads data/ or a copy; `repo` is DVC's Repo."""

    repo: Any
    output: Any

    @property
    def folder(self) -> Path:
        """data/ itself."""
        return Path(self.repo.root_dir, DATA)

    def moved(self) -> str:
        """What is other in data/; nothing where it is the version."""
        named, held = self.output.hash_info.value, tree_of(self.repo, self.folder)
        if held.hash_info.value == named:
            return ""
        return objects.changes(saved_tree(self.repo, named), held)

    @contextmanager
    def copied(self) -> Iterator[None]:
        """The stage that is run in the block reads a copy."""
        folder = Path(self.repo.root_dir, COPY)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        objects.check_out(self.output, folder)
        os.environ[FOLDER] = str(folder)
        try:
            yield
        finally:
            del os.environ[FOLDER]
            shutil.rmtree(folder, ignore_errors=True)


def misread(stage: Any) -> str:
    """What is to be said where a stage, up to date for DVC, has read another version of data/ than dvc.lock names, or
    another file that a setting names than is there now.

    So it is where data/ changed when a stage under plain `dvc repro` had ended, and DVC had not hashed data/ yet; of
    files that settings name DVC knows nothing.
    """
    notes = [Path(out.fs_path) for out in stage.outs if Path(out.fs_path).name == NOTE]
    read = notes[0].read_text(encoding="utf-8").strip() if notes and notes[0].is_file() else ""
    folder = str(Path(stage.repo.root_dir, DATA))
    named = next((dep.hash_info.value for dep in stage.deps if dep.fs_path == folder and dep.hash_info), read)
    if not read or read == named:
        return _other_file(stage)
    return f"version {short(read)} of {DATA}/ was read where {LOCK} names {short(named)}: {stage.name} reads again"


def _other_file(stage: Any) -> str:
    """Which of the files that its outputs name is another one now."""
    for note in (Path(out.fs_path, READ) for out in stage.outs):
        for path, known in read_json(note).items() if note.is_file() else ():
            there = Path(stage.repo.root_dir, path)
            if there.is_file() and sha256(there) != known:
                return f"{path} is another file than {stage.name} has read: it reads again"
    return ""


def reading(repo: Any, name: str, reproduce: Callable[[], Any]) -> Any:
    """Run a stage.

    Args:
        repo: DVC's Repo.
        name: of the stage.
        reproduce: has DVC run it.

    Raises:
        Exception: whatever `reproduce` raises.
    """
    version = _version(repo, name)
    try:
        with _named(version), _hashed_before(version, watched=True):
            return reproduce()
    except Exception:  # whatever the stage or DVC made of data/ that moved; raised again where it did not move
        moved = version.moved() if version else ""
        if version is None or not moved or saved_tree(repo, version.output.hash_info.value) is None:
            raise
    named = short(version.output.hash_info.value)
    say(f"{DATA}/ has changed ({moved}): version {named} is read; what is new waits for the next run")
    with version.copied(), _named(version), _hashed_before(version, watched=False):
        return reproduce()


def _version(repo: Any, name: str) -> Version | None:
    """None where the stage does not read data/, or no version is named."""
    folder = str(Path(repo.root_dir, DATA))
    reads = any(dep.fs_path == folder for dep in repo.stage.load_one(repo.root_dir + f"/{DAG}", name).deps)
    output = objects.pointer(repo) if reads else None
    return Version(repo, output) if output else None


@contextmanager
def _named(version: Version | None) -> Iterator[None]:
    """The stage need not hash what it reads, to name it."""
    if version:
        os.environ[VERSION] = version.output.hash_info.value
    try:
        yield
    finally:
        os.environ.pop(VERSION, None)


@contextmanager
def _hashed_before(version: Version | None, watched: bool) -> Iterator[None]:
    """A stage's inputs are hashed before its command; with `watched`, data/ has to be the version afterwards too."""
    from dvc.stage import Stage

    save, run = Stage.save_deps, Stage.run
    hashed: set[Any] = set()

    def hash_once(stage: Any, **options: Any) -> None:
        if stage not in hashed:
            save(stage, **options)
            hashed.add(stage)
            for dep in stage.deps:
                if version and dep.fs_path == str(version.folder):
                    dep.hash_info, dep.meta = version.output.hash_info, version.output.meta
        elif version and watched and (moved := version.moved()):
            raise MetaloomError(f"{DATA}/ changed while it was read: {moved}")

    def hash_and_run(stage: Any, *arguments: Any, **options: Any) -> None:
        if options.get("force"):  # else DVC does it, after a look at what ran before
            hash_once(stage)
        run(stage, *arguments, **options)

    Stage.save_deps, Stage.run = hash_once, hash_and_run
    try:
        yield
    finally:
        Stage.save_deps, Stage.run = save, run
