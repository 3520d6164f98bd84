"""`retrain.start: champion`: what training starts from, what the commit says of it, and what is left alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import yaml
from nights import share

from metaloom.config import load_settings
from metaloom.errors import MetaloomError
from metaloom.pipeline.stages import reproduce
from metaloom.retraining import steps, transfers
from metaloom.retraining.champion import _refuse_taken, _version
from metaloom.retraining.loop import loop_of
from metaloom.retraining.nights import CHAMPION, TRACKED
from metaloom.retraining.since import same_but_data
from metaloom.retraining.taking import find_past
from metaloom.retraining.workspace import open_workspace
from metaloom.versioning import registry
from metaloom.versioning.data import version_dataset
from metaloom.versioning.revisions import at_revision

MODEL = "artifacts/models/protonet/model.safetensors"
DAG = """\
stages:
  train:
    matrix: {method: [protonet]}
    cmd: >-
      mkdir -p artifacts/models/protonet &&
      cat data/a $(ls ${train.start}/protonet/model.safetensors 2>/dev/null)
      > artifacts/models/protonet/model.safetensors
    deps: [data]
    params: [train]
    outs: [artifacts/models/protonet]
  export:
    cmd: >-
      mkdir -p artifacts/bundle && cat data/* > artifacts/bundle/metadata.json &&
      cp data/a metrics.json && cp data/a splits.yaml
    deps: [data, artifacts/models]
    params: [export.opset]
    outs: [artifacts/bundle]
    metrics:
      - metrics.json: {cache: false}
artifacts:
  handoff: {path: artifacts/bundle, type: model}
"""


class KilledError(BaseException):
    """In the place of a SIGKILL."""


def prepare(project):
    """The weights of this project's model are its data, with those that it started from behind them."""
    export = project.train

    def train(place, force):
        version_dataset(place)
        reproduce(place, "train@protonet", force)
        export(place, force)

    project.train = train
    (project.root / "dvc.yaml").write_text(DAG)
    project.git("commit", "-qam", "training")
    project.set(start="champion")
    return project


@pytest.fixture
def warm(small):
    return prepare(small)


def dvc(project, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=project.root, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def merge(project) -> None:
    """The last night's branch, as docs/scheduling.md says."""
    project.git("merge", "-q", project.nights()[-1].branch)
    dvc(project, "checkout", "-q")


def chain(project, night=-1) -> list[float]:
    """Accuracies of the data that a night's weights come from, the newest first."""
    (text,) = (project.nights()[night].workspace(project.root) / MODEL).read_text().splitlines()
    return [float(part.split(",")[0]) for part in text.split('"accuracy": ')[1:]]


def killed_in_training(project) -> None:
    plain = project.train

    def train(place, force):
        plain(place, force)
        raise KilledError

    project.train = train
    with pytest.raises(KilledError):
        project.night()
    project.train = plain
    project.clock -= 20 * 3600  # the same date


def test_training_starts_from_the_model_in_the_stage(warm, capsys):
    first = warm.night()
    assert "prod now" in first.message and chain(warm) == [0.5]
    branch = first.night.branch
    assert TRACKED not in warm.git("ls-tree", "--name-only", branch) and first.night.start == ""
    warm.data(0.7)
    before = warm.git("status", "--porcelain")
    second = warm.night()
    assert chain(warm) == [0.7, 0.5] and second.night.start == "v0.0.1"
    assert "training starts from v0.0.1: protonet" in capsys.readouterr().out
    assert "\nstarts from: v0.0.1\n" in warm.git("log", "-1", "--format=%B", second.night.branch)
    assert set(warm.git("diff", "--name-only", "main", second.night.branch).split()) == {
        ".gitignore",
        "champion.dvc",
        "data.dvc",
        "dvc.lock",
        "metrics.json",
        "params.yaml",
        "splits.yaml",
    }
    assert warm.git("diff", "main", second.night.branch, "--", "params.yaml").count("\n+") == 2  # one is the name
    assert warm.git("status", "--porcelain") == before and not (warm.root / CHAMPION).exists()


@pytest.mark.slow
def test_the_model_in_the_stage_counts_and_not_the_last_one(warm):
    warm.night()
    for accuracy, outcome in ((0.3, "held"), (0.501, "kept"), (0.8, "promoted")):
        warm.data(accuracy)
        assert warm.night().night.outcome == outcome and chain(warm) == [accuracy, 0.5]
    warm.data(0.9)
    warm.night()
    assert chain(warm) == [0.9, 0.8, 0.5]


@pytest.mark.slow
def test_what_was_merged_is_nothing_new_and_the_next_starts_from_what_is_in_the_stage(warm):
    warm.night()
    warm.data(0.7)
    warm.night()
    assert warm.night().state == "Skipped"
    merge(warm)
    assert load_settings(warm.root / "params.yaml").train.start == CHAMPION
    assert dvc(warm, "status") == "Data and pipelines are up to date." and warm.git("status", "--porcelain") == ""
    ran = len(warm.runs)
    for _ in range(2):
        assert warm.night().state == "Skipped"
    assert len(warm.runs) == ran
    warm.data(0.8)
    warm.night()
    assert chain(warm) == [0.8, 0.7, 0.5] and warm.nights()[-1].start == "v0.0.2"
    assert "params.yaml" not in warm.git("diff", "--name-only", "main", warm.nights()[-1].branch)


def test_broken_off_it_goes_on_from_the_same_model(warm):
    warm.night()
    warm.data(0.7)
    warm.night()
    warm.data(0.8)
    killed_in_training(warm)
    registry.put_into(warm.root, "v0.0.1", "prod", "rollback", ("Ann", "ann@example.org"))
    assert warm.night().night.start == "v0.0.2" and chain(warm) == [0.8, 0.7, 0.5]


@pytest.mark.slow
def test_broken_off_without_a_model_in_the_stage_it_goes_on_without(warm):
    warm.night()
    registry.take_out(warm.root, "v0.0.1", "prod", "out", ("Ann", "ann@example.org"))
    warm.data(0.7)
    killed_in_training(warm)
    registry.put_into(warm.root, "v0.0.1", "prod", "in again", ("Ann", "ann@example.org"))
    assert warm.night().night.start == "" and chain(warm) == [0.7]


@pytest.mark.slow
def test_where_the_model_cannot_be_had_nothing_is_trained(warm, tmp_path):
    """It is in use, so to start from random weights would be another training than the one that was asked for."""
    warm.night()
    warm.data(0.7)
    lists = list((warm.root / ".dvc/cache").rglob("*.dir"))
    for path in lists:
        path.rename(tmp_path / path.name)
    with pytest.raises(MetaloomError, match="of handoff@v0.0.1 is in neither DVC's cache nor a remote"):
        warm.night()
    assert len(warm.runs) == 1
    for path in lists:
        (tmp_path / path.name).rename(path)
    assert warm.night().night.start == "v0.0.1" and chain(warm) == [0.7, 0.5]


def test_a_release_of_the_code_that_has_the_name_of_the_version_is_not_meant(warm):
    warm.git("tag", "v0.0.1")
    warm.night()
    warm.data(0.7)
    warm.night()
    assert chain(warm) == [0.7, 0.5]


@pytest.mark.slow
def test_settings_alone_start_one_that_goes_on_when_it_was_broken_off(warm):
    warm.night()
    merge(warm)
    path = warm.root / "params.yaml"
    path.write_text(path.read_text().replace("start_steps: 0.3", "start_steps: 0.5"))
    warm.git("commit", "-qam", "other settings")
    killed_in_training(warm)
    found = warm.night()
    assert found.night.outcome == "kept" and chain(warm) == [0.5, 0.5]
    assert warm.night().state == "Skipped"


@pytest.mark.slow
def test_one_of_the_past_starts_from_nothing(warm):
    warm.night()
    merge(warm)
    past = warm.git("rev-parse", "HEAD")
    warm.data(0.7)
    warm.night()
    merge(warm)
    changed = {"train.start_steps": 0.4}
    (start,) = find_past(warm.root, past, warm.nights(), changed)
    found = loop_of(warm.root, warm.train, lambda: warm.clock, changed).of_past(start, force=False, dry_run=False)
    assert found.night and found.night.start == "" and chain(warm) == [0.5]
    assert load_settings(found.night.workspace(warm.root) / "params.yaml").train.start is None


@pytest.mark.slow
@pytest.mark.parametrize(("own", "told"), [("null", "random weights"), ("earlier", "earlier")])
def test_a_model_of_other_methods_is_no_start(warm, capsys, own, told):
    warm.night()
    path = warm.root / "params.yaml"
    text = path.read_text().replace("methods: [protonet, maml]", "methods: [ridge]")
    path.write_text(text.replace("  start: null", f"  start: {own}", 1))
    warm.git("commit", "-qam", "another method")
    warm.data(0.7)
    night = warm.night().night
    assert f"v0.0.1 has no model of ridge: training starts from {told}\n" in capsys.readouterr().out
    assert "starts from" not in warm.git("log", "-1", "--format=%B", night.branch)
    assert chain(warm) == [0.7] and "params.yaml" not in warm.git("diff", "--name-only", "main", night.branch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("  name: conv4", "  name: resnet12", "network.name (conv4, now resnet12)"),
        ("  width: auto", "  width: 96", "network.width (64, now 96)"),
        ("  file: null", "  file: encoder.onnx", "encoder.file (none, now encoder.onnx)"),
    ],
)
def test_a_model_of_another_network_is_no_start(warm, capsys, before, after, told):
    warm.night()
    path = warm.root / "params.yaml"
    path.write_text(path.read_text().replace(before, after, 1))
    warm.git("commit", "-qam", "another network")
    warm.data(0.7)
    night = warm.night().night
    assert f"v0.0.1 has another {told}: training starts from random weights\n" in capsys.readouterr().out
    assert "starts from" not in warm.git("log", "-1", "--format=%B", night.branch) and chain(warm) == [0.7]


@pytest.mark.slow
def test_what_does_not_concern_training_trains_nothing(warm):
    warm.night()
    warm.data(0.7)
    warm.night()
    merge(warm)
    path = warm.root / "params.yaml"
    path.write_text(path.read_text().replace("opset: 18", "opset: 19"))
    warm.git("commit", "-qam", "another export")
    found = warm.night().night
    assert found.outcome == "kept" and found.start is None and chain(warm) == [0.7, 0.5]


@pytest.mark.slow
def test_a_clone_that_has_made_nothing_sees_that_nothing_is_new(warm, at, tmp_path):
    share(warm, tmp_path)
    warm.night()
    warm.data(0.7)
    warm.night()
    merge(warm)
    warm.git("push", "-q", "origin", "main")
    warm.git("clone", "-q", str(tmp_path / "origin.git"), str(tmp_path / "other"))
    other = at(tmp_path / "other")
    other.data(0.7)
    assert "is up to date" in other.night().message and "handoff@v0.0.3" not in other.tags()


@pytest.mark.slow
def test_a_project_below_the_root_of_a_repository(at, small, tmp_path):
    top = tmp_path / "top"
    shutil.copytree(small.root, top / "part", ignore=shutil.ignore_patterns(".git", ".dvc"))
    below = at(top / "part")
    subprocess.run(["git", "init", "-q", "-b", "main", top], check=True)
    dvc(below, "init", "-q", "--subdir")
    for name in ("name", "email"):
        below.git("config", f"user.{name}", small.git("config", f"user.{name}"))
    below.git("add", "-A")
    below.git("commit", "-qm", "start")
    prepare(below).night()
    below.data(0.7)
    found = below.night().night
    assert (found.outcome, found.start) == ("promoted", "v0.0.1")
    with at_revision(below.root, "handoff@v0.0.2") as revision:
        assert revision.data == found.data and not revision.has("part")
        weights = revision.get(MODEL, tmp_path / "weights").read_text()
    assert [each in weights for each in ('"accuracy": 0.7', '"accuracy": 0.5')] == [True, True]


def test_a_list_of_files_that_is_lost_is_no_model_of_other_methods(warm, tmp_path, monkeypatch):
    warm.night()
    made = yaml.safe_load(warm.git("show", "handoff@v0.0.1:dvc.lock"))["stages"]["train@protonet"]["outs"][0]["md5"]
    (warm.root / ".dvc/cache/files/md5" / made[:2] / made[2:]).unlink()
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))  # where DVC may remember it
    warm.data(0.7)
    with pytest.raises(MetaloomError, match="is in neither DVC's cache nor a remote"):
        warm.night()
    assert warm.nights()[-1].start is None


TAKEN = {
    "git has champion": lambda root: (root / CHAMPION).write_text("mine"),
    "champion is a stage's output": lambda root: (root / "dvc.yaml").write_text(
        DAG.replace("stages:", "stages:\n  own: {cmd: mkdir champion, outs: [champion]}", 1)
    ),
    "champion.dvc is of other": lambda root: (root / TRACKED).write_text("outs: [{path: other, hash: md5}]\n"),
    "git ignores champion.dvc": lambda root: (root / ".gitignore").write_text("/data\n/.metaloom/\nchampion*\n"),
}


@pytest.mark.parametrize("words", TAKEN)
def test_a_name_that_is_taken_is_said_and_nothing_is_replaced(small, words):
    TAKEN[words](small.root)
    small.git("add", "-A")
    small.git("commit", "-qm", "mine")
    before = small.git("status", "--porcelain")
    with pytest.raises(MetaloomError, match=f"puts weights into champion/, which champion.dvc tracks, and {words}: "):
        _refuse_taken(small.root)
    assert small.git("status", "--porcelain") == before


MOVED = {
    "by hand": lambda root: (root / "splits.yaml").write_text("{train: [y], validation: [], test: [x, z]}\n"),
    "with another seed": lambda root: replaced(root, "seed: 0", "seed: 1"),
    "drawn again": lambda root: replaced(root, "reassign: false", "reassign: true"),
}


def replaced(root, old: str, new: str) -> None:
    path = root / "params.yaml"
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.slow
@pytest.mark.parametrize("how", MOVED)
def test_classes_that_the_model_in_the_stage_was_trained_on_are_not_tested_as_new(warm, capsys, how):
    path = warm.root / "data/a"  # which is splits.yaml too
    path.write_text(json.dumps(json.loads(path.read_text()) | {"train": ["x"], "test": ["y", "z"]}))
    warm.night()
    merge(warm)
    warm.data(0.7)
    MOVED[how](warm.root)
    warm.git("commit", "-qam", "another split")
    warm.night()
    assert "v0.0.1 was trained with another split, and may know what is tested" in capsys.readouterr().out
    assert chain(warm) == [0.7] and warm.nights()[-1].start == ""


@pytest.mark.slow
def test_a_version_that_is_gone_is_started_from_no_more(warm):
    warm.night()
    warm.data(0.7)
    killed_in_training(warm)
    (begun,) = (each for each in warm.nights() if not each.outcome)
    assert _version(warm.root, begun, "prod") == "v0.0.1"
    registry.put_into(warm.root, "v0.0.1", "other", "kept", ("Ann", "ann@example.org"))
    warm.git("tag", "-d", "handoff@v0.0.1", "handoff#prod#1")
    assert _version(warm.root, begun, "prod") == ""


@pytest.mark.slow
def test_settings_of_an_earlier_version_get_the_key_and_are_no_others(warm):
    path = warm.root / "params.yaml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(each for each in lines if "# a folder of earlier models" not in each))
    (warm.root / "dvc.yaml").write_text(DAG.replace("${train.start}", CHAMPION))
    warm.git("commit", "-qam", "earlier settings")
    warm.night()
    warm.data(0.7)
    night = warm.night().night
    assert chain(warm) == [0.7, 0.5]
    assert same_but_data(warm.root, night.workspace(warm.root), night.commit, night.base)


@pytest.mark.slow
def test_where_it_started_is_no_other_setting_and_other_workers_get_it(warm, tmp_path):
    dvc(warm, "remote", "add", "-d", "there", str(tmp_path / "store"))
    warm.git("commit", "-qam", "remote")
    warm.night()
    warm.data(0.7)
    night = warm.night().night
    place = night.workspace(warm.root)
    assert same_but_data(warm.root, place, night.commit, night.base)
    night.name = "again"
    night.base = night.commit
    other = open_workspace(warm.root, night)
    transfers.send_outputs(place, "key")
    (there,) = (tmp_path / "store").rglob(_object(other))
    (warm.root / ".dvc/cache").rename(tmp_path / "lost")
    for path in (other / CHAMPION).rglob("*.safetensors"):
        path.unlink()
    transfers.fetch_outputs(other)
    assert there.is_file() and (other / CHAMPION / "protonet/model.safetensors").is_file()


def _object(place) -> str:
    """The name of the folder's list in a remote."""
    return yaml.safe_load((place / TRACKED).read_text())["outs"][0]["md5"][2:]


def test_off_it_starts_from_nothing(small):
    prepare(small).set(start="null")
    small.night()
    small.data(0.7)
    small.night()
    assert chain(small) == [0.7]


def test_a_project_without_bundles_starts_from_nothing(warm):
    (warm.root / "dvc.yaml").write_text(DAG.partition("artifacts:\n  handoff")[0])
    warm.git("commit", "-qam", "no bundle")
    for accuracy in (0.5, 0.7):
        warm.data(accuracy)
        assert warm.night().night.outcome == "kept"
    assert chain(warm) == [0.7] and steps.has_bundle(warm.root) is False
