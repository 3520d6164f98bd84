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
    (root / "params.yaml").write_text("seed: 1\n")
    assert head(root) == (commit, True)


def test_made_again_from_a_commit_only_where_one_holds_all_of_it(root):
    pointer = yaml.safe_dump({"outs": [{"md5": DATA_HASH, "hash": "md5", "path": "data"}]})
    (root / "params.yaml").write_text("seed: 0\nsplit: {train: rest}\n")
    (root / "data.dvc").write_text(pointer)
    git(root, "init", "-q")
    known = provenance(root, METHODS)
    assert known.only_here.startswith("Nothing is committed yet") and known.commands[0] == "metaloom run"
    git(root, "add", "params.yaml", "dvc.lock")
    git(root, "commit", "-q", "-m", "one")
    known = provenance(root, METHODS)
    assert known.only_here.startswith("data.dvc was not committed when") and known.commands[0] == "metaloom run"
    (root / "params.yaml").write_text("seed: 0\nsplit: {train: half}\n")
    assert provenance(root, METHODS).only_here.startswith("params.yaml, data.dvc were not committed when")
    git(root, "checkout", "-q", "params.yaml")
    git(root, "add", "data.dvc")
    git(root, "commit", "-q", "-m", "two")
    known = provenance(root, METHODS)
    assert known.commands == [f"git checkout {known.commit[:12]}", "metaloom run", "metaloom report --open"]
    assert not known.only_here and not known.uncommitted and not known.given
    (root / "data.dvc").write_text(pointer.replace(DATA_HASH, "f" * 32 + ".dir"))
    git(root, "commit", "-aqm", "other data")
    assert provenance(root, METHODS).only_here.startswith("data.dvc names another version of data/")


def test_settings_that_were_given_for_the_run_are_in_its_command(root):
    (root / "params.yaml").write_text("seed: 7\nsplit: {train: a share, test: 2}\n")
    known = provenance(root, METHODS)
    assert known.given == ["seed", "split.train"]
    assert known.commands[0] == "metaloom run --set seed=0 --set split.train=rest"


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
