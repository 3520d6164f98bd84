"""Nights of a small project: what becomes of better, equal and worse models, and what the checkout sees of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from metaloom.cli import retrain as cli
from metaloom.cli.models import models as list_models
from metaloom.cli.retrain import history
from metaloom.errors import MetaloomError
from metaloom.judging import Verdict
from metaloom.judging.ledger import Entry, entries
from metaloom.judging.records import read_ledger, record
from metaloom.pipeline.stages import due_stages, reproduce
from metaloom.retraining import sharing, steps, workspace
from metaloom.retraining.judged import judged
from metaloom.retraining.nights import Night
from metaloom.retraining.taking import find_start, read_by_stages
from metaloom.system.provenance import data_version


def test_the_first_night_promotes_and_leaves_the_checkout_as_it_was(small):
    before, status = small.git("rev-parse", "HEAD"), small.git("status", "--porcelain")
    result = small.night()
    assert result.state == "Completed" and "v0.0.1 is prod now" in result.message
    assert (small.git("rev-parse", "HEAD"), small.git("status", "--porcelain")) == (before, status)
    assert not (small.root / "dvc.lock").exists()
    (branch,) = small.branches()
    (night,) = small.nights()
    assert branch == f"retrain/2026-11-19-{night.data[:8]}"
    assert small.git("rev-list", "-n1", "handoff#prod#1") == small.git("rev-parse", branch) == night.commit
    assert small.git("log", "-1", "--format=%s", branch) == f"Retrained on data {night.data[:8]}: the first version"
    assert set(small.git("diff", "--name-only", "main", branch).split()) == {
        "data.dvc",
        "dvc.lock",
        "metrics.json",
        "splits.yaml",
    }


def test_nothing_new_is_nothing_done(small):
    small.night()
    for _ in range(2):
        result = small.night()
        assert result.state == "Skipped" and "nothing is new: data/ is version" in result.message
    assert small.runs == ["run"] and small.outcomes() == ["promoted"]
    small.night(force=True)
    assert small.runs == ["run", "run"]


def test_a_night_with_nothing_to_do_starts_no_server(small, monkeypatch, capsys):
    small.night()
    monkeypatch.chdir(small.root)
    monkeypatch.setattr(cli, "prefect_server", lambda root: pytest.fail("a server was started"))
    cli.retrain()
    assert "nothing is new: data/ is version" in capsys.readouterr().out


@pytest.mark.slow
def test_better_equal_and_worse_models(small):
    small.night()
    for accuracy, outcome in ((0.7, "promoted"), (0.702, "kept"), (0.3, "held")):
        small.data(accuracy)
        small.night()
        assert small.outcomes()[-1] == outcome
    assert small.tags() == ["handoff#prod#1", "handoff#prod#2", "handoff@v0.0.1", "handoff@v0.0.2", "handoff@v0.0.3"]
    assert len(small.branches()) == 4
    held = small.nights()[-1]
    assert "v0.0.2 stays prod: worse at greek: 30.0% (29.0% to 31.0%) instead of 70.0%" in held.reason
    message = small.git("log", "-1", "--format=%B", held.branch)
    assert message.startswith(f"Retrained on data {held.data[:8]}: worse than v0.0.2, held\n\nworse at greek")
    assert "accuracy: 30.0% (29.0% to 31.0%) at greek" in message


@pytest.mark.slow
def test_what_the_ledger_says_stands_beside_the_commit_and_in_its_tags(small, monkeypatch):
    """It is judged before its commit has a message that says the verdict: a commit that nothing names then."""
    small.night()
    when = datetime(2026, 1, 1, tzinfo=UTC)

    def judged(root, champion, challenger, note=True, names=None):
        record(root, Entry(when, champion, challenger, "better", 1e-4, "t1", 0.02, 0.01, 0.03, 900))
        return Verdict("better", "better by far", {"challenger": {"commit": challenger}})

    monkeypatch.setattr(steps, "judged", judged)
    small.data(0.9)
    small.night()
    (entry,), night = read_ledger(small.root), small.nights()[-1]
    assert entry.challenger == night.commit == small.git("rev-parse", "handoff@v0.0.2^{commit}")
    for tag in ("handoff@v0.0.2", "handoff#prod#2"):
        assert entries(small.git("tag", "-l", "--format=%(contents)", tag)) == [entry]


def test_models_say_what_the_judge_has_spent_and_how_worn_its_questions_are(small, monkeypatch, capsys):
    small.night()
    monkeypatch.chdir(small.root)
    list_models()
    assert "judge" not in capsys.readouterr().out
    commit, now = small.nights()[0].commit, datetime.now(UTC)
    for days, other, worn in ((400, "a", 0), (10, "b", 0), (1, "c", 12)):
        when = now - timedelta(days=days)
        record(small.root, Entry(when, other * 40, commit, "better", 0.002, "t1", 0.02, 0.01, 0.03, 900, worn=worn))
    list_models()
    *_, worn, spent = capsys.readouterr().out.splitlines()
    assert worn == "the judge: its questions are worn after 3 judgements: add about 12 classes to test"
    assert spent == "the judge has spent 8.0% of the year's error (0.004 of alpha 0.05)"


@pytest.mark.slow
def test_approval_makes_a_candidate(small):
    small.set(approval="true", skip_ci="true")
    result = small.night()
    assert "v0.0.1 is candidate" in result.message and "`metaloom promote v0.0.1` approves it" in result.message
    assert small.tags() == ["handoff#candidate#1", "handoff@v0.0.1"]
    assert small.git("log", "-1", "--format=%s", small.branches()[0]).endswith("[skip ci]")


@pytest.mark.slow
def test_a_merged_night_and_a_moved_main_bring_nothing_new(small):
    small.night()
    small.git("commit", "-q", "--allow-empty", "-m", "words alone")
    assert small.night().state == "Skipped" and small.runs == ["run"]
    small.git("merge", "-q", small.branches()[0])
    result = small.night()
    assert result.state == "Skipped" and "nothing is new" in result.message and small.runs == ["run"]
    small.set(skip_ci="true")  # due for git, and not for DVC
    result = small.night()
    assert result.state == "Skipped" and "up to date with data/" in result.message and small.runs == ["run"]
    assert small.outcomes() == ["promoted"] and len(small.branches()) == 1


@pytest.mark.slow
def test_the_remotes_have_all_of_it_and_a_pull_goes_on(shared, tmp_path):
    shared.night()
    origin = tmp_path / "origin.git"
    refs = shared.git("ls-remote", str(origin))
    assert {f"refs/heads/{shared.branches()[0]}", "refs/tags/handoff@v0.0.1", "refs/tags/handoff#prod#1"} <= set(
        refs.split()
    )
    files = [each for each in (tmp_path / "store").rglob("*") if each.is_file()]
    assert len(files) == 3  # the folders data and bundle, and the file that is in both
    shared.git("pull", "-q")
    shared.git("merge", "-q", shared.branches()[0])
    shared.git("push", "-q")
    assert shared.git("status", "--porcelain") == ""


@pytest.mark.slow
def test_data_of_the_branch(shared, at, tmp_path):
    """Somebody else pushes a data version; this clone has no data/ at all."""
    shared.git("clone", "-q", str(tmp_path / "origin.git"), str(tmp_path / "other"))
    other = at(tmp_path / "other")
    other.git("config", "user.name", "o")
    other.git("config", "user.email", "o@example.org")
    shared.set(data="branch")
    dvc(shared.root, "add", "data")
    dvc(shared.root, "push")
    shared.git("add", "data.dvc")
    shared.git("commit", "-qm", "data")
    shared.git("push", "-q")
    other.git("pull", "-q")
    assert other.night().night.data == data_version(shared.root)
    assert not (other.root / "data").exists() and other.git("status", "--porcelain") == ""


def dvc(root, *arguments):
    subprocess.run([sys.executable, "-m", "dvc", *arguments, "-q"], cwd=root, check=True)


@pytest.mark.slow
def test_classes_that_were_placed_stay_where_they_are(small):
    """The split table of a retraining goes on to the next one, though nobody has merged its branch."""
    small.night()
    made = small.git("show", f"{small.branches()[0]}:splits.yaml")
    small.data(0.8)
    small.night()
    assert small.nights()[-1].splits == made
    (small.root / "splits.yaml").write_text("a user's own\n")
    small.git("add", "splits.yaml")
    small.git("commit", "-qm", "splits")
    small.data(0.9)
    small.night()
    assert small.nights()[-1].splits == "a user's own"


def test_a_dry_run_changes_nothing(small, capsys):
    result = small.night(dry_run=True)
    assert result.message.endswith(
        f"would be trained, from commit {small.git('rev-parse', '--short=8', 'HEAD')}, the first in prod"
    )
    assert small.nights() == [] and small.branches() == [] and small.runs == []
    small.night()
    assert "nothing is new" in small.night(dry_run=True).message
    small.data(0.9)
    capsys.readouterr()
    (small.root / "params.yaml").write_text((small.root / "params.yaml").read_text() + "\n# mine\n")
    assert "judged against v0.0.1, which is prod" in small.night(dry_run=True).message
    assert "settings or code differ from the last commit (params.yaml)" in capsys.readouterr().out


@pytest.mark.slow
def test_old_workspaces_go_by_number_and_age(small):
    folder = small.root / ".metaloom/retraining"
    names = []
    for accuracy in (0.1, 0.2, 0.3):
        small.data(accuracy)
        small.night()
        names.append(small.nights()[-1].name)
        os.utime(folder / names[-1], (small.clock, small.clock))
    small.night()
    assert not (folder / names[0]).exists() and (folder / names[1]).exists()
    small.clock += 20 * 24 * 3600
    small.night()
    assert not (folder / names[2]).exists()
    assert small.git("worktree", "list").count("\n") == 0


def test_too_little_room_is_said_before_anything_is_made(small, monkeypatch):
    usage = shutil.disk_usage(small.root)
    monkeypatch.setattr(workspace.shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(MetaloomError, match="the disk has 10 B left, and a retraining takes about"):
        small.night()
    monkeypatch.undo()


@pytest.mark.slow
def test_settings_that_are_not_committed_are_named(small, capsys):
    (small.root / "params.yaml").open("a").write("# mine\n")
    small.night()
    assert "differ from the last commit (params.yaml): the commit is what is trained" in capsys.readouterr().out


def test_history_shows_what_became_of_each(small, monkeypatch, capsys):
    monkeypatch.chdir(small.root)
    history()
    assert "no retraining yet" in capsys.readouterr().out
    first = Night("2026-11-19-b895169b", "k", "c", "d", 1.0, outcome="promoted", version="v0.0.1", seconds=3.2)
    first.verdict = {"outcome": "first", "message": ""}
    first.figures = {"task": "greek", "accuracy": 0.5, "low95": 0.49, "high95": 0.51}
    first.save(small.root)
    Night("2026-11-20-00000000", "k", "c", "d", 2.0, commit="c", reason="the remote is away").save(small.root)
    history()
    assert [each.split() for each in capsys.readouterr().out.splitlines()] == [
        ["retraining", "became", "version", "against", "verdict", "accuracy", "time"],
        ["2026-11-20-00000000", "not", "shared", "yet", "–", "–", "–", "–", "0.0", "s"],
        ["2026-11-19-b895169b", "promoted", "v0.0.1", "–", "first", "50.0%", "(49.0%", "to", "51.0%)", "3.2", "s"],
        ["2026-11-20-00000000:", "the", "remote", "is", "away"],
    ]
    history(json_=True)
    assert json.loads(capsys.readouterr().out)[0]["version"] == "v0.0.1"


def test_committed_settings_are_due_and_words_are_not(small):
    def key() -> str:
        return find_start(small.root, "folder", []).key

    before = key()
    (small.root / "NOTES.md").write_text("words\n")
    small.git("add", "NOTES.md")
    small.git("commit", "-qm", "words")
    assert key() == before
    small.set(keep="3")
    assert key() != before


def test_other_code_than_the_commit_s_is_due(small, monkeypatch):
    """An upgrade of metaloom: code.yaml is brought up to date before DVC is asked."""
    asked = []
    monkeypatch.setattr(steps, "renew_code", lambda place: asked.append(place.name))
    monkeypatch.setattr(steps, "open_workspace", lambda root, night: small.root)
    monkeypatch.setattr(steps, "due_stages", lambda place, **_: pytest.fail("first") if not asked else ["export"])
    night = Night("n", "k", "c", "d", 1.0)
    monkeypatch.setattr(steps, "file_at", lambda *_: "outs:\n- md5: d\n")
    ran = []
    steps.train(small.root, night, lambda place, force: ran.append(force), False)
    assert ran == [False] and asked


def test_a_page_that_a_fresh_worktree_lacks_is_nothing_to_train(small, monkeypatch):
    (small.root / "dvc.yaml").write_text(
        "stages: {report: {cmd: touch verdict page, outs: [verdict], meta: {beside: page}}}\n"
    )
    reproduce(small.root, "report")
    (small.root / "page").unlink()
    assert due_stages(small.root) == ["report"]
    monkeypatch.setattr(steps, "open_workspace", lambda root, night: small.root)
    locked = (small.root / "dvc.lock").read_text().strip()
    monkeypatch.setattr(steps, "file_at", lambda _, __, path: {"dvc.lock": locked}.get(path, "outs:\n- md5: d\n"))
    with pytest.raises(steps.NothingNewError):
        steps.train(small.root, Night("n", "k", "c", "d", 1.0), lambda *_: pytest.fail("trained"), False)


def test_where_the_judge_can_ask_nothing_figures_hold_what_is_worse_and_promote_nothing(small, monkeypatch):
    monkeypatch.setattr(steps, "judged", judged)
    small.night()
    small.data(0.9)
    assert small.night().night.outcome == "kept"
    assert "no fresh questions could be asked" in small.nights()[-1].reason
    small.data(0.1)
    assert small.night().night.outcome == "held"


def test_what_judges_have_spent_is_shared_by_clones(shared, tmp_path):
    origin, other = str(tmp_path / "origin.git"), tmp_path / "other"
    subprocess.run(["git", "clone", "-q", origin, other], check=True)
    head = shared.git("rev-parse", "HEAD")
    for root, line in ((shared.root, "one"), (other, "two")):
        name = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", "-C", root, *name, "notes", "--ref=judge", "append", "-m", line, head], check=True)
        sharing.push_ledger(root, "origin")
    sharing.fetch_ledger(shared.root, "origin")
    assert shared.git("notes", "--ref=judge", "show", head).split() == ["one", "two"]


def test_what_a_stage_reads_and_another_writes_is_none_of_what_a_retraining_starts_from(small, repo):
    """Its commit has new metrics, which the report reads: nothing is new after it has been merged."""
    (small.root / "dvc.yaml").write_text((repo / "dvc.yaml").read_text())
    small.git("commit", "-qam", "stages")
    found = read_by_stages(small.root, "HEAD")
    assert "src/metaloom/config" in found and "budget.yaml" in found
    assert not [each for each in found if each.startswith(("metrics", "artifacts", "data", "splits.yaml"))]
    (small.root / "dvc.yaml").write_text(
        "stages: {own: {cmd: 'true', deps: [step.py, out/a], outs: [out: {cache: false}]}}"
    )
    small.git("commit", "-qam", "own")
    assert read_by_stages(small.root, "HEAD") == ["step.py"]


@pytest.mark.parametrize(("start", "counts"), [("earlier/", True), ("champion", False), ("../earlier", False)])
def test_other_earlier_models_to_start_from_are_something_new(small, start, counts):
    """`dvc add earlier` again, and a commit; the folder of the model in the stage is each retraining's own."""
    params = small.root / "params.yaml"
    params.write_text(params.read_text().replace("  start: null", f"  start: {start}", 1))
    keys = []
    for content in ("one", "other"):
        (small.root / f"{start.strip('./')}.dvc").write_text(content)
        small.git("add", "-A")
        small.git("commit", "-qm", content)
        keys.append(find_start(small.root, "folder", []).key)
    assert (keys[0] != keys[1]) is counts
