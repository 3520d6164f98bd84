"""Which of our files a result depends on, derived from the imports: they are read, nothing is run.

Who asks: dvc.yaml's stages (`metaloom.pipeline.dependencies`); the fingerprints of checkpoints and banks
(`metaloom.stages.train`) and of a fleet's bundles (`metaloom.handoff.bundle.contents`); the keys of the kept graphs
(`metaloom.handoff.graphs.onnxfile`).
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from metaloom.system.files import read_sealed, write_sealed

PACKAGE = Path(__file__).parents[1]
MOST = 2 / 3  # a folder of which this share is used stands for its files

BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")  # where a statement holds others

# Files and folders that cannot change a result, and why; what only they import does not count either.
NO_EFFECT = {
    "__init__.py": "the version number, and the names that users import",
    "errors.py": "the one exception and its messages",
    "kinds/pictures/glyphs": "draws the embedded data/, whose contents are what counts",
    "stages/__init__.py": "a stage's command line and exit code",
    "versioning/code.py": "which version of metaloom a project names",
} | {  # the rest of system says which values come out; these only how they get somewhere
    f"system/{name}.py": "files, processes, git, progress, plurals"
    for name in (
        "arrays",
        "collector",
        "files",
        "git",
        "lifeline",
        "lock",
        "parallel",
        "plural",
        "source_files",
        "terminal",
        "times",
        "unchanged",
        "utf8",
    )
}

# Imports from one room into another that are not followed, and why.
NOT_FOLLOWED = {
    ("kinds", "networks"): "a kind knows which networks look at its examples; who builds one imports them as well",
}

# Folders of files that travel in bundles as they are, and the one module that takes them: no import shows it.
SHIPPED, SHIPPED_BY = "kinds/*/shipped", "handoff/bundle/write.py"


def sources(*modules: str, package: Path = PACKAGE) -> set[Path]:
    """The files that decide what these modules compute, relative to `package`.

    These are their own, and in turn those of every module that one of them names, in an import or as a string (so
    `python -m` and lazily imported registries count). A package that holds other files than Python reads them: all of
    it counts. What is imported for type checkers alone does not, nor does a file without a statement, nor what
    `NO_EFFECT` and `NOT_FOLLOWED` list.

    Args:
        modules: dotted names; a package stands for all of its modules.
        package: the folder of the top-level package.

    Raises:
        LookupError: there is no such module.
        SyntaxError: a file is no Python.
    """
    found: set[Path] = set()
    rest = [file for module in modules for file in _started(module, package)]
    while rest:
        file = rest.pop()
        if file in found or _has_no_effect(file, package):
            continue
        found.add(file)
        if file.suffix == ".py":
            named = _named(file, package, file.read_bytes())
            rest += [other for other in named if _followed(file, other, package)]
            rest += _read(file.parent, package)
        if file == package / SHIPPED_BY:
            rest += package.glob(f"{SHIPPED}/*.*")
    return {file.relative_to(package) for file in found if _has_statements(file)}


def digest(*modules: str) -> str:
    """A hash of all that `sources` finds: names and contents."""
    return _digest(modules, PACKAGE)


def noted_digest(notes: Path, *modules: str) -> str:
    """`digest`, from a file that notes it for a package of exactly these contents: to read them takes a tenth of the
    time that it takes to follow their imports.

    Args:
        notes: the file; it is written where it does not know these modules.
        modules: as `sources` takes them.
    """
    whole, key = _whole(PACKAGE), " ".join(modules)
    try:
        noted = json.loads(read_sealed(notes) or b"{}")
    except OSError:
        noted = {}
    known = noted.get("digests", {}) if noted.get("package") == whole else {}
    if key not in known:
        known = known | {key: digest(*modules)}
        write_sealed(notes, json.dumps({"package": whole, "digests": known}).encode())
    return known[key]


@cache
def _whole(package: Path) -> str:
    """A hash of all files of the package and of the Python that reads them."""
    hashed = hashlib.sha256(sys.version.encode())
    for file in sorted(package.rglob("*")):
        if "__pycache__" not in file.parts and file.is_file():
            hashed.update(f"{file.relative_to(package).as_posix()} ".encode())
            hashed.update(hashlib.sha256(file.read_bytes()).digest())
    return hashed.hexdigest()


@cache  # files that change under a running process do not change what it runs
def _digest(modules: tuple[str, ...], package: Path) -> str:
    hashed = hashlib.sha256()
    for file in sorted(sources(*modules, package=package)):
        hashed.update(f"{file.as_posix()} {hashlib.sha256((package / file).read_bytes()).hexdigest()}\n".encode())
    return hashed.hexdigest()


def by_folder(files: Iterable[Path], package: Path = PACKAGE) -> list[Path]:
    """The files in short, sorted: a folder stands for its files where most of them are used, and most of each package
    in it; the whole package never does. So dvc.yaml stays short, at the price of a run too many where another file of
    the folder has changed."""
    used = set(files)
    return sorted(each for child in package.iterdir() for each in _short(child, used, package))


def _short(path: Path, used: set[Path], package: Path) -> list[Path]:
    own = path.relative_to(package)
    if path.is_file():
        return [own] if own in used else []
    if _mostly_used(path, used, package):
        return [own]
    return [each for child in path.iterdir() for each in _short(child, used, package)]


def _mostly_used(folder: Path, used: set[Path], package: Path) -> bool:
    everything = list(folder.rglob("*.py"))
    files = [file for file in everything if not _has_no_effect(file, package)]
    python = [file.relative_to(package) for file in files if _has_statements(file)]
    parts = [child.parent for child in folder.glob("*/__init__.py") if child in files]
    share = sum(file in used for file in python) / max(len(python), 1)
    return (
        2 * len(files) > len(everything) and share >= MOST and all(_mostly_used(part, used, package) for part in parts)
    )


def _started(module: str, package: Path) -> list[Path]:
    files = _files_of(module, package)
    if not files or _dotted(files[-1], package) != module:
        raise LookupError(f"there is no module {module} in {package}")
    own = files[-1]
    return [*files, *own.parent.rglob("*.py")] if own.name == "__init__.py" else [*files]


@cache
def _files_of(name: str, package: Path) -> tuple[Path, ...]:
    """The module of a dotted name after the packages it lies in, as Python runs them; a name in a module is its
    module's."""
    first, *names = name.split(".")
    if first != package.name:
        return ()
    folder, files = package, (package / "__init__.py",)
    for each in names:
        if (folder / each / "__init__.py").is_file():
            folder /= each
            files += (folder / "__init__.py",)
        elif (folder / f"{each}.py").is_file():
            return (*files, folder / f"{each}.py")
        else:
            break
    return files


@cache  # every stage's module names most of them
def _named(file: Path, package: Path, content: bytes) -> list[Path]:
    in_strings = re.search(rf"[\"']{package.name}\.\w".encode(), content) is not None
    nodes = _nodes(_parsed(file, content), in_strings)
    return [each for node in nodes for name in _names(node, file, package) for each in _files_of(name, package)]


@cache
def _parsed(file: Path, content: bytes) -> ast.Module:
    return ast.parse(content, str(file))


def _names(node: ast.AST, file: Path, package: Path) -> list[str]:
    """The modules that a node may name."""
    if isinstance(node, ast.Import):
        return [each.name for each in node.names]
    if isinstance(node, ast.ImportFrom):
        parts = file.relative_to(package.parent).parts
        base = ".".join([*(parts[: -node.level] if node.level else ()), *filter(None, [node.module])])
        return [f"{base}.{each.name}" for each in node.names]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        files = _files_of(node.value, package)
        whole = files and node.value == _dotted(files[-1], package)
        return [node.value] if whole and files[-1] != file else []
    return []


def _dotted(file: Path, package: Path) -> str:
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _nodes(tree: ast.AST, expressions: bool) -> Iterator[ast.AST]:
    """All nodes but those that only type checkers see: statements, and what is in them where that is asked for."""
    rest: list[ast.AST] = [tree]
    while rest:
        node = rest.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            rest += node.orelse
        elif expressions:
            rest += ast.iter_child_nodes(node)
        else:
            rest += [each for block in BLOCKS for each in getattr(node, block, ())]


@cache  # asked for every file of the folder
def _read(folder: Path, package: Path) -> tuple[Path, ...]:
    """All of a package that holds other files than Python, in folders of theirs or beside the modules."""
    if folder == package:
        return ()
    data = list(_data(folder))
    return (*data, *folder.glob("*.py")) if data else ()


def _data(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        ours = (path / "__init__.py").is_file() or path.match(SHIPPED)
        if path.name.startswith((".", "__pycache__")) or ours:
            continue
        if path.is_dir():
            yield from _data(path)
        elif path.suffix not in (".py", ".pyc"):
            yield path


def _followed(file: Path, other: Path, package: Path) -> bool:
    return (_room(file, package), _room(other, package)) not in NOT_FOLLOWED


@cache
def _room(file: Path, package: Path) -> str:
    return file.relative_to(package).parts[0]


@cache  # asked of every name that is imported
def _has_no_effect(file: Path, package: Path) -> bool:
    own = file.relative_to(package)
    return any(own.is_relative_to(each) for each in NO_EFFECT)


@cache
def _has_statements(file: Path) -> bool:
    if file.suffix != ".py":
        return True
    body = _parsed(file, file.read_bytes()).body
    return any(not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)) for each in body)
