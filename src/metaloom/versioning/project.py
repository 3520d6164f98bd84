"""Opening a DVC repository: settings overridden for one run, and DVC's errors in our words."""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from metaloom.config import OVERRIDES, PARAMS, apply_overrides, environment_overrides
from metaloom.errors import MetaloomError
from metaloom.system.files import is_full
from metaloom.system.lock import BusyError
from metaloom.system.permissions import refused
from metaloom.versioning.config_file import in_our_words
from metaloom.versioning.leftovers import put_right, remove_empty_runs, written_whole
from metaloom.versioning.noted import noted
from metaloom.versioning.silence import limit_silence

DAG = "dvc.yaml"


def find_root(start: str | Path = ".") -> Path:
    """The nearest folder from `start` upward that holds dvc.yaml and params.yaml.

    Raises:
        MetaloomError: there is none.
    """
    root = root_above(start)
    if root is None:
        raise MetaloomError(
            f"no project at {Path(start).resolve()} or above it: a project has {DAG} and {PARAMS}; go to one, "
            "or make one with `metaloom init DIR`"
        )
    return root


def root_above(start: str | Path = ".") -> Path | None:
    """The same; None where there is none, for what also works outside of a project."""
    start = Path(start).resolve()
    folders = (start, *start.parents)
    return next((each for each in folders if (each / DAG).is_file() and (each / PARAMS).is_file()), None)


@contextmanager
def overriding(overrides: dict[str, Any]) -> Iterator[None]:
    """Lay dotted settings over params.yaml, for this process and what it starts; the file stays as it is."""
    before = os.environ.get(OVERRIDES)
    os.environ[OVERRIDES] = json.dumps(environment_overrides() | overrides)
    try:
        yield
    finally:
        if before is None:
            del os.environ[OVERRIDES]
        else:
            os.environ[OVERRIDES] = before


@contextmanager
def open_project(root: str | Path, lock: bool = False) -> Iterator[Any]:
    """DVC's Repo at `root`, which reads params.yaml with the environment's overrides.

    With `lock`, other DVC commands have to wait until the block ends.

    Raises:
        BusyError: another DVC command is at work.
        MetaloomError: whatever else DVC refuses.
    """
    from dvc.repo import Repo, lock_repo

    root = Path(root).resolve()
    put_right(root)
    with (
        dvc_errors(root),
        _quiet_dvc(),
        written_whole(),
        _params_overridden(root),
        Repo(str(root)) as repo,
        lock_repo(repo) if lock else nullcontext(),
    ):
        verify_remotes(repo)
        limit_silence(repo)
        remove_empty_runs(repo)
        yield repo


def verify_remotes(repo: Any) -> None:
    """Have DVC hash what it takes from any remote, and refuse what is not what it is named by."""
    for remote in repo.config["remote"].values():
        remote["verify"] = True


@contextmanager
def _quiet_dvc() -> Iterator[None]:
    """No running commentary from DVC, and no warnings: what matters in them, our own messages say."""
    loggers = [logging.getLogger(name) for name in ("dvc", "dvc_data", "dvc_objects")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextmanager
def _params_overridden(root: Path) -> Iterator[None]:
    """DVC looks a file's loader up by suffix: for the matrix in dvc.yaml and for a stage's params alike."""
    from dvc.utils.serialize import LOADERS

    plain, params = LOADERS[".yaml"], str(root / PARAMS)

    def load(path: Any, fs: Any = None, **kwargs: Any) -> Any:
        loaded = plain(path, fs=fs, **kwargs)
        if str(root / path) != params:
            return loaded
        return apply_overrides(loaded, environment_overrides())

    LOADERS[".yaml"] = load
    try:
        yield
    finally:
        LOADERS[".yaml"] = plain


@contextmanager
def dvc_errors(root: Path | None = None) -> Iterator[None]:
    """DVC's exceptions as ours, with the whole chain of causes in one line.

    Args:
        root: of the project; None: what is asked is another repository.
    """
    from dvc.config import ConfigError
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.lock import LockError
    from dvc.scm import SCMError

    with noted() as causes:
        try:
            yield
        except LockError as error:
            raise BusyError(_busy(str(error))) from None
        except NotDvcRepoError:
            raise MetaloomError("no DVC repository here: run `dvc init` in the root of your clone") from None
        except (DvcException, SCMError, OSError) as error:
            lines = [refused(each) for each in (error, *causes) if isinstance(each, OSError)]
            if line := next(filter(None, lines), ""):
                raise MetaloomError(line) from None
            if type(error) is ConfigError:  # and none of its kinds, which are of remotes
                raise MetaloomError(in_our_words(error, root)) from None
            if not isinstance(error, OSError):
                raise MetaloomError(f"DVC: {chain(error)}") from None
            if not is_full(error):
                raise
            raise MetaloomError(f"the disk is full ({error}): free some room and run again") from None
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise BusyError(f"DVC's own {error}: another DVC command is at work; try again") from None


def chain(error: BaseException | None) -> str:
    """The messages of an exception and its causes, outermost first, in one line."""
    messages = []
    while error is not None:
        messages.append(" ".join(str(error).split()))
        error = error.__cause__
    return ": ".join(filter(None, messages))


def _busy(message: str) -> str:
    blockers = re.findall(r"\(PID (\d+)\): (.+)", message)
    if not blockers:
        return "another DVC command is at work in this project: try again when it has ended"
    named = ", ".join(sorted({f"process {pid} (`{command.strip()}`)" for pid, command in blockers}))
    return (
        f"another DVC command is at work in this project: {named}; try again when it has ended "
        "(`metaloom doctor` says whether they live)"
    )
