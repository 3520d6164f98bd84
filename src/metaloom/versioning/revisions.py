"""Files, metrics, params and plots of a git revision, or of the working tree, without checking anything out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

from metaloom.errors import MetaloomError
from metaloom.system.escaping import plotted
from metaloom.system.git import found_in_refs, revision
from metaloom.system.lock import STATE
from metaloom.system.provenance import LOCK, POINTER, version_in
from metaloom.system.terminal import complain
from metaloom.versioning.paths import BUNDLE
from metaloom.versioning.plots import NEEDED, PAGE, keep_offline
from metaloom.versioning.project import dvc_errors, open_project, verify_remotes
from metaloom.versioning.remotes import remote_errors

WORKSPACE = "workspace"  # DVC's word for the working tree
OWN = "metaloom-now"  # a remote's name that no project has
UNTRAINED = "DVC failed to load some plots"  # what DVC says of the curves of a method that was not trained
CACHE = "auto-generated-upstream"  # and for the cache, as a remote of a project that has none


@dataclass(frozen=True)
class Revision:
    """One revision's files: git's as they were committed, DVC's from its cache or a remote."""

    name: str
    files: Any

    def has(self, path: str) -> bool:
        """Whether there is such a file or folder.

        Raises:
            BusyError: the remote does not answer.
            MetaloomError: the list of the files of a folder is in neither DVC's cache nor a remote, or that refuses.
        """
        from dvc.exceptions import DownloadError

        try:
            with dvc_errors(), suppress(DownloadError), remote_errors():
                self.files.info(path)  # `exists` says no whatever stands in its way
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False
        raise MetaloomError(self._nowhere(path))

    def get(self, path: str, to: Path) -> Path:
        """Copy a file or folder.

        Raises:
            BusyError: the remote does not answer.
            MetaloomError: this revision has no such file, it is in neither DVC's cache nor a remote, or that refuses.
        """
        from dvc.exceptions import FileTransferError

        with self._lacking(path, OSError), dvc_errors(), self._lacking(path, FileTransferError), remote_errors():
            if not self.has(path):
                raise MetaloomError(self._without(path))
            self.files.get(path, str(to), recursive=True)
        return to

    @contextmanager
    def _lacking(self, path: str, kind: type[Exception]) -> Iterator[None]:
        """An exception of this kind says that the file is nowhere."""
        try:
            yield
        except kind as error:
            raise MetaloomError(self._nowhere(path, f" ({error})")) from None

    def _nowhere(self, path: str, why: str = "") -> str:
        return (
            f"{path} of {self.name} is in neither DVC's cache nor a remote{why}: `dvc push` it where it was made, or "
            "`git checkout` that revision here and `dvc repro`"
        )

    def _without(self, path: str) -> str:
        if self.name == WORKSPACE:
            return f"the working tree has no {path}: `metaloom run` makes it"
        return f"{self.name} has no {path}: `metaloom run` there, and commit dvc.lock, data.dvc and metrics/"

    @property
    def data(self) -> str:
        """The data version that data.dvc names; empty where there is none."""
        if not self.files.exists(POINTER):
            return ""
        return version_in(self.files.read_text(POINTER), f"{POINTER} of {self.name}")


@contextmanager
def at_revision(root: str | Path, rev: str) -> Iterator[Revision]:
    """Open a revision.

    Raises:
        MetaloomError: there is no such revision, or no git repository.
    """
    check_revision(root, rev)
    with dvc_errors():
        yield Revision(rev, _opened(root, None if rev == WORKSPACE else rev))


def _opened(root: str | Path, rev: str | None) -> Any:
    from dvc.api import DVCFileSystem
    from dvc.config import ConfigError

    now, place = _places_now(root, bool(rev))

    def opened(config: dict[str, Any]) -> Any:
        if place:
            files = DVCFileSystem(_repo_below(root, rev, place, config))
        else:
            files = DVCFileSystem(str(Path(root).resolve()), rev=rev, config=config)
        verify_remotes(files.repo)
        return files

    try:
        return opened(now)
    except ConfigError:  # a remote of that name was of another kind then, and DVC mixes the options of both
        own = now["remote"][now["core"]["remote"]]
        return opened(now | {"core": {"remote": OWN}, "remote": {OWN: own}})


def _repo_below(root: str | Path, rev: str | None, place: str, config: dict[str, Any]) -> Any:
    """DVC's Repo of a project below git's root: of a revision, DVC itself looks at git's root alone."""
    from dvc.fs import GitFileSystem
    from dvc.repo import Repo
    from dvc.scm import SCM

    scm = SCM(str(root), search_parent_directories=True)
    files = GitFileSystem(scm=scm, rev=rev)
    return Repo(f"/{place}", fs=files, scm=scm, config=config, uninitialized=True)


def _places_now(root: str | Path, of_git: bool) -> tuple[dict[str, Any], str]:
    """Cache and remotes as they are configured now, as DVC's settings: it takes those of the revision, which may have
    had none yet, or others that are gone.

    Args:
        root: the project's.
        of_git: whether the files are a commit's.

    Returns:
        The settings, and where the project stands in its git repository; empty at the root, and where `of_git` is not
        set.
    """
    with open_project(root) as repo:
        below = Path(root).resolve().relative_to(Path(repo.scm.root_dir).resolve()) if of_git else Path()
        cache, default = repo.cache.local_cache_dir, repo.config["core"].get("remote")
        remotes = {name: dict(each) for name, each in repo.config["remote"].items()}
    if not default:  # DVC wants one: the cache
        default, remotes = CACHE, remotes | {CACHE: {"url": cache}}
    now = {"cache": {"dir": cache}, "core": {"remote": default}, "remote": remotes}
    return now, "" if below == Path() else below.as_posix()


def resolved(root: str | Path, rev: str) -> str:
    """What git and DVC know it by: a version of the model, such as v0.2.0, by the tag that names it."""
    tag = f"{BUNDLE}@{rev}"
    return rev if rev == WORKSPACE or revision(root, rev) or not revision(root, tag) else tag


def check_revision(root: str | Path, rev: str) -> None:
    """Raises MetaloomError unless git knows it, or it is the working tree."""
    with open_project(root) as repo:
        if repo.scm.no_commits:
            raise MetaloomError("there is nothing to compare with yet: commit first")
        if rev == WORKSPACE:
            return
        from dvc.scm import RevError, resolve_rev
        from scmrepo.exceptions import SCMError

        try:
            if not rev:
                raise RevError("no name")
            repo.scm.resolve_commit(resolve_rev(repo.scm, rev))
        except (RevError, SCMError, AttributeError, ValueError):  # the last two of a file or folder, or no legal name
            raise MetaloomError(
                f"there is no revision {rev[:100]!r}: give a branch, a tag or a commit (`git log`)"
            ) from None


def refuse_unrun(root: Path, rev: str) -> None:
    """Raises MetaloomError where nothing was made yet at a revision: it has no dvc.lock."""
    if rev == WORKSPACE:
        has = (root / LOCK).is_file()
    else:
        has = not revision(root, rev) or bool(found_in_refs(root, "^stages:", LOCK, [rev]))
    if not has:
        where = "in the working tree" if rev == WORKSPACE else f"at {rev}"
        raise MetaloomError(
            f"there is nothing to compare: `metaloom run` has made nothing yet {where} (no {LOCK}); `git log {LOCK}` "
            "lists the commits that have results"
        )


def params_differ(root: str | Path, a: str, b: str) -> dict[str, dict[str, Any]]:
    """`dvc params diff`: {dotted key: {"old": …, "new": …}} of params.yaml."""
    with open_project(root) as repo:
        return repo.params.diff(a_rev=a, b_rev=b).get("diff", {}).get("params.yaml", {})


def plots_differ(root: str | Path, a: str, b: str, out: Path) -> Path | None:
    """`dvc plots diff` as one HTML page; None where neither has a plot."""
    from dvc.render.match import match_defs_renderers
    from dvc_render import render_html

    with open_project(root) as repo:
        with redirect_stderr(StringIO()) as said:
            data = repo.plots.diff(revs=[a, b])
        for line in said.getvalue().splitlines():
            if line.strip() and not line.startswith(UNTRAINED):
                complain(line)
        found = match_defs_renderers(data=data, out=str(out / "static"), templates_dir=repo.plots.templates_dir)
        renderers = [each.renderer for each in found]
        for each in renderers:
            each.datapoints = [_plotted(point) for point in each.datapoints]
        if not renderers:
            return None
        template = _page_template(Path(root), Path(repo.plots.templates_dir), out)
        return Path(render_html(renderers=renderers, output_file=out / "index.html", html_template=template))


def _page_template(root: Path, templates: Path, out: Path) -> str | None:
    """DVC's page, which finds what it is drawn with from the folder `out`; None where the project has no such page."""
    keep_offline(root)
    page = templates / PAGE
    if not page.is_file():
        return None
    needed = os.path.relpath(root / STATE / NEEDED, out).replace(os.sep, "/")
    return page.read_text(encoding="utf-8").replace(f"../{STATE}/{NEEDED}", escape(needed))


def _plotted(point: dict[str, Any]) -> dict[str, Any]:
    return {name: plotted(value) if isinstance(value, str) else value for name, value in point.items()}
