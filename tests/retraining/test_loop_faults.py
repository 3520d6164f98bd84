"""What may be wrong when nobody looks: one line each, nothing lost, and the next night whole."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from metaloom.errors import MetaloomError
from metaloom.retraining import loop, sharing, steps
from metaloom.retraining.locks import clear_locks
from metaloom.retraining.nights import Night
from metaloom.system.lock import BusyError

STEPS = ["train", "judge", "commit", "share", "promote"]


HOLDER = """\
import sys, time
from metaloom.system.lock import project_lock
with project_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


class KilledError(BaseException):
    """In the place of a SIGKILL."""


def refs(project) -> dict[str, str]:
    """Branches and tags with what they stand for; the times in tags are left out."""
    lines = project.git("for-each-ref", "--format=%(refname) %(objectname) %(*objectname)").splitlines()
    return {name: ids[-1] for name, *ids in map(str.split, lines)}


def assert_whole(project, origin) -> None:
    """All that is here is there, and the night is no other than an undisturbed one would be."""
    (night,) = project.nights()
    assert night.outcome == "promoted" and night.done == STEPS
    assert {f"refs/heads/{night.branch}", "refs/tags/handoff#prod#1", "refs/tags/handoff@v0.0.1"} <= set(refs(project))
    assert set(project.tags()) == {"handoff#prod#1", "handoff@v0.0.1"}
    theirs = project.git("ls-remote", str(origin)).split()
    assert {f"refs/heads/{night.branch}", "refs/tags/handoff#prod#1", "refs/tags/handoff@v0.0.1"} <= set(theirs)
    assert project.git("status", "--porcelain") == ""


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_between_any_two_steps(shared, monkeypatch, tmp_path, step, when):
    plain = getattr(steps, step)

    def killed(*arguments):
        if when == "after":
            plain(*arguments)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(steps, step, killed)
        with pytest.raises(KilledError):
            shared.night()
    shared.clock -= 20 * 3600  # the same date
    assert shared.night().state == "Completed"
    assert_whole(shared, tmp_path / "origin.git")
    assert shared.runs == ["run"] * (2 if step == "train" and when == "after" else 1)
    assert shared.night().state == "Skipped"


@pytest.mark.slow
@pytest.mark.parametrize("save", range(1, 8))
def test_killed_while_it_is_noted(shared, monkeypatch, tmp_path, save):
    """Before what was done has been written down."""
    plain, calls = Night.save, []

    def killed(night, root):
        calls.append(1)
        if len(calls) == save:
            raise KilledError
        if len(calls) < save:  # what is killed runs no `finally`
            plain(night, root)

    with monkeypatch.context() as patch:
        patch.setattr(Night, "save", killed)
        with pytest.raises(KilledError):
            shared.night()
    shared.night()
    assert shared.outcomes() == ["promoted"]
    assert set(shared.tags()) == {"handoff#prod#1", "handoff@v0.0.1"} and shared.night().state == "Skipped"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["register", "put_into", "push"])
def test_killed_in_the_middle_of_a_promotion(shared, monkeypatch, tmp_path, place):
    def killed(*arguments, **options):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(
            sharing if place == "push" else sharing.registry, "push_tags" if place == "push" else place, killed
        )
        with pytest.raises(KilledError):
            shared.night()
    shared.night()
    assert_whole(shared, tmp_path / "origin.git")


def test_broken_off_and_other_data_since(small, monkeypatch):
    """What was begun is dropped, and what is there now is trained."""
    monkeypatch.setattr(steps, "judge", lambda *_: (_ for _ in ()).throw(KilledError()))
    with pytest.raises(KilledError):
        small.night()
    monkeypatch.undo()
    small.data(0.8)
    monkeypatch.setattr(sharing.registry, "_check_bundle", lambda root, commit: None)
    small.night()
    assert small.outcomes() == ["dropped", "promoted"]
    assert not small.nights()[0].workspace(small.root).exists() and len(small.branches()) == 1


def test_git_knows_no_name(small, monkeypatch):
    for key in ("user.name", "user.email"):
        small.git("config", "--unset", key)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    small.git("config", "user.useConfigOnly", "true")
    small.night()
    (night,) = small.nights()
    assert small.git("log", "-1", "--format=%an <%ae>", night.branch) == "metaloom <metaloom@localhost>"
    assert night.notes == [
        "git knows no name here, so the commit is metaloom's: `git config user.name` and user.email set one"
    ]
    assert set(small.tags()) == {"handoff#prod#1", "handoff@v0.0.1"}


def test_no_commit_and_no_git(small):
    subprocess.run(["rm", "-rf", small.root / ".git"], check=True)
    for _ in range(2):
        with pytest.raises(
            MetaloomError, match="^a retraining starts from a commit, and there is none here: `git init`"
        ):
            small.night()
        subprocess.run(["git", "init", "-q", small.root], check=True)
    assert small.nights() == []


@pytest.mark.slow
def test_main_has_moved_with_a_conflict(small, monkeypatch):
    """The branch is kept and pushed as it is, and says what to do."""
    plain = small.train

    def meanwhile(place, force):
        plain(place, force)
        (small.root / "splits.yaml").write_text("another\n")
        small.git("add", "splits.yaml")
        small.git("commit", "-qm", "meanwhile")

    small.train = meanwhile
    small.night()
    (night,) = small.nights()
    assert night.outcome == "promoted"
    assert night.notes == [
        f"the branch has moved on meanwhile, and splits.yaml differ in both: after `git merge {night.branch}`, "
        "`metaloom run` makes them again"
    ]


@pytest.mark.slow
def test_a_conflict_in_the_checkout_s_own_files(small):
    """It is the user's, and the retraining starts from the commit."""
    for name in ("dvc.lock", "data.dvc"):
        (small.root / name).write_text("<<<<<<< HEAD\na\n=======\nb\n>>>>>>> other\n")
    small.night()
    assert small.outcomes() == ["promoted"]
    assert (small.root / "dvc.lock").read_text().startswith("<<<<<<<")


def test_a_detached_head(shared):
    shared.git("checkout", "-q", "--detach")
    shared.night()
    assert shared.outcomes() == ["promoted"] and "retrain/" in shared.git("ls-remote", "origin")
    shared.git("switch", "-q", "main")
    shared.set(data="branch")
    shared.git("checkout", "-q", "--detach")
    with pytest.raises(MetaloomError, match="this checkout has no branch with an upstream: `git switch BRANCH`"):
        shared.night()


@pytest.mark.slow
def test_a_shallow_clone_makes_no_second_first_version(shared, at, tmp_path):
    shared.night()
    url = f"file://{tmp_path}/origin.git"
    subprocess.run(["git", "clone", "-q", "--depth", "1", "--no-tags", url, tmp_path / "other"], check=True)
    other = at(tmp_path / "other")
    assert other.tags() == []
    other.data(0.9)
    other.night()
    assert set(other.tags()) == {"handoff@v0.0.1", "handoff#prod#1", "handoff@v0.0.2", "handoff#prod#2"}
    assert other.nights()[0].champion == "v0.0.1" and other.outcomes() == ["promoted"]


@pytest.mark.slow
def test_a_git_remote_that_refuses(shared, tmp_path):
    hook = tmp_path / "origin.git/hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho 'error: no branches of robots' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(MetaloomError, match=r"`git push --quiet`: ! \[remote rejected\].*pre-receive hook declined"):
        shared.night()
    assert shared.tags() == [] and len(shared.branches()) == 1
    with pytest.raises(MetaloomError, match="declined"):
        shared.night()  # and does not train again
    hook.unlink()
    assert shared.night().state == "Completed" and shared.runs == ["run"]
    assert_whole(shared, tmp_path / "origin.git")


@pytest.mark.slow
def test_a_remote_that_is_away_keeps_no_night_from_being_trained(shared, tmp_path):
    origin, away = tmp_path / "origin.git", tmp_path / "away.git"
    shared.night()
    origin.rename(away)
    for accuracy in (0.7, 0.9):
        shared.data(accuracy)
        with pytest.raises(MetaloomError, match="`git fetch --quiet`|`git push --quiet`"):
            shared.night()
    away.rename(origin)
    shared.night()
    assert shared.outcomes() == ["promoted"] * 3 and shared.runs == ["run"] * 3
    assert shared.nights()[-1].champion == "v0.0.2"
    assert "refs/tags/handoff#prod#3" in shared.git("ls-remote", "origin")


@pytest.mark.slow
def test_the_champion_was_moved_by_somebody_meanwhile(shared, at, tmp_path, monkeypatch):
    """Both promote at the same time: the second one's tags are refused, and it is judged against the first one's."""
    shared.night()
    subprocess.run(["git", "clone", "-q", tmp_path / "origin.git", tmp_path / "other"], check=True)
    other = at(tmp_path / "other")
    other.git("config", "user.name", "o")
    other.git("config", "user.email", "o@example.org")
    other.data(0.8)
    plain = sharing.push_tags

    def somebody_first(*arguments):
        monkeypatch.setattr(sharing, "push_tags", plain)
        other.night()
        return plain(*arguments)

    monkeypatch.setattr(sharing, "push_tags", somebody_first)
    shared.data(0.7)
    shared.night()
    night = shared.nights()[-1]
    assert (night.outcome, night.champion) == ("held", "v0.0.2")
    assert "v0.0.2 has become prod meanwhile" in night.notes[0]
    assert (
        set(shared.tags())
        == set(other.tags())
        == {
            "handoff@v0.0.1",
            "handoff#prod#1",
            "handoff@v0.0.2",
            "handoff#prod#2",
        }
    )


def test_a_stage_that_fails_is_trained_again_the_next_night(small):
    plain, small.train = small.train, lambda place, force: (_ for _ in ()).throw(MetaloomError("stage export failed"))
    with pytest.raises(MetaloomError, match="stage export failed"):
        small.night()
    assert small.nights()[0].reason == "stage export failed" and small.branches() == []
    small.train = plain
    assert small.night().state == "Completed" and small.outcomes() == ["promoted"]


def test_two_nights_that_overlap(small, monkeypatch):
    folder = small.root / loop.FOLDER
    folder.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", HOLDER, folder], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(BusyError, match="another run is at work"):
            small.night()
        other.kill()


def test_a_branch_that_somebody_has_moved_is_left_alone(small, monkeypatch):
    monkeypatch.setattr(steps, "commit", lambda *_: (_ for _ in ()).throw(KilledError()))
    with pytest.raises(KilledError):
        small.night()
    monkeypatch.undo()
    monkeypatch.setattr(sharing.registry, "_check_bundle", lambda root, commit: None)
    name = small.nights()[0].branch
    small.git("branch", name)
    with pytest.raises(MetaloomError, match=f"the branch {name} is at .*: rename it with `git branch -m"):
        small.night()
    small.git("branch", "-m", name, "mine")
    assert small.night().state == "Completed"


def test_locks_that_a_killed_git_has_left(small, capsys):
    """Those of the retraining go at once, those that another command may hold when they are old; others' stay."""
    small.night()
    (night,) = small.nights()
    git = small.root / ".git"
    own = [git / f"refs/heads/{night.branch}.lock", git / f"worktrees/{night.name}/index.lock"]
    shared, users = [git / "packed-refs.lock", git / "refs/tags/handoff@v0.0.2.lock"], git / "index.lock"
    for lock in (*own, *shared, users):
        lock.touch()
    clear_locks(small.root)
    assert [each.exists() for each in (*own, *shared, users)] == [False, False, True, True, True]
    for lock in (*shared, users):
        os.utime(lock, (1e9, 1e9))
    clear_locks(small.root)
    assert [each.exists() for each in (*shared, users)] == [False, False, True]
    assert "removed packed-refs.lock, which a git that was killed had left" in capsys.readouterr().out


def test_line_ends_of_windows(small):
    """git checks files out with CRLF and refuses to add what would lose it; the commit has LF, and nothing is new."""
    for name, value in (("core.autocrlf", "true"), ("core.safecrlf", "true")):
        small.git("config", name, value)
    for name in small.git("ls-files").splitlines():
        (small.root / name).unlink()
    small.git("checkout", "-q", "--", ".")
    assert b"\r\n" in (small.root / "params.yaml").read_bytes() and small.git("status", "--porcelain") == ""
    assert small.night().state == "Completed" and small.outcomes() == ["promoted"]
    (night,) = small.nights()
    for name in ("dvc.lock", "data.dvc", "splits.yaml"):
        assert b"\r" not in small.git("show", f"{night.branch}:{name}").encode(), name
    assert small.git("status", "--porcelain") == "" and small.night().state == "Skipped"
    small.data(0.8)
    assert small.night().state == "Completed" and small.outcomes() == ["promoted"] * 2


def test_a_submodule_in_the_project(small, tmp_path):
    """Its files are there where the stages run, at the commit that the project names."""
    library = tmp_path / "library"
    library.mkdir()
    for words in (
        ["init", "-q", "-b", "main"],
        ["config", "user.name", "l"],
        ["config", "user.email", "l@example.org"],
    ):
        subprocess.run(["git", "-C", library, *words], check=True)
    (library / "settings").write_text("one")
    subprocess.run(["git", "-C", library, "add", "-A"], check=True)
    subprocess.run(["git", "-C", library, "commit", "-qm", "one"], check=True)
    small.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "library")
    small.git("commit", "-qm", "a library")
    plain, seen = small.train, []

    def looked(place, force):
        seen.append((place / "library/settings").read_text())
        plain(place, force)

    small.train = looked
    assert small.night().state == "Completed" and seen == ["one"]
    assert small.outcomes() == ["promoted"] and small.git("status", "--porcelain") == ""
    assert small.night().state == "Skipped"
    small.git("submodule", "--quiet", "deinit", "-f", "library")
    small.data(0.8)
    with pytest.raises(MetaloomError, match="^the submodule library has no commit [0-9a-f]{8} here: `git submodule"):
        small.night()
    small.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init")
    assert small.night().state == "Completed" and small.outcomes() == ["promoted"] * 2


def test_a_project_that_is_a_submodule_is_refused(small, at, tmp_path):
    """DVC does not find its way in a worktree of one."""
    outer = tmp_path / "outer"
    subprocess.run(["git", "init", "-q", "-b", "main", outer], check=True)
    allowed = ["git", "-C", outer, "-c", "protocol.file.allow=always"]
    subprocess.run([*allowed, "submodule", "--quiet", "add", small.root, "inner"], check=True)
    inner = at(outer / "inner")
    inner.data(0.6)
    with pytest.raises(MetaloomError, match="^this checkout is a submodule, .*: retrain in a clone of its own"):
        inner.night()
    assert inner.nights() == [] and inner.runs == [] and inner.git("status", "--porcelain") == ""
