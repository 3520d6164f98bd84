"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.system.rounding import nulled

READ = "read.json"  # in an output: SHA-256 of the files beside data/ that it was made of, by their paths
SEAL = hashlib.sha256().digest_size
SPECIAL = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
SHORT = r"\d+ requested and \d+ written"
DEEPEST = 500  # that YAML may be nested
AT_ROOT = "run metaloom in the root of its repository"  # what to do where a file of the project is absent


@contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place, and that of an older one, when the block ends.

    When the block raises, `path` is as it was. When the process is killed, the temporary folder stays until
    the next call for the same `path`, which removes it, and puts back an older `path` that was just on its way
    out.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = path.parent / f".{path.name}.new", path.parent / f".{path.name}.old"
    if old.is_dir() and not path.exists():
        old.rename(path)
    for leftover in (temporary, old):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if path.is_dir():
        path.rename(old)
    temporary.rename(path)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """A temporary file name beside `path` that is renamed to it when the block ends, and removed if it raises.

    It is the same name each time, so what a killed process left is written over: one writer at a time.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.new"
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_full(error: OSError) -> bool:
    """Whether it says that a disk, or the user's share of it, is full."""
    if error.errno is None:  # as NumPy says it, which writes with C's fwrite
        return re.fullmatch(SHORT, str(error)) is not None
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def special(path: str | Path) -> str:
    """What it is where it is neither a file nor a folder, so that reading may wait for ever; "" where it is one."""
    try:
        return SPECIAL.get(stat.S_IFMT(Path(path).stat().st_mode), "")
    except (OSError, ValueError):
        return ""


def refuse_special(path: str | Path) -> None:
    """Raises MetaloomError for what is neither a file nor a folder."""
    if what := special(path):
        raise MetaloomError(f"{path} is a {what}, not a file: remove it")


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_text(path: str | Path, text: str) -> None:
    """Write text, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_sealed(path: str | Path, data: bytes) -> None:
    """Write what is kept for later, its SHA-256 behind it, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data + hashlib.sha256(data).digest())


def read_sealed(path: str | Path) -> bytes | None:
    """What `write_sealed` wrote; None where there is nothing, or nothing that is still the same."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return None
    data, sealed = content[:-SEAL], content[-SEAL:]
    return data if hashlib.sha256(data).digest() == sealed else None


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON with a closing newline, whole or not at all.

    Raises:
        MetaloomError: it holds a number that JSON has not: NaN or an infinity. `nulled` says that there is none.
    """
    for place, number in _not_finite(value):
        raise MetaloomError(f"{path} is not written: {place or 'its value'} is {number}, which JSON cannot hold")
    write_text(path, strict_json(value) + "\n")


def strict_json(value: Any) -> str:
    """Indented, and what any reader of JSON reads: null in place of NaN, half a character as its escape sequence."""
    text = json.dumps(nulled(value), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(nulled(value), indent=2, allow_nan=False)
    return text


def _not_finite(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Where the numbers are that JSON has not, as `protonet.5w1s.nll`."""
    if isinstance(value, float) and not math.isfinite(value):
        yield place, value
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, each in parts:
        yield from _not_finite(each, f"{place}.{name}" if place else str(name))


def required(path: str | Path, made_by: str = "") -> Path:
    """The path of a file that has to be there.

    Args:
        path: of the file.
        made_by: the DVC stage that makes it, for the message; empty: none does.

    Raises:
        MetaloomError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise MetaloomError(f"{path} not found{f': {makes(made_by)}' if made_by else ''}")
    return path


def makes(stage: str) -> str:
    """What to do about a file that is absent or behind: the DVC stage that makes it."""
    return f"`dvc repro {stage}` makes it"


def makes_again(stage: str) -> str:
    """What to do about a file that is there but broken, which DVC does not see."""
    return f"`dvc repro -f {stage}` makes it again"


def read_json(path: str | Path, made_by: str = "") -> Any:
    """Read JSON.

    Args:
        path: of the file.
        made_by: the stage that makes it, for the message where it is absent.

    Raises:
        MetaloomError: it is absent or no JSON.
    """
    path = required(path, made_by)
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise MetaloomError(f"{path} is no valid JSON: {error}") from None


def read_yaml(path: str | Path, remedy: str = "") -> Any:
    """Read YAML.

    Args:
        path: of the file.
        remedy: what to do where it is broken, for the message.

    Raises:
        MetaloomError: it is absent or no YAML.
    """
    import yaml

    try:
        return load_yaml(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MetaloomError(f"{path} not found: {AT_ROOT}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none, lists nested too deeply
        why = " ".join(str(error).split())
        raise MetaloomError(f"{path} is no valid YAML ({why}){f': {remedy}' if remedy else ''}") from None


def load_yaml(content: str | bytes) -> Any:
    """YAML by the parser in C where there is one, ten times as fast as Python's.

    Raises:
        yaml.YAMLError: it is none, or nested more than `DEEPEST` deep, which the parser in C would crash on.
    """
    import yaml  # not above: whoever asks a bundle reads none

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if _may_be_deep(content) and _depth(content, loader) > DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {DEEPEST} deep")
        return yaml.load(content, loader)  # noqa: S506 (both are safe)
    except (ValueError, RecursionError) as error:  # a date that is none, lists nested too deeply
        raise yaml.YAMLError(str(error)) from None


def _may_be_deep(content: str | bytes) -> bool:
    """False where it cannot be: a column begins two collections at most, and so does no bracket more than one."""
    text = content if isinstance(content, str) else content.decode("utf-8", "replace")
    longest = max(map(len, text.splitlines()), default=0)
    return 2 * longest + text.count("[") + text.count("{") > DEEPEST


def _depth(content: str | bytes, loader: Any) -> int:
    """Of its nesting; counted up to what is too deep."""
    import yaml

    depth = deepest = 0
    for event in yaml.parse(content, loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        deepest = max(deepest, depth)
        if deepest > DEEPEST:
            break
    return deepest


Stamp = tuple[int, int, int]  # size, time of change in nanoseconds, inode


def stamp(path: str | Path) -> Stamp:
    """Another one whenever the file's content has changed, as far as the file system knows."""
    return _stamp(Path(path).stat())


def stamps(folder: str | Path) -> dict[str, Stamp]:
    """The stamp of every file below a folder, by its path; one that goes away meanwhile is left out."""
    return {path: _stamp(found) for path, found in stats(folder)}


def stats(folder: str | Path) -> Iterator[tuple[str, os.stat_result]]:
    """Path and `stat` of every file below a folder; one that goes away meanwhile is left out."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)  # noqa: PTH118 (a hundred thousand of them)
            try:
                yield path, os.stat(path)  # noqa: PTH116
            except OSError:
                continue


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_size, found.st_mtime_ns, found.st_ino


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(path: str | Path) -> str:
    """The MD5 of a file, in hexadecimal, as DVC names it."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
