"""A retraining of a tiny project, for real: every stage, a bundle that verifies, and remotes."""

from __future__ import annotations

import re
import subprocess

import pytest
from projects import metaloom, run_here


@pytest.mark.slow
@pytest.mark.usefixtures("done")  # which has traced the graphs of such tasks for all projects
def test_a_night_from_data_to_a_bundle_in_prod(make, tmp_path_factory):
    root = make({"methods": ["protonet"]})
    there = tmp_path_factory.mktemp("there")
    subprocess.run(["git", "init", "-q", "--bare", there / "origin.git"], check=True)
    run_here(root, "dvc", "remote", "add", "-q", "-d", "there", str(there / "store"))
    run_here(root, "git", "commit", "-qam", "remote")
    run_here(root, "git", "remote", "add", "origin", str(there / "origin.git"))
    said = metaloom(root, "retrain").stdout
    assert "v0.0.1 is prod now (retrain/" in said
    assert run_here(root, "git", "status", "--porcelain").stdout == ""
    assert not (root / "dvc.lock").exists() and not (root / "artifacts").exists()
    refs = run_here(root, "git", "ls-remote", "origin").stdout
    assert "refs/heads/retrain/" in refs and "refs/tags/handoff#prod#1" in refs
    assert re.search(r"^v0\.0\.1 +prod ", metaloom(root, "models").stdout, re.MULTILINE)
    assert "promoted  v0.0.1" in metaloom(root, "history").stdout
    run_here(root, "git", "merge", "-q", refs.split("refs/heads/")[1].split()[0])
    run_here(root, "dvc", "pull", "-q")
    assert run_here(root, "dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    assert "nothing is new" in metaloom(root, "retrain", "--dry-run").stdout


@pytest.mark.sweep
def test_a_night_that_starts_from_the_model_in_prod(make, shapes):
    """For real, and after a merge nothing is due; tests/retraining/test_from_champion.py has the rest."""
    root = make({"methods": ["protonet"], "retrain.start": "champion", "train.start_steps": 0.5})
    hidden = root / "data/domain9"
    hidden.rename(root / "domain9")
    assert "v0.0.1 is prod now (retrain/" in metaloom(root, "retrain").stdout
    (root / "domain9").rename(hidden)
    said = metaloom(root, "retrain").stdout
    assert "training starts from v0.0.1: protonet\n" in said
    assert "protonet: starts from champion/protonet (100% of the weights), with 50% of the steps" in said
    newest = "for-each-ref --sort=-committerdate --count=1 --format=%(refname:short) refs/heads/retrain"
    branch = run_here(root, "git", *newest.split()).stdout.strip()
    assert "\nstarts from: v0.0.1\n" in run_here(root, "git", "log", "-1", "--format=%B", branch).stdout
    run_here(root, "git", "merge", "-q", branch)
    run_here(root, "dvc", "checkout", "-q")
    assert run_here(root, "dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    assert (
        "train" not in metaloom(root, "run").stdout.partition("accuracy")[0]
    )  # the page alone is made, see docs/index.md
    assert run_here(root, "git", "status", "--porcelain").stdout == ""
    assert "is up to date" in metaloom(root, "retrain").stdout
