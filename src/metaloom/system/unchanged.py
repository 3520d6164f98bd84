"""data/ read as one version: nothing of it may change between the first look at it and the last."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from metaloom.errors import MetaloomError
from metaloom.system.files import load_yaml, md5, stamps
from metaloom.system.plural import several
from metaloom.system.provenance import DATA, LOCK

# environment variables: the folder that holds the version to read, where data/ has moved on; and the version's name,
# where who runs the stage sees to it that nothing else is read
FOLDER, VERSION = "METALOOM_DATA", "METALOOM_DATA_VERSION"
NOTE = "data_version.txt"  # the output that names the version that was read
IGNORED = (".git", ".hg", ".dvc", ".dvcignore")  # by DVC, wherever they are


@contextmanager
def unchanged(data: str) -> Iterator[Path]:
    """The folder to read.

    Raises:
        MetaloomError: it is another one when the block has ended without an error.
    """
    folder = Path(os.environ.get(FOLDER, data))
    before = stamps(folder)
    yield folder
    after = stamps(folder)
    if differ := {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}:
        raise MetaloomError(
            f"{data} changed while it was read ({several(len(differ), 'file')}): `metaloom run` reads the version that "
            "data.dvc names, whatever comes in between; or run this again when nothing is being copied"
        )


def version_of(folder: Path, data: str) -> str:
    """DVC's name for what a folder holds that is, or is a copy of, the folder `data`."""
    if VERSION in os.environ:
        return os.environ[VERSION]
    rules = Path(".dvcignore")
    ignored = GitIgnoreSpec.from_lines(
        [*IGNORED, *(rules.read_text(encoding="utf-8").splitlines() if rules.is_file() else ())]
    )
    paths = sorted(Path(path).relative_to(folder).as_posix() for path in stamps(folder))
    folders = {f"{folder}/" for path in paths for folder in list(PurePosixPath(data, path).parents)[:-1]}
    out = tuple(filter(ignored.match_file, folders))  # with all in them, whatever another rule says of that
    files = [path for path in paths if not (f"{data}/{path}".startswith(out) or ignored.match_file(f"{data}/{path}"))]
    tree = [{"md5": md5(folder / path), "relpath": path} for path in files]
    return hashlib.md5(json.dumps(tree).encode(), usedforsecurity=False).hexdigest() + ".dir"


def check_named(note: str) -> None:
    """Look before anything is made of the examples: DVC hashes data/ when the stage that read it has ended.

    Args:
        note: the file in which that stage has named the version that it read.

    Raises:
        MetaloomError: dvc.lock in this folder names another one.
    """
    lock, read = Path(LOCK), Path(note).read_text(encoding="utf-8").strip()
    stages = load_yaml(lock.read_bytes())["stages"] if lock.is_file() else {}
    for name, stage in stages.items():
        deps = [dep for dep in stage.get("deps", []) if dep["path"] == DATA]  # others may have an etag alone
        named = {dep["md5"] for dep in deps if dep["md5"].endswith(".dir")}
        if note in (out["path"] for out in stage.get("outs", [])) and named - {read}:
            raise MetaloomError(
                f"data/ changed after `{name}` had read it, and {lock} names a version that was not read: "
                f"`dvc repro --force {name}`, or `metaloom run`, reads again"
            )
