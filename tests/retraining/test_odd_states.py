"""States of git, of the disk and of the clock in which a retraining was lost, went wrong or never ended."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import gto.api
import pytest
import together
from nights import noted, share, template
from pydantic import ValidationError

from metaloom.config import load_settings
from metaloom.errors import MetaloomError
from metaloom.judging.ledger import Entry
from metaloom.judging.records import record
from metaloom.retraining import others, steps
from metaloom.retraining.approving import answer
from metaloom.retraining.receivers import send
from metaloom.versioning.data import version_data
from metaloom.versioning.gc import collect_garbage, find_unused
from metaloom.versioning.registry import in_stage, put_into, rollback

PROMOTED = "v0.0.2 is prod now"


def test_a_rollback_that_is_not_sent_yet_is_not_pruned(shared):
    """With fetch.prune git takes a tag that the remote has not for one that somebody has deleted there."""
    shared.night()
    shared.data(0.7)
    shared.night()
    for setting in ("fetch.prune", "fetch.pruneTags", "remote.origin.prune"):
        shared.git("config", setting, "true")
    assert rollback(shared.root, "prod") == ("v0.0.2", "v0.0.1")
    shared.data(0.71)
    assert shared.night().night.champion == "v0.0.1"


@pytest.mark.slow
def test_a_tag_that_is_another_one_in_the_remote_is_named(shared):
    shared.night()
    shared.git("tag", "-f", "handoff@v0.0.1", "HEAD")
    shared.data(0.7)
    with pytest.raises(
        MetaloomError, match=r"a tag of a model is another one in origin .*handoff@v0\.0\.1.* --force` t"
    ):
        shared.night()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/services/SECRET TOKEN", "http://127.0.0.1:SECRET/x"])
def test_a_webhook_that_is_no_address_ends_no_night_and_is_not_shown(small, monkeypatch, url: str):
    monkeypatch.setenv("HOOK", url)
    small.set(notify="$HOOK")
    with pytest.raises(MetaloomError) as refused:
        send("$HOOK", "x", {"text": "x"})
    assert "SECRET" not in str(refused.value) and "does not take it" in str(refused.value)
    assert small.night().message.startswith("v0.0.1 is prod now")
    small.data(0.7)
    assert small.night().message.startswith(PROMOTED)


def test_a_path_in_other_letters(at, tmp_path: Path):
    shutil.copytree(together.once("retrained", template), tmp_path / "größe 数/project", symlinks=True)
    project = at(tmp_path / "größe 数/project")
    share(project, tmp_path / "größe 数")
    project.data(0.5)
    assert "v0.0.1 is prod now" in project.night().message


@pytest.mark.parametrize("step", ["judge", pytest.param("commit", marks=pytest.mark.slow)])
def test_gc_leaves_a_night_what_it_has_made(small, monkeypatch, step: str):
    small.night()
    plain = getattr(steps, step)

    def meanwhile(root, *arguments):
        find_unused(root)
        collect_garbage(root)
        raise MetaloomError("killed")

    small.data(0.7)
    monkeypatch.setattr(steps, step, meanwhile)
    with pytest.raises(MetaloomError, match="killed"):
        small.night()
    monkeypatch.setattr(steps, step, plain)
    runs = len(small.runs)
    assert small.night().message.startswith(PROMOTED)
    assert len(small.runs) == runs and in_stage(small.root, "prod")[0] == "v0.0.2"


def test_gc_is_refused_while_a_night_is_at_work(small, monkeypatch):
    code = "import sys; from metaloom.versioning.gc import find_unused; find_unused(sys.argv[1])"
    plain, said = small.train, []

    def meanwhile(place: Path, force: bool) -> None:
        done = subprocess.run([sys.executable, "-c", code, small.root], capture_output=True, text=True)
        said.append(done.stderr)
        plain(place, force)

    monkeypatch.setattr(small, "train", meanwhile)
    assert "v0.0.1 is prod now" in small.night().message
    assert "BusyError: another run is at work in this project" in said[0]


def test_the_number_of_a_version_that_was_deregistered_or_made_by_hand_is_not_taken_again(small):
    small.night()
    small.git("tag", "handoff@v0.0.2")  # a lightweight one, which GTO does not see
    small.data(0.7)
    assert small.night().message.startswith("v0.0.3 is prod now")
    gto.api.deregister(small.root, "handoff", version="v0.0.3")
    with pytest.raises(MetaloomError, match=r"v0.0.3 is prod, and is no version any more \(`gto deregister`\?\)"):
        in_stage(small.root, "prod")


@pytest.mark.slow
def test_who_is_promoted_while_the_judge_is_asked_again_is_judged_against(small, monkeypatch):
    """In turn the first version, the second and the third are in the stage while the fourth is to be promoted."""
    small.night()
    small.set(approval="true")
    for accuracy in (0.8, 0.9):
        small.data(accuracy)
        small.night()
    small.set(approval="false")
    small.data(0.6)
    plain, judged = steps.judged, []

    def judging(root, champion, challenger, **more):
        judged.append(champion)
        verdict = plain(root, champion, challenger, **more)
        if len(judged) <= 2:  # somebody else promotes just then
            put_into(root, f"v0.0.{len(judged) + 1}", "prod")
        return verdict

    monkeypatch.setattr(steps, "judged", judging)
    assert small.night().night.outcome == "held"
    assert len(judged) == 3 and in_stage(small.root, "prod")[0] == "v0.0.3"


def test_a_yes_does_not_pass_by_what_labels_have_shown(small):
    small.night()
    small.set(approval="true")
    small.data(0.7)
    night = small.night().night
    now = datetime.fromtimestamp(small.clock, UTC)
    pair = in_stage(small.root, "prod")[1], night.commit
    record(small.root, Entry(now, *pair, "worse", 1e-4, "shadow x", -0.2, -0.3, -0.1, 90))
    with pytest.raises(
        MetaloomError, match=r"^v0.0.2 waits still: labelled inputs .* worse than v0.0.1 .* --force` prom"
    ):
        answer(small.root, night.name, True, now=lambda: small.clock)
    assert small.outcomes() == ["promoted", "candidate"] and in_stage(small.root, "prod")[0] == "v0.0.1"


def test_a_branch_that_is_in_the_way(shared):
    shared.git("branch", "retrain")
    with pytest.raises(MetaloomError, match=r"^a branch is called retrain, so none .* `git branch -m retrain NAME`$"):
        shared.night()
    shared.git("push", "-q", "origin", "retrain")
    shared.git("branch", "-m", "retrain", "mine")
    with pytest.raises(
        MetaloomError, match=r"^a branch is called retrain, .* `git push origin --delete retrain`: what was"
    ):
        shared.night()
    shared.git("push", "-q", "origin", "--delete", "retrain")
    assert "v0.0.1 is prod now" in shared.night().message


def test_a_tag_of_no_commit_is_named(small):
    small.night()
    small.git("tag", "-a", "-m", "x", "handoff@v0.0.9", "HEAD^{tree}")
    with pytest.raises(MetaloomError, match=r"^a tag of handoff is none of a commit .*git for-each-ref"):
        in_stage(small.root, "prod")


def test_what_waits_for_approval_is_not_in_the_stage_already(repo: Path):
    with pytest.raises((MetaloomError, ValidationError), match="candidate and stage are both prod"):
        load_settings(repo / "params.yaml", {"retrain.candidate": "prod", "retrain.approval": True})


def test_that_data_are_gone_is_said(small):
    version_data(small.root)
    small.git("add", "-A")
    small.git("commit", "-qm", "data")
    shutil.rmtree(small.root / "data")
    assert small.night().night.notes[0].startswith("data/ holds nothing here, so version ")


def test_no_other_data_take_the_place_of_those_that_are_gone(small):
    small.night()
    shutil.rmtree(small.root / "data")
    with pytest.raises(
        MetaloomError, match=r"^data/ holds nothing, and no data.dvc names a version, while v0.0.1 is pro"
    ):
        small.night()
    small.data(0.7)
    assert small.night().message.startswith(PROMOTED)


def test_a_partial_clone_is_refused_before_it_hangs(shared, at, tmp_path: Path):
    shared.git("-C", str(tmp_path / "origin.git"), "config", "uploadpack.allowFilter", "true")
    url = f"file://{tmp_path}/origin.git"
    subprocess.run(["git", "clone", "-q", "--filter=blob:none", url, tmp_path / "partial"], check=True)
    with pytest.raises(MetaloomError, match="this is a partial clone"):
        at(tmp_path / "partial").night()


def test_workspaces_on_another_disk(small, tmp_path: Path):
    (small.root / ".metaloom").mkdir(exist_ok=True)
    (tmp_path / "large").mkdir()
    (small.root / ".metaloom/retraining").symlink_to(tmp_path / "large")
    assert "v0.0.1 is prod now" in small.night().message


WHOLE = {"name": "n", "key": "a" * 64, "base": "b" * 40, "data": "", "began": "x", "commit": "c" * 40}


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "1\n2", json.dumps(WHOLE), "{" * 9999])
def test_a_record_of_another_clone_that_is_none_is_passed_over(small, text: str):
    result = small.night().night
    others.ref_of(small.root, result)
    (small.root / "blob").write_text(text)
    small.git("update-ref", f"{others.REFS}/n", small.git("hash-object", "-w", "blob"))
    small.git("update-ref", f"{others.REFS}/commit", "HEAD")
    gone = small.root / f".git/{others.REFS}/gone"
    gone.write_text("d" * 40 + "\n")
    assert list(others._records(small.root)) == [result]


def test_a_record_with_a_verdict_that_is_none_is_named(small):
    path = small.root / f".metaloom/retraining/nights/{small.night().night.name}.json"
    path.write_text(path.read_text().replace('"verdict": {', '"verdict": null, "figures": {', 1))
    with pytest.raises(MetaloomError, match="is no record of a retraining: remove it"):
        small.nights()


@pytest.mark.slow
def test_hooks_of_the_user_s_keep_no_judgement_out(small, monkeypatch):
    monkeypatch.setattr(steps, "judged", noted)
    monkeypatch.setenv("CLOCK", str(small.clock))
    hook = small.root / ".git/hooks/reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    small.night()
    small.data(0.7)
    assert small.night().message.startswith(PROMOTED)
