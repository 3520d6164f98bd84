"""`metaloom doctor`: what is wrong with a workspace, and putting it right."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaloom.cli.project import enter_project
from metaloom.errors import FAILED, MetaloomError
from metaloom.system.plural import several, some
from metaloom.system.terminal import show

if TYPE_CHECKING:
    from metaloom.versioning.health import Fault

ROOM = 2  # GiB free that a run should find
OURS = ("metaloom.pipeline", "metaloom.stages.", "metaloom.measuring")  # modules that a run starts as processes
PROJECT = "metaloom.project."  # begins how events name a project
FEW = 5  # names in a message
PATIENCE = 10  # seconds that a process may take to end


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Put right what can be.")] = False,
) -> None:
    """Say what is wrong with this project: locks, hashes of code, outputs, cache, remotes, versions, processes, disk.

    Every file is hashed again. Ends with 1 where something is left that is wrong.
    """
    from metaloom.config import PARAMS, load_settings
    from metaloom.system.lock import project_lock
    from metaloom.versioning.health import of_cache, of_config, of_dvc, of_hashes, of_outputs, of_purged, of_remotes

    root = enter_project()
    load_settings(root / PARAMS)
    left, fixable, stopped = 0, False, False
    with project_lock(root):
        for check in (
            of_config,
            of_dvc,
            _code,
            _room,
            _versions,
            _processes,
            of_cache,
            of_outputs,
            of_hashes,
            of_purged,
            of_remotes,
            _names,
            _deployment,
            _flow_runs,
        ):
            for each in [] if stopped else list(check(root)):
                done = fix and each.fix is not None and each.fix()
                left += not done
                fixable |= each.fix is not None
                stopped |= each.stops and not done
                show(f"fixed: {each.what}" if done else f"wrong: {each.what}: {each.remedy}")
    if not left:
        print("all is well")
        return
    if fix or not fixable:
        print("the rest is yours to put right" if fixable else "this is yours to put right")
    else:
        print("`metaloom doctor --fix` puts right what it can")
    raise typer.Exit(FAILED)


def _code(root: Path) -> Iterator[Fault]:
    """Before DVC is asked for anything: it reads the file too."""
    from metaloom.pipeline.code import take_over, trouble
    from metaloom.versioning.code import REMEDY
    from metaloom.versioning.health import Fault

    def written() -> bool:
        with suppress(MetaloomError):  # what is then still wrong has its line
            take_over(root)
        return trouble(root) is None

    if what := trouble(root):
        yield Fault(what, REMEDY, written)


def _room(root: Path) -> Iterator[Fault]:
    from metaloom.versioning.health import Fault

    free = shutil.disk_usage(root).free / 2**30
    if free < ROOM:
        yield Fault(f"{free:.1f} GiB free on the disk of {root}", f"a run should find {ROOM} GiB")
    for folder in (root, root / ".dvc"):
        if not os.access(folder, os.W_OK):
            yield Fault(f"{folder} cannot be written", f"chown or chmod it for user {os.getuid()}")


def _versions(_root: Path) -> Iterator[Fault]:
    """What our own requirements require, one step further, is there in a version that fits."""
    from packaging.requirements import Requirement

    from metaloom.versioning.health import Fault

    for each in map(Requirement, requires("metaloom") or []):
        if each.marker is not None:
            continue
        theirs = ((each.name, Requirement(needed)) for needed in _requires(each.name))
        for who, needed in (("metaloom", each), *theirs):
            if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
                continue
            has = _installed(needed.name)
            if has is None or not needed.specifier.contains(has, prereleases=True):
                told = "is not installed" if has is None else f"is {has}, and {who} wants {needed.specifier}"
                yield Fault(f"{needed.name} {told}", "pip install --constraint constraints.txt --editable .")


def _requires(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processes(root: Path) -> Iterator[Fault]:
    """Nobody else holds the project's lock: whatever works in it was left by a run that was killed."""
    import psutil

    from metaloom.versioning.health import Fault

    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            ours = any(f"-m {module}" in command for module in OURS) and Path(process.cwd()) == root
        except (psutil.Error, OSError):
            continue
        if ours:
            yield Fault(
                f"process {process.pid} (`{command}`) was left by a run that is gone",
                f"kill {process.pid}",
                lambda process=process: _ended(process),
            )


def _ended(process: Any) -> bool:
    import psutil

    process.terminate()
    _, alive = psutil.wait_procs([process], timeout=PATIENCE)
    for each in alive:
        each.kill()
    return not psutil.wait_procs(alive, timeout=PATIENCE)[1]


def _names(root: Path) -> Iterator[Fault]:
    """prefect.yaml has the project's name too, and only Prefect reads it there."""
    import yaml

    from metaloom.config import PARAMS, load_settings
    from metaloom.system.files import load_yaml
    from metaloom.versioning.health import Fault

    name, file = load_settings(root / PARAMS).retrain.name, root / "prefect.yaml"
    try:
        text = file.read_text(encoding="utf-8")
        listed = [each for each in load_yaml(text)["deployments"] if each["entrypoint"].endswith("retrain")]
    except FileNotFoundError:
        return
    except (LookupError, TypeError, AttributeError, ValueError, yaml.YAMLError):
        yield Fault("prefect.yaml is damaged", "git checkout prefect.yaml")
        return
    named = [str(each.get("name")) for each in listed]
    other = named if named and not any(each == name or each.startswith(f"{name}-") for each in named) else []
    other += [f"{PROJECT}{each}" for each in dict.fromkeys(re.findall(rf"{re.escape(PROJECT)}([\w-]+)", text))]
    other = [each for each in other if each != f"{PROJECT}{name}"]
    if other:
        yield Fault(
            f"prefect.yaml has {some(other, FEW)}, and retrain.name is {name}",
            "write that name there, and `prefect deploy` again",
        )


def _deployment(root: Path) -> Iterator[Fault]:
    """What is wrong with the deployment on the server that PREFECT_API_URL names; nothing where it names none."""
    from prefect.settings import PREFECT_API_URL

    from metaloom.versioning.health import Fault

    if not PREFECT_API_URL.value():
        return
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    from flows.notes import deployment

    name = deployment(root)
    try:
        with get_client(sync_client=True) as client:
            path = client.read_deployment_by_name(name).path
    except ObjectNotFound:
        return
    except HTTPError as error:
        yield Fault(f"the Prefect server at {PREFECT_API_URL.value()} does not answer ({error})", "start it")
        return
    if path and Path(path).is_absolute() and Path(path) != root:
        yield Fault(
            f"the deployment {name} is of {path}",
            "give this project another retrain.name, or `metaloom serve` here to make it this project's",
        )


def _flow_runs(root: Path) -> Iterator[Fault]:
    """Flow runs that a process of this project was running when it was killed."""
    from httpx import HTTPError
    from prefect.settings import PREFECT_API_URL

    from flows.notes import killed, mark_crashed
    from metaloom.versioning.health import Fault

    def mark() -> bool:
        with suppress(HTTPError):
            mark_crashed(root)
        return not killed(root)

    if PREFECT_API_URL.value() and (runs := killed(root)):
        yield Fault(
            f"{several(len(runs), 'flow run')} of a process that was killed may still be called running",
            "the next `metaloom serve` or `run` marks it as crashed",
            mark,
        )
