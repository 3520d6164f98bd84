"""The whole path on a tiny project: flow, `dvc repro`, bundle, bad settings."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
import time

import pandas as pd
import pytest
import yaml
from projects import (
    TINY,
    draw_shapes,
    environment,
    forget,
    make_project,
    metaloom,
    run_here,
    stage_command,
    write_params,
)

from metaloom.baselines import BASELINES
from metaloom.errors import MetaloomError
from metaloom.evaluation.headline import scores_of
from metaloom.pipeline.stages import due_stages, is_current, reproduce
from metaloom.system.certainty import FEWEST_EPISODES
from metaloom.versioning.of_run import committed_file
from metaloom.versioning.project import overriding

pytestmark = pytest.mark.slow

SETTINGS = {"3w1s", "3w2s", "3w1s_domain", "3w2s_domain"}
STAGES = [
    "prepare",
    "embed",
    "plan",
    "split",
    "train@protonet",
    "train@maml",
    "pretrain",
    "tune",
    "evaluate",
    "export",
    "report",
]
CHOSEN = (
    "artifacts/models/protonet/model.safetensors",
    "artifacts/models/protonet/learner.json",
    "artifacts/pretrained/model.safetensors",
    "artifacts/baselines.json",
)
LEARNERS = {*TINY["methods"], *BASELINES}


def test_the_flow_ends_with_a_summary(done):
    root, printed = done
    for learner in LEARNERS:
        assert learner in printed
    for place in ("report/index.html", "artifacts/bundle"):
        assert place in printed
        assert (root / place).exists()
    assert "the best without meta-learning" in printed.splitlines()[-1]
    assert "Warning" not in printed and "Traceback" not in printed
    assert len(printed.splitlines()) < 60


def test_figures_are_as_promised(done):
    figures = json.loads((done[0] / "artifacts/evaluation/figures.json").read_text())
    assert set(figures) == LEARNERS
    kept = scores_of(json.loads((done[0] / "metrics/evaluation.json").read_text()), "")
    for learner, by_setting in kept.items():  # of the champion alone
        assert {setting: each["accuracy"] for setting, each in by_setting.items()} == {
            setting: each["accuracy"] for setting, each in figures[learner].items()
        }
    for by_setting in figures.values():
        assert set(by_setting) == SETTINGS
        for each in by_setting.values():
            if each["low95"] is None:  # too few episodes, or all alike
                assert each["episodes"] < FEWEST_EPISODES or each["worst_decile"] == each["accuracy"]
            else:
                assert each["low95"] <= each["accuracy"] <= each["high95"] <= 1
            assert each["nll"] >= 0  # rounded
            assert 0 <= each["ece"] <= 1 and each["worst_decile"] <= each["accuracy"] and each["failed"] == 0


def test_after_the_flow_all_is_cached_and_dvc_has_nothing_to_do(copied, prefect_server):
    root = copied
    before, verdict = (root / "dvc.lock").read_text(), (root / "report/verdict.txt").read_text().strip()
    assert "Data and pipelines are up to date" in run_here(root, "dvc", "repro").stdout
    again = metaloom(root, "run", **prefect_server, PYTHONPROFILEIMPORTTIME="1")
    assert "everything was cached (11 stages)" in again.stdout and again.stdout.splitlines()[-1] == verdict
    imported = {line.rsplit("|", 1)[1].split(".")[0].strip() for line in again.stderr.splitlines() if "|" in line}
    assert "dvc" in imported and not imported & {"torch", "pandas", "numpy"}
    assert (root / "dvc.lock").read_text() == before


def test_a_number_of_the_plan_runs_only_what_reads_it_again(copied, monkeypatch):
    monkeypatch.setenv("PATH", environment()["PATH"])
    with overriding({"episodes.n_query": "auto", "export.n_shot": 3}):
        assert reproduce(copied, "plan").name == "RAN"
        plan = json.loads((copied / "artifacts/plan.json").read_text())
        assert plan["episodes"]["n_query"] == 3 and plan["export"]["n_shot"] == 3
        assert [name for name in STAGES if not is_current(copied, name)] == ["split", "export", "report"]


def test_another_study_trains_nothing_again(copied, monkeypatch):
    monkeypatch.setenv("PATH", environment()["PATH"])
    with overriding({"studies.episodes": 5}):
        for name in ("plan", "split"):
            assert reproduce(copied, name).name == "RAN"
        assert [name for name in STAGES if not is_current(copied, name)] == ["evaluate", "export", "report"]


def test_the_plan_of_a_project_is_shown(copied):
    shown = metaloom(copied, "plan", "--set", "train.n_query=auto").stdout
    assert re.search(r"train.n_query +5 +auto", shown) and "everything fits" in shown


def test_a_plan_that_does_not_fit_is_refused(copied):
    refused = metaloom(copied, "plan", "--set", "export.domain=greek", check=False)
    assert refused.returncode == 2 and refused.stderr.splitlines()[0] == "it cannot run as it is set:"
    assert refused.stderr.splitlines()[-1].startswith("This fits: metaloom run --set export.domain=auto")


def test_the_command_line_does_not_wait_for_torch(copied):
    code = "import sys; from metaloom.cli.app import OnDemand; list(OnDemand().values())"
    run_here(copied, sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules")


def test_an_export_that_fails_leaves_the_bundle_in_place(copied):
    """Plain `dvc repro` clears the outputs of a stage before it starts."""
    write_params(copied, yaml.safe_load((copied / "params.yaml").read_text()), {"export.key": "params.yaml"})
    failed = run_here(copied, "dvc", "repro", check=False)
    assert failed.returncode and "cannot be signed with params.yaml" in failed.stderr
    metaloom(copied, "verify", "artifacts/bundle")


def test_after_dvc_repro_the_flow_is_all_cached(copied, prefect_server):
    for stage in ("prepare", "train@protonet"):
        forget(copied, stage)
    assert "Running stage 'train@protonet'" in run_here(copied, "dvc", "repro").stdout
    before = (copied / "dvc.lock").read_text()
    started = time.time()
    assert "everything was cached (11 stages)" in metaloom(copied, "run", **prefect_server).stdout
    assert (copied / "dvc.lock").read_text() == before
    assert all(path.stat().st_mtime < started for path in (copied / "artifacts/models/protonet").iterdir())


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


def test_a_clone_pulls_everything_from_a_remote(copied, tmp_path):
    run_here(copied, "dvc", "remote", "add", "-f", "-d", "store", str(tmp_path / "store"))
    run_here(copied, "dvc", "push", "-q")
    run_here(copied, "git", "add", "-A")
    run_here(copied, "git", "commit", "-qm", "run")
    run_here(tmp_path, "git", "clone", "-q", str(copied), "clone")
    run_here(tmp_path / "clone", "dvc", "pull", "-q")
    assert "up to date" in run_here(tmp_path / "clone", "dvc", "repro").stdout
    assert due_stages(tmp_path / "clone") == ["report"]  # whose page has times in it, and is made here


@pytest.mark.sweep
def test_the_same_run_in_a_fresh_clone_leaves_nothing_to_commit(copied, tmp_path, prefect_server):
    """What is computed alike is alike to the last byte in git, so that it can be promoted as it is."""

    def commit(what: str) -> None:
        run_here(copied, "git", "add", "-A")
        run_here(copied, "git", "commit", "-qm", what)

    commit("what the first run has chosen")  # the bundle says that it was not committed
    for name in ("export", "report"):
        run_here(copied, "dvc", "repro", "-q", "-f", "-s", name)
    commit("results")
    clone = tmp_path / "clone"
    run_here(tmp_path, "git", "clone", "-q", str(copied), "clone")
    shutil.copytree(copied / "data", clone / "data")
    kept = committed_file(copied, "artifacts/evaluation", "figures.json")
    assert kept == (copied / "artifacts/evaluation/figures.json").read_bytes()
    assert committed_file(clone, "artifacts/evaluation", "figures.json") is None  # its cache is empty
    (clone / ".metaloom").mkdir(exist_ok=True)
    (clone / ".metaloom/graphs").symlink_to(copied / ".metaloom/graphs")
    printed = metaloom(clone, "run", **prefect_server).stdout
    assert run_here(clone, "git", "status", "--porcelain").stdout == "" and "figures the committed ones\n" in printed
    assert "11 ran" in " ".join(printed.split())
    assert "Time to adapt against accuracy" in (clone / "report/index.html").read_text()
    assert "v0.0.1" in metaloom(clone, "promote").stdout


@pytest.mark.parametrize(
    "command",
    [["dvc", "dag"], ["dvc", "metrics", "show"], ["dvc", "metrics", "diff", "--all"], ["dvc", "plots", "show"]],
    ids=" ".join,
)
def test_dvc_s_own_commands_work(done, command):
    assert run_here(done[0], *command).stdout.strip()


def test_dvc_plots_has_every_learner_and_curve(done):
    """The values behind the plots; the templates are ours."""
    shown = json.loads(run_here(done[0], "dvc", "plots", "show", "--json").stdout)
    (accuracy,), (validation,), (loss,) = (shown["data"][name] for name in ("accuracy", "validation", "loss"))
    bars = accuracy["content"]["data"]["values"]
    assert {(each["setting"], each["learner"]) for each in bars} == {
        (setting, learner) for setting in SETTINGS for learner in LEARNERS
    }
    for name in ("labels", "ways", "domains", "calibration"):
        (plot,) = shown["data"][name]
        filled = plot["content"]
        assert {each["learner"] for each in filled["data"]["values"]} == LEARNERS, name
        assert "<DVC_METRIC" not in json.dumps(filled)
    for plot, name in ((validation, "accuracy"), (loss, "loss")):
        points = plot["content"]["data"]["values"]
        assert {each["filename"].split("/")[0] for each in points} == set(TINY["methods"])
        assert all(float(each[name]) >= 0 for each in points)
    assert "facet" in accuracy["content"] and validation["content"]["transform"][0]["as"] == "method"


def test_an_experiment_of_dvc(tmp_path, shapes):
    root = make_project(tmp_path, shapes, {"methods": ["protonet"], "protonet.steps": 10})
    run_here(root, "dvc", "add", "-q", "data")
    run_here(root, "git", "add", "-A")
    run_here(root, "git", "commit", "-qm", "data")
    run_here(root, "dvc", "exp", "run", "-S", "protonet.steps=12", "train@protonet")
    assert yaml.safe_load((root / "params.yaml").read_text())["protonet"]["steps"] == 12
    assert json.loads((root / "artifacts/models/protonet/metrics.json").read_text())["steps"] == 12


def test_a_new_domain_adds_to_the_version_and_reruns(copied, tmp_path):
    before = (copied / "data.dvc").read_text()
    draw_shapes(tmp_path / "more", domains=1, seed=1)
    archive = shutil.make_archive(str(tmp_path / "extra"), "zip", tmp_path / "more/domain0")
    added = metaloom(copied, "data", "add", archive).stdout
    assert "extra" in added
    assert (copied / "data.dvc").read_text() != before
    run_here(copied, "dvc", "repro", "prepare")
    quality = json.loads((copied / "artifacts/dataset/quality.json").read_text())
    assert quality["domains"] == 11


def test_versions_side_by_side(copied, tmp_path):
    """A commit beside the working tree, which has a new domain and a picture in another class."""
    run_here(copied, "git", "add", "-A")
    run_here(copied, "git", "commit", "-qm", "run")
    draw_shapes(copied / "data/new", domains=1, seed=1)
    (copied / "data/new/domain0").rename(copied / "data/script")
    (copied / "data/new").rmdir()
    (copied / "data/domain1/class0/0.png").rename(copied / "data/domain1/class1/9.png")
    run_here(copied, "dvc", "add", "-q", "data")
    version = re.search(r"md5: (\w{8})", (copied / "data.dvc").read_text())[1]
    behind = metaloom(copied, "compare", "HEAD").stdout
    assert (
        f"workspace data {version} was not prepared: `metaloom run` there" in behind
        and "data      the same\n" in behind
    )
    run_here(copied, "dvc", "repro", "prepare")
    said = metaloom(copied, "compare", "HEAD").stdout
    assert "1 domain added: script" in said and "4 classes added: script/class0" in said
    assert "script: 32 added" in said and "1 relabelled: domain1/class0 → domain1/class1" in said
    assert "domain1: within noise" in said and "farther from training than 95% of the test classes" in said
    assert "plots     " in said and (copied / ".metaloom/compare/index.html").is_file()
    told = json.loads(metaloom(copied, "compare", "HEAD", "workspace", "--json").stdout)
    assert told["a"]["examples"] + 32 == told["b"]["examples"] and not told["missing"]
    assert {each["learner"] for each in told["figures"]} == LEARNERS
    shutil.rmtree(copied / ".dvc/cache")
    nothing = metaloom(copied, "compare", "HEAD", check=False)
    without = nothing.stdout
    assert nothing.returncode == 1
    assert "nothing to compare: artifacts/dataset/items.parquet of HEAD is in neither" in without


def test_comparing_with_no_revision_is_refused(done):
    refused = metaloom(done[0], "compare", "nope", check=False)
    assert refused.returncode == 2 and refused.stderr.startswith("error: there is no revision 'nope'")
    assert len(refused.stderr.splitlines()) == 1


def test_another_test_split_changes_no_weight_and_no_choice(copied, monkeypatch):
    """Training, temperature, pre-training and the search for the single-task learners' settings."""
    monkeypatch.chdir(copied)
    kept = []
    for test in (["domain6", "domain7"], ["domain8", "domain9"]):
        overrides = {"methods": ["protonet"], "protonet.steps": 10, "pretrain.steps": 10, "split.reassign": True}
        overrides |= {"split.test": test, "split.validation": ["domain5"]}
        overrides |= {"split.train": [f"domain{n}" for n in range(5)]}
        write_params(copied, yaml.safe_load((copied / "params.yaml").read_text()), overrides)
        for stage in ("plan", "split", "train@protonet", "pretrain", "tune"):
            module, arguments = stage_command(copied, stage)
            importlib.import_module(f"metaloom.stages.{module}").main(*arguments)
        kept.append({path: (copied / path).read_bytes() for path in CHOSEN})
        assert set(
            pd.read_parquet(copied / "artifacts/splits/classes.parquet").query("split == 'test'")["domain"]
        ) == set(test)
    for path in CHOSEN:
        assert kept[0][path] == kept[1][path], path


@pytest.mark.parametrize(
    ("stage", "override", "message"),
    [
        (
            "split",
            {"episodes.settings": ["500w1s"], "train.select_on": "500w1s", "baselines.settings": ["500w1s"]},
            "largest that works is",
        ),
        ("split", {"split.test": ["domain1"], "split.validation": ["domain*"]}, "in both validation and test"),
        ("split", {"studies.ways": [50]}, "largest test domain has 4 classes"),
        ("split", {"studies.labels": [1, 2, 4, 40]}, "the largest that works is 6 shots"),
        ("tune", {"baselines.forest.trees": 0}, "baselines.forest.trees"),
        ("train@protonet", {"protonet.n_way": 999}, "protonet.n_way is 999"),
        ("train@protonet", {"device": "cuda"}, "device: cuda is not available"),
    ],
)
def test_bad_settings_end_with_one_line_and_leave_things_alone(copied, stage, override, message, monkeypatch):
    """The stage as dvc.yaml calls it, but in this process."""
    write_params(copied, yaml.safe_load((copied / "params.yaml").read_text()), override)
    module, arguments = stage_command(copied, stage)
    before = sorted(str(path) for path in (copied / "artifacts").rglob("*"))
    monkeypatch.chdir(copied)
    with pytest.raises(MetaloomError, match=re.escape(message)) as caught:
        importlib.import_module(f"metaloom.stages.{module}").main(*arguments)
    assert "\n" not in str(caught.value)
    assert sorted(str(path) for path in (copied / "artifacts").rglob("*")) == before


def test_a_stage_that_is_refused_exits_with_two_and_one_line(copied):
    write_params(copied, yaml.safe_load((copied / "params.yaml").read_text()), {"prepare.min_exampels": 28})
    module, arguments = stage_command(copied, "prepare")
    failed = run_here(copied, sys.executable, "-m", f"metaloom.stages.{module}", *arguments, check=False)
    assert failed.returncode == 2 and failed.stdout == ""
    assert failed.stderr.startswith("error: ") and "did you mean min_examples" in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_the_tiny_project_is_the_repo_s_pipeline(done, repo, settings):
    assert list(yaml.safe_load((done[0] / "dvc.lock").read_text())["stages"]) == STAGES
    assert (done[0] / "dvc.yaml").read_text() == (repo / "dvc.yaml").read_text()
    assert TINY["methods"] == settings.methods
