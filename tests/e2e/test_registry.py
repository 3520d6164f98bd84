"""Model versions and stages as git tags, and the bundle of a stage on another machine."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from projects import metaloom, run_here

from metaloom.handoff.shipped.verify import verify

pytestmark = pytest.mark.slow


def commit(root: Path) -> None:
    run_here(root, "git", "add", "-A")
    run_here(root, "git", "commit", "-qm", "run")


def make_version(root: Path, labels: int) -> None:
    """A commit whose bundle has learned from so many labelled examples per class."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["export"]["n_shot"] = labels
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    run_here(root, "dvc", "repro", "-q", "export")
    commit(root)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def tags(root: Path) -> list[str]:
    return run_here(root, "git", "tag").stdout.split()


def test_versions_stages_and_another_machine(copied: Path, tmp_path: Path):
    root, bare = copied, tmp_path / "bare.git"
    run_here(root, "dvc", "remote", "add", "-f", "-d", "store", str(tmp_path / "store"))
    assert re.search(
        r"results differ from the last commit \(.*dvc\.lock.*\)", refusal(metaloom(root, "promote", check=False))
    )
    commit(root)
    assert "no version yet" in metaloom(root, "models").stdout
    assert re.match(r"v0\.0\.1 is prod; its \d+ files are in the remote;", metaloom(root, "promote").stdout)
    assert metaloom(root, "promote").stdout.startswith("v0.0.1 is prod")  # again: as it is
    assert "nothing before v0.0.1" in refusal(metaloom(root, "rollback", check=False))
    make_version(root, 3)
    metaloom(root, "promote", "v1.0.0", "--stage", "candidate")
    metaloom(root, "promote", "v1.0.0")
    assert "this commit is v1.0.0 already" in refusal(metaloom(root, "promote", "v3.0.0", check=False))
    assert tags(root) == ["handoff#candidate#2", "handoff#prod#1", "handoff#prod#3", "handoff@v0.0.1", "handoff@v1.0.0"]
    newest, first = json.loads(metaloom(root, "models", "--json").stdout)
    assert (newest["version"], sorted(newest["stages"]), first["stages"]) == ("v1.0.0", ["candidate", "prod"], [])
    assert first["accuracy"]["low95"] < first["accuracy"]["high95"]

    run_here(tmp_path, "git", "clone", "-q", "--bare", str(root), str(bare))
    for which, labels in ((["--stage", "prod"], 3), (["--rev", "v0.0.1"], 2), (["--stage", "candidate"], 3)):
        out = tmp_path / "-".join(which).strip("-")
        run_here(tmp_path, "dvc", "artifacts", "get", str(bare), "handoff", *which, "-o", str(out))
        assert not verify(out).problems
        assert json.loads((out / "metadata.json").read_text())["task"]["support_examples"] == 4 * labels

    assert metaloom(root, "rollback").stdout.startswith("v0.0.1 is prod again, instead of v1.0.0")
    run_here(root, "git", "push", "-q", "--tags", str(bare))
    run_here(tmp_path, "dvc", "artifacts", "get", str(bare), "handoff", "--stage", "prod", "-o", "back")
    assert json.loads((tmp_path / "back/metadata.json").read_text())["task"]["support_examples"] == 8
    assert "prod" in metaloom(root, "models").stdout.splitlines()[2]


def test_a_bundle_that_does_not_verify_is_not_promoted(copied: Path):
    commit(copied)
    labels = copied / "artifacts/bundle/labels.json"
    content = labels.read_text()
    labels.unlink()  # it may be a link into DVC's cache
    labels.write_text(content.replace("class0", "class9"))
    run_here(copied, "dvc", "commit", "-q", "-f", "export")
    commit(copied)
    assert "does not verify: labels.json: its content has changed" in refusal(metaloom(copied, "promote", check=False))
    assert tags(copied) == []
