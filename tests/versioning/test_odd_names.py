"""Names and metadata of versions that nobody means: one line, and nothing is half done."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from projects import run_here
from typer.testing import CliRunner

from metaloom.cli.app import app
from metaloom.errors import MetaloomError
from metaloom.versioning import registry
from metaloom.versioning.quality import handed, told_apart
from metaloom.versioning.registry import ModelVersion, promote
from metaloom.versioning.revisions import check_revision, resolved


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("odd")
    run_here(root, "git", "init", "-q")
    run_here(root, "dvc", "init", "-q")
    (root / "dvc.yaml").write_text("stages: {}\n")
    run_here(root, "git", "add", "-A")
    run_here(root, "git", "commit", "-qm", "one")
    run_here(root, "git", "tag", "-m", "by hand", "handoff#prod")
    return root


REVISIONS = [
    "", "--help", "--", "-q", "--git-dir", "..", "a b", "handoff#prod#1", "a\nb", "a\0b", "\x1b[2J", "\udce9",
    "x" * 300, "x" * 5000, "HEAD:dvc.yaml", "HEAD^{tree}", "HEAD..HEAD", "^HEAD", "HEAD~9",
]  # fmt: skip


@pytest.mark.parametrize("name", REVISIONS)
def test_what_is_no_commit_is_said_so(repository: Path, name: str):
    with pytest.raises(MetaloomError, match="there is no revision .*give a branch, a tag or a commit") as error:
        check_revision(repository, resolved(repository, name))
    assert "\n" not in str(error.value) and len(str(error.value)) < 250
    check_revision(repository, "HEAD")


VERSIONS = [
    "",
    "v1",
    "1.0.0",
    "v1.0",
    "v01.0.0",
    "a b",
    "--",
    "..",
    "v1.0.0\n",
    "handoff@v1.0.0",
    "é",
    "v" + "9" * 400 + ".0.0",
]
STAGES = ["", " ", "a b", "prod#1", "-x", "..", "a//b", "é", "prod!", "\x1b[2J", "x" * 300]


@pytest.mark.parametrize(
    ("version", "stage"), [*((each, "prod") for each in VERSIONS), *(("v1.0.0", each) for each in STAGES)]
)
def test_promote_looks_at_both_names_first(tmp_path: Path, version: str, stage: str):
    """There is no repository here: nothing was asked of it."""
    with pytest.raises(MetaloomError, match="is no version|is no name for a stage") as error:
        promote(tmp_path, version, stage)
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


def test_a_stage_s_tag_without_a_number_is_read(repository: Path):
    assert registry._stages(repository).keys() <= {"prod"}


WHOLE: dict[str, Any] = {
    "task": {"name": "t", "n_way": 4},
    "metrics": {"task": {"accuracy": 0.5, "low95": 0.4, "high95": 0.6}},
    "provenance": {"data": "abc"},
}
PLACES = [
    (), ("task",), ("task", "name"), ("task", "n_way"), ("metrics",), ("metrics", "task"),
    ("metrics", "task", "accuracy"), ("provenance",), ("provenance", "data"),
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_models_and_comparisons_take_any_metadata(place: tuple[str, ...], repo: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(repo)
    for value in (None, "x", [], {}, [1], True, 3, -1, 1.5, float("nan"), 10**400, "\x1b[2J\n"):
        metadata: Any = {"": copy.deepcopy(WHOLE)}
        node, last = metadata, ""
        for key in place:
            node, last = node[last], key
        node[last] = value
        version = ModelVersion("v0.0.1", ["prod"], "a" * 40, datetime.now(UTC), metadata[""])
        monkeypatch.setattr(registry, "model_versions", lambda root, version=version: [version])
        for options in ([], ["--json"]):
            done = CliRunner().invoke(app, ["models", *options])
            assert done.exit_code == 0 and "\x1b" not in done.output, (value, done.exception)
            assert options or done.output.count("\n") == 2
        told_apart(handed(WHOLE), handed(metadata[""]))
    monkeypatch.setattr(
        registry, "model_versions", lambda root: [ModelVersion("v1.0.0", [], "b", datetime.now(UTC), [1])]
    )
    assert "metadata.json is damaged" in CliRunner().invoke(app, ["models"]).output


def test_a_version_before_whose_tag_is_gone_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "metadata_of", lambda root, commit: None)
    run_here(tmp_path, "git", "init", "-q")
    run_here(tmp_path, "git", "commit", "-q", "--allow-empty", "-m", "one")
    for tag in ("handoff#prod#1", "handoff@v0.0.1"):
        run_here(tmp_path, "git", "tag", "-m", "one", tag)
    run_here(tmp_path, "git", "commit", "-q", "--allow-empty", "-m", "two")
    for tag in ("handoff@v0.0.2", "handoff#prod#2"):
        run_here(tmp_path, "git", "tag", "-m", "two", tag)
    run_here(tmp_path, "git", "tag", "-d", "handoff@v0.0.1")
    with pytest.raises(MetaloomError, match="what was prod before .* is no version any more, as its tag is gone"):
        registry.rollback(tmp_path, "prod")


def test_a_lock_that_git_has_left_is_named():
    words = "git: a: failed to lock file 'x.lock' for writing: another command of git's is at work; .*: remove it"
    with pytest.raises(MetaloomError, match=words), registry._gto_errors():
        raise OSError("a: failed to lock file 'x.lock' for writing: ")
