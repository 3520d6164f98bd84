"""Many tasks at once: each bundle is what adapting to that task alone would give."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageOps

from metaloom.cli.fleet import _lost, _written, weak
from metaloom.data.support import task_paths
from metaloom.errors import MetaloomError
from metaloom.handoff.adapting import fleet
from metaloom.handoff.adapting import shared as shared_fleet
from metaloom.handoff.bundle import contents
from metaloom.handoff.bundle.bench import measure
from metaloom.handoff.bundle.predict import predict
from metaloom.handoff.shipped import verify
from metaloom.kinds.pictures.kind import Pictures
from metaloom.kinds.pictures.read import decode
from metaloom.learner import Learner
from metaloom.system.source_files import sources

GREY = Pictures(28, 1)


@pytest.fixture(scope="module")
def tasks(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five tasks: three of one shape, one of fewer classes, one of other numbers of pictures."""
    folder = tmp_path_factory.mktemp("tasks")
    for domain in range(5):
        shutil.copytree(shapes / f"domain{domain}", folder / f"task{domain}")
    shutil.rmtree(folder / "task3" / "class0")
    (folder / "task4" / "class1" / "0.png").unlink()
    return folder


@pytest.fixture(autouse=True)
def here(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(repo / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    fleet.maker_of.cache_clear()


def folders(tasks: Path) -> list[str]:
    return [str(each) for each in task_paths(tasks, GREY)]


def expected(learner: Learner, task: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of a task, and what torch says of them after learning that task alone."""
    files = sorted(task.rglob("*.png"))
    pictures = np.stack([decode(file.read_bytes(), 1) for file in files])
    return pictures, learner.adapt(pictures, [file.parent.name for file in files]).predict_proba(pictures)


@pytest.mark.parametrize(
    "name", ["protonet", "maml", *(pytest.param(each, marks=pytest.mark.slow) for each in ("ridge", "reptile"))]
)
def test_every_bundle_is_that_of_its_task(
    name: str, make_learner: Callable, save_model: Callable, tasks: Path, tmp_path: Path
):
    model = save_model(make_learner(name), tmp_path / name)
    outcomes = fleet.make_bundles(folders(tasks), "out", str(model))
    assert [(each.task, each.status) for each in outcomes] == [(f"task{i}", "made") for i in range(5)]
    for task in sorted(tasks.iterdir()):
        assert not verify.verify(Path("out", task.name)).problems
        pictures, probabilities = expected(make_learner(name), task)
        session = onnxruntime.InferenceSession(Path("out", task.name, "model.onnx"))
        found = np.asarray(session.run(None, {"examples": pictures})[0])
        np.testing.assert_allclose(found, probabilities, atol=1e-5 if name != "reptile" else 2e-4, rtol=0)
    metadata = json.loads(Path("out/task3/metadata.json").read_text())
    own = {"name": "task3", "n_way": 3, "support_examples": 24, "meta_trained_on_it": False, "chosen_on_it": False}
    assert metadata["task"] == own
    assert metadata["outputs"]["probabilities"]["shape"] == ["batch", 3]


def test_other_code_makes_every_bundle_again(model: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch):
    maker = fleet.maker_of(str(model))
    (support,) = fleet.read(maker, folders(tasks)[:1])[0].values()
    before = maker.fingerprint(support)
    assert maker.fingerprint(support) == before
    monkeypatch.setattr(contents, "noted_digest", lambda notes, *modules: f"another than that of {modules}")
    assert maker.fingerprint(support) != before
    used = sources(contents.CODE)
    assert {Path("handoff/adapting/shared.py"), Path("handoff/bundle/write.py")} <= used
    shipped = {Path(f"kinds/pictures/shipped/{name}") for name in ("example.py", "index.html")}
    assert shipped <= used and not shipped & sources("metaloom.stages.train")


def test_a_second_time_what_is_the_same_is_kept(model: Path, tasks: Path, tmp_path: Path):
    mine = Path(shutil.copytree(tasks, tmp_path / "mine"))
    fleet.make_bundles(folders(mine), "out", str(model))
    whole = Path("out/task1/model.onnx").read_bytes()
    (mine / "task0" / "class0" / "0.png").unlink()  # another picture less
    Path("out/task1/model.onnx").write_bytes(whole[:-1])  # damaged
    shutil.rmtree("out/task2")  # was not reached
    again = {each.task: each.status for each in fleet.make_bundles(folders(mine), "out", str(model))}
    assert again == {"task0": "made", "task1": "made", "task2": "made", "task3": "kept", "task4": "kept"}
    assert Path("out/task1/model.onnx").read_bytes() == whole


@pytest.mark.parametrize("content", ["[]", '"mine"', "null", "[" * 100_000, "{"])
def test_what_is_no_metadata_is_nothing_to_keep(content: str, tmp_path: Path):
    (tmp_path / verify.METADATA).write_text(content)
    assert fleet._there(tmp_path, "0123") is None


def test_one_that_fails_does_not_stop_the_others(model: Path, tasks: Path, tmp_path: Path):
    mine = Path(shutil.copytree(tasks, tmp_path / "mine"))
    shutil.copy(mine / "task1/class0/0.png", mine / "task1/class1/same.png")
    (mine / "task2/class0/0.png").write_bytes(b"no picture")
    shutil.copytree(mine / "task3/class1", mine / "task5/lonely")
    outcomes = fleet.make_bundles(folders(mine), "out", str(model))
    why = {each.task: each.why for each in outcomes if each.status == "failed"}
    assert "one image in two classes" in why["task1"] and "is no PNG" in why["task2"]
    assert "has the one class lonely" in why["task5"] and len(why) == 3
    assert sorted(path.name for path in Path("out").iterdir()) == ["task0", "task3", "task4"]


@pytest.mark.slow
def test_one_bundle_of_all(model: Path, make_learner: Callable, tasks: Path, tmp_path: Path):
    """Each task's answers are its own, whichever tasks the other pictures of a batch are of."""
    parts = [shared_fleet.solve_part(some, str(model)) for some in (folders(tasks)[:2], folders(tasks)[2:])]
    shared_fleet.write_shared(parts, tmp_path / "all", str(model))
    assert not verify.verify(tmp_path / "all").problems
    session = onnxruntime.InferenceSession(tmp_path / "all/fleet.onnx")
    learner = make_learner("protonet")
    each = [expected(learner, task) for task in sorted(tasks.iterdir())]
    pictures, ids = np.concatenate([p for p, _ in each]), np.repeat(np.arange(5), [len(p) for p, _ in each])
    order = np.random.default_rng(0).permutation(len(ids))
    probabilities, novelty = session.run(None, {"examples": pictures[order], "task_id": ids[order]})
    wanted = np.concatenate([np.pad(p, ((0, 0), (0, 4 - p.shape[1]))) for _, p in each])
    np.testing.assert_allclose(np.asarray(probabilities), wanted[order], atol=1e-5, rtol=0)
    alone = [predict(tmp_path / "all", [tasks / f"task{i}/class2/1.png"], task=f"task{i}")[0] for i in range(5)]
    assert [sorted(found.probabilities) == [f"class{c}" for c in range(i == 3, 4)] for i, found in enumerate(alone)]
    assert all(
        found.novelty == pytest.approx(novelty[order.tolist().index(_place(tasks, i))], abs=1e-4)
        for i, found in enumerate(alone)
    )


def _place(tasks: Path, task: int) -> int:
    files = [file for each in sorted(tasks.iterdir()) for file in sorted(each.rglob("*.png"))]
    return files.index(tasks / f"task{task}/class2/1.png")


def test_one_bundle_of_all_goes_on_where_it_was(model: Path, tasks: Path, tmp_path: Path):
    """The heads of a part that was learned before an interruption are taken, unless a picture has changed."""
    mine = Path(shutil.copytree(tasks, tmp_path / "mine"))
    first = shared_fleet.solve_part(folders(mine), str(model))
    again = shared_fleet.solve_part(folders(mine), str(model))
    assert {each.status for each in first.outcomes} == {"made"} and {each.status for each in again.outcomes} == {"kept"}
    assert first.labels == again.labels
    for name, values in first.heads.items():
        assert all((one == other).all() for one, other in zip(values, again.heads[name], strict=True))
    (mine / "task0/class0/0.png").unlink()
    assert {each.status for each in shared_fleet.solve_part(folders(mine), str(model)).outcomes} == {"made"}
    part = max(shared_fleet.SOLVED.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    part.write_bytes(part.read_bytes()[:99])  # damaged: learned again
    assert {each.status for each in shared_fleet.solve_part(folders(mine), str(model)).outcomes} == {"made"}
    died = fleet.Outcome("task9", fleet.Status.FAILED, "killed by signal 9")
    shared_fleet.write_shared([again], tmp_path / "all", str(model), [died])
    told = {each["task"]: each["status"] for each in json.loads((tmp_path / "all/fleet.json").read_text())["tasks"]}
    assert told == {f"task{place}": "made" for place in range(5)} | {"task9": "failed"}
    assert not verify.verify(tmp_path / "all").problems and not shared_fleet.SOLVED.exists()


def test_refusals(model: Path, tasks: Path, make_learner: Callable, save_model: Callable, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(MetaloomError, match="DIR/task/class/1.png"):
            task_paths(folder, GREY)
    deep = save_model(make_learner("reptile"), tmp_path / "reptile")
    with pytest.raises(MetaloomError, match="reptile changes the network for each task"):
        shared_fleet.solve_part(folders(tasks), str(deep))
    part = shared_fleet.solve_part(folders(tasks), str(model))
    shared_fleet.write_shared([part], tmp_path / "all", str(model))
    with pytest.raises(MetaloomError, match=r"has 5 tasks .* none called task9: name one with --task"):
        predict(tmp_path / "all", [], task="task9")
    with pytest.raises(MetaloomError, match=r"has 5 tasks \([^)]*\): name one with --task"):
        predict(tmp_path / "all", [])
    with pytest.raises(MetaloomError, match="is a bundle of many tasks: bench measures bundles of one"):
        measure(tmp_path / "all", None, seconds=0.01)
    with pytest.raises(MetaloomError, match="no task could be learned: because"):
        failed = shared_fleet.SharedHeads([fleet.Outcome("a", fleet.Status.FAILED, "because")], {}, {}, [])
        shared_fleet.write_shared([failed], tmp_path / "none", str(model))
    assert not (tmp_path / "none").exists()
    died = [
        [fleet.Outcome("a", fleet.Status.FAILED, "killed by signal 9")]
    ]  # what is left of a part whose process died
    with pytest.raises(
        MetaloomError, match=r"every process of the fleet died, .*/none is as it was: killed by signal 9"
    ):
        _written(died, tmp_path / "none", str(model), shared=True)


def test_the_weakest_tasks_are_named():
    made = [fleet.Outcome(f"task{n}", fleet.Status.MADE, estimate=n / 10) for n in (9, 3, 5, 7)]
    failed = fleet.Outcome("bad", fleet.Status.FAILED, "why")
    text = "by cross-validation 60.0% right on average; weakest: task3 30.0%, task5 50.0%, task7 70.0%"
    assert weak([*made, failed]) == text
    assert weak(made[:2]) == "by cross-validation 60.0% right on average; weakest: task3 30.0%"
    assert weak([made[0], failed]) == ""


def test_colours_that_a_grey_model_drops_are_said_of_a_fleet(tasks: Path, model: Path, tmp_path: Path):
    assert _lost(folders(tasks), str(model)) == ""
    shutil.copytree(tasks, tmp_path / "tasks")
    for path in sorted((tmp_path / "tasks").glob("*/class2/*.png")):
        ImageOps.colorize(Image.open(path).convert("L"), (180, 20, 20), "white").save(path)
        path.rename(path.with_name(f"0{path.name}"))
    shutil.rmtree(tmp_path / "tasks/task0/class0")
    shutil.rmtree(tmp_path / "tasks/task0/class1")
    said = _lost([*folders(tmp_path / "tasks"), "gone"], str(model))
    assert said == "colours are dropped: this model reads grey, and 1 of the 5 images looked at are in colour"
