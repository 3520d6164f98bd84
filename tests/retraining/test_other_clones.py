"""Several clones that retrain one project: what one has done, or half done, counts for the others."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest
from nights import BEGAN

from metaloom.errors import MetaloomError
from metaloom.retraining import clones, others, relay, sharing, transfers
from metaloom.retraining.nights import DAY, Night, nights
from metaloom.retraining.workspace import open_workspace


@pytest.fixture
def worker(shared, at, tmp_path, monkeypatch):
    """`worker(name)`: the project in a clone of a worker's, brought up to date as before each of its runs."""
    store = tmp_path / "store"
    text = (shared.root / ".dvc/config").read_text()
    (shared.root / ".dvc/config").write_text(text[: text.index("    url")] + f"    url = {store}\n")
    push(shared)

    def cloned(name: str):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        return at(clones.clone(str(tmp_path / "origin.git"), "main", "", "", 0))

    return cloned


def push(project, accuracy: float = 0.5) -> None:
    """The data, as somebody pushes them."""
    project.data(accuracy)
    from metaloom.versioning.data import version_data
    from metaloom.versioning.remotes import push_version

    version_data(project.root)
    project.git("add", "-A")
    project.git("commit", "-qm", f"{accuracy}")
    push_version(project.root, project.git("rev-parse", "HEAD"))
    project.git("push", "-q", "origin", "main")


@pytest.mark.slow
def test_what_one_has_trained_the_others_do_not_train_again(worker, shared):
    a = worker("a")
    assert "v0.0.1 is prod now" in a.night().message
    b = worker("b")
    assert b.night().state == "Skipped" and b.runs == ["run"]
    assert b.outcomes() == ["promoted"] and b.nights()[0].told
    push(shared, 0.7)
    assert "v0.0.2 is prod now" in worker("b").night().message
    assert worker("a").night().state == "Skipped" and a.outcomes() == ["promoted", "promoted"]
    assert a.runs == ["run", "run"]


def test_a_clone_that_alone_retrains_asks_nobody(shared, monkeypatch):
    monkeypatch.setattr(others, "take_records", lambda *_: pytest.fail("the remote was asked"))
    assert "v0.0.1 is prod now" in shared.night().message
    assert shared.git("for-each-ref", "refs/metaloom") == ""


def test_a_promotion_that_was_not_reached_is_done_by_another(worker, monkeypatch):
    a = worker("a")
    with monkeypatch.context() as patch:
        patch.setattr("metaloom.retraining.steps.promote", lambda *_: (_ for _ in ()).throw(MetaloomError("gone")))
        with pytest.raises(MetaloomError, match="gone"):
            a.night()
    b = worker("b")
    assert "v0.0.1 is prod now" in b.night().message
    assert b.runs == ["run"] and b.outcomes() == ["promoted"]
    assert worker("a").night().state == "Skipped" and a.outcomes() == ["promoted"]


def test_which_record_counts():
    here = Night("n", "k", "b", "d", 1.0, commit="1")
    ended = Night("n", "k", "b", "d", 1.0, commit="1", outcome="kept")
    other = Night("n", "k", "b", "d", 2.0, commit="2")
    assert others._is_further(ended, None) and others._is_further(ended, here) and others._is_further(other, here)
    assert not others._is_further(here, ended) and not others._is_further(here, here)


def test_the_record_that_goes_with_a_branch_has_the_name_of_its_own(shared, tmp_path):
    """Where the remote has another branch of the retraining's name."""
    base = shared.git("rev-parse", "HEAD")
    other, own = (shared.git("commit-tree", "HEAD^{tree}", "-p", base, "-m", name) for name in ("other", "own"))
    shared.git("push", "-q", "origin", f"{other}:refs/heads/retrain/n")
    night = Night("n", "0" * 40, base, "d", 1.0, commit=own, notes=["after `git merge retrain/n`, `metaloom run`"])
    sharing.push_branch(shared.root, night, "origin", recorded=True)
    there = f"--git-dir={tmp_path}/origin.git"
    assert shared.git(there, "rev-parse", "retrain/n", f"retrain/n-{own[:8]}").split() == [other, own]
    record = Night(**json.loads(shared.git(there, "cat-file", "blob", "refs/metaloom/nights/n")))
    assert record.branch == night.branch == f"retrain/n-{own[:8]}"
    assert record.notes == [f"after `git merge {night.branch}`, `metaloom run`"]


@pytest.mark.parametrize(
    "about", [{"name": "../../x"}, {"commit": "--output=x"}, {"base": ""}, {"key": "../x"}, {"name": "another"}]
)
def test_a_record_that_is_none_is_left_alone(small, about):
    """Whoever may push can write one, and its name becomes that of a file."""
    hashed = "0" * 40
    whole = Night("n", hashed, hashed, "d", 1.0, commit=hashed)
    others.ref_of(small.root, whole)
    assert list(others._records(small.root)) == [whole]
    blob = small.git("hash-object", "-w", str(written(small.root, {**vars(whole), **about, "newer": 1})))
    small.git("update-ref", f"{others.REFS}/n", blob)
    assert list(others._records(small.root)) == []


def written(root, record: dict):
    path = root / ".metaloom/record.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record))
    return path


@pytest.mark.parametrize("start", [None, "", "v0.0.1"])
def test_half_done_training_is_gone_on_with_elsewhere(worker, capsys, start):
    """Of two stages one has ended, and the other has a checkpoint; by then another model may be in the stage."""
    a = worker("a")
    night = a_night(a)
    night.start = start
    place = open_workspace(a.root, night)
    a.train(place, False)  # its only stage
    (place / transfers.CHECKPOINTS).mkdir(parents=True)
    (place / transfers.CHECKPOINTS / "maml.safetensors").write_text("step 7")
    sent: dict = {}
    relay.leave(a.root, place, night, sent)
    before = dict(sent)
    relay.leave(a.root, place, night, sent)
    assert sent == before and set(sent) == {"maml.safetensors", "dvc.lock"}

    b = worker("b")
    night.start = None
    there = open_workspace(b.root, night)
    relay.take(b.root, there, night)
    assert night.start == start
    assert [each.start for each in nights(b.root)] == ([start] if start is not None else [None])
    assert (there / transfers.CHECKPOINTS / "maml.safetensors").read_text() == "step 7"
    for name in ("dvc.lock", "metrics.json", "artifacts/bundle/metadata.json"):
        assert (there / name).read_text() == (place / name).read_text()
    told = capsys.readouterr().out
    assert "another worker has finished export" in told and "left the checkpoint maml.safetensors" in told

    relay.forget(b.root, night)
    shutil.rmtree(there / transfers.CHECKPOINTS)
    relay.take(b.root, there, night)
    assert not (there / transfers.CHECKPOINTS).exists()


def test_what_nobody_goes_on_with_is_cleared_away(worker):
    """By age and number, in both remotes; what is younger than a day, or open here, stays."""
    a, began = worker("a"), time.time()
    place = open_workspace(a.root, a_night(a))
    a.train(place, False)
    store = a.root.parents[1] / "store/metaloom/half"
    for days, key in enumerate("abcde"):
        night = Night(f"n-{key}", 40 * key, a.git("rev-parse", "HEAD"), "d", BEGAN)
        checkpoint = place / transfers.CHECKPOINTS / "maml.safetensors"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text(key)
        relay.leave(a.root, place, night, {})
        (store / night.key / transfers.SENT).write_text(str(int(began - (days + 0.5) * DAY)))
    (store / ("e" * 40) / transfers.SENT).unlink()  # killed before it was written
    gone = relay.clear(a.root, 2, 3.0, {40 * "c"}, now=began)
    assert gone == [40 * "d", 40 * "e"] and left(a, store) == {40 * "a", 40 * "b", 40 * "c"}
    assert relay.clear(a.root, 0, 3.0, {40 * "c"}, now=began) == [40 * "b"]  # that of the last day stays
    assert relay.clear(a.root, 0, 0.1, set(), now=began) == [40 * "a", 40 * "c"] and left(a, store) == set()
    assert relay.clear(a.root, 0, 0, set()) == []


def left(project, store) -> set[str]:
    """The keys of what is half done, which both remotes have to agree on."""
    in_git = {ref.rpartition("/")[2] for ref in project.git("ls-remote", "origin", f"{relay.REFS}/*").split()[1::2]}
    assert in_git == {path.name for path in store.iterdir() if any(path.iterdir())}
    return in_git


def a_night(project) -> Night:
    from metaloom.retraining.taking import find_start

    start = find_start(project.root, "folder", [])
    night = Night("n", start.key, start.commit, start.data, BEGAN, start.splits)
    night.save(project.root)
    return night


def test_a_clone_is_brought_up_to_date_and_keeps_what_is_in_it(worker, shared):
    a = worker("a")
    (a.root / ".metaloom/mine").write_text("1")
    push(shared, 0.7)
    assert worker("a").root == a.root
    assert a.git("rev-parse", "HEAD") == shared.git("rev-parse", "HEAD")
    assert a.git("rev-parse", "--abbrev-ref", "@{upstream}") == "origin/main"
    assert (a.root / "data/a").read_text() == (shared.root / "data/a").read_text()
    assert (a.root / ".metaloom/mine").exists() and a.git("status", "--porcelain") == ""


def test_at_a_commit(worker, shared, tmp_path):
    first = shared.git("rev-parse", "HEAD")
    data = (shared.root / "data/a").read_text()
    push(shared, 0.7)
    worker("a")
    root = clones.clone(str(tmp_path / "origin.git"), "main", first, "", 0)
    assert (root / "data/a").read_text() == data and clones.handover(root) == 0


def test_a_clone_that_cannot_be_had_is_refused_and_none_is_lost(worker, tmp_path):
    a = worker("a")
    with pytest.raises(MetaloomError, match="start the worker in another folder"):
        clones.clone(str(tmp_path / "elsewhere/origin.git"), "main", "", "", 10)
    with pytest.raises(MetaloomError, match="has no dvc.yaml in shop"):
        clones.clone(str(tmp_path / "origin.git"), "main", "", "shop", 10)
    os.rename(tmp_path / "origin.git", tmp_path / "away")
    with pytest.raises(MetaloomError, match="does not appear to be a git repository"):
        clones.clone(str(tmp_path / "origin.git"), "main", "", "", 10)
    assert (a.root / "dvc.yaml").exists()
    with pytest.raises(MetaloomError) as caught, clones._no_password("https://me:secret@host/x.git"):
        raise clones.GitError("`git fetch`: fatal: unable to access 'https://me:secret@host/x.git/'")
    assert "secret" not in str(caught.value) and "//host/x.git" in str(caught.value)
    os.chdir(tmp_path)
    with pytest.raises(MetaloomError, match="does not"):
        clones.clone(str(tmp_path / "other.git"), "main", "", "", 10)
    assert not (tmp_path / "other").exists() and not (tmp_path / ".other.new").exists()
