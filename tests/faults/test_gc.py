"""What DVC's cache may lose: never a tagged version, and nothing without being asked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from dvc_objects.fs.local import LocalFileSystem
from projects import REPO, run_here
from typer.testing import CliRunner

from metaloom.cli import models
from metaloom.errors import MetaloomError
from metaloom.versioning import gc as gc_of
from metaloom.versioning.gc import find_unused
from metaloom.versioning.project import open_project
from metaloom.versioning.revisions import at_revision

DAG = """\
stages:
  export:
    cmd: mkdir -p artifacts/bundle && (cat data/a; echo bundle) > artifacts/bundle/model.onnx
    deps: [data]
    outs: [artifacts/bundle]
artifacts:
  handoff: {path: artifacts/bundle, type: model}
"""


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three commits, the first of them tagged; a fourth version of data/ that was never committed, and a fifth here."""
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / "dvc.yaml").write_text(DAG)
    (root / "params.yaml").write_text((REPO / "params.yaml").read_text())
    run_here(root, "git", "init", "-q")
    run_here(root, "dvc", "init", "-q")
    monkeypatch.chdir(root)
    for number in range(1, 6):
        (root / "data/a").write_text(f"{str(number) * number}\n")  # DVC looks at sizes: another each time
        with open_project(root) as repo:
            repo.add("data")
            if number <= 3:
                repo.reproduce()
        if number <= 3:
            run_here(root, "git", "add", "-A")
            run_here(root, "git", "commit", "-qm", "run")
        if number == 1:
            run_here(root, "git", "tag", "handoff@v0.0.1")
    return root


@pytest.fixture
def gc() -> Callable[..., str]:
    app = typer.Typer()
    app.command()(models.gc)

    def call(*arguments: str, answer: str = "") -> str:
        return CliRunner().invoke(app, list(arguments), input=answer).output

    return call


def bundle_of(root: Path, rev: str, to: Path) -> str:
    with at_revision(root, rev) as revision:
        revision.get("artifacts/bundle", to)
    return (to / "model.onnx").read_text()


def test_it_shows_asks_and_keeps_every_tagged_version(versions: Path, gc: Callable[..., str], tmp_path: Path):
    gc()  # no answer
    said = gc(answer="n\n")
    assert "artifacts/bundle                1 version of earlier commits" in said
    assert "data                            1 version of earlier commits" in said
    assert "1 folder of runs that were never committed" in said and "Delete 6 files in DVC's cache, " in said
    assert find_unused(versions).objects == 6  # nothing was deleted

    assert gc("--yes").endswith("B\n") and find_unused(versions).objects == 0
    assert bundle_of(versions, "handoff@v0.0.1", tmp_path / "first") == "1\nbundle\n"
    assert bundle_of(versions, "HEAD", tmp_path / "last") == "333\nbundle\n"
    assert (versions / "data/a").read_text() == "55555\n"
    assert "belongs to a tag" in gc("--yes")

    metric = versions / ".dvc/cache/files/md5/99/914b932bd37a50b983c5e7c90ae93b"  # of git's, which DVC has once more
    metric.parent.mkdir(exist_ok=True)
    metric.write_text("{}")
    assert gc(answer="n\n").startswith("copies of single files, such as metrics, ")


def test_killed_midway_every_tagged_version_is_whole_and_the_next_one_deletes_the_rest(
    versions: Path, gc: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """DVC deletes the lists of folders first, then files: after them nothing names the files that are left."""
    cache = versions / ".dvc/cache/files"
    remove = LocalFileSystem.remove

    def killed(files: LocalFileSystem, paths: str | list[str]) -> None:
        """After the first file of many; all else, as DVC's own scratch files, is deleted as ever."""
        if isinstance(paths, str) or not all(Path(path).is_relative_to(cache) for path in paths):
            remove(files, paths)
            return
        Path(paths[0]).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(LocalFileSystem, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            gc_of.collect_garbage(versions)
    assert find_unused(versions).objects == 5
    assert bundle_of(versions, "handoff@v0.0.1", tmp_path / "first") == "1\nbundle\n"

    gc("--yes")
    assert find_unused(versions).objects == 0
    assert bundle_of(versions, "handoff@v0.0.1", tmp_path / "again") == "1\nbundle\n"


@pytest.mark.parametrize("length", [0, 10])
def test_where_a_folders_list_is_damaged_nothing_goes(versions: Path, length: int):
    """Its files would count as named by nobody."""
    for path in (versions / ".dvc/cache/files/md5").glob("??/*.dir"):
        whole = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(whole[:length])
        for look in (gc_of.find_unused, gc_of.collect_garbage):
            with pytest.raises(MetaloomError, match="1 list of files in DVC's cache is damaged, .*doctor --fix"):
                look(versions)
        path.write_bytes(whole)
    assert find_unused(versions).objects == 6


def test_a_cache_that_others_may_use_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = SimpleNamespace(local=SimpleNamespace(path=str(tmp_path / "shared")))
    monkeypatch.setattr(f"{gc_of.__name__}.open_project", lambda root, lock: nullcontext(SimpleNamespace(cache=cache)))
    (tmp_path / "project").mkdir()
    for look in (gc_of.find_unused, gc_of.collect_garbage):
        with pytest.raises(MetaloomError, match=f"{tmp_path}/shared lies outside of this project"):
            look(tmp_path / "project")
