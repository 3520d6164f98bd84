"""Versions, hashes and settings are those that made the artifacts, not those that happen to lie about."""

from __future__ import annotations

import subprocess

import pytest
import yaml
from made_up_project import DATA_HASH

from metaloom.errors import MetaloomError
from metaloom.report.sections.provenance import provenance
from metaloom.system.provenance import head

METHODS = ("protonet",)


def git(root, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(root), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def root(small):
    return small.root


def test_commit_and_changes_of_the_code(root):
    (root / "params.yaml").write_text("seed: 0\n")
    git(root, "init", "-q")
    assert head(root) is None and provenance(root, METHODS).commit == ""
    git(root, "add", "params.yaml", "dvc.lock")
    git(root, "commit", "-q", "-m", "one")
    commit = git(root, "rev-parse", "HEAD")
    assert head(root) == (commit, False)
    (root / "dvc.lock").write_text((root / "dvc.lock").read_text() + "\n")  # every run writes it: no change of code
    assert head(root) == (commit, False)
    assert provenance(root, METHODS).commands[0] == f"git checkout {commit[:12]}"
    (root / "params.yaml").write_text("seed: 1\n")
    assert head(root) == (commit, True)
    assert provenance(root, METHODS).commands[0] == "make run"  # the commit alone does not make it again


def test_only_stages_of_now(root):
    known = provenance(root, METHODS)
    assert [stage.name for stage in known.stages] == [
        "prepare",
        "split",
        "train@protonet",
        "evaluate",
        "export",
    ]
    assert known.stages[0].outputs[0][0] == "artifacts/prepare" and known.stages[0].outputs[0][1].endswith(".dir")


def test_settings_are_those_that_the_stages_ran_with(root):
    (root / "params.yaml").write_text("seed: 99\n")
    known = provenance(root, METHODS)
    assert yaml.safe_load(known.settings)["seed"] == 0 and known.settings_from == "dvc.lock"
    (root / "dvc.lock").unlink()
    known = provenance(root, METHODS)
    assert yaml.safe_load(known.settings) == {"seed": 99} and known.settings_from == "params.yaml"


def test_data_version_from_the_lock_or_else_from_data_dvc(root):
    other = "f" * 32 + ".dir"
    (root / "data.dvc").write_text(yaml.safe_dump({"outs": [{"md5": other, "hash": "md5", "path": "data"}]}))
    assert provenance(root, METHODS).data_version == DATA_HASH
    (root / "dvc.lock").unlink()
    assert provenance(root, METHODS).data_version == other
    (root / "data.dvc").unlink()
    assert provenance(root, METHODS).data_version == ""


def test_broken_lock_is_refused(root):
    (root / "dvc.lock").write_text("stages: {prepare: [")
    with pytest.raises(MetaloomError, match=r"dvc.lock is no valid YAML .* `git checkout dvc.lock`"):
        provenance(root, METHODS)
