"""The hashes in a project's code.yaml, and what another version of metaloom makes again."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from metaloom import __version__
from metaloom.errors import MetaloomError
from metaloom.pipeline.dependencies import stage_modules
from metaloom.system.files import stats, write_text
from metaloom.system.lock import STATE
from metaloom.system.source_files import PACKAGE, digest
from metaloom.system.terminal import say
from metaloom.versioning.code import CODE, REMEDY, VERSION, read_code, write_code
from metaloom.versioning.project import DAG

SEEN = f"{STATE}/code"  # what stood in the package's folder when we last hashed it
SOURCE = (".py", ".html", ".onnx", ".css", ".js")  # compiled files come and go


def hashes(dag: str) -> dict[str, str]:
    """For each stage in dvc.yaml's text a hash of its module and of all that it imports: 16 hexadecimal digits."""
    return {name: digest(module)[:16] for name, module in stage_modules(dag).items()}


def renew_code(root: str | Path) -> None:
    """Do what `take_over` does, and say what is made again.

    Raises:
        MetaloomError: the hashes could not be taken.
    """
    if other_code := take_over(root):
        say(other_code)


def take_over(root: str | Path) -> str | None:
    """Bring code.yaml up to date with the metaloom that runs, before DVC is asked what is due.

    Where a file of either has changed the hashes are taken in a process of their own: Python 3.11 cannot parse in two
    threads at once (https://github.com/python/cpython/issues/106905), and Prefect has some.

    Returns:
        a sentence about what is made again; None where the code is the same, and where there is no code.yaml and none
        is wanted.

    Raises:
        MetaloomError: the hashes could not be taken.
    """
    if not _has_code_file(root) or _seen(root):
        return None
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise MetaloomError(f"{CODE} could not be brought up to date: {(done.stderr.splitlines() or [''])[-1]}")
    write_text(Path(root, SEEN), _state(root))
    return done.stdout.strip() or None


def trouble(root: str | Path) -> str | None:
    """What is wrong with code.yaml, beginning with its name; None where nothing is, and where none is wanted."""
    if not _has_code_file(root) or _seen(root):
        return None
    try:
        found = read_code(root)
    except MetaloomError as error:
        return f"{CODE} is broken ({str(error).removesuffix(f': {REMEDY}')})"
    if found is None:
        is_folder = Path(root, CODE).is_dir()
        return f"{CODE} is a folder, remove it" if is_folder else f"{CODE} is missing, which {DAG} names"
    if found[VERSION] != __version__:
        return f"{CODE} is of metaloom {found[VERSION]}, and {__version__} is installed"
    now = hashes(_dag(root))
    other = [name for name in {**now, **found} if name != VERSION and now.get(name) != found.get(name)]
    return f"{CODE} is of other code than the one that is installed, for {', '.join(other)}" if other else None


def compared(root: str | Path) -> str:
    """Write code.yaml where it is of other code than the one that runs; returns what is then made again, in words."""
    try:
        before = read_code(root) or {}
    except MetaloomError:  # an editor's accident, or a conflict of git: written again
        before = {}
    now = hashes(_dag(root))
    changed = [name for name, code in now.items() if before.get(name) != code]
    if before != {VERSION: __version__, **now}:
        write_code(root, now)
    was = before.get(VERSION, "another version")
    versions = __version__ if was == __version__ else f"{was} → {__version__}"
    names = ", ".join(changed)
    these = (
        "it runs again, and what depends on it" if len(changed) == 1 else "these run again, and what depends on them"
    )
    return f"metaloom {versions}: other code than before for {names}: {these}" if changed else ""


def _has_code_file(root: str | Path) -> bool:
    """Whether this project has the file, or its dvc.yaml wants it: one that carries the tool's own code has neither."""
    return Path(root, CODE).exists() or f"{CODE}:" in _dag(root)


def _dag(root: str | Path) -> str:
    """The text of dvc.yaml; empty where there is none."""
    path = Path(root, DAG)
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except UnicodeDecodeError as error:
        raise MetaloomError(f"{path} is no text ({error}): `git checkout {DAG}` restores it") from None


def _seen(root: str | Path) -> bool:
    """Whether everything is as it was when the two were last compared."""
    seen = Path(root, SEEN)
    return seen.is_file() and seen.read_text(encoding="utf-8") == _state(root)


def code_state() -> str:
    """Another text whenever a file of the package is another, as far as its size and time tell."""
    return hashlib.sha256(repr(_files()).encode()).hexdigest()


def _files() -> list[tuple[str, int, int]]:
    return sorted((path, each.st_size, each.st_mtime_ns) for path, each in stats(PACKAGE) if path.endswith(SOURCE))


def _state(root: str | Path) -> str:
    """A hash of the package's files by name, size and time, and of what they were compared with: quick to look at."""
    found = _files()
    texts = [Path(root, name).read_bytes() for name in (DAG, CODE) if Path(root, name).is_file()]
    return hashlib.sha256(repr((found, texts)).encode()).hexdigest()


if __name__ == "__main__":
    print(compared("."))
