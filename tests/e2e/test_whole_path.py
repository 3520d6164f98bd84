"""The whole path on a tiny project: flow, `dvc repro`, bundle, and what is left when it is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from projects import TINY, draw_shapes, make_project, run_here

from metaloom.config import METHODS

STAGES = ["prepare", "split", "train@protonet", "train@maml", "evaluate", "export", "report"]


def metaloom(root: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run_here(root, "metaloom", *arguments, check=check)


def hashes(root: Path) -> dict[str, str]:
    """Of every output of every stage, as dvc.lock has them."""
    stages = yaml.safe_load((root / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}


def lasting(root: Path) -> dict[str, str]:
    """The outputs that hold no times, so that they are the same on every run (metrics/training has seconds)."""
    return {path: md5 for path, md5 in hashes(root).items() if not path.startswith(("metrics/training", "report"))}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> tuple[Path, str]:
    """A project after `metaloom run`, and what that printed."""
    root = make_project(tmp_path_factory.mktemp("done"), shapes)
    return root, metaloom(root, "run").stdout


def test_the_flow_ends_with_a_summary(done):
    root, printed = done
    for learner in (*METHODS, "scratch", "logistic"):
        assert learner in printed
    for place in ("report/index.html", "artifacts/bundle"):
        assert place in printed
        assert (root / place).exists()
    assert "Warning" not in printed and "Traceback" not in printed
    assert len(printed.splitlines()) < 60


def test_figures_are_as_promised(done):
    figures = json.loads((done[0] / "metrics/evaluation.json").read_text())
    assert set(figures) == {*METHODS, "scratch", "logistic"}
    settings = {"3w1s", "3w2s", "3w1s_domain", "3w2s_domain"}
    for by_setting in figures.values():
        assert set(by_setting) == settings
        for each in by_setting.values():
            assert set(each) == {"accuracy", "ci95", "nll", "episodes"}
            assert 0 <= each["accuracy"] <= 1 and each["nll"] > 0


def test_after_the_flow_all_is_cached_and_dvc_has_nothing_to_do(done):
    root, _ = done
    before = (root / "dvc.lock").read_text()
    assert "Data and pipelines are up to date" in run_here(root, "dvc", "repro").stdout
    again = metaloom(root, "run").stdout
    assert "ached" in again
    assert (root / "dvc.lock").read_text() == before


def test_after_dvc_repro_the_flow_is_all_cached(tmp_path, shapes):
    root = make_project(tmp_path, shapes, {"methods": ["protonet"]})
    run_here(root, "dvc", "add", "-q", "data")
    run_here(root, "dvc", "repro")
    before = (root / "dvc.lock").read_text()
    started = time.time()
    metaloom(root, "run")
    assert (root / "dvc.lock").read_text() == before
    assert all(path.stat().st_mtime < started for path in (root / "artifacts/models/protonet").iterdir())


def test_the_bundle_verifies_predicts_and_is_refused_when_a_byte_changes(done, tmp_path):
    root, _ = done
    metaloom(root, "verify", "artifacts/bundle")
    picture = next((root / "data").rglob("*.png"))
    answer = json.loads(metaloom(root, "predict", "artifacts/bundle", str(picture), "--json").stdout)
    assert sum(answer[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    copy = shutil.copytree(root / "artifacts/bundle", tmp_path / "bundle")
    model = bytearray((copy / "model.onnx").read_bytes())
    model[-100] ^= 1
    (copy / "model.onnx").write_bytes(model)
    refused = metaloom(root, "verify", str(copy), check=False)
    assert refused.returncode == 1
    assert "model.onnx" in refused.stdout + refused.stderr


def test_adapting_to_a_folder_of_one_s_own(done, tmp_path):
    root, _ = done
    support = tmp_path / "support"
    for name in ("class0", "class1"):
        shutil.copytree(root / "data/domain3" / name, support / name)
    metaloom(root, "adapt", "--support", str(support), "--out", str(tmp_path / "mine"))
    picture = support / "class1/3.png"
    answer = json.loads(metaloom(root, "predict", str(tmp_path / "mine"), str(picture), "--json").stdout)
    assert set(answer[0]["probabilities"]) == {"class0", "class1"}


def test_a_clone_pulls_everything_from_a_remote(done, tmp_path):
    root = shutil.copytree(done[0], tmp_path / "copy", symlinks=True)
    run_here(root, "dvc", "remote", "add", "-f", "-d", "store", str(tmp_path / "store"))
    run_here(root, "dvc", "push", "-q")
    run_here(root, "git", "add", "-A")
    run_here(root, "git", "commit", "-qm", "run")
    run_here(tmp_path, "git", "clone", "-q", str(root), "clone")
    run_here(tmp_path / "clone", "dvc", "pull", "-q")
    assert "up to date" in run_here(tmp_path / "clone", "dvc", "repro").stdout
    assert (tmp_path / "clone/report/index.html").is_file()


@pytest.mark.parametrize(
    "command",
    [["dvc", "dag"], ["dvc", "metrics", "show"], ["dvc", "metrics", "diff", "--all"], ["dvc", "plots", "show"]],
    ids=" ".join,
)
def test_dvc_s_own_commands_work(done, command):
    assert run_here(done[0], *command).stdout.strip()


def test_an_experiment_of_dvc(tmp_path, shapes):
    root = make_project(tmp_path, shapes, {"methods": ["protonet"], "protonet.steps": 10})
    run_here(root, "dvc", "add", "-q", "data")
    run_here(root, "git", "add", "-A")
    run_here(root, "git", "commit", "-qm", "data")
    run_here(root, "dvc", "exp", "run", "-S", "protonet.steps=12")
    assert yaml.safe_load((root / "params.yaml").read_text())["protonet"]["steps"] == 12
    assert json.loads((root / "artifacts/models/protonet/metrics.json").read_text())["steps"] == 12


def test_a_new_domain_adds_to_the_version_and_reruns(done, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(done[0], root, symlinks=True)
    before = (root / "data.dvc").read_text()
    draw_shapes(tmp_path / "more", domains=1, seed=1)
    archive = shutil.make_archive(str(tmp_path / "extra"), "zip", tmp_path / "more/domain0")
    added = metaloom(root, "data", "add", archive).stdout
    assert "extra" in added
    assert (root / "data.dvc").read_text() != before
    run_here(root, "dvc", "repro", "prepare")
    quality = json.loads((root / "artifacts/dataset/quality.json").read_text())
    assert quality["domains"] == 11


def kill_when(root: Path, stage: str, arguments: list[str], moment: float | Path) -> None:
    """Start a stage and SIGKILL it after so many seconds, or as soon as a file is there."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", f"metaloom.stages.{stage}", *arguments]
    process = subprocess.Popen(command, cwd=root, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + (moment if isinstance(moment, float) else 60)
    while time.monotonic() < deadline and process.poll() is None:
        if isinstance(moment, Path) and moment.exists():
            break
        time.sleep(0.01)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def stage_command(root: Path, name: str) -> tuple[str, list[str]]:
    lock = yaml.safe_load((root / "dvc.lock").read_text())["stages"][name]
    words = lock["cmd"].split()
    return words[2].rsplit(".", 1)[1], words[3:]


MOMENTS = [  # seconds after its start, in its imports and in its work
    ("prepare", 0.5),
    ("prepare", 1.5),
    ("split", 1.5),
    ("train@protonet", 3.5),
    ("train@maml", 5.0),
    ("evaluate", 3.5),
    ("evaluate", 6.0),
    ("export", 4.0),
    ("export", 7.0),
]


@pytest.mark.parametrize(("stage", "moment"), MOMENTS)
def test_a_killed_stage_leaves_nothing_half_and_a_rerun_ends_the_same(done, tmp_path, stage, moment):
    root = tmp_path / "copy"
    shutil.copytree(done[0], root, symlinks=True)
    expected = lasting(root)
    module, arguments = stage_command(root, stage)
    for path in yaml.safe_load((root / "dvc.lock").read_text())["stages"][stage]["outs"]:
        target = root / path["path"]
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    kill_when(root, module, arguments, moment)
    run_here(root, "dvc", "repro", "-f", "-s", stage)
    assert lasting(root) == expected
    leftovers = [path for path in (root / "artifacts").rglob(".*.new")]
    assert not leftovers


def test_training_killed_after_a_checkpoint_goes_on_from_it(done, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(done[0], root, symlinks=True)
    expected = lasting(root)
    module, arguments = stage_command(root, "train@maml")
    checkpoint = root / ".metaloom/checkpoints/maml.safetensors"
    kill_when(root, module, arguments, checkpoint)
    assert checkpoint.exists()
    run_here(root, "dvc", "repro", "-f", "-s", "train@maml")
    assert lasting(root) == expected
    assert not checkpoint.exists()


@pytest.mark.parametrize(
    ("stage", "override", "message"),
    [
        ("split", {"episodes.settings": ["500w1s"], "train.select_on": "500w1s"}, "largest that works is"),
        ("split", {"split.test": ["domain1"], "split.validation": ["domain*"]}, "in both validation and test"),
        ("train@protonet", {"protonet.n_way": 999}, "protonet.n_way is 999"),
        ("train@protonet", {"device": "cuda"}, "device: cuda is not available"),
        ("prepare", {"prepare.image_sise": 28}, "did you mean image_size"),
    ],
)
def test_bad_settings_end_with_one_line_and_leave_things_alone(done, tmp_path, stage, override, message):
    root = tmp_path / "copy"
    shutil.copytree(done[0], root, symlinks=True)
    params = yaml.safe_load((root / "params.yaml").read_text())
    for dotted, value in override.items():
        section, _, key = dotted.partition(".")
        if key:
            params[section][key] = value
        else:
            params[section] = value
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    module, arguments = stage_command(root, stage)
    before = sorted(str(path) for path in (root / "artifacts").rglob("*"))
    failed = run_here(root, sys.executable, "-m", f"metaloom.stages.{module}", *arguments, check=False)
    assert failed.returncode == 2
    assert message in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1
    assert sorted(str(path) for path in (root / "artifacts").rglob("*")) == before


def test_the_tiny_project_is_the_repo_s_pipeline(done, repo):
    assert list(yaml.safe_load((done[0] / "dvc.lock").read_text())["stages"]) == STAGES
    assert (done[0] / "dvc.yaml").read_text() == (repo / "dvc.yaml").read_text()
    assert TINY["methods"] == list(METHODS)
