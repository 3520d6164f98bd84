"""`metaloom init`: a project of one's own, without cloning the tool."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from metaloom.config.settings import KindName
from metaloom.errors import MetaloomError
from metaloom.system.files import write_text
from metaloom.system.git import revision
from metaloom.system.plural import some

PACKAGE = Path(__file__).parents[1]
SHIPPED = PACKAGE / "template"  # in an installed wheel
COPIED = (".dvcignore", "budget.yaml", ".dvc/plots")
ENTRYPOINT = r"\bflows/(\w+)\.py:(\w+)", r"flows.\1.\2"  # of a flow by its file, and as it is installed
DVC = (sys.executable, "-m", "dvc")
SETTINGS = {"core.analytics": "false", "core.check_update": "false", "plots.html_template": "plots/page.html"}  # of DVC
NOBODY = ("-c", "user.name=metaloom", "-c", "user.email=metaloom@localhost")  # where git knows no name yet
NOTE = ".metaloom/init"  # there while a folder is filled: what it held before, for the next try where this is killed
MADE = {".git", ".dvc", ".dvcignore", "budget.yaml", "dvc.yaml", "code.yaml", "prefect.yaml", "params.yaml"}
MADE |= {".gitignore", "README.md", ".metaloom"}
NETWORKS = {"pictures": "conv4", "vectors": "mlp", "text": "linear"}  # that a new project starts with
IGNORED = "/.venv\n/.metaloom/\n/artifacts/\n/data\n/report/\n/dvc_plots/\n__pycache__/\n.*.new\n.*.old\n"
README = """\
# {name}

A [metaloom](https://pypi.org/project/metaloom/) project: many small tasks in, a model that learns the next one out.

```bash
metaloom data add PATH     # your examples; `metaloom data check` says what is wrong with them
metaloom run               # brings everything up to date; `dvc repro` does the same
git add -A && git commit   # settings, data version, figures
```

Settings are in `params.yaml`; `metaloom plan` shows how they fit your data. `code.yaml` names the version of metaloom
that made the figures: `metaloom run` says what an upgrade makes again.
"""


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or an empty one.")],
    kind: Annotated[KindName, typer.Option(help="What an example is: pictures, vectors or text.")] = "pictures",
) -> None:
    """Make a project of your own: settings, dvc.yaml, git and DVC. Nothing of the tool is copied but its settings.

    In a git repository it becomes a part of that one, and nothing is committed; a new repository gets its first commit.
    """
    from metaloom.system.terminal import say

    there = _there(folder)
    _refuse_ignored(folder)
    with _emptied_if_it_fails(folder, there):  # it may be where the user's shell is, so it stays the same folder
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / NOTE, "\n".join(there or ()))
        _fill(folder, folder.resolve().name, kind)
    _stage(folder)
    shutil.rmtree(folder / ".metaloom")
    say(f"{folder} is a metaloom project. Next:\n  cd {folder}\n  metaloom data add PATH\n  metaloom run")


def _there(folder: Path) -> set[str] | None:
    """What is in the folder, at most .git of an empty clone; None where there is no folder.

    What a killed try has left there goes.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise MetaloomError(f"{folder} is a file: choose a new folder")
    there = {each.name for each in folder.iterdir()}
    if (folder / NOTE).is_file() and there <= MADE | {f".{name}.new" for name in MADE}:
        before = set((folder / NOTE).read_text(encoding="utf-8").split())
        _empty(folder, before | {".metaloom"})  # with the note, should this be killed as well
        return before
    if others := sorted(there - {".git"}):
        raise MetaloomError(f"{folder} is not empty (it holds {some(others, 2)}): choose a new folder")
    return there


def _refuse_ignored(folder: Path) -> None:
    """Raises MetaloomError where the folder is one that git leaves out, as DVC refuses to start there."""
    if shutil.which("git") is None:
        return  # said when git is first needed
    path = folder.absolute()
    above = next(each for each in path.parents if each.is_dir())
    command = ["git", "check-ignore", "--verbose", str(path)]
    found = subprocess.run(command, cwd=above, capture_output=True, text=True, check=False)
    if found.returncode == 0:
        rule = found.stdout.partition("\t")[0]  # file:line:pattern
        raise MetaloomError(f"{folder} is ignored by git ({rule}): choose a folder that is not")


@contextmanager
def _emptied_if_it_fails(folder: Path, there: set[str] | None) -> Iterator[None]:
    """With what was there before; None: the folder itself goes too."""
    try:
        yield
    except BaseException:
        if folder.is_dir():
            _empty(folder, there or set())
        if there is None and folder.is_dir():
            folder.rmdir()
        raise


def _empty(folder: Path, kept: set[str]) -> None:
    for each in folder.iterdir():
        if each.name in kept:
            continue
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()


def _fill(folder: Path, name: str, kind: str) -> None:
    from metaloom.pipeline.code import hashes
    from metaloom.pipeline.dependencies import with_code_file
    from metaloom.versioning.code import write_code
    from metaloom.versioning.project import DAG

    template = SHIPPED if SHIPPED.is_dir() else PACKAGE.parents[1]  # an editable installation
    _start_dvc(folder)
    for each in COPIED:
        (shutil.copytree if (template / each).is_dir() else shutil.copy)(template / each, folder / each)
    dag = with_code_file((template / DAG).read_text(encoding="utf-8"))
    write_text(folder / DAG, dag)
    write_code(folder, hashes(dag))
    write_text(folder / "prefect.yaml", _deployments((template / "prefect.yaml").read_text(encoding="utf-8"), name))
    params = _settings((template / "params.yaml").read_text(encoding="utf-8"), kind, name)
    write_text(folder / "params.yaml", params)
    write_text(folder / ".gitignore", IGNORED)
    write_text(folder / "README.md", README.format(name=name))


def _stage(folder: Path) -> None:
    """Have git know the files, where they are going to stay."""
    _run(folder, "git", "add", "-A", ".")
    if not revision(folder):  # DVCLive, which logs training, needs a commit
        known = subprocess.run(["git", "var", "GIT_COMMITTER_IDENT"], cwd=folder, capture_output=True, check=False)
        _run(folder, "git", *(() if known.returncode == 0 else NOBODY), "commit", "--quiet", "-m", "metaloom init")


def _settings(params: str, kind: str, name: str) -> str:
    """params.yaml with the kind of example, the network and the name that a project starts with; comments stay."""
    own = _as_yaml(_own(name))
    params = re.sub(r"^(retrain: .*\n  name: )\S+", lambda found: found[1] + own, params, flags=re.MULTILINE)
    params = re.sub(r"^(kind: )\w+", rf"\g<1>{kind}", params, flags=re.MULTILINE)
    return re.sub(r"^(network:\n  name: )\w+", rf"\g<1>{NETWORKS[kind]}", params, flags=re.MULTILINE)


def _deployments(prefect: str, name: str) -> str:
    """prefect.yaml with the installed flows, and the project's name in what Prefect's server tells apart."""
    own = _own(name)
    named = re.sub(
        r"^(  - name: (?:&\w+ )?)retrain([\w-]*)",
        lambda found: found[1] + _as_yaml(own + found[2]),
        prefect,
        flags=re.MULTILINE,
    )
    return re.sub(*ENTRYPOINT, named).replace("metaloom.project.retrain", f"metaloom.project.{own}")


def _own(name: str) -> str:
    """How Prefect's server knows the project in a folder of this name."""
    return re.sub(r"[^0-9A-Za-z]+", "-", name)[:50].strip("-") or "retrain"


def _as_yaml(name: str) -> str:
    """In quotes where YAML would read a number, a date or a switch: `2026`, `yes`."""
    import yaml

    return yaml.safe_dump(name).removesuffix("\n").removesuffix("\n...")


def _start_dvc(folder: Path) -> None:
    """git and DVC in the new folder; inside another repository DVC starts in a folder of it."""
    if shutil.which("git") is None:
        raise MetaloomError("git is not installed: a project is versioned with it")
    inside = subprocess.run(["git", "rev-parse", "--is-inside-work-tree"], cwd=folder, capture_output=True, check=False)
    if inside.returncode:
        _run(folder, "git", "init", "--quiet")
    own = (folder / ".git").exists()
    _run(folder, *DVC, "init", "--quiet", *([] if own else ["--subdir"]))
    _run(folder, "git", "rm", "-r", "--cached", "--quiet", ".")  # DVC has added its files, and they are on the move
    for setting, value in SETTINGS.items():
        _run(folder, *DVC, "config", setting, value)


def _run(folder: Path, *command: str) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise MetaloomError(f"{command[0]} is not installed: a project is versioned with it") from None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MetaloomError(f"`{' '.join(command)}` failed: {reason}") from None
