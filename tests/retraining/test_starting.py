"""What starts a retraining, and of what: enough that is new, drift, versions of the past, settings for one alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pandas as pd
import pytest
import typer
from nights import NIGHT

from metaloom import judging
from metaloom.cli import retrain as cli
from metaloom.config import load_settings
from metaloom.config.changing import changeable, check_changeable
from metaloom.config.retraining import WhenSettings
from metaloom.errors import MetaloomError
from metaloom.judging import Verdict
from metaloom.retraining import past, since, steps
from metaloom.retraining.git import forget_hook, head
from metaloom.retraining.judged import judged
from metaloom.retraining.loop import Result
from metaloom.retraining.nights import DAY, FOLDER, Night
from metaloom.retraining.since import Since
from metaloom.retraining.taking import find_start
from metaloom.system.provenance import data_version


def when(**values: float) -> WhenSettings:
    return WhenSettings.model_validate({"examples": 0, "classes": 0, "drift": 0, "drift_days": 7} | values)


@pytest.mark.parametrize(
    ("asked", "found", "line"),
    [
        ({"examples": 10}, Since(10, 0), ""),
        ({"examples": 10, "classes": 2}, Since(3, 2), ""),
        (
            {"examples": 10, "classes": 2},
            Since(9, 1),
            "9 new examples and 1 new class since v0.0.1, which is prod: "
            "retrain.when waits for 10 examples or 2 classes",
        ),
        ({"drift": 0.5}, Since(1, 0, 0.49, "greek"), "waits for a domain that has moved by 0.5 of its spread"),
        (
            {"drift": 0.5},
            Since(1, 0, 0.5, "greek"),
            "greek has moved by 0.50, and for 7 days after the last retraining",
        ),
        ({"drift": 0.5, "drift_days": 4}, Since(1, 0, 0.5, "greek"), ""),
        ({"examples": 5, "drift": 0.5}, Since(5, 0, 0.1, "greek"), ""),
    ],
)
def test_what_is_enough(tmp_path, asked, found, line):
    """The last retraining is five days ago."""
    Night("a", "k", "c", "d", 1.0, outcome="kept", ended=DAY).save(tmp_path)
    told = since.waits(tmp_path, when(**asked), found, "prod", "v0.0.1", 6 * DAY)
    assert line in told and bool(line) == bool(told)


@pytest.fixture
def counted(small, monkeypatch):
    """Of the small project, each digit of the accuracy is a new example."""
    measured = []

    def measure(place, champion, drift):
        measured.append(drift)
        return Since(len((place / "data/a").read_text()) - len(before), 0)

    small.set(examples="4")
    small.night()
    before = (small.root / "data/a").read_text()
    monkeypatch.setattr(since, "measure", measure)
    return small, measured


@pytest.mark.slow
def test_a_night_with_fewer_new_examples_is_skipped_and_measured_once(counted):
    project, measured = counted
    text = (project.root / "data/a").read_text()
    (project.root / "data/a").write_text(text + "   ")
    for _ in range(2):
        result = project.night()
        assert result.state == "Skipped" and "3 new examples and 0 new classes since v0.0.1, which is" in result.message
    assert measured == [False] and project.outcomes() == ["promoted"] and project.branches() == project.branches()[:1]
    assert "3 new examples" in project.night(dry_run=True).message
    (project.root / "data/a").write_text(text + "    ")
    assert project.night().state == "Completed"
    (project.root / "data/a").write_text(text + "     ")
    other_seed(project)  # is due, whatever is new
    assert project.night().state == "Completed" and project.outcomes() == ["promoted", "kept", "kept"]


def test_what_was_measured_without_drift_is_not_what_drift_asks_for(tmp_path):
    (tmp_path / FOLDER).mkdir(parents=True)
    for drift in (False, True):
        since.remember(tmp_path, "k", "c", Since(1, 0), drift)
        assert since.remembered(tmp_path, "k", "c", False) == Since(1, 0)
        assert since.remembered(tmp_path, "k", "c", True) == (Since(1, 0) if drift else None)


def other_seed(project) -> None:
    path = project.root / "params.yaml"
    path.write_text(path.read_text().replace("seed: ", "seed: 1", 1))
    project.git("commit", "-qam", "seed")


def test_settings_of_the_loop_do_not_make_another_model(small):
    head = small.git("rev-parse", "HEAD")
    small.set(examples="4")
    assert since.same_but_data(small.root, small.root, head, "HEAD")
    other_seed(small)
    assert not since.same_but_data(small.root, small.root, head, "HEAD")


def test_a_file_of_the_project_s_own_that_a_stage_reads_makes_another_model(small):
    (small.root / "dvc.yaml").write_text("stages: {own: {cmd: 'true', deps: [step.py], outs: [out]}}\n")
    (small.root / "step.py").write_text("1\n")
    small.git("add", "step.py")
    small.git("commit", "-qam", "own")
    champion = head(small.root)
    assert since.same_but_data(small.root, small.root, champion, "HEAD")
    (small.root / "step.py").write_text("2\n")
    small.git("commit", "-qam", "other")
    assert not since.same_but_data(small.root, small.root, champion, "HEAD")


@pytest.mark.slow
def test_a_backfill_trains_each_data_version_once_and_puts_none_into_the_stage(small):
    versions = []
    for accuracy in (0.5, 0.9, 0.7):
        small.data(accuracy)
        subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "data"], cwd=small.root, check=True)
        small.git("add", "data.dvc")
        small.git("commit", "-qm", "data")
        versions.append(data_version(small.root))
    small.git("commit", "-q", "--allow-empty", "-m", "words")

    def back(revisions, **options):
        small.clock += NIGHT
        return past.backfill(small.root, small.train, revisions, now=lambda: small.clock, **options)

    assert [each.night.outcome for each in back("HEAD")] == ["kept"]
    assert [each.state for each in back("HEAD")] == ["Skipped"]
    assert small.night().night.outcome == "promoted"  # the same data, of which the backfill has promoted nothing
    status = small.git("status", "--porcelain")
    told = [each.message for each in back("HEAD~3..HEAD", dry_run=True)]
    assert [each.split(": ")[1] for each in told] == [
        "would be trained",
        "would be trained",
        "trained before with these settings and this code",
    ]
    done = back("HEAD~3..HEAD")
    assert [each.state for each in done] == ["Completed", "Completed", "Skipped"]
    found = {each.data: each for each in small.nights()}
    assert [found[version].outcome for version in versions] == ["held", "kept", "promoted"]
    assert [tag for tag in small.tags() if "#" in tag] == ["handoff#prod#1"]
    assert (
        small.git("log", "-1", "--format=%B", found[versions[1]].branch)
        .splitlines()[-3]
        .endswith(f"(of {small.git('rev-parse', '--short=8', 'HEAD~2')})")
    )
    assert (small.git("status", "--porcelain"), data_version(small.root)) == (status, versions[2])
    assert small.night().state == "Skipped"
    for revisions, message in (("nowhere", "there is no revision 'nowhere'"), ("HEAD~4", "no data.dvc at HEAD~4")):
        with pytest.raises(MetaloomError, match=message):
            back(revisions)


def test_a_backfill_of_the_data_of_now_leaves_them_to_the_night(small):
    """One that was broken off, and one that has ended."""
    start = find_start(small.root, "folder", [])
    night = Night("a", start.key, start.commit, start.data, 1.0, past=start.commit)
    for commit, outcome in (("", ""), (start.commit, "kept")):
        night.commit, night.outcome = commit, outcome
        night.save(small.root)
        assert " would be trained" in small.night(dry_run=True).message


@pytest.mark.parametrize("revision", ["", "p"])
def test_a_backfill_spends_none_of_the_judge_s_error(monkeypatch, repo, revision):
    noted = []

    def judge(*_, note, names):
        assert names == ("v0.0.1", "the new model")
        noted.append(note)
        return Verdict("worse", "worse at greek", {})

    monkeypatch.setitem(vars(judging), "judge", judge)
    monkeypatch.setattr(steps, "judged", judged)
    monkeypatch.setattr(steps, "in_stage", lambda *_: ("v0.0.1", "c"))
    night = Night("n", "k", "c", "d", 1.0, past=revision)
    steps._ask(repo, night, load_settings(repo / "params.yaml").retrain, "challenger")
    assert noted == [not revision] and night.verdict["outcome"] == "worse"


class Counting:
    """In the place of the loop: the third version fails."""

    changed: dict = {}

    def __init__(self, root):
        self.root = root

    def of_past(self, start, force, dry_run):
        if start == 3:
            raise MetaloomError("the disk is full")
        return Result("Completed", f"version {start}")


def test_what_a_backfill_has_finished_is_said_before_what_stopped_it(monkeypatch, tmp_path, capsys):
    cleared = []
    (tmp_path / FOLDER).mkdir(parents=True)
    monkeypatch.setattr(past, "loop_of", lambda root, *_: Counting(root))
    monkeypatch.setattr(past, "find_past", lambda *_: [1, 2, 3])
    monkeypatch.setattr(past, "clear_locks", cleared.append)
    for dry_run in (True, False):
        assert not cleared  # a dry run changes nothing
        with pytest.raises(MetaloomError, match="the disk is full"):
            past.backfill(tmp_path, lambda *_: None, "a..b", dry_run=dry_run)
        assert capsys.readouterr().out == "version 1\nversion 2\n"
    assert cleared == [tmp_path]


def test_a_backfill_of_nothing_and_one_that_shall_wait_for_data_are_refused(small, monkeypatch, capsys):
    monkeypatch.chdir(small.root)
    with pytest.raises(typer.Exit):
        cli.retrain(backfill="")
    assert "error: there is no revision ''" in capsys.readouterr().err
    with pytest.raises(MetaloomError, match="^--settle is for data/ as it is now, which --backfill does not train"):
        cli.retrain(backfill="HEAD", settle=30)


def test_changed_settings_are_part_of_the_commit(small):
    small.night(changed={"protonet.steps": 7})
    branch = small.branches()[0]
    assert "steps: 7 " in small.git("show", f"{branch}:params.yaml")
    assert "setting: protonet.steps=7" in small.git("log", "-1", "--format=%B", branch)
    assert small.git("status", "--porcelain") == ""
    assert small.night(changed={"protonet.steps": 7}).state == "Skipped"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"export.key": "/k"}, "export.key cannot be changed for one retraining, which takes numbers, switches and"),
        ({"encoder.file": "x"}, "encoder.file cannot be changed"),
        ({"retrain.approval": False}, "retrain.approval cannot be changed"),
        ({"judge.margin": 1}, "judge.margin cannot be changed"),
        ({"retrain.start": None}, "^retrain.start cannot be changed [a-z, ]+: commit it in params.yaml$"),
        ({"protonet.stepz": 1}, r"^there is no setting protonet.stepz; did you mean protonet.steps\?$"),
        ({"protonet.steps": [1]}, r"protonet.steps: \[1\] is no plain value"),
        ({"protonet.steps": "many"}, "protonet.steps"),
    ],
)
def test_settings_that_may_not_be_changed(small, values, message):
    with pytest.raises(MetaloomError, match=message):
        small.night(changed=values)
    assert small.nights() == []


def test_none_of_the_changeable_settings_is_free_text():
    assert {"protonet.steps", "train.compile", "maml.head"} <= set(changeable())
    assert not {"train.start", "text.text", "export.data_licence", "train.select_on", "export.domain"} & set(
        changeable()
    )
    check_changeable({"protonet.steps": 5})


def test_a_hook_of_git_starts_it(small, repo, tmp_path):
    """As docs/scheduling.md has it; what it starts is a stand-in."""
    text = (repo / "docs/scheduling.md").read_text()
    hook = small.root / ".git/hooks/post-merge"
    hook.write_text(text.split("```sh\n")[1].split("```")[0])
    hook.chmod(0o755)
    commands, asked = tmp_path / "bin", tmp_path / "asked"
    commands.mkdir()
    (commands / "metaloom").write_text(f'#!/bin/sh\necho "$@" > {asked}.new && mv {asked}.new {asked}\n')
    (commands / "metaloom").chmod(0o755)
    environment = {**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    small.git("switch", "-qc", "other")
    small.git("commit", "-q", "--allow-empty", "-m", "other")
    small.git("switch", "-q", "main")
    subprocess.run(["git", "merge", "-q", "other"], cwd=small.root, env=environment, check=True)
    deadline = time.monotonic() + 20
    while not asked.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert asked.read_text() == "retrain --wait 3600\n"


def test_what_git_tells_its_hooks_is_not_taken_for_the_project_s(small, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    forget_hook()
    assert head(small.root) and not {"GIT_DIR", "GIT_INDEX_FILE"} & set(os.environ)


def test_what_is_new_is_counted_as_compare_does(small, monkeypatch):
    """Two examples more, one of them of a class that is new; what stands for `prepare` has just made the table."""
    (small.root / "dvc.yaml").write_text("stages: {prepare: {cmd: 'true', outs: [prepared: {cache: false}]}}\n")
    table = small.root / "prepared/items.parquet"
    table.parent.mkdir()
    before = pd.DataFrame({"class": ["a", "a", "b"], "domain": "greek", "sha256": ["1", "2", "3"]})
    before.to_parquet(table)
    small.git("add", "-A")
    small.git("commit", "-qm", "champion")
    path, prepared = small.root / "params.yaml", []
    path.write_text(path.read_text().replace("stage_minutes: ", "stage_minutes: 3 # ", 1))

    def prepare(place, stage, *_, watch):
        prepared.append((stage, watch._total))

    monkeypatch.setattr(since, "reproduce_in_child", prepare)
    more = pd.DataFrame({"class": ["b", "c"], "domain": "greek", "sha256": ["4", "5"]})
    pd.concat([before.iloc[1:], more]).to_parquet(table)
    assert since.measure(small.root, small.git("rev-parse", "HEAD"), False) == Since(2, 1)
    assert prepared == [("prepare", 180)]
